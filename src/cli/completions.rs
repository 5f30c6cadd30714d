//! `completions`: a script for a shell.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{Arguments, ExitStatus, output::print_bytes};

/// Print a completion script, for example `chronik-snapshotd completions bash`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args) -> ExitStatus {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    print_bytes(&script)
}
