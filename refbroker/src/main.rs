//! `refbroker`: the reference broker's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use refbroker::{config::ServeArgs, serve};

#[derive(Parser)]
#[command(version, about = "The smallest honest Kafka-compatible Raft broker")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker.
    Serve(ServeArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::main(args),
    }
}
