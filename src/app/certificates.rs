//! Certificates of both directions, followed while the process runs.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::AppError;
use crate::{
    broker::{Broker, BrokerError, GrpcBroker, GrpcOptions},
    channel::{Followed, Route, server_config},
    config::Config,
    telemetry::{Certificate, Metrics},
};

/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What the files hold.
pub(super) struct Certificates {
    /// Of LISTEN, if it is encrypted.
    pub(super) listen: Option<Arc<Followed<ServerConfig>>>,
    /// How the broker is reached.
    pub(super) broker: Route,
    metrics: Metrics,
}

impl Certificates {
    /// Reads them all; one that cannot be used is an error.
    pub(super) fn read(config: &Config, metrics: Metrics) -> Result<Self, AppError> {
        let listen = match &config.listen_tls {
            Some(files) => Some(Arc::new(Followed::open(files.clone(), server_config)?)),
            None => None,
        };
        let broker = config.broker.route()?;
        Ok(Self {
            listen,
            broker,
            metrics,
        })
    }

    /// Takes up what changes on disk, until `close`.
    pub(super) fn follow(&self, tasks: &TaskTracker, close: &CancellationToken) {
        let metrics = &self.metrics;
        if let Some(listen) = self.listen.clone() {
            let kept = keep(metrics.clone(), Certificate::Listen, listen);
            tasks.spawn(close.clone().run_until_cancelled_owned(kept));
        }
        if let Route::Tls { config, .. } = &self.broker {
            let kept = keep(metrics.clone(), Certificate::Broker, config.clone());
            tasks.spawn(close.clone().run_until_cancelled_owned(kept));
        }
    }
}

/// Never ends.
async fn keep<C: Send + Sync + 'static>(
    metrics: Metrics,
    certificate: Certificate,
    followed: Arc<Followed<C>>,
) {
    loop {
        if let Some(at) = followed.expires_at() {
            metrics.security().set_expiry(certificate, at);
        }
        sleep(LOOK_INTERVAL).await;
        match followed.refresh().await {
            Ok(false) => {}
            Ok(true) => {
                metrics.security().set_files_unusable(certificate, false);
                let expires_at_unix_secs = followed.expires_at();
                tracing::info!(
                    %certificate, expires_at_unix_secs,
                    "certificates have changed and are used from now on"
                );
            }
            Err(error) => {
                metrics.security().set_files_unusable(certificate, true);
                tracing::error!(
                    %certificate, %error,
                    "certificates have changed and cannot be used; those from before stay in use"
                );
            }
        }
    }
}

/// A client of the configured broker. Does not connect yet.
pub(super) fn connect(config: &Config, route: &Route) -> Result<Arc<dyn Broker>, BrokerError> {
    let uri = config.broker.endpoint.to_string();
    let broker = GrpcBroker::new(&uri, route, GrpcOptions::default())?;
    Ok(Arc::new(broker))
}
