//! `init`: whose store this is, and the one way to take over an empty one for a cluster that has truncated logs.

use super::{Daemon, ExitStatus, print, refuse, warn};
use crate::{
    config::{self, Sources},
    error::chain,
};

pub(super) fn run<D: Daemon>(sources: &Sources, adopt: bool, daemon: &D) -> ExitStatus {
    let loaded = config::load(sources);
    warn(&loaded.warnings);
    let config = match loaded.config {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match daemon.init(config, adopt) {
        Ok(answer) => print(&answer),
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitStatus::Failure
        }
    }
}
