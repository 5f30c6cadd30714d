//! Sending to other brokers: one queue and one stream of Raft messages for each, and snapshot transfers.
//!
//! Raft expects losses: a full queue or a broken stream drops messages and reports the broker as unreachable.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::client::Clients;
use crate::{
    driver::{
        input::{DriverHandle, Input},
        run::Outbound,
    },
    proto::peer::{
        PeerIdentity, RaftBatch, RaftEnvelope, SnapshotBegin, SnapshotTransfer, snapshot_transfer,
    },
    state::pin::{Pin, PinItem},
};

/// Messages that wait for one broker.
const LINK_QUEUE: usize = 4096;
/// Messages in one batch.
const BATCH_MESSAGES: usize = 512;
/// Data bytes after which a batch is sent.
const BATCH_BYTES: usize = 1 << 20;
/// Batches on their way into the stream.
const STREAM_QUEUE: usize = 4;
/// Pause after a broken stream.
const RECONNECT: Duration = Duration::from_millis(200);
/// A batch that the stream does not take for so long breaks it.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Snapshots sent at one time.
const MAX_SENDS: usize = 4;
/// Time that a receiver has to flush and verify.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(2);

/// Who this broker says it is.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// This broker.
    pub broker_id: i32,
}

impl Sender {
    fn to(&self, broker: i32) -> PeerIdentity {
        PeerIdentity {
            cluster_id: self.cluster_id.clone(),
            incarnation: self.incarnation,
            from_broker: self.broker_id,
            to_broker: broker,
        }
    }
}

/// The links to all other brokers.
pub struct Links {
    me: Sender,
    clients: Arc<Clients>,
    driver: DriverHandle,
    queues: Mutex<HashMap<i32, mpsc::Sender<RaftEnvelope>>>,
    sends: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
    runtime: tokio::runtime::Handle,
}

impl Links {
    /// Must be called on the runtime that shall own the links' tasks.
    pub fn new(
        me: Sender,
        clients: Arc<Clients>,
        driver: DriverHandle,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            me,
            clients,
            driver,
            queues: Mutex::default(),
            sends: Arc::new(Semaphore::new(MAX_SENDS)),
            tracker,
            stop,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    fn queue(&self, broker: i32) -> mpsc::Sender<RaftEnvelope> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (to, from) = mpsc::channel(LINK_QUEUE);
            let link = Link {
                broker,
                identity: self.me.to(broker),
                clients: self.clients.clone(),
                driver: self.driver.clone(),
            };
            let stop = self.stop.clone();
            let task = async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = link.run(from) => {}
                }
            };
            self.tracker.spawn_on(task, &self.runtime);
            to
        };
        queues.entry(broker).or_insert_with(start).clone()
    }
}

impl Outbound for Links {
    fn send(&self, broker: i32, group_id: u64, message: &Message) -> bool {
        let Ok(encoded) = message.write_to_bytes() else {
            return false;
        };
        let envelope = RaftEnvelope {
            group_id,
            message: encoded.into(),
        };
        self.queue(broker).try_send(envelope).is_ok()
    }

    fn send_snapshot(&self, broker: i32, group_id: u64, message: Message, pin: Pin) {
        let (driver, stop) = (self.driver.clone(), self.stop.clone());
        let (sends, clients) = (self.sends.clone(), self.clients.clone());
        let identity = self.me.to(broker);
        let peer_id = message.to;
        let task = async move {
            let transfer = async {
                let _permit = sends
                    .try_acquire()
                    .map_err(|_| "too many snapshots are being sent")?;
                let message = message
                    .write_to_bytes()
                    .map_err(|_| "message does not encode")?;
                let begin = SnapshotBegin {
                    identity: Some(identity),
                    group_id,
                    message: message.into(),
                    header: None,
                };
                transfer(&clients, broker, begin, pin).await
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => Err("stopping"),
                outcome = transfer => outcome,
            };
            match outcome {
                Ok(()) => info!(group_id, broker, peer_id, "snapshot sent"),
                Err(reason) => warn!(group_id, broker, peer_id, reason, "snapshot not sent"),
            }
            let report = Input::SnapshotReport {
                group_id,
                peer_id,
                finished: outcome.is_ok(),
            };
            driver.send(report).await;
        };
        self.tracker.spawn_on(task, &self.runtime);
    }
}

