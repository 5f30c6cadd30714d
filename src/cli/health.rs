//! `health`: the answer that a supervisor's exec probe needs.

use super::{
    Daemon, ExitStatus,
    args::EndpointArgs,
    context::{Context, Step},
    output::print,
};
use crate::admin::Health;

/// Ask the daemon's standard gRPC health service; exit with 0 only if it serves. Takes at most 2 s.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let health = context.with_admin(args.endpoint, async |daemon| daemon.health().await)?;
    match health {
        Health::Serving => Ok(print("SERVING\n")),
        Health::NotServing => {
            print("NOT_SERVING\n");
            Err(ExitStatus::Failure)
        }
    }
}
