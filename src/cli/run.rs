//! `run`: the daemon.

use super::{Daemon, ExitStatus, refuse};
use crate::{
    config::{self, LogFormat, Sources},
    error::chain,
    telemetry::logs::{self, LineFormat},
};

pub(super) fn run<D: Daemon>(sources: Sources, daemon: &D) -> ExitStatus {
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
    match daemon.run(config) {
        Ok(()) => ExitStatus::Ok,
        Err(error) => {
            tracing::error!(error = chain(&error), "stopped");
            ExitStatus::Failure
        }
    }
}
