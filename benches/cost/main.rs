//! What the daemon costs, beside what others would use: `make bench`.
//!
//! Every figure has a name in target/bench/report.json; docs/PERFORMANCE.md explains them. Nothing here fails because
//! something is slow: a figure that misses its target says so.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement stops at the first surprise"
)]

mod bed;
mod broker;
mod cluster;
mod contest;
mod daemon;
mod incremental;
mod memory;
mod peers;
mod producers;
#[path = "../../tests/support/records.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod records;
mod report;
mod requests;
mod reseed;
mod scale;
mod shares;
mod state;
mod transfer;
#[path = "../../tests/support/wire.rs"]
mod wire;

use std::{fs, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use self::bed::Bed;

/// Every wait ends here.
const PATIENCE: Duration = Duration::from_mins(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Snapshots and restores beside other tools.
    Transfer,
    /// Peak memory.
    Memory,
    /// Bytes stored for little that is new.
    Incremental,
    /// Ten thousand partitions.
    Scale,
    /// What an object store bills.
    Requests,
    /// A broker that lost its disk.
    Reseed,
    /// What producers notice.
    Producers,
}

/// Measures what the daemon costs.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything unless named.
    #[arg(long, value_enum)]
    section: Vec<Section>,
    /// Rounds whose median counts.
    #[arg(long, default_value = "5")]
    pairs: usize,
    /// Where report.json goes, and data while they are needed.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// A page whose table is replaced by that of report.json: of this run, and of earlier ones for what it leaves out.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Directory of the programs of a Python environment with awscli and s5cmd.
    #[arg(long, default_value = "target/bench-venv/bin")]
    python: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let bed = Bed::make(&args).await;
    let sections = if args.section.is_empty() {
        Section::value_variants()
    } else {
        &args.section
    };
    let report = args.dir.join("report.json");
    if args.section.is_empty() {
        report::write(&report, &[]);
    }
    let mut all = Vec::new();
    for section in sections {
        let rows = match section {
            Section::Transfer => transfer::run(&bed).await,
            Section::Memory => memory::run(&bed).await,
            Section::Incremental => incremental::run(&bed).await,
            Section::Scale => scale::run(&bed).await,
            Section::Requests => requests::run(&bed).await,
            Section::Reseed => reseed::run(&bed).await,
            Section::Producers => producers::run(&bed).await,
        };
        rows.iter().for_each(report::say);
        all = report::merge(&report, rows);
    }
    let data = bed.dir.clone();
    drop(bed);
    fs::remove_dir_all(data).unwrap();
    let table = report::table(&all);
    println!("\n{table}");
    if let Some(page) = &args.page {
        report::publish(page, &table);
    }
}
