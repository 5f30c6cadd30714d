//! The Kafka front: what clients see. It checks what they send, asks the [`Node`] and answers.
//!
//! One task for each connection ([`connection`]) reads frames, starts every request in the order of arrival and
//! answers in that order. A request does not wait for the one before it: produce requests are pipelined, and
//! because each is started (polled) before the next is looked at, appends to one partition keep their order.
//!
//! Served are `ApiVersions`, Metadata, `CreateTopics`, `DeleteTopics`, Produce, Fetch, `ListOffsets`, `InitProducerId` and
//! `FindCoordinator`. Absent on purpose: consumer groups, transactions, fetch sessions, automatic creation of
//! topics, topic configuration, TLS and SASL.

mod batch;
mod connection;
mod dispatch;
mod error;
mod fetch;
mod metadata;
mod offsets;
mod produce;
mod producer_id;
mod shape;
mod topics;
mod versions;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::api::Node;

/// Largest request, without its length prefix.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// Connections served at once; further ones are closed as soon as they are accepted.
pub const MAX_CONNECTIONS: usize = 1024;
/// Requests of one connection that are being worked on or wait to be written.
pub const MAX_IN_FLIGHT_REQUESTS: usize = 64;
/// Bytes of requests of one connection beyond which no further request is started.
pub const MAX_IN_FLIGHT_BYTES: usize = 32 << 20;
/// Largest record batch.
pub const MAX_BATCH_BYTES: usize = (1 << 20) + 12;
/// Largest sum of record batches in one fetch answer, give or take one batch.
pub const MAX_FETCH_BYTES: usize = 16 << 20;
/// Longest time that a fetch waits for data.
pub const MAX_FETCH_WAIT: Duration = Duration::from_secs(30);
/// Longest time that a request waits for the cluster, whatever the client asks for.
pub const MAX_REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection without a request for this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// Time in which a request that has begun must be there, and an answer must be taken.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, so that a shortage of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves Kafka clients until `stop`, then closes every connection and returns. Appends that are under way may
/// still take effect; their clients see the connection close.
pub async fn serve(listener: TcpListener, node: Arc<dyn Node>, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accepting a Kafka client failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            warn!(%peer, limit = MAX_CONNECTIONS, "too many Kafka clients: closing the newest");
            continue;
        };
        let node = Arc::clone(&node);
        let stop = stop.clone();
        tracker.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection::run(stream, node) => match ended {
                    Ok(()) => debug!(%peer, "Kafka client left"),
                    Err(error) => debug!(%peer, %error, "Kafka client dropped"),
                },
            }
        });
    }
    tracker.close();
    tracker.wait().await;
}
