//! `health`: the answer that a supervisor's exec probe needs.

use super::{Daemon, ExitStatus, args::ConfigArgs, print, refuse};
use crate::{
    config::{self, Endpoint},
    error::chain,
};

/// Ask a running daemon's health service; exit with 0 only if it serves. Takes at most 2 s.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the daemon serves: `host:port`, `http://host:port` or `unix:/path` [default: the configured LISTEN]. With it
    /// no configuration is read.
    #[arg(long, value_parser = Endpoint::parse)]
    endpoint: Option<Endpoint>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(
    args: Args,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    daemon: &D,
) -> ExitStatus {
    let endpoint = match args.endpoint {
        Some(endpoint) => endpoint,
        None => match config::load(&args.config.sources(environment)).config {
            Ok(config) => config.listen,
            Err(error) => return refuse(&error),
        },
    };
    match daemon.is_serving(&endpoint) {
        Ok(true) => print("SERVING\n"),
        Ok(false) => {
            print("NOT_SERVING\n");
            ExitStatus::Failure
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitStatus::Failure
        }
    }
}
