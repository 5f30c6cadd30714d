//! `status`: what the daemon knows and does.

use std::fmt::Write as _;

use super::{
    Daemon, ExitStatus,
    args::EndpointArgs,
    context::{Context, Step},
    output::{Output, dash, moment, print, print_json, size, table},
};
use crate::{
    admin::Status,
    board::{DaemonStatus, PartitionStatus, Work},
};

/// Show what the daemon knows and does: the process and every partition.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    endpoint: EndpointArgs,

    /// Only this topic.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let topic = args.topic.as_deref();
    let status = context.with_admin(args.endpoint, async |daemon| daemon.status(topic).await)?;
    if let Some(topic) = topic.filter(|_| status.partitions.is_empty()) {
        eprintln!("the daemon looks after no partition of {topic:?}");
        return Err(ExitStatus::NotFound);
    }
    Ok(match args.output {
        Output::Json => print_json(&status),
        Output::Table => print(&text(&status)),
    })
}

fn text(status: &Status) -> String {
    let mut text = process(&status.daemon);
    text.push('\n');
    let header = [
        "PARTITION",
        "ROLE",
        "APPLIED",
        "LOG",
        "PROVEN",
        "SINCE",
        "DEBT",
        "HELD BY",
        "DRILLED",
        "ACTIVITY",
        "STATE",
    ];
    text.push_str(&table(header, status.partitions.iter().map(row)));
    for one in &status.partitions {
        for problem in problems(one) {
            let _ = writeln!(text, "{}/{}: {problem}", one.topic, one.partition);
        }
    }
    text.push_str(&running(&status.running));
    text
}

/// What runs, if anything does.
fn running(works: &[Work]) -> String {
    if works.is_empty() {
        return String::new();
    }
    let row = |work: &Work| {
        let progress = match work.total_bytes {
            0 => dash(),
            total => format!("{} of {}", size(work.done.bytes()), size(total)),
        };
        [
            format!("{}/{}", work.topic, work.partition),
            work.kind.to_string(),
            work.stage.to_string(),
            progress,
            moment(work.began_at_unix_ms),
        ]
    };
    let header = ["RUNNING", "WORK", "STAGE", "PROGRESS", "SINCE"];
    format!("\n{}", table(header, works.iter().map(row)))
}

fn process(daemon: &DaemonStatus) -> String {
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let identity = match daemon.identity_problem.as_str() {
        "" => "this cluster's",
        problem => problem,
    };
    let last_tick = match daemon.last_tick_at_unix_ms {
        0 => "never".to_owned(),
        at => moment(at),
    };
    let lines = [
        ("version", daemon.version.clone()),
        ("started", moment(daemon.started_at_unix_ms)),
        (
            "cluster",
            format!("{} (incarnation {})", daemon.cluster_id, daemon.incarnation),
        ),
        (
            "broker",
            format!(
                "{} (reached: {})",
                daemon.broker_id,
                yes_no(daemon.broker_connected)
            ),
        ),
        (
            "store",
            format!("{identity} (reached: {})", yes_no(daemon.store_available)),
        ),
        ("last tick", last_tick),
        (
            "operations",
            format!("{} running, {} waiting", daemon.in_flight, daemon.queued),
        ),
        ("drills", drills(daemon)),
    ];
    let line = |(name, value): &(&str, String)| format!("{name:<12}{value}\n");
    lines.iter().map(line).collect()
}

fn drills(daemon: &DaemonStatus) -> String {
    let now = match daemon.drilling.as_str() {
        "" => String::new(),
        partition => format!(", now {partition}"),
    };
    match daemon.drill_interval_secs {
        0 => "off".to_owned(),
        secs => format!("every {secs} s{now}"),
    }
}

fn row(one: &PartitionStatus) -> [String; 11] {
    let or_dash = |text: &str| {
        if text.is_empty() {
            dash()
        } else {
            text.to_owned()
        }
    };
    let debt = match one.truncation_debt_entries {
        0 => dash(),
        entries => format!("{entries} ({})", size(one.truncation_debt_bytes)),
    };
    let drilled = match one.last_drill_success_at_unix_ms {
        0 => dash(),
        at => moment(at),
    };
    let state = if one.paused {
        "paused"
    } else if one.unprotected {
        "UNPROTECTED"
    } else if one.consecutive_failures > 0 {
        "failing"
    } else {
        "ok"
    };
    [
        format!("{}/{}", one.topic, one.partition),
        one.role.to_string(),
        one.applied_index.to_string(),
        format!("{}..{}", one.first_log_index, one.last_log_index),
        one.newest_last_included
            .map_or_else(dash, |id| id.to_string()),
        one.entries_since_snapshot.to_string(),
        debt,
        or_dash(&one.truncation_held_by),
        drilled,
        or_dash(&one.activity),
        state.to_owned(),
    ]
}

/// What does not fit into a cell and must not be missed.
fn problems(one: &PartitionStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if one.unprotected {
        problems.push(
            "UNPROTECTED: log entries are gone and no proven snapshot covers them".to_owned(),
        );
    }
    if !one.last_error.is_empty() {
        let failures = one.consecutive_failures;
        problems.push(format!(
            "failed {failures} times in a row, last: {}",
            one.last_error
        ));
    }
    if !one.last_drill_problem.is_empty() {
        let (outcome, at) = (&one.last_drill_outcome, moment(one.last_drill_at_unix_ms));
        let (id, problem) = (&one.last_drill_snapshot_id, &one.last_drill_problem);
        problems.push(format!("last drill ({at}, {id}) {outcome}: {problem}"));
    }
    if !one.deletion_blocked.is_empty() {
        problems.push(format!("nothing is deleted: {}", one.deletion_blocked));
    }
    problems
}
