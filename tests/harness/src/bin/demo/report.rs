//! `report.json`, and the table at the end.

use std::{fs, io, path::Path};

use chronik_harness::HarnessError;
use serde::Serialize;
use serde_json::json;

use crate::{
    check::Findings,
    logbook::Savings,
    story::{DemoError, tell_people},
};

const FILE: &str = "report.json";

/// How the broker without a disk came back.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reseed {
    /// The broker.
    pub(crate) broker: i32,
    /// Its replicas of the topic.
    pub(crate) partitions: usize,
    /// Index at which the seed of each ended (inclusive), in order of partition.
    pub(crate) seeded_through: Vec<u64>,
    /// Entries that came from the other brokers' logs after that, until each was a voter.
    pub(crate) replayed_entries: u64,
    /// From the start of the process to the last replica being a voter.
    pub(crate) seconds: f64,
    /// No replica came back under the id that it had.
    pub(crate) new_peer_ids: bool,
    /// Snapshots that the sidecar installed meanwhile, `__meta` among them.
    pub(crate) installed_from_store: u64,
}

/// Everything measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// "ok" or "mismatch".
    pub(crate) verdict: &'static str,
    /// Records acknowledged.
    pub(crate) produced_acked: u64,
    /// Records read back.
    pub(crate) consumed: u64,
    /// Acknowledged, but not there or not the same.
    pub(crate) missing: u64,
    /// There more than once.
    pub(crate) duplicated: u64,
    /// There, but never acknowledged.
    pub(crate) unexpected: u64,
    /// Breaks in the sequence of offsets.
    pub(crate) gaps: u64,
    /// Snapshots that the sidecars committed and proved.
    pub(crate) snapshots_committed: u64,
    /// Longest log of any replica before it was truncated, in entries.
    pub(crate) max_log_entries_before: u64,
    /// Longest log of any replica once all were truncated and nothing was produced.
    pub(crate) max_log_entries_after: u64,
    /// Bytes of all logs then, against those of each log when it was longest.
    pub(crate) log_bytes_saved_percent: f64,
    /// Truncations seen until the end.
    pub(crate) truncations: usize,
    /// Records acknowledged after the second broker was killed, when the re-seeded one was needed.
    pub(crate) acked_on_reseeded_quorum: u64,
    /// The broker without a disk.
    pub(crate) reseed: Reseed,
    /// The whole demo.
    pub(crate) seconds_total: f64,
}

impl Report {
    /// Puts it together and judges it.
    pub(crate) fn new(
        acked: (u64, u64),
        findings: &Findings,
        savings: Savings,
        (snapshots_committed, truncations): (u64, usize),
        reseed: Reseed,
        seconds_total: f64,
    ) -> Self {
        let (produced_acked, acked_on_reseeded_quorum) = acked;
        let clean = findings.is_clean(produced_acked) && reseed.new_peer_ids;
        Self {
            verdict: if clean { "ok" } else { "mismatch" },
            produced_acked,
            consumed: findings.consumed,
            missing: findings.missing,
            duplicated: findings.duplicated,
            unexpected: findings.unexpected,
            gaps: findings.gaps,
            snapshots_committed,
            max_log_entries_before: savings.max_entries_before,
            max_log_entries_after: savings.max_entries_after,
            log_bytes_saved_percent: rounded(savings.bytes_percent),
            truncations,
            acked_on_reseeded_quorum,
            reseed: Reseed {
                seconds: rounded(reseed.seconds),
                ..reseed
            },
            seconds_total: rounded(seconds_total),
        }
    }

    /// Nothing is wrong.
    pub(crate) fn is_ok(&self) -> bool {
        self.verdict == "ok"
    }

    /// Writes `report.json`.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        write(dir, self)
    }

    /// The table for people.
    pub(crate) fn print(&self) {
        let seeded: Vec<_> = self
            .reseed
            .seeded_through
            .iter()
            .map(u64::to_string)
            .collect();
        let rows = [
            ("records acknowledged", self.produced_acked.to_string()),
            ("records read back from offset 0", self.consumed.to_string()),
            (
                "missing / duplicated",
                format!("{} / {}", self.missing, self.duplicated),
            ),
            (
                "unexpected / gaps",
                format!("{} / {}", self.unexpected, self.gaps),
            ),
            (
                "snapshots committed and proven",
                self.snapshots_committed.to_string(),
            ),
            ("truncations seen", self.truncations.to_string()),
            (
                "longest log before truncation",
                format!("{} entries", self.max_log_entries_before),
            ),
            (
                "longest log after truncation",
                format!("{} entries", self.max_log_entries_after),
            ),
            (
                "log bytes freed by truncation",
                format!("{:.1} %", self.log_bytes_saved_percent),
            ),
            ("broker that lost its disk", self.reseed.broker.to_string()),
            ("  seeded through index", seeded.join(", ")),
            (
                "  entries replayed from peers",
                self.reseed.replayed_entries.to_string(),
            ),
            (
                "  voter again after",
                format!("{:.1} s", self.reseed.seconds),
            ),
            ("  new Raft peer ids", self.reseed.new_peer_ids.to_string()),
            (
                "acknowledged on its vote",
                self.acked_on_reseeded_quorum.to_string(),
            ),
            ("total", format!("{:.1} s", self.seconds_total)),
            ("verdict", self.verdict.to_owned()),
        ];
        tell_people("");
        for (what, value) in rows {
            tell_people(&format!("  {what:<34} {value}"));
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn write(dir: &Path, report: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    fs::write(dir.join(FILE), text + "\n")
}

/// Writes a report that says why there is no better one.
pub(crate) fn write_failure(dir: &Path, error: &DemoError) -> io::Result<()> {
    match error {
        // The report is there already, or the directory is not ours to write to.
        DemoError::Mismatch
        | DemoError::Harness(HarnessError::ForeignDir(_))
        | DemoError::Dir { .. } => Ok(()),
        error => write(
            dir,
            &json!({ "verdict": "failed", "error": error.to_string() }),
        ),
    }
}
