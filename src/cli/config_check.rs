//! `config check`: is the configuration right?

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step},
    output::print,
};

pub(super) fn run<D: Daemon>(config: ConfigArgs, context: &Context<'_, D>) -> Step<ExitStatus> {
    context.config(config)?;
    Ok(print("the configuration is valid\n"))
}
