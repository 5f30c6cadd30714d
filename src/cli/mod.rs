//! The command line: one file per command. Commands return an exit code; nothing here ends the process.
//!
//! Data goes to standard output, everything else to standard error.

mod args;
mod cat;
mod compact;
mod completions;
mod config_check;
mod config_env;
mod config_print;
mod confirm;
mod context;
mod copy;
mod create;
mod doctor;
mod drill;
mod exit;
mod explain;
mod health;
mod init;
mod list;
mod man;
mod output;
mod pause;
mod pin;
mod progress;
mod prune;
mod quarantine;
mod restore;
mod restore_cluster;
mod resume;
mod run;
mod show;
mod status;
mod verify;

use std::{error::Error, ffi::OsString, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

pub use exit::ExitStatus;
pub use restore_cluster::RestoreCluster;

use self::{args::ConfigArgs, context::Context};
use crate::{
    broker::Broker, config::Config, error::Kind, format::RestoreToken, pipeline::recovery::Survey,
    store::Store, telemetry::traces::Spans, tools::Tools,
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
    Status(status::Args),
    Create(create::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Health(health::Args),
    Explain(explain::Args),
    List(list::Args),
    Show(show::Args),
    Verify(verify::Args),
    Drill(drill::Args),
    Cat(cat::Args),
    Restore(restore::Args),
    Prune(prune::Args),
    Compact(compact::Args),
    Quarantine(quarantine::Args),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
    Copy(copy::Args),
    Doctor(doctor::Args),
    Init(init::Args),
    RestoreCluster(restore_cluster::Args),
    /// Look at the configuration without running.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    Completions(completions::Args),
    Man(man::Args),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tell everything that is wrong with the configuration, and exit with 78 if anything is.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    Print(config_print::Args),
    /// Print every option with its default and what it does, as an environment file.
    Env,
}

/// Takes over what changed in the configuration.
pub type Reload = Box<dyn FnMut()>;

/// What lies behind the commands that do more than look at the configuration.
pub trait Daemon {
    /// Why it failed.
    type Error: Error + 'static;

    /// What must be done about it.
    fn kind(error: &Self::Error) -> Kind;

    /// True if it is no use to start the daemon again before a setting was changed. What may pass by itself (a disk that is not
    /// mounted yet, a certificate that is being replaced) is not that.
    fn needs_other_settings(error: &Self::Error) -> bool;

    /// Runs until a signal ends it; calls `reload` for each SIGHUP and sends `spans` to the collector.
    fn run(&self, config: Config, reload: Reload, spans: Option<Spans>) -> Result<(), Self::Error>;

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

    /// The configured store, which must exist, and what it takes to work with it until `abort`.
    fn tools(&self, config: &Config, abort: CancellationToken) -> Result<Tools, Self::Error>;

    /// The configured broker. Only inside [`Daemon::block_on`].
    fn broker(&self, config: &Config) -> Result<Arc<dyn Broker>, Self::Error>;

    /// The configured store, sending a checksum with everything that is written.
    fn checksummed(&self, config: &Config) -> Result<Store, Self::Error>;

    /// Runs `work` in a runtime of its own. SIGTERM or SIGINT cancels its token; then it gets some seconds to end.
    fn block_on<T>(&self, work: impl AsyncFnOnce(CancellationToken) -> T)
    -> Result<T, Self::Error>;
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
    let context = Context {
        environment: environment.into_iter().collect(),
        daemon,
    };
    let done = match arguments.command {
        Command::Run { config } => {
            let Context {
                environment,
                daemon,
            } = context;
            Ok(run::run(config.sources(environment), daemon))
        }
        Command::Status(args) => status::run(args, &context),
        Command::Create(args) => create::run(args, &context),
        Command::Pause(args) => pause::run(args, &context),
        Command::Resume(args) => resume::run(args, &context),
        Command::Health(args) => health::run(args, &context),
        Command::Explain(args) => explain::run(args, &context),
        Command::List(args) => list::run(args, &context),
        Command::Show(args) => show::run(args, &context),
        Command::Verify(args) => verify::run(args, &context),
        Command::Drill(args) => drill::run(args, &context),
        Command::Cat(args) => cat::run(args, &context),
        Command::Restore(args) => restore::run(args, &context),
        Command::Prune(args) => prune::run(args, &context),
        Command::Compact(args) => compact::run(args, &context),
        Command::Quarantine(args) => quarantine::run(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::Pin(args) => pin::pin(args, &context),
        Command::Unpin(args) => pin::unpin(args, &context),
        Command::Copy(args) => copy::run(args, &context),
        Command::Init(args) => init::run(args, &context),
        Command::RestoreCluster(args) => restore_cluster::run(args, &context),
        Command::Config { command } => match command {
            ConfigCommand::Check { config } => config_check::run(config, &context),
            ConfigCommand::Print(args) => config_print::run(args, &context),
            ConfigCommand::Env => Ok(config_env::run()),
        },
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Man(args) => man::run(&args),
    };
    // What a command did not finish, it has told.
    done.unwrap_or_else(|status| status)
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
