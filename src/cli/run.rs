//! `run`: the daemon.

use std::error::Error;

use super::{ExitStatus, refuse};
use crate::{
    config::{self, Config, LogFormat, Sources},
    telemetry::logs::{self, LineFormat},
};

pub(super) fn run<E: Error>(
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
            tracing::error!(error = chain(&error), "stopped");
            ExitStatus::Failure
        }
    }
}

/// An error and its sources in one line; JSON logs would show the first only. A source whose text its wrapper
/// repeats is left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let told = source.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::chain;

    #[derive(Debug, Error)]
    #[error("no answer")]
    struct Inner;

    #[derive(Debug, Error)]
    #[error("the store failed")]
    struct Silent(#[source] Inner);

    #[derive(Debug, Error)]
    #[error("cannot start: {0}")]
    struct Outer(#[source] Silent);

    #[test]
    fn every_cause_is_told_once() {
        let told = chain(&Outer(Silent(Inner)));
        assert_eq!(told, "cannot start: the store failed: no answer");
    }
}
