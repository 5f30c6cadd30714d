//! The reference broker and its client.

use std::process::ExitCode;

use clap::Parser;
use refbroker::cli;

/// A small Kafka-compatible Raft broker, and a client for it.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Produce(cli::produce::Produce),
    Consume(cli::consume::Consume),
    CreateTopic(cli::create_topic::CreateTopic),
    Status(cli::status::Status),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Produce(command) => command.run().await,
        Command::Consume(command) => command.run().await,
        Command::CreateTopic(command) => command.run().await,
        Command::Status(command) => command.run().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refbroker: {error}");
            ExitCode::FAILURE
        }
    }
}
