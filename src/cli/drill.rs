//! `drill`: restores for practice.

use std::path::PathBuf;

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step},
    output::{Output, age, dash, print, print_json, size, table},
    progress,
};
use crate::{
    raft::TopicPartition,
    tools::{DrillState, Drilled, PartitionDrill},
};

/// Restore the newest good snapshot for practice, and say how fast that was and how long a restore takes. Exits with 5 if
/// something does not verify, with 4 if there is nothing to restore.
///
/// It is read and checked as for a broker, and thrown away. No daemon is needed, and nothing in the store is changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(
        value_name = "TOPIC/PARTITION",
        value_parser = parse_partition,
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    partition: Option<TopicPartition>,

    /// Every partition that has snapshots, one after the other.
    #[arg(long)]
    all: bool,

    /// Write the state into files below this directory, and remove them again: the disk counts too.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let (partition, scratch) = (args.partition.as_ref(), args.scratch.as_deref());
    let drilled = context.with_tools(&config, async |tools| {
        let work = tools.to_drill(partition).await?;
        let (total, read) = (work.raw_bytes(), tools.plane.read.clone());
        progress::shown(total, || read.bytes(), tools.drill(work, scratch)).await
    })?;
    let printed = match args.output {
        Output::Json => print_json(&drilled),
        Output::Table => {
            let header = [
                "PARTITION",
                "SNAPSHOT ID",
                "RAW",
                "TIME",
                "SPEED",
                "RESULT",
                "PROBLEM",
            ];
            print(&table(header, drilled.drills.iter().map(row)))
        }
    };
    summary(&drilled);
    if drilled.any(DrillState::Damaged) {
        eprintln!("something does not verify");
        return Err(ExitStatus::NotVerified);
    }
    if drilled.any(DrillState::Missing) {
        eprintln!("something cannot be restored: there is no snapshot for it");
        return Err(ExitStatus::NotFound);
    }
    Ok(printed)
}

fn summary(drilled: &Drilled) {
    let (bytes, speed) = (size(drilled.raw_bytes), size(drilled.raw_bytes_per_sec));
    let time = took(drilled.elapsed_ms);
    eprintln!("{bytes} restored in {time}, {speed} a second");
    if let Some(secs) = drilled.restore_estimate_secs {
        let estimate = age(std::time::Duration::from_secs(secs));
        eprintln!("at that speed all of it is restored in about {estimate}");
    }
}

fn row(one: &PartitionDrill) -> [String; 7] {
    let result = match one.state {
        DrillState::Restored => "ok",
        DrillState::Damaged => "DAMAGED",
        DrillState::Missing => "MISSING",
        DrillState::Retired => "retired meanwhile",
    };
    let or_dash = |text: &str| match text {
        "" => dash(),
        text => text.to_owned(),
    };
    let speed = match one.raw_bytes_per_sec {
        0 => dash(),
        speed => format!("{}/s", size(speed)),
    };
    [
        format!("{}/{}", one.topic, one.partition),
        or_dash(&one.snapshot_id),
        size(one.raw_bytes),
        took(one.elapsed_ms),
        speed,
        result.to_owned(),
        or_dash(&one.problem),
    ]
}

/// Tenths of a second are enough to compare by.
fn took(ms: u64) -> String {
    if ms < 1000 {
        return format!("{ms} ms");
    }
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
