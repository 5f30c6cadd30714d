//! What was done to the cluster, and what came of it.

use std::{fs, io, path::Path};

use chronik_harness::history::Findings;
use serde::Serialize;

/// Everything that was done, counted.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Troubles {
    /// kill -9 of a broker or a sidecar.
    pub(crate) kills: u64,
    /// Disks wiped.
    pub(crate) wipes: u64,
    /// Processes frozen for a while.
    pub(crate) pauses: u64,
    /// Times that links between brokers were cut or slow.
    pub(crate) partitions: u64,
    /// Requests to the store that went wrong.
    pub(crate) store_faults: u64,
}

/// target/soak/report.json.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// "ok" or "failed".
    pub(crate) verdict: &'static str,
    /// What chose the troubles.
    pub(crate) seed: u64,
    /// Seconds of trouble.
    pub(crate) seconds: u64,
    /// What was done.
    #[serde(flatten)]
    pub(crate) troubles: Troubles,
    /// Records acknowledged.
    pub(crate) acked: u64,
    /// Records in the logs at the end.
    pub(crate) consumed: u64,
    /// Records that readers saw on the way.
    pub(crate) read_on_the_way: u64,
    /// Snapshots installed on brokers that had lost their disk.
    pub(crate) seeded: u64,
    /// Acknowledged records that are not where they were acknowledged.
    pub(crate) acked_records_lost: u64,
    /// Records that are there more than once.
    pub(crate) duplicated: u64,
    /// Records that nobody sent.
    pub(crate) unexpected: u64,
    /// Offsets left out.
    pub(crate) gaps: u64,
    /// Records before an earlier one of the same writer.
    pub(crate) disordered: u64,
    /// Offsets whose content changed.
    pub(crate) changed: u64,
    /// The first findings, in words.
    pub(crate) findings: Vec<String>,
}

impl Report {
    /// Takes over what the history's check found.
    pub(crate) fn with(mut self, findings: Findings) -> Self {
        if !findings.is_clean() {
            self.verdict = "failed";
        }
        self.acked_records_lost = findings.lost;
        self.duplicated = findings.duplicated;
        self.unexpected = findings.unexpected;
        self.gaps = findings.gaps;
        self.disordered = findings.disordered;
        self.changed = findings.changed;
        self.findings = findings.words;
        self
    }

    /// Prints what `make verify` counts.
    pub(crate) fn print_evidence(&self) {
        let Troubles {
            kills,
            wipes,
            pauses,
            partitions,
            store_faults,
        } = self.troubles;
        let faults = wipes + pauses + partitions + store_faults;
        println!("EVIDENCE kills {kills}");
        println!("EVIDENCE faults_injected {faults}");
        println!("EVIDENCE acked_records {}", self.acked);
        println!("EVIDENCE acked_records_lost {}", self.acked_records_lost);
    }

    /// Writes report.json.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join("report.json"), serde_json::to_vec_pretty(self)?)
    }
}
