//! The command line: one file per command. Commands return an exit code; nothing here ends the process.

mod args;
mod config_check;
mod config_print;
mod exit;
mod health;
mod init;
mod restore_cluster;
mod run;

use std::{
    error::Error,
    ffi::OsString,
    io::{self, Write as _},
    time::Duration,
};

use clap::{Parser, Subcommand};

pub use exit::ExitStatus;
pub use restore_cluster::RestoreCluster;

use self::args::ConfigArgs;
use crate::{
    config::{Config, ConfigError, Endpoint, Warning},
    format::RestoreToken,
    pipeline::recovery::{Check, Survey},
};

/// Snapshots, log truncation and re-seeding for the Raft partitions of a broker.
#[derive(Debug, Parser)]
#[command(name = "chronik-snapshotd", version, subcommand_required = true)]
#[command(arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
    },
    Health(health::Args),
    /// Claim the object store for the broker's cluster, or say whose it is.
    Init {
        #[command(flatten)]
        config: ConfigArgs,
        /// Claim an empty store although logs of the cluster were truncated already: the snapshots that covered
        /// them are gone for good.
        #[arg(long)]
        adopt: bool,
    },
    /// After the loss of a whole cluster: show what the store can bring back, and begin its next incarnation.
    ///
    /// Without `--confirm` nothing is written.
    RestoreCluster {
        #[command(flatten)]
        config: ConfigArgs,
        /// Begin: the code that the shown plan ends with. Any change of what would be restored changes the code.
        #[arg(long, value_name = "CODE")]
        confirm: Option<String>,
        /// Trust proofs and look at one block of each file, instead of reading every snapshot completely.
        #[arg(long)]
        quick: bool,
    },
    /// Look at the configuration without running.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tell everything that is wrong with the configuration, and exit with 78 if anything is.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show every option's effective value and where it comes from. Secrets are masked.
    Print {
        #[command(flatten)]
        config: ConfigArgs,
        /// How to show it.
        #[arg(long, value_enum, default_value_t = config_print::Output::Table)]
        output: config_print::Output,
    },
}

/// Takes over what changed in the configuration.
pub type Reload = Box<dyn FnMut()>;

/// What lies behind the commands that do more than look at the configuration.
pub trait Daemon {
    /// Why it failed.
    type Error: Error + 'static;

    /// Runs until a signal ends it; calls `reload` for each SIGHUP.
    fn run(&self, config: Config, reload: Reload) -> Result<(), Self::Error>;

    /// Whether the daemon at `endpoint`, another process, says that it serves.
    fn is_serving(&self, endpoint: &Endpoint) -> Result<bool, Self::Error>;

    /// Claims the store for the broker's cluster and tells whose it is now.
    fn init(&self, config: Config, adopt: bool) -> Result<String, Self::Error>;

    /// Finds out what a restore of the whole cluster would bring back; begins it if it was confirmed.
    fn restore_cluster(
        &self,
        config: Config,
        request: &RestoreCluster,
    ) -> Result<(Survey, Option<RestoreToken>), Self::Error>;

    /// Wall time since the Unix epoch, for ages that people read.
    fn wall(&self) -> Duration;
}

/// Parses `arguments` (the program's name first), carries the command out and tells how the process is to end.
///
/// The daemon gets a checked configuration and logging that is set up.
pub fn main<D: Daemon>(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    daemon: &D,
) -> ExitStatus {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(answer) => return usage(&answer),
    };
    let environment = environment.into_iter().collect();
    match arguments.command {
        Command::Run { config } => run::run(config.sources(environment), daemon),
        Command::Health(args) => health::run(args, environment, daemon),
        Command::Init { config, adopt } => init::run(&config.sources(environment), adopt, daemon),
        Command::RestoreCluster {
            config,
            confirm: confirmation,
            quick,
        } => {
            let check = if quick { Check::Quick } else { Check::Full };
            let request = RestoreCluster {
                check,
                confirmation,
            };
            restore_cluster::run(&config.sources(environment), &request, daemon)
        }
        Command::Config { command } => match command {
            ConfigCommand::Check { config } => config_check::run(&config.sources(environment)),
            ConfigCommand::Print { config, output } => {
                config_print::run(&config.sources(environment), output)
            }
        },
    }
}

/// `--help` and `--version` are answers, the rest are mistakes; clap tells which.
fn usage(answer: &clap::Error) -> ExitStatus {
    // Nobody is left to tell when the terminal is gone.
    let _ = answer.print();
    if answer.use_stderr() {
        ExitStatus::Usage
    } else {
        ExitStatus::Ok
    }
}

/// Writes a command's result. A reader that went away is a failure, not a panic.
fn print(text: &str) -> ExitStatus {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitStatus::Ok,
        Err(_) => ExitStatus::Failure,
    }
}

/// Before logging is set up, people read standard error.
fn refuse(error: &ConfigError) -> ExitStatus {
    eprintln!("{error}");
    ExitStatus::Configuration
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}
