//! `init`: whose store this is, and the one way to take over an empty one for a cluster that has truncated logs.

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step, failed},
    output::print,
};

/// Claim the object store for the broker's cluster, or say whose it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Claim an empty store although logs of the cluster were truncated already: the snapshots that covered
    /// them are gone for good.
    #[arg(long)]
    adopt: bool,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    match context.daemon.init(config, args.adopt) {
        Ok(answer) => Ok(print(&answer)),
        Err(error) => Err(failed(&error, D::kind(&error))),
    }
}
