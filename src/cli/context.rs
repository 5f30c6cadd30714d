//! What every command is given, and the steps that many share.

use std::ffi::OsString;

use tokio_util::sync::CancellationToken;

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, EndpointArgs},
};
use crate::{
    admin::{AdminClient, AdminError},
    config::{self, Config, ConfigError, Warning},
    error::{Kind, chain},
    tools::{ToolError, Tools},
};

/// A command's surroundings.
pub(super) struct Context<'a, D> {
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) daemon: &'a D,
}

/// A command that is over early has told why.
pub(super) type Step<T> = Result<T, ExitStatus>;

impl<D: Daemon> Context<'_, D> {
    /// The configuration, or every fault of it on standard error.
    pub(super) fn config(&self, args: ConfigArgs) -> Step<Config> {
        let loaded = config::load_for_command(&args.sources(self.environment.clone()));
        warn(&loaded.warnings);
        loaded.config.map_err(|error| refuse(&error))
    }

    /// Works on the configured store.
    pub(super) fn with_tools<T>(
        &self,
        config: &Config,
        work: impl AsyncFnOnce(&Tools) -> Result<T, ToolError>,
    ) -> Step<T> {
        self.with_abort(async |abort| {
            let tools = self.daemon.tools(config, abort);
            let tools = tools.map_err(|error| failed(&error, D::kind(&error)))?;
            let worked = work(&tools).await;
            worked.map_err(|error| tool_failed(&error))
        })
    }

    /// Calls the daemon.
    pub(super) fn with_admin<T>(
        &self,
        endpoint: EndpointArgs,
        work: impl AsyncFnOnce(&AdminClient) -> Result<T, AdminError>,
    ) -> Step<T> {
        let called = endpoint.daemon(self.environment.clone());
        let called = called.map_err(|error| refuse(&error))?;
        self.with_abort(async |_| {
            let worked = async { work(&AdminClient::new(&called)?).await };
            worked.await.map_err(|error| admin_failed(&error))
        })
    }

    /// Runs work in a runtime until it ends; a signal cancels the token.
    pub(super) fn with_abort<T>(
        &self,
        work: impl AsyncFnOnce(CancellationToken) -> Step<T>,
    ) -> Step<T> {
        match self.daemon.block_on(work) {
            Ok(step) => step,
            Err(error) => Err(failed(&error, D::kind(&error))),
        }
    }
}

/// Tells what failed.
pub(super) fn failed(error: &dyn std::error::Error, kind: Kind) -> ExitStatus {
    eprintln!("{}", chain(error));
    ExitStatus::of(kind)
}

pub(super) fn tool_failed(error: &ToolError) -> ExitStatus {
    if let ToolError::OutputClosed(_) = error {
        // Nobody reads any more, so nobody needs to be told.
        return ExitStatus::Failure;
    }
    let status = failed(error, error.kind());
    match status {
        ExitStatus::Unavailable => {
            eprintln!("nothing is known about what the store holds: it could not be read");
            status
        }
        _ if error.is_not_found() => ExitStatus::NotFound,
        status => status,
    }
}

pub(super) fn admin_failed(error: &AdminError) -> ExitStatus {
    let status = failed(error, error.kind());
    if error.is_not_found() {
        return ExitStatus::NotFound;
    }
    status
}

/// Before logging is set up, people read standard error.
pub(super) fn refuse(error: &ConfigError) -> ExitStatus {
    eprintln!("{error}");
    ExitStatus::Configuration
}

pub(super) fn warn(warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}
