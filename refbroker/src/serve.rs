//! `refbroker serve`: runs a broker until SIGTERM or SIGINT.

use std::{io::IsTerminal as _, net::SocketAddr, process::ExitCode};

use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::{
    broker::{Broker, BrokerError, report},
    config::{LogFormat, ServeArgs},
    kafka,
    service::server::ServerError,
};

/// Exit code of a failure.
const EXIT_FAILURE: u8 = 1;
/// Exit code of a wrong configuration.
const EXIT_CONFIG: u8 = 78;

/// Runs the command.
pub fn main(args: ServeArgs) -> ExitCode {
    init_log(args.log);
    #[cfg(feature = "crash-points")]
    if let Err(error) = crate::crash::arm() {
        error!(%error, "crash points");
        return ExitCode::from(EXIT_CONFIG);
    }
    if let Err(error) = args.validate() {
        error!(%error, "configuration");
        return ExitCode::from(EXIT_CONFIG);
    }
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "runtime");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    match runtime.block_on(run(args)) {
        Ok(()) | Err(BrokerError::Stopped) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %report(&error), "broker stopped");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn init_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,raft_engine=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn run(args: ServeArgs) -> Result<(), BrokerError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let kafka_listen = args.kafka_listen;
    let starting = Broker::start(args, &stop);
    let broker = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return Err(BrokerError::Stopped),
        _ = interrupt.recv() => return Err(BrokerError::Stopped),
    };
    let failed = {
        let serving = serve_clients(&broker, kafka_listen, stop.clone());
        tokio::pin!(serving);
        let failed = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            () = broker.failed().cancelled() => true,
            outcome = &mut serving => return outcome,
        };
        info!(failed, "stopping");
        stop.cancel();
        serving.await?;
        failed
    };
    let stopped = broker.stop().await;
    if failed && stopped.is_ok() {
        return Err(BrokerError::Superseded);
    }
    stopped
}

/// Opens the Kafka listener once the broker knows the cluster, and serves clients until `stop`.
async fn serve_clients(
    broker: &Broker,
    address: SocketAddr,
    stop: CancellationToken,
) -> Result<(), BrokerError> {
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = broker.registered() => {}
    }
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| ServerError::Listen {
        address: address.to_string(),
        source,
    })?;
    info!(%address, "serving Kafka clients");
    kafka::serve(listener, broker.node(), stop).await;
    Ok(())
}
