//! `run`: the daemon.

use super::{Daemon, ExitStatus, context::refuse};
use crate::{
    config::{self, LogFormat, Setting, Sources, options},
    error::chain,
    telemetry::{
        logs::{self, Filter, LineFormat},
        traces,
    },
};

pub(super) fn run<D: Daemon>(sources: Sources, daemon: &D) -> ExitStatus {
    let loaded = config::load(&sources);
    let config = match loaded.config {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let format = match config.log.format {
        LogFormat::Text => LineFormat::Text,
        LogFormat::Json => LineFormat::Json,
    };
    let wanted = config.otlp_endpoint.is_some();
    let (layer, spans) = wanted.then(traces::channel).unzip();
    let filter = match logs::init(&config.log.filter, format, layer) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("{error}");
            return ExitStatus::Failure;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut running = Running {
        sources,
        settings: loaded.settings,
        filter,
    };
    match daemon.run(config, Box::new(move || running.reload()), spans) {
        Ok(()) => ExitStatus::Ok,
        Err(error) => {
            tracing::error!(error = chain(&error), "stopped");
            if D::needs_other_settings(&error) {
                ExitStatus::Configuration
            } else {
                ExitStatus::Failure
            }
        }
    }
}

/// What the process runs with.
struct Running {
    sources: Sources,
    settings: Vec<Setting>,
    filter: Filter,
}

impl Running {
    /// Reads the sources again, takes over what can be changed now and tells what cannot. A configuration that is wrong
    /// changes nothing. The environment of a process never changes, so what counts is the file. Secrets are masked here
    /// and not compared.
    fn reload(&mut self) {
        let loaded = config::load(&self.sources);
        let config = match loaded.config {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "the configuration is wrong now, so everything stays as it is");
                return;
            }
        };
        let pairs = self.settings.iter_mut().zip(loaded.settings);
        let mut needs_restart = Vec::new();
        for (running, now) in pairs.filter(|(running, now)| running.value != now.value) {
            if running.key != options::LOG.key {
                needs_restart.push(running.key);
                continue;
            }
            match self.filter.set(&config.log.filter) {
                Ok(()) => {
                    tracing::info!(filter = config.log.filter, "what is logged has changed");
                    *running = now;
                }
                Err(error) => tracing::error!(%error, "what is logged stays as it is"),
            }
        }
        tracing::info!(?needs_restart, "configuration read again");
    }
}
