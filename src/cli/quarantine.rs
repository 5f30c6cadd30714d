//! `quarantine`: a mark by hand, and its removal.

use std::fmt::Write as _;

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    confirm::confirmed,
    context::{Context, Step},
};
use crate::{
    format::SnapshotId,
    raft::{LogId, TopicPartition},
    tools::MarkPlan,
};

/// Mark a snapshot as one that must not be used, or take the mark back.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// The snapshot's id.
    #[arg(value_name = "SNAPSHOT_ID")]
    id: SnapshotId,

    /// Take the mark back. The snapshot is read completely first; if it does not verify, the mark stays.
    #[arg(long)]
    undo: bool,

    /// Take back a mark that a sidecar set. It may be there because the snapshot is of a history that is gone, which its
    /// bytes do not show: only with every broker of the partition stopped, or when the mark's reason is known to be wrong.
    #[arg(long, requires = "undo")]
    force: bool,

    /// Why, for whoever finds the mark.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "marked by an operator",
        conflicts_with = "undo"
    )]
    reason: String,

    /// Do it without asking.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let (partition, id, undo) = (&args.partition, args.id, args.undo);
    let plan = context.with_tools(&config, async |tools| {
        tools.plan_mark(partition, id, !undo).await
    })?;
    let snapshot = &plan.snapshot;
    if snapshot.quarantined != undo {
        let is = if undo {
            "is not quarantined"
        } else {
            "is quarantined already"
        };
        eprintln!("{partition}: {id} {is}: nothing to do");
        return Ok(ExitStatus::Ok);
    }
    eprint!("{}", text(&plan, undo));
    confirmed(args.yes)?;
    context.with_tools(&config, async |tools| {
        if undo {
            tools.unquarantine(snapshot, args.force).await
        } else {
            tools.quarantine(snapshot, &args.reason).await
        }
    })?;
    eprintln!("done");
    Ok(ExitStatus::Ok)
}

fn text(plan: &MarkPlan, undo: bool) -> String {
    let id = plan.snapshot.id;
    let end = |id: Option<LogId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let (before, after) = (end(plan.newest_before), end(plan.newest_after));
    let mut text = if undo {
        format!("{id} is read completely; if it verifies, its mark is removed.\n")
    } else {
        format!(
            "{id} is marked: nothing is truncated on it, nobody is seeded from it, and it is never deleted.\n"
        )
    };
    let _ = writeln!(
        text,
        "The newest usable snapshot of its life of the topic is {before} (index@term) now and {after} then."
    );
    if plan.newest_after < plan.newest_before {
        text.push_str(
            "Logs that were truncated beyond that are not covered then: the partition is unprotected until the next snapshot is \
             proven.\n",
        );
    }
    text
}
