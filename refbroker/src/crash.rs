//! Crash points: steps at which a broker can be made to die as `kill -9` would, to see what it comes back with.
//!
//! They exist only with the feature `crash-points`; without it [`point`] is an empty function. With it and without
//! the variable `REFBROKER_CRASH_AT`, a point costs one look at an unset cell, beside writes and flushes of a disk.
//! `REFBROKER_CRASH_AT=name` ends `refbroker serve` when it gets to that point, `name:nth` at the n-th time.
//!
//! Every point stands in [`POINTS`]; `tests/harness/tests/crash_points.rs` kills a broker at each of them.

/// A step to die at.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Its name.
    pub name: &'static str,
    /// What was done when the process dies there, and what was not.
    pub meaning: &'static str,
}

const fn at(name: &'static str, meaning: &'static str) -> Point {
    Point { name, meaning }
}

/// All of them, in the order of a broker's life.
pub const POINTS: &[Point] = &[
    // First start.
    at(
        "identity.candidate_written",
        "a replica id is on the disk; no peer has heard it",
    ),
    at(
        "identity.log_bound",
        "the log belongs to the replica id; no peer has heard it",
    ),
    at(
        "identity.cluster_found",
        "a cluster was found or founded; the disk does not know",
    ),
    at(
        "identity.written",
        "the identity is on the disk, and the candidate still beside it",
    ),
    at(
        "identity.stored",
        "the identity is on the disk; no replica is",
    ),
    // A replica that never ran.
    at(
        "create.files_written",
        "the empty state is there; no commit record names it",
    ),
    at(
        "replica.committed",
        "the commit record of an empty or seeded replica is written; it has not started",
    ),
    // A snapshot that comes in, from the sidecar or from a leader.
    at(
        "stage.chunk_written",
        "some bytes of a snapshot are staged; none is verified",
    ),
    at(
        "stage.verified",
        "all bytes are staged and verified; none is flushed",
    ),
    at(
        "stage.flushed",
        "the staged snapshot is flushed; nobody was told",
    ),
    // A seed.
    at(
        "install.before_move",
        "a seed is staged and accepted; it does not have its place yet",
    ),
    at(
        "install.moved",
        "a seed is in its place; no commit record names it",
    ),
    // What a crash left.
    at(
        "leftovers.found",
        "a start has found files that no commit record names, and removed none",
    ),
    at("leftovers.removed", "a start has removed the first of them"),
    // A snapshot from the leader.
    at(
        "snapshot.received",
        "a leader's snapshot is staged; Raft was not told",
    ),
    at(
        "restore.before_move",
        "Raft took a leader's snapshot; it does not have its place yet",
    ),
    at(
        "restore.moved",
        "a leader's snapshot is beside the old state; no commit record names it",
    ),
    at(
        "restore.committed",
        "log, hard state and commit record are those of the snapshot; the old state is still there",
    ),
    at("restore.old_removed", "and the old state is gone"),
    // Raft.
    at(
        "ready.before_write",
        "entries and hard state are not written; what may leave before has left",
    ),
    at(
        "ready.written",
        "entries and hard state are written; nothing that depends on them has left",
    ),
    at(
        "vote.written",
        "a term or a vote is written; nobody was told",
    ),
    at(
        "ready.sent",
        "what depends on the write has left; nothing is applied",
    ),
    at(
        "apply.unanswered",
        "entries are applied; their clients have no answer",
    ),
    // Segments.
    at(
        "segment.full",
        "a segment is full; it is not sealed in the state",
    ),
    at(
        "segment.rolled",
        "it is sealed and the next one exists; no checkpoint knows",
    ),
    // Checkpoints.
    at("checkpoint.begun", "nothing of a checkpoint is on the disk"),
    at(
        "checkpoint.segments_flushed",
        "segments are flushed; the state file is not written",
    ),
    at(
        "checkpoint.file_written",
        "the state file is flushed beside the one that the record names",
    ),
    at(
        "checkpoint.old_removed",
        "state files older than the named one are gone; the record still names that one",
    ),
    at(
        "checkpoint.record_staged",
        "the record is in the batch, which is not written",
    ),
    at(
        "checkpoint.record_written",
        "the record names the new state file; the former one is still there",
    ),
    // Truncation.
    at(
        "compact.allowed",
        "a truncation passed every check; nothing is written",
    ),
    at(
        "compact.written",
        "prefix and its position are dropped in one batch; nobody was told",
    ),
    at(
        "purge.begun",
        "log files are about to be looked through for obsolete ones",
    ),
    at("purge.files_deleted", "log files are deleted"),
    // Membership.
    at(
        "conf.committed",
        "a change of the configuration is committed and not applied",
    ),
    at(
        "conf.simple_applied",
        "a simple change is applied; no record has it",
    ),
    at(
        "conf.joint_entered",
        "a joint configuration is applied; no record has it",
    ),
    at(
        "conf.joint_left",
        "the joint configuration was left; no record has it",
    ),
    at(
        "conf.recorded",
        "a record with another configuration than before is written",
    ),
    // The end of a replica, and of the process.
    at(
        "remove.log_cleaned",
        "a deleted topic's replica has no log and no record; its files are there",
    ),
    at(
        "shutdown.file_written",
        "a stopping broker has written state files; the records do not name them",
    ),
    at(
        "shutdown.record_written",
        "a stopping broker has written everything",
    ),
];

