//! `prune --dry-run`: what retention would keep and evict.

use std::fmt::Write as _;

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step},
    output::{Output, print, print_json, size, table},
};
use crate::tools::{Filter, PartitionRetention, RetentionReport, UnusedFile};

/// Show what retention would keep and what it would evict, with reasons. Deletes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this topic, or this partition.
    #[arg(value_name = "TOPIC[/PARTITION]")]
    filter: Option<Filter>,

    /// Only show. Required: deletion stays with the daemon.
    #[arg(long)]
    dry_run: bool,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    if !args.dry_run {
        eprintln!(
            "prune deletes nothing: the daemon does, with RETENTION_COUNT, when it knows from its broker that it may. \
             Use `prune --dry-run` to see what it would do"
        );
        return Err(ExitStatus::Usage);
    }
    let config = context.config(args.config)?;
    let filter = args.filter.as_ref();
    let report = context.with_tools(&config, async |tools| {
        tools
            .retention(filter, &config.policy, &config.topics)
            .await
    })?;
    for one in &report.partitions {
        let (topic, partition) = (&one.topic, one.partition);
        if let Some(blocked) = &one.blocked {
            eprintln!("{topic}/{partition}: nothing is deleted: {blocked}");
        }
        if one.several_lives {
            eprintln!(
                "{topic}/{partition}: there are several lives of the topic; the daemon evicts only snapshots of the one that its \
                 broker hosts"
            );
        }
    }
    Ok(match args.output {
        Output::Json => print_json(&report),
        Output::Table => print(&text(&report)),
    })
}

fn text(report: &RetentionReport) -> String {
    let rows = report.partitions.iter().flat_map(rows);
    let mut text = table(
        ["PARTITION", "SNAPSHOT ID", "END", "ACTION", "REASON"],
        rows,
    );
    let files: Vec<&UnusedFile> = report
        .partitions
        .iter()
        .flat_map(|one| &one.files)
        .collect();
    if !files.is_empty() {
        let bytes = files.iter().map(|file| file.size_bytes).sum();
        let _ = write!(
            text,
            "\n{} files, {}, would not be needed by anything that is kept.\n",
            files.len(),
            size(bytes)
        );
    }
    text
}

fn rows(one: &PartitionRetention) -> impl Iterator<Item = [String; 5]> {
    one.snapshots.iter().map(|snapshot| {
        [
            format!("{}/{}", one.topic, one.partition),
            snapshot.snapshot_id.clone(),
            snapshot.last_included.to_string(),
            if snapshot.evict { "evict" } else { "keep" }.to_owned(),
            snapshot.reason.to_owned(),
        ]
    })
}
