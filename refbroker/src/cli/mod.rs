//! The commands of a client, one file each.

pub mod consume;
pub mod create_topic;
pub mod produce;
pub mod status;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;

use crate::client::{Client, ClientError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The cluster did not do what was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard input or output failed.
    #[error("standard input or output failed")]
    Io(#[from] io::Error),
    /// What was found cannot be printed as JSON.
    #[error("the answer cannot be printed as JSON")]
    Json(#[from] serde_json::Error),
    /// None of the given endpoints answered.
    #[error("nobody answered")]
    Silence,
}

/// Runs a command and says how it went.
pub fn main(command: impl Future<Output = Result<(), CliError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refbroker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How to reach the cluster.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// Kafka listeners to ask first: HOST:PORT,HOST:PORT.
    #[arg(long, short, value_delimiter = ',', required = true)]
    pub bootstrap: Vec<String>,
    /// Longest time for the whole command, in seconds.
    #[arg(long, default_value = "60")]
    pub timeout_secs: u64,
}

impl Cluster {
    fn client(&self) -> Arc<Client> {
        Arc::new(Client::new(self.bootstrap.iter().cloned()))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_secs)
    }
}
