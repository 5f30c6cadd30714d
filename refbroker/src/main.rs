//! `refbroker`: the reference broker's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use refbroker::{cli, config::ServeArgs, serve};

#[derive(Parser)]
#[command(
    version,
    about = "The smallest honest Kafka-compatible Raft broker, and a client for it"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker.
    Serve(ServeArgs),
    Produce(cli::produce::Produce),
    Consume(cli::consume::Consume),
    CreateTopic(cli::create_topic::CreateTopic),
    Status(cli::status::Status),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::main(args),
        Command::Produce(command) => cli::main(command.run()),
        Command::Consume(command) => cli::main(command.run()),
        Command::CreateTopic(command) => cli::main(command.run()),
        Command::Status(command) => cli::main(command.run()),
    }
}
