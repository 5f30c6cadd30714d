//! A cluster under random kills, wiped disks, partitions and store faults, and the proof that no promise was broken.

mod nemesis;
mod report;
mod world;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

/// Break a cluster at random for some minutes; then every acknowledged record must be there exactly once.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Minutes of trouble.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Chooses the troubles. Default: a random one, which is told.
    #[arg(long)]
    seed: Option<u64>,
    /// Where everything is kept. Emptied first; must have been made by an earlier run.
    #[arg(long, default_value = "target/soak")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let minutes = Duration::try_from_secs_f64(args.minutes * 60.0);
    let Ok(duration) = minutes else {
        eprintln!("--minutes {}: give a positive number", args.minutes);
        return ExitCode::from(2);
    };
    let seed = args.seed.unwrap_or_else(rand::random);
    let soak = world::soak(&args.dir, seed, duration);
    tokio::select! {
        outcome = soak => match outcome {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("soak with --seed {seed} failed: {error}");
                ExitCode::FAILURE
            }
        },
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}