async fn transfer(
    clients: &Clients,
    broker: i32,
    begin: SnapshotBegin,
    pin: Pin,
) -> Result<(), &'static str> {
    let mut client = clients
        .get(broker)
        .ok_or("the broker's address is unknown")?;
    let (to, from) = mpsc::channel(STREAM_QUEUE);
    let convert = move |item| {
        let message = match item {
            PinItem::Header(header) => snapshot_transfer::Message::Begin(SnapshotBegin {
                header: Some(*header),
                ..begin.clone()
            }),
            PinItem::Chunk(chunk) => snapshot_transfer::Message::Chunk(chunk),
            PinItem::Trailer(trailer) => snapshot_transfer::Message::Trailer(trailer),
        };
        SnapshotTransfer {
            message: Some(message),
        }
    };
    let sending = async move {
        let outcome = pin.send(&[], &to, convert).await;
        drop(to);
        outcome.map_err(|error| {
            debug!(%error, "snapshot stream ended");
            "the stream ended early"
        })?;
        tokio::time::sleep(INSTALL_TIMEOUT).await;
        Err::<(), _>("the receiver does not answer")
    };
    let receiving = async move {
        let answer = client.send_snapshot(ReceiverStream::new(from)).await;
        let answer = answer.map_err(|status| {
            debug!(%status, "snapshot refused");
            "the receiver refused it"
        })?;
        if answer.into_inner().accepted {
            Ok(())
        } else {
            Err("the receiver does not host the replica")
        }
    };
    tokio::select! {
        outcome = receiving => outcome,
        Err(reason) = sending => Err(reason),
    }
}

struct Link {
    broker: i32,
    identity: PeerIdentity,
    clients: Arc<Clients>,
    driver: DriverHandle,
}

impl Link {
    async fn run(self, mut queue: mpsc::Receiver<RaftEnvelope>) {
        while let Some(first) = queue.recv().await {
            self.stream(first, &mut queue).await;
            debug!(broker = self.broker, "link broke");
            self.driver.send(Input::Unreachable(self.broker)).await;
            tokio::time::sleep(RECONNECT).await;
            // What waited is stale by now.
            while queue.try_recv().is_ok() {}
        }
    }

    /// Returns when the stream is broken or the queue is closed.
    async fn stream(&self, first: RaftEnvelope, queue: &mut mpsc::Receiver<RaftEnvelope>) {
        let Some(mut client) = self.clients.get(self.broker) else {
            return;
        };
        let (to, from) = mpsc::channel(STREAM_QUEUE);
        let call = client.raft(ReceiverStream::new(from));
        tokio::pin!(call);
        let mut batch = RaftBatch {
            identity: Some(self.identity.clone()),
            messages: vec![first],
        };
        loop {
            fill(&mut batch, queue);
            let sending = tokio::time::timeout(SEND_TIMEOUT, to.send(batch));
            let sent = tokio::select! {
                _ = &mut call => return,
                sent = sending => sent,
            };
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            let next = tokio::select! {
                _ = &mut call => return,
                next = queue.recv() => next,
            };
            let Some(next) = next else { return };
            batch = RaftBatch {
                identity: None,
                messages: vec![next],
            };
        }
    }
}

fn fill(batch: &mut RaftBatch, queue: &mut mpsc::Receiver<RaftEnvelope>) {
    let mut bytes: usize = batch.messages.iter().map(|next| next.message.len()).sum();
    while bytes < BATCH_BYTES && batch.messages.len() < BATCH_MESSAGES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.message.len();
        batch.messages.push(next);
    }
}
