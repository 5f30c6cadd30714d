//! `config check`: is the configuration right?

use super::{ExitStatus, print, refuse, warn};
use crate::config::{self, Sources};

pub(super) fn run(sources: &Sources) -> ExitStatus {
    let loaded = config::load(sources);
    warn(&loaded.warnings);
    match loaded.config {
        Ok(_) => print("the configuration is valid\n"),
        Err(error) => refuse(&error),
    }
}
