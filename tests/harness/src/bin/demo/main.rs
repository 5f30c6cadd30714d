//! `make demo`: a cluster of real processes loses logs on purpose and a disk by accident, and no record.
//!
//! Exit codes: 0 every acknowledged record was read back exactly once, 1 anything else, 130 stopped by a signal.

mod check;
mod load;
mod logbook;
mod order;
mod report;
mod reseed;
mod setup;
mod story;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code after Ctrl-C or SIGTERM.
const EXIT_INTERRUPTED: u8 = 130;

/// Shows chronik-snapshotd at work: snapshots, truncated logs, a broker that comes back without its disk.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Where the demo keeps its data, its logs and report.json. Emptied first.
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
    /// Records produced before anything goes wrong.
    #[arg(long, default_value = "20000")]
    records: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Dropping the story on a signal drops the cluster, and with it every process.
    let outcome = tokio::select! {
        outcome = story::tell(&args) => outcome,
        () = interrupted() => {
            eprintln!("\ninterrupted: every process of the demo is being killed");
            return ExitCode::from(EXIT_INTERRUPTED);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo failed: {error}");
            if let Err(unwritten) = report::write_failure(&args.dir, &error) {
                eprintln!("report.json could not be written: {unwritten}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    let streams = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = streams else {
        // Without handlers the signals end the process themselves, and the guardian cleans up.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