#[cfg(feature = "crash-points")]
pub use armed::{CrashPointError, VARIABLE, arm, point};

/// A step to die at: nothing without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
pub fn point(_name: &'static str) {}

#[cfg(feature = "crash-points")]
mod armed {
    use std::{
        io::Write as _,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::POINTS;

    /// Environment variable that arms one point: `name` or `name:nth`.
    pub const VARIABLE: &str = "REFBROKER_CRASH_AT";

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// The variable is not `name` or `name:nth` with a name of [`POINTS`].
    #[derive(Debug, thiserror::Error, PartialEq, Eq)]
    #[error("{VARIABLE}: `{0}` names no crash point")]
    pub struct CrashPointError(String);

    fn parse(text: &str) -> Result<(&str, u64), CrashPointError> {
        let refused = || CrashPointError(text.to_owned());
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().map_err(|_| refused())?),
            None => (text, 1),
        };
        let known = POINTS.iter().any(|point| point.name == name);
        if known && nth > 0 {
            Ok((name, nth))
        } else {
            Err(refused())
        }
    }

    /// Reads the variable. Called once, by `refbroker serve`.
    pub fn arm() -> Result<(), CrashPointError> {
        let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let text = text.to_string_lossy();
        let (name, nth) = parse(&text)?;
        tracing::warn!(name, nth, "this process will die at a crash point");
        let (name, left) = (name.to_owned(), AtomicU64::new(nth));
        let _ = ARMED.set(Armed { name, left });
        Ok(())
    }

    /// A step to die at: the process ends here, if this point is armed and its turn has come.
    pub fn point(name: &'static str) {
        let Some(armed) = ARMED.get() else { return };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = writeln!(std::io::stderr(), "crash point {name}");
            let _ = kill(Pid::this(), Signal::SIGKILL);
            // The signal may take a moment; nothing may be done any more.
            loop {
                std::thread::park();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_or_without_a_number_is_understood_and_nothing_else() {
            assert_eq!(parse("compact.written"), Ok(("compact.written", 1)));
            assert_eq!(parse("compact.written:7"), Ok(("compact.written", 7)));
            for wrong in [
                "",
                "compact",
                "compact.written:",
                "compact.written:0",
                "x:1",
            ] {
                assert!(parse(wrong).is_err(), "{wrong}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::POINTS;

    fn placed(dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                placed(&path, found);
            } else if !path.ends_with("crash.rs") {
                let source = fs::read_to_string(&path).unwrap();
                let names = source.split("crash::point(").skip(1);
                let names = names.filter_map(|rest| rest.strip_prefix('"')?.split_once('"'));
                found.extend(names.map(|(name, _)| name.to_owned()));
            }
        }
    }

    #[test]
    fn every_point_of_the_list_stands_in_the_code_once() {
        let mut found = Vec::new();
        placed(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        found.sort_unstable();
        let mut listed: Vec<&str> = POINTS.iter().map(|point| point.name).collect();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }
}
