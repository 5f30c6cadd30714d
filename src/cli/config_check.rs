//! `config check`: is the configuration right?

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step, refuse, warn},
    output::print,
};
use crate::config;

pub(super) fn run<D: Daemon>(args: ConfigArgs, context: &Context<'_, D>) -> Step<ExitStatus> {
    let loaded = config::load(&args.sources(context.environment.clone()));
    warn(&loaded.warnings);
    loaded.config.map_err(|error| refuse(&error))?;
    Ok(print("the configuration is valid\n"))
}
