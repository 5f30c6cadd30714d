//! `verify`: does what the store holds still read back right?

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step},
    output::{Output, dash, print, print_json, size, table},
    progress,
};
use crate::{
    raft::TopicPartition,
    tools::{Check, Filter, State, Subjects, Verdict, Which},
};

/// Read snapshots back and check them. Exits with 5 if anything does not verify.
///
/// Without `--deep` the size of every file and the CRC-32 of every stored block is checked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition, required_unless_present = "all")]
    partition: Option<TopicPartition>,

    /// The snapshot's id, or `latest`: the newest proven one that is not quarantined.
    #[arg(
        value_name = "SNAPSHOT_ID|latest",
        default_value = "latest",
        conflicts_with = "all"
    )]
    which: Which,

    /// Every snapshot of the partition, or of the whole store.
    #[arg(long)]
    all: bool,

    /// Also decompress, and check the digests that the broker gave.
    #[arg(long)]
    deep: bool,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let subjects = match args.partition {
        Some(partition) if !args.all => Subjects::One(partition, args.which),
        partition => Subjects::All(partition.map(Filter::Partition)),
    };
    let check = if args.deep {
        Check::Deep
    } else {
        Check::Stored
    };
    let found = context.with_tools(&config, async |tools| {
        let work = tools.to_verify(&subjects).await?;
        let (total, read) = (work.raw_bytes(), tools.plane.read.clone());
        progress::shown(total, || read.bytes(), tools.verify(work, check)).await
    })?;
    let printed = match args.output {
        Output::Json => print_json(&found),
        Output::Table => {
            let header = ["PARTITION", "SNAPSHOT ID", "RAW", "RESULT", "PROBLEM"];
            print(&table(header, found.snapshots.iter().map(row)))
        }
    };
    if found.holds() {
        return Ok(printed);
    }
    eprintln!("something does not verify");
    Err(ExitStatus::NotVerified)
}

fn row(one: &Verdict) -> [String; 5] {
    let result = match one.state {
        State::Ok => "ok",
        State::Damaged => "DAMAGED",
        State::Unreadable => "UNREADABLE",
        State::Retired => "retired meanwhile",
    };
    let quarantined = if one.quarantined {
        " (quarantined)"
    } else {
        ""
    };
    let problem = match one.problem.as_str() {
        "" => dash(),
        problem => problem.to_owned(),
    };
    [
        format!("{}/{}", one.topic, one.partition),
        one.snapshot_id.clone(),
        size(one.raw_bytes),
        format!("{result}{quarantined}"),
        problem,
    ]
}
