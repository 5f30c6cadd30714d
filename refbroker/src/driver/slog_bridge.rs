//! Raft logs through slog; this hands it on to tracing.

use slog::{Drain, Level, Logger, OwnedKVList, Record};
use tracing::{debug, error, trace, warn};

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        let message = record.msg();
        match record.level() {
            Level::Critical | Level::Error => error!(target: "raft", "{message}"),
            Level::Warning => warn!(target: "raft", "{message}"),
            // Elections and configuration changes are told by the driver in its own words.
            Level::Info => debug!(target: "raft", "{message}"),
            Level::Debug | Level::Trace => trace!(target: "raft", "{message}"),
        }
        Ok(())
    }
}

/// A logger for a group.
pub fn logger(group_id: u64) -> Logger {
    Logger::root(ToTracing, slog::o!("group_id" => group_id))
}
