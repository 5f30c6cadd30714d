//! Builds a broker and owns everything that runs.
//!
//! Order: disk, peer listener (so that peers can ask), identity, sidecar's listener, driver with every replica that is
//! there, then what is missing. Nothing that is intact waits for a peer or for the sidecar.

mod assembly;
mod tasks;

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use uuid::Uuid;

use self::assembly::{Assembly, member};
use crate::{
    config::ServeArgs,
    crash,
    driver::{
        DriverError,
        input::{DriverHandle, Input},
        shared::Shared,
    },
    identity::IdentityError,
    join::{self, JoinError},
    node::BrokerNode,
    peer::client::Clients,
    service::server::ServerError,
};

/// Time that running calls get when the broker stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a broker did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No identity.
    #[error("joining the cluster")]
    Join(#[from] JoinError),
    /// Identity files.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// A listener.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The driver.
    #[error("driver")]
    Driver(#[from] DriverError),
    /// The driver's thread died.
    #[error("the driver died")]
    DriverDied,
    /// A thread could not be started.
    #[error("starting a thread")]
    Thread(#[from] std::io::Error),
    /// Stopped before it had started.
    #[error("stopped while starting")]
    Stopped,
    /// The cluster knows this broker by another disk.
    #[error("the cluster has replaced this disk; the next start joins anew")]
    Superseded,
}

/// A running broker.
pub struct Broker {
    node: Arc<BrokerNode>,
    driver: DriverHandle,
    driver_thread: Option<JoinHandle<Result<(), DriverError>>>,
    disk_thread: Option<JoinHandle<()>>,
    tracker: TaskTracker,
    tasks_stop: CancellationToken,
    failed: CancellationToken,
    boot_id: String,
}

impl Broker {
    /// Starts a broker. Returns as soon as it has an identity and its driver runs; replicas that are missing come later.
    /// `stop` ends the wait for a cluster.
    pub async fn start(args: ServeArgs, stop: &CancellationToken) -> Result<Self, BrokerError> {
        let restore = args.restore_token.as_ref();
        let disk = join::open_disk(&args.data_dir, args.broker_id, restore)?;
        crash::point("identity.log_bound");
        let me = member(&args, disk.replica_uuid);
        let shared = Arc::new(Shared::default());
        let clients = Arc::new(Clients::new(args.peers.0.clone(), shared.clone()));
        let assembly = Assembly {
            args,
            shared,
            clients,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            failed: CancellationToken::new(),
            boot_id: Uuid::new_v4().to_string(),
        };
        let started = assembly.start(disk, me);
        let outcome = tokio::select! {
            () = stop.cancelled() => Err(BrokerError::Stopped),
            outcome = started => outcome,
        };
        if outcome.is_err() {
            assembly.stop.cancel();
        }
        outcome
    }

    /// What the Kafka front calls.
    pub fn node(&self) -> Arc<BrokerNode> {
        self.node.clone()
    }

    /// Returns once this broker's metadata know this very disk. Before, it would tell clients of a cluster without
    /// topics, or of an older one: the time to open the Kafka listener. At once for an intact broker.
    pub async fn registered(&self) {
        let (me, replica_uuid) = self.node.identity();
        let mut changes = self.node.shared().watch_meta();
        let registered = changes.wait_for(|(_, meta)| {
            let known = meta.brokers.get(&me);
            known.is_some_and(|known| known.replica_uuid == replica_uuid)
        });
        let _ = registered.await;
    }

    /// This start of the broker.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Cancelled when the broker cannot go on; the cause is returned by [`Broker::stop`].
    pub fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// Hands over leaderships, makes everything durable, ends.
    pub async fn stop(self) -> Result<(), BrokerError> {
        self.end(Input::Shutdown).await
    }

    /// Ends as a crash would: nothing more is written, nobody is told.
    pub async fn kill(self) -> Result<(), BrokerError> {
        self.tasks_stop.cancel();
        self.end(Input::Halt).await
    }

    async fn end(mut self, how: Input) -> Result<(), BrokerError> {
        self.driver.send(how).await;
        let threads = (self.driver_thread.take(), self.disk_thread.take());
        let driver = tokio::task::spawn_blocking(move || threads.0.map(JoinHandle::join)).await;
        self.tasks_stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.tracker.wait())
            .await
            .is_err()
        {
            warn!("some calls did not end in time");
        }
        drop(self.driver);
        drop(self.node);
        // Ends once the driver has dropped its queue.
        let _ = tokio::task::spawn_blocking(move || threads.1.map(JoinHandle::join)).await;
        match driver {
            Ok(Some(Ok(outcome))) => Ok(outcome?),
            _ => Err(BrokerError::DriverDied),
        }
    }
}

/// An error with its causes.
pub fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
