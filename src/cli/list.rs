//! `list`: the snapshots in the store.

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step},
    output::{Output, moment, print, print_json, size, table},
};
use crate::tools::{Filter, Listing, SnapshotInfo};

/// List the snapshots in the store, newest first. Needs no daemon and no broker.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this topic, or this partition.
    #[arg(value_name = "TOPIC[/PARTITION]")]
    filter: Option<Filter>,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let filter = args.filter.as_ref();
    let listing = context.with_tools(&config, async |tools| tools.list(filter).await)?;
    if listing.snapshots.is_empty() && listing.unreadable.is_empty() {
        let prefix = &config.store.prefix;
        eprintln!(
            "the store was read; below {prefix:?} it holds no snapshots of what was asked for"
        );
    }
    for one in &listing.unreadable {
        let (topic, partition, id) = (&one.topic, one.partition, &one.snapshot_id);
        eprintln!(
            "{topic}/{partition}: the manifest of {id} cannot be read: {}",
            one.problem
        );
    }
    Ok(match args.output {
        Output::Json => print_json(&listing),
        Output::Table => print(&text(&listing)),
    })
}

fn text(listing: &Listing) -> String {
    let header = [
        "PARTITION",
        "SNAPSHOT ID",
        "END",
        "CREATED",
        "RAW",
        "STORED",
        "NEW",
        "INCREMENT",
        "FILES",
        "STATE",
    ];
    table(header, listing.snapshots.iter().map(row))
}

fn row(one: &SnapshotInfo) -> [String; 10] {
    [
        format!("{}/{}", one.topic, one.partition),
        one.snapshot_id.clone(),
        one.last_included.to_string(),
        moment(one.created_at_unix_ms),
        size(one.raw_bytes),
        size(one.stored_bytes),
        size(one.new_stored_bytes),
        one.increment.to_string(),
        one.files.len().to_string(),
        state(one),
    ]
}

/// In one word each.
pub(super) fn state(one: &SnapshotInfo) -> String {
    let proven = if one.proven.is_some() {
        "proven"
    } else {
        "unproven"
    };
    let quarantined = one.quarantined.then_some("quarantined");
    let pinned = one.pinned.then_some("pinned");
    let words = [Some(proven), quarantined, pinned].into_iter().flatten();
    let words: Vec<_> = words.collect();
    words.join(",")
}
