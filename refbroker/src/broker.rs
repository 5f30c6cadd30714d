//! Builds a broker and owns everything that runs.
//!
//! Order: disk, peer listener (so that peers can ask), identity, sidecar's listener, driver with every replica that is
//! there, then what is missing. Nothing that is intact waits for a peer or for the sidecar.

use std::{
    sync::{Arc, OnceLock, mpsc::sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    config::ServeArgs,
    crash,
    driver::{
        DriverError, INPUT_QUEUE, TICK, disk_thread,
        input::{DriverHandle, Input, NewReplica},
        proposals::Proposals,
        run::{Driver, DriverParts},
        shared::Shared,
    },
    identity::{self, Identity, IdentityError, Member},
    join::{self, JoinError},
    meta::{self, Command},
    node::BrokerNode,
    peer::{
        MAX_MESSAGE_BYTES,
        client::Clients,
        link::{Links, Sender},
        service::{PeerServer, PeerState},
    },
    proto::peer::peer_service_server::PeerServiceServer,
    seed::{LOST_QUEUE, Seeder},
    service::{
        server::{self, ServerError},
        snapshot::{NoteCompaction, SnapshotServer, Who},
    },
};

/// Time between two looks at what the cluster knows of this broker.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two questions for leaders elsewhere.
const LEADERS_INTERVAL: Duration = Duration::from_secs(1);
/// Deadline of a command for `__meta` from here.
const META_TIMEOUT: Duration = Duration::from_secs(5);
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

struct Assembly {
    args: ServeArgs,
    shared: Arc<Shared>,
    clients: Arc<Clients>,
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
    boot_id: String,
}

impl Broker {
    /// Starts a broker. Returns as soon as it has an identity and its driver runs; replicas that are missing come later.
    /// `stop` ends the wait for a cluster.
    pub async fn start(args: ServeArgs, stop: &CancellationToken) -> Result<Self, BrokerError> {
        let disk = join::open_disk(&args.data_dir, args.broker_id)?;
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

fn member(args: &ServeArgs, replica_uuid: Uuid) -> Member {
    let ip = args.kafka_listen.ip();
    let host = if ip.is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        ip.to_string()
    };
    Member {
        broker_id: args.broker_id,
        replica_uuid,
        kafka_host: host,
        kafka_port: args.kafka_listen.port(),
        peer_addr: args
            .peers
            .0
            .get(&args.broker_id)
            .cloned()
            .unwrap_or_default(),
    }
}

impl Assembly {
    async fn start(&self, disk: join::Disk, me: Member) -> Result<Broker, BrokerError> {
        let groups_dir = self.args.data_dir.join(identity::GROUPS_DIR);
        let peer_state = Arc::new(PeerState {
            me: me.clone(),
            identity: OnceLock::new(),
            driver: OnceLock::new(),
            shared: self.shared.clone(),
            groups_dir: groups_dir.clone(),
        });
        self.serve_peers(peer_state.clone()).await?;
        let identity = if let Some(identity) = disk.identity {
            identity
        } else {
            let found = join::find_cluster(&self.args, &self.clients, &me).await?;
            crash::point("identity.cluster_found");
            identity::store(&self.args.data_dir, &found)?;
            crash::point("identity.stored");
            found
        };
        let _ = peer_state.identity.set(identity.clone());

        let (inputs, input_queue) = mpsc::channel(INPUT_QUEUE);
        let proposals = Arc::<Proposals>::default();
        let driver = DriverHandle::new(inputs, proposals.clone());
        let node = Arc::new(BrokerNode::new(
            me.clone(),
            (identity.cluster_id.clone(), identity.incarnation),
            driver.clone(),
            self.shared.clone(),
            self.clients.clone(),
        ));
        let driver_cell = Arc::new(OnceLock::new());
        self.serve_sidecar(&identity, driver_cell.clone(), &node)
            .await?;

        let (disk_tasks, disk_queue) = sync_channel(disk_thread::DISK_QUEUE);
        let (lost, lost_queue) = mpsc::channel(LOST_QUEUE);
        let links = Links::new(
            Sender {
                cluster_id: identity.cluster_id.clone(),
                incarnation: identity.incarnation,
                broker_id: me.broker_id,
            },
            self.clients.clone(),
            driver.clone(),
            self.tracker.clone(),
            self.stop.clone(),
        );
        let parts = DriverParts {
            broker_id: me.broker_id,
            replica_uuid: me.replica_uuid,
            cluster_id: identity.cluster_id.clone(),
            incarnation: identity.incarnation,
            founders: identity.initial_members.clone(),
            groups_dir: groups_dir.clone(),
            segment_bytes: self.args.segment_bytes.get(),
            hold_entries: self.args.hold_entries,
            log: disk.log.clone(),
            inputs: input_queue,
            proposals,
            shared: self.shared.clone(),
            outbound: Arc::new(links),
            disk: disk_tasks,
            lost,
        };
        let opened = tokio::task::spawn_blocking(move || Driver::new(parts)).await;
        let opened = opened.map_err(|_| BrokerError::DriverDied)??;
        let driver_thread = self.run_driver(opened)?;
        let _ = peer_state.driver.set(driver.clone());
        let _ = driver_cell.set(driver.clone());
        let handle = driver.clone();
        let disk_thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || disk_thread::run(&disk_queue, &disk.log, &handle))?;

        let seeder = Arc::new(Seeder {
            sidecar: self.args.sidecar_endpoint.clone(),
            clients: self.clients.clone(),
            driver: driver.clone(),
            groups_dir,
            cluster_id: identity.cluster_id.clone(),
            incarnation: identity.incarnation,
            boot_id: self.boot_id.clone(),
        });
        self.spawn_tasks(&identity, &me, &node, &driver, &seeder, lost_queue);
        info!(
            cluster_id = %identity.cluster_id, broker_id = me.broker_id, replica_uuid = %me.replica_uuid,
            boot_id = %self.boot_id, "broker started"
        );
        Ok(Broker {
            node,
            driver,
            driver_thread: Some(driver_thread),
            disk_thread: Some(disk_thread),
            tracker: self.tracker.clone(),
            tasks_stop: self.stop.clone(),
            failed: self.failed.clone(),
            boot_id: self.boot_id.clone(),
        })
    }

    /// The driver's end, whatever its cause, is the broker's end.
    fn run_driver(
        &self,
        driver: Driver,
    ) -> Result<JoinHandle<Result<(), DriverError>>, BrokerError> {
        let failed = self.failed.clone();
        let thread = std::thread::Builder::new().name("driver".to_owned());
        let body = move || {
            let _fails_at_the_end = failed.drop_guard();
            let outcome = driver.run();
            if let Err(error) = &outcome {
                error!(error = %report(error), "the driver failed");
            }
            outcome
        };
        Ok(thread.spawn(body)?)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    async fn serve_peers(&self, state: Arc<PeerState>) -> Result<(), BrokerError> {
        let address = self.args.peer_listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServerError::Listen {
            address: address.to_string(),
            source,
        })?;
        let service = PeerServiceServer::new(PeerServer::new(state, self.stop.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let incoming = TcpListenerStream::new(listener);
        let serving = server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, self.stop.clone().cancelled_owned());
        self.spawn_server(async move { serving.await.map_err(ServerError::from) });
        Ok(())
    }

    fn spawn_server(
        &self,
        serving: impl Future<Output = Result<(), ServerError>> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        // Ends by itself when stopped: connections are told, calls see the same token.
        self.tracker.spawn(async move {
            if let Err(error) = serving.await {
                error!(error = %report(&error), "a listener failed");
                failed.cancel();
            }
        });
    }

    async fn serve_sidecar(
        &self,
        identity: &Identity,
        driver: Arc<OnceLock<DriverHandle>>,
        node: &Arc<BrokerNode>,
    ) -> Result<(), BrokerError> {
        let bound = server::bind(&self.args.snapshot_listen).await?;
        let who = Who {
            cluster_id: identity.cluster_id.clone(),
            incarnation: identity.incarnation,
            broker_id: identity.broker_id,
            boot_id: self.boot_id.clone(),
            is_founder: identity.is_founder(),
        };
        let service = SnapshotServer::new(
            who,
            self.shared.clone(),
            driver,
            self.tracker.clone(),
            self.stop.clone(),
            self.note_compaction(node),
        );
        let stop = self.stop.clone();
        self.spawn_server(async move { server::serve(bound, service, stop).await });
        Ok(())
    }

    /// Makes the cluster remember, once, that logs are compacted.
    fn note_compaction(&self, node: &Arc<BrokerNode>) -> NoteCompaction {
        let (node, shared) = (Arc::downgrade(node), self.shared.clone());
        Arc::new(move || {
            let (node, shared) = (node.clone(), shared.clone());
            Box::pin(async move {
                if shared.meta().any_log_compacted {
                    return Ok(());
                }
                let node = node.upgrade().ok_or("the broker is stopping")?;
                let noted = node.propose_meta(&Command::NoteCompaction, META_TIMEOUT);
                noted.await.map(drop).map_err(|error| error.to_string())
            })
        })
    }

    fn spawn_tasks(
        &self,
        identity: &Identity,
        me: &Member,
        node: &Arc<BrokerNode>,
        driver: &DriverHandle,
        seeder: &Arc<Seeder>,
        lost: mpsc::Receiver<NewReplica>,
    ) {
        let ticker = driver.clone();
        self.spawn(async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                if !ticker.send(Input::Tick).await {
                    return;
                }
            }
        });
        let (meta_seeder, meta_clients) = (seeder.clone(), self.clients.clone());
        let (meta_identity, meta_me) = (identity.clone(), me.clone());
        let (meta_driver, shared) = (driver.clone(), self.shared.clone());
        self.spawn(async move {
            if shared.group(meta::GROUP_ID).is_some() {
                return;
            }
            if meta_identity.is_founder() {
                let replica = Box::new(join::founders_meta(&meta_identity));
                let start = |reply| Input::Start {
                    replica,
                    seed: None,
                    reply,
                };
                meta_driver.ask(start).await;
                return;
            }
            let replica = join::join(&meta_clients, &meta_identity, &meta_me).await;
            meta_seeder.seed(replica).await;
        });
        let seeding = seeder
            .clone()
            .run(lost, self.tracker.clone(), self.stop.clone());
        self.spawn(seeding);
        self.spawn_confirmation(me, node);
        let learner = node.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(LEADERS_INTERVAL).await;
                learner.learn_leaders().await;
            }
        });
    }

    /// Keeps the cluster's idea of this broker right; finds out when the cluster has replaced this disk.
    fn spawn_confirmation(&self, me: &Member, node: &Arc<BrokerNode>) {
        let (me, node, clients) = (me.clone(), node.clone(), self.clients.clone());
        let (shared, failed) = (self.shared.clone(), self.failed.clone());
        let data_dir = self.args.data_dir.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(CONFIRM_INTERVAL).await;
                let meta = shared.meta();
                match meta.brokers.get(&me.broker_id) {
                    Some(known) if *known == me => continue,
                    Some(known) if known.replica_uuid == me.replica_uuid => {
                        let register = Command::Register { member: me.clone() };
                        let registered = node.propose_meta(&register, META_TIMEOUT).await;
                        if let Err(error) = registered {
                            warn!(%error, "new addresses are not registered yet");
                        }
                        continue;
                    }
                    _ => {}
                }
                let confirmed = join::confirmed_uuid(&clients, &me).await;
                let own = me.replica_uuid.to_string();
                if confirmed.is_some_and(|known| !known.is_empty() && known != own) {
                    error!(error = %BrokerError::Superseded, "stopping");
                    if let Err(error) = identity::mark_superseded(&data_dir) {
                        error!(%error, "the mark could not be written");
                    }
                    failed.cancel();
                    return;
                }
            }
        });
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
