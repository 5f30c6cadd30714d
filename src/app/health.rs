//! Asks another process of this program whether it serves.

use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::config::Endpoint;

/// For connecting and asking: shorter than the time that supervisors give a probe.
const DEADLINE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HealthError {
    /// Nobody listens, or speaks gRPC.
    #[error("no daemon at {endpoint}")]
    Connect {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// Somebody else, or a daemon in trouble.
    #[error("the daemon at {endpoint} does not tell its health")]
    Answer {
        /// Who was asked.
        endpoint: Endpoint,
        /// Its answer.
        #[source]
        source: Box<tonic::Status>,
    },
    /// It hangs.
    #[error("the daemon at {endpoint} did not answer in 2 s")]
    Silent {
        /// Who was asked.
        endpoint: Endpoint,
    },
}

/// Whether the daemon there says that it serves.
pub(super) async fn is_serving(endpoint: &Endpoint) -> Result<bool, HealthError> {
    let ask = async {
        let connect = |source| HealthError::Connect {
            endpoint: endpoint.clone(),
            source,
        };
        let channel = tonic::transport::Endpoint::from_shared(endpoint.to_string());
        let channel = channel.map_err(connect)?.connect().await.map_err(connect)?;
        let mut client = HealthClient::new(channel);
        let answer = client.check(HealthCheckRequest::default()).await;
        let answer = answer.map_err(|status| HealthError::Answer {
            endpoint: endpoint.clone(),
            source: Box::new(status),
        })?;
        Ok(answer.into_inner().status() == ServingStatus::Serving)
    };
    let silent = || HealthError::Silent {
        endpoint: endpoint.clone(),
    };
    timeout(DEADLINE, ask).await.map_err(|_| silent())?
}
