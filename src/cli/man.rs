//! `man`: manual pages.

use std::path::PathBuf;

use clap::CommandFactory as _;

use super::{Arguments, ExitStatus, context::Step};

/// Write a manual page for every command into a directory, which is made if it is missing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Step<ExitStatus> {
    let dir = &args.dir;
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), dir));
    match written {
        Ok(()) => Ok(ExitStatus::Ok),
        Err(error) => {
            eprintln!(
                "{}: {error}; choose a directory that can be written to",
                dir.display()
            );
            Err(ExitStatus::Failure)
        }
    }
}
