//! `run`: the daemon.

use std::error::Error;

use super::{ExitStatus, refuse};
use crate::{
    config::{self, Config, LogFormat, Sources},
    telemetry::logs::{self, LineFormat},
};

pub(super) fn run<E: Error + 'static>(
    sources: Sources,
    daemon: impl FnOnce(Config) -> Result<(), E>,
) -> ExitStatus {
    let loaded = config::load(&sources);
    // The sources hold secrets: nothing needs them any more.
    drop(sources);
    let config = match loaded.config {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let format = match config.log.format {
        LogFormat::Text => LineFormat::Text,
        LogFormat::Json => LineFormat::Json,
    };
    if let Err(error) = logs::init(&config.log.filter, format) {
        eprintln!("{error}");
        return ExitStatus::Failure;
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match daemon(config) {
        Ok(()) => ExitStatus::Ok,
        Err(error) => {
            tracing::error!(error = &error as &(dyn Error + 'static), "stopped");
            ExitStatus::Failure
        }
    }
}
