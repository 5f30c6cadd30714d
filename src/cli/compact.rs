//! `compact --dry-run`: what the daemon would ask the broker to truncate.

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step, failed},
    output::{Output, print, print_json},
};
use crate::{raft::TopicPartition, tools::CutReport};

/// Show what the daemon would ask its broker to truncate, and what holds the rest. Asks the broker for its replica;
/// truncates nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// Only show. Required: truncation stays with the daemon.
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
            "compact truncates nothing: the daemon does, right after it has looked at the snapshot once more. Use \
             `compact --dry-run` to see what it would ask for"
        );
        return Err(ExitStatus::Usage);
    }
    let config = context.config(args.config)?;
    let partition = &args.partition;
    let report = context.with_tools(&config, async |tools| {
        let broker = context.daemon.broker(&config);
        let broker = match broker {
            Ok(broker) => broker,
            Err(error) => return Ok(Err(failed(&error, D::kind(&error)))),
        };
        let report = tools.cut(&*broker, partition, &config.policy).await;
        report.map(Ok::<CutReport, ExitStatus>)
    })??;
    Ok(match args.output {
        Output::Json => print_json(&report),
        Output::Table => print(&text(&report)),
    })
}

fn text(report: &CutReport) -> String {
    let base = match report.base {
        None => "none that is proven and at or below the applied index".to_owned(),
        Some(end) => format!("{} (ends at {end})", report.base_snapshot_id),
    };
    let would = match report.through_index {
        None => "nothing".to_owned(),
        Some(through) => format!(
            "entries {} to {through} ({})",
            report.first_log_index, report.entries
        ),
    };
    let held = match (report.held_by, report.hold_index) {
        (None, _) => "-".to_owned(),
        (Some("held"), index) if report.hold_reason.is_empty() => {
            format!("the broker, from index {index} on")
        }
        (Some("held"), index) => {
            format!("the broker, from index {index} on: {}", report.hold_reason)
        }
        (Some("disabled"), _) => "COMPACT=false".to_owned(),
        (Some("no_base"), _) => "no proven snapshot covers the log".to_owned(),
        (Some("already_cut"), _) => "everything that may go is gone".to_owned(),
        (Some("diverged"), _) => {
            "two snapshots end at one index with two terms: an operator must look".to_owned()
        }
        (Some(other), _) => other.to_owned(),
    };
    let lines = [
        (
            "replica",
            format!("{} of {}/{}", report.role, report.topic, report.partition),
        ),
        ("applied through", report.applied_index.to_string()),
        (
            "log",
            format!("{}..{}", report.first_log_index, report.last_log_index),
        ),
        ("covered by", base),
        ("trailing entries", report.trailing_entries.to_string()),
        (
            "covered beyond",
            format!("{} entries", report.covered_entries),
        ),
        ("would drop", would),
        ("held by", held),
    ];
    let line = |(name, value): &(&str, String)| format!("{name:<18}{value}\n");
    lines.iter().map(line).collect()
}
