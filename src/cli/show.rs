//! `show`: one snapshot, manifest and proof.

use serde::Serialize;

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step},
    list,
    output::{Output, moment, print, print_json, size, table},
};
use crate::{
    catalog::Snapshot,
    format::{Manifest, Part, Proof},
    raft::TopicPartition,
    tools::{SnapshotInfo, Which},
};

/// Show one snapshot: its manifest and its proof.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// The snapshot's id, or `latest`: the newest proven one that is not quarantined.
    #[arg(value_name = "SNAPSHOT_ID|latest")]
    which: Which,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

/// The objects as they are in the store.
#[derive(Serialize)]
struct Shown<'a> {
    manifest: &'a Manifest,
    manifest_digest: String,
    proof: Option<&'a Proof>,
    quarantined: bool,
    pinned: bool,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let (partition, which) = (&args.partition, args.which);
    let found = context.with_tools(&config, async |tools| tools.find(partition, which).await)?;
    let snapshot = &found.snapshot;
    Ok(match args.output {
        Output::Table => print(&text(snapshot)),
        Output::Json => print_json(&Shown {
            manifest: &snapshot.manifest,
            manifest_digest: snapshot.digest.to_string(),
            proof: snapshot.proof.as_deref(),
            quarantined: snapshot.quarantined,
            pinned: snapshot.pinned,
        }),
    })
}

fn text(snapshot: &Snapshot) -> String {
    let info = SnapshotInfo::of(snapshot);
    let manifest = &snapshot.manifest;
    let members = |ids: &[u64]| {
        let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
        format!("[{}]", ids.join(", "))
    };
    let conf = &manifest.conf_state;
    let by = &manifest.created_by;
    let proof = match &snapshot.proof {
        None => "none: nothing rests on it".to_owned(),
        Some(proof) => format!(
            "{} at {} beside broker {} ({})",
            info.proven.as_ref().map_or("", |proven| proven.verify),
            moment(proof.verified_at_unix_ms),
            proof.verified_by.broker_id,
            proof.verified_by.version
        ),
    };
    let lines = [
        ("partition", manifest.partition.to_string()),
        ("snapshot id", info.snapshot_id.clone()),
        ("state", list::state(&info)),
        ("lineage", manifest.lineage.to_string()),
        (
            "end",
            format!(
                "index {}, term {}",
                info.last_included.index, info.last_included.term
            ),
        ),
        ("voters", members(&conf.voters)),
        ("learners", members(&conf.learners)),
        (
            "created",
            format!(
                "{} beside broker {} ({})",
                moment(info.created_at_unix_ms),
                by.broker_id,
                by.version
            ),
        ),
        ("proof", proof),
        ("manifest digest", snapshot.digest.to_string()),
        ("state codec", info.state_codec.clone()),
        ("codec", info.codec.to_string()),
        ("increment", info.increment.to_string()),
        (
            "raw",
            format!("{} ({} bytes)", size(info.raw_bytes), info.raw_bytes),
        ),
        (
            "stored",
            format!("{} ({} bytes)", size(info.stored_bytes), info.stored_bytes),
        ),
        (
            "new",
            format!(
                "{} ({} bytes)",
                size(info.new_stored_bytes),
                info.new_stored_bytes
            ),
        ),
    ];
    let line = |(name, value): &(&str, String)| format!("{name:<17}{value}\n");
    let mut text: String = lines.iter().map(line).collect();
    text.push('\n');
    let row = |part: &Part| {
        [
            part.part_id.clone(),
            part.digest.size_bytes.to_string(),
            format!("{:08x}", part.digest.crc32),
            if part.sealed { "yes" } else { "no" }.to_owned(),
            part.blocks.len().to_string(),
        ]
    };
    text.push_str(&table(
        ["PART", "RAW BYTES", "CRC-32", "SEALED", "BLOCKS"],
        manifest.parts.iter().map(row),
    ));
    text.push('\n');
    let row = |extent: crate::format::FileExtent| {
        let owner = if extent.own {
            "this snapshot"
        } else {
            "an earlier one"
        };
        [extent.name, extent.end_bytes.to_string(), owner.to_owned()]
    };
    text.push_str(&table(
        ["FILE", "BYTES USED THROUGH", "WRITTEN BY"],
        manifest.file_extents().into_iter().map(row),
    ));
    text
}
