//! `restore-cluster`: what a whole lost cluster can be brought back from, and the word that begins its next life.

use std::{fmt::Write as _, time::Duration};

use super::{Daemon, ExitStatus, print, refuse, warn};
use crate::{
    config::{self, Sources},
    error::chain,
    format::RestoreToken,
    pipeline::recovery::{Check, Recoverable, Survey},
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RestoreCluster {
    /// How closely each snapshot is looked at.
    pub check: Check,
    /// The plan's confirmation; `None` = only show it.
    pub confirmation: Option<String>,
}

pub(super) fn run<D: Daemon>(
    sources: &Sources,
    request: &RestoreCluster,
    daemon: &D,
) -> ExitStatus {
    let loaded = config::load(sources);
    warn(&loaded.warnings);
    let config = match loaded.config {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match daemon.restore_cluster(config, request) {
        Ok((survey, None)) => match print(&plan(&survey, daemon.wall())) {
            ExitStatus::Ok if !survey.has_metadata() => ExitStatus::Failure,
            printed => printed,
        },
        Ok((survey, Some(token))) => {
            eprint!("{}", begun(&survey, &token));
            print(&format!("{token}\n"))
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitStatus::Failure
        }
    }
}

fn plan(survey: &Survey, now: Duration) -> String {
    let identity = &survey.identity;
    let (cluster_id, incarnation) = (&identity.cluster_id, identity.incarnation);
    let mut text = format!("cluster {cluster_id}, incarnation {incarnation}\n\n");
    let header = [
        "PARTITION",
        "TOPIC ID",
        "STARTS FROM",
        "AGE",
        "BYTES",
        "KNOWN LOST",
    ]
    .map(String::from);
    let rows = survey.partitions.iter().map(|one| row(one, now));
    table(
        &mut text,
        &[header].into_iter().chain(rows).collect::<Vec<_>>(),
    );
    text.push_str(
        "\nSTARTS FROM is the last log entry (index@term) that comes back; whatever was written after it is lost,\n\
         also what the store has never heard of. KNOWN LOST counts only entries that the store knows to have been.\n\
         Snapshots of deleted topics are listed, too; brokers restore the topics that __meta names, as it was then.\n",
    );
    let passed_over = survey.partitions.iter().flat_map(|one| {
        let name = move |passed| (&one.partition, passed);
        one.passed_over.iter().map(name)
    });
    for (nth, (partition, passed)) in passed_over.enumerate() {
        if nth == 0 {
            text.push_str("\nNewer snapshots that cannot be used:\n");
        }
        let (id, problem) = (passed.id, &passed.problem);
        let _ = writeln!(text, "  {partition} {id}: {problem}");
    }
    if !survey.has_metadata() {
        text.push_str(
            "\nThere is no usable snapshot of __meta: this cluster cannot be restored.\n",
        );
        return text;
    }
    let next = incarnation + 1;
    let confirmation = survey.confirmation();
    let _ = write!(
        text,
        "\nNothing was written. To begin incarnation {next} with exactly this:\n\
         \x20 1. Stop every broker and every sidecar of incarnation {incarnation} for good; keep their disks.\n\
         \x20 2. Run restore-cluster again with --confirm {confirmation}\n\
         \x20 3. Start every broker with an empty disk and the token that it prints.\n",
    );
    text
}

fn row(one: &Recoverable, now: Duration) -> [String; 6] {
    let (partition, topic_id) = (one.partition.to_string(), one.topic_id.clone());
    let Some(chosen) = &one.chosen else {
        let lost = format!("everything, {} entries or more", one.known_lost());
        let dash = || "-".to_owned();
        return [partition, topic_id, dash(), dash(), dash(), lost];
    };
    let manifest = &chosen.snapshot.manifest;
    let made = Duration::from_millis(manifest.created_at_unix_ms.unsigned_abs());
    let lost = match one.known_lost() {
        0 => "none that is known".to_owned(),
        entries => format!("{entries} entries or more"),
    };
    [
        partition,
        topic_id,
        manifest.last_included.to_string(),
        age(now.saturating_sub(made)),
        manifest.raw_bytes().to_string(),
        lost,
    ]
}

/// Two units are enough to judge by.
fn age(age: Duration) -> String {
    let secs = age.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn table(text: &mut String, rows: &[[String; 6]]) {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
}

fn begun(survey: &Survey, token: &RestoreToken) -> String {
    let cluster_id = &token.0.cluster_id;
    let (former, incarnation) = (survey.identity.incarnation, token.0.incarnation);
    format!(
        "Incarnation {incarnation} of cluster {cluster_id} has begun. Brokers and sidecars of incarnation {former} are \
         refused from now on.\nStart every broker with an empty disk and this token:\n"
    )
}
