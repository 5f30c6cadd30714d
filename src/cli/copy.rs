//! `copy`: snapshots to another prefix or bucket.

use std::{cell::Cell, path::PathBuf};

use clap::ArgGroup;

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step, failed, refuse, tool_failed, warn},
    output::size,
    progress,
};
use crate::{
    config::{self, Config, Sources},
    raft::TopicPartition,
    tools::{Copied, Copier, Filter, check_places},
};

/// Copy snapshots to another prefix of the store, or to the store of another configuration.
///
/// Nothing in the target is replaced; everything is read back there before its manifest is written. An empty target
/// becomes the store of the same cluster. The same command goes on with a copy that broke off.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["partition", "all"]))]
#[command(group = ArgGroup::new("where").required(true).args(["to_prefix", "to_config"]))]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: Option<TopicPartition>,

    /// Every partition.
    #[arg(long)]
    all: bool,

    /// A prefix of the same bucket or directory; ends in /.
    #[arg(long, value_name = "PREFIX", value_parser = config::parse_prefix)]
    to_prefix: Option<String>,

    /// A second configuration file, which alone says where the target is: neither environment nor flags are read for it.
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let target = target(&config, args.to_prefix, args.to_config)?;
    check_places(&config.store, &target.store).map_err(|error| tool_failed(&error))?;
    let filter = args.partition.map(Filter::Partition);
    let copied = context.with_abort(async |abort| {
        let open = |config: &Config| context.daemon.tools(config, abort.clone());
        let opened = open(&config).and_then(|from| Ok((from, open(&target)?)));
        let (from, to) = opened.map_err(|error| failed(&error, D::kind(&error)))?;
        let done_bytes = Cell::new(0);
        let copier = Copier {
            from: &from,
            to: &to,
            done_bytes: &done_bytes,
        };
        let work = copier.work(filter.as_ref()).await;
        let work = work.map_err(|error| tool_failed(&error))?;
        let total = work.stored_bytes();
        let copied = progress::shown(total, || done_bytes.get(), copier.copy(work)).await;
        copied.map_err(|error| tool_failed(&error))
    })?;
    told(&copied);
    if copied.damaged.is_empty() {
        Ok(ExitStatus::Ok)
    } else {
        Err(ExitStatus::NotVerified)
    }
}

fn target(config: &Config, prefix: Option<String>, file: Option<PathBuf>) -> Step<Config> {
    let Some(file) = file else {
        let mut target = config.clone();
        target.store.prefix = prefix.unwrap_or_default();
        return Ok(target);
    };
    let loaded = config::load_for_command(&Sources {
        config_file: Some(file),
        ..Sources::default()
    });
    warn(&loaded.warnings);
    loaded.config.map_err(|error| refuse(&error))
}

fn told(copied: &Copied) {
    for one in &copied.damaged {
        let (partition, id, problem) = (&one.partition, &one.snapshot_id, &one.problem);
        eprintln!("{partition}: {id} was not copied, it does not verify: {problem}");
    }
    if copied.quarantined > 0 {
        let count = copied.quarantined;
        let marked = copied.marked;
        eprintln!(
            "{count} snapshots are quarantined and were left out; {marked} of them are marked in the target now"
        );
    }
    let (snapshots, kept) = (copied.snapshots, copied.kept);
    let (files, bytes) = (copied.files, size(copied.bytes));
    eprintln!("{snapshots} snapshots copied ({files} files, {bytes}), {kept} were there");
}
