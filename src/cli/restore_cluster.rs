//! `restore-cluster`: what a whole lost cluster can be brought back from, and the word that begins its next life.

use std::{fmt::Write as _, time::Duration};

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step, failed},
    output::{age, dash, print, table},
};
use crate::{
    format::RestoreToken,
    pipeline::recovery::{Check, Recoverable, Survey},
};

/// After the loss of a whole cluster: show what the store can bring back, and begin its next incarnation.
///
/// Without `--confirm` nothing is written.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Begin: the code that the shown plan ends with. Any change of what would be restored changes the code.
    #[arg(long, value_name = "CODE")]
    confirm: Option<String>,

    /// Trust proofs and look at one block of each file, instead of reading every snapshot completely.
    #[arg(long)]
    quick: bool,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RestoreCluster {
    /// How closely each snapshot is looked at.
    pub check: Check,
    /// The plan's confirmation; `None` = only show it.
    pub confirmation: Option<String>,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let request = RestoreCluster {
        check: if args.quick {
            Check::Quick
        } else {
            Check::Full
        },
        confirmation: args.confirm,
    };
    match context.daemon.restore_cluster(config, &request) {
        Ok((survey, None)) => match print(&plan(&survey, context.daemon.wall())) {
            ExitStatus::Ok if !survey.has_metadata() => Err(ExitStatus::Failure),
            printed => Ok(printed),
        },
        Ok((survey, Some(token))) => {
            eprint!("{}", begun(&survey, &token));
            Ok(print(&format!("{token}\n")))
        }
        Err(error) => Err(failed(&error, D::kind(&error))),
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
    ];
    let rows = survey.partitions.iter().map(|one| row(one, now));
    text.push_str(&table(header, rows));
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

fn begun(survey: &Survey, token: &RestoreToken) -> String {
    let cluster_id = &token.0.cluster_id;
    let (former, incarnation) = (survey.identity.incarnation, token.0.incarnation);
    format!(
        "Incarnation {incarnation} of cluster {cluster_id} has begun. Brokers and sidecars of incarnation {former} are \
         refused from now on.\nStart every broker with an empty disk and this token:\n"
    )
}
