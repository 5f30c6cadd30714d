//! Puts a broker together, in the order that broker.rs tells.

use std::{
    path::Path,
    sync::{Arc, OnceLock, mpsc::sync_channel},
    thread::JoinHandle,
};

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};
use uuid::Uuid;

use super::{Broker, BrokerError, report};
use crate::{
    config::ServeArgs,
    crash,
    driver::{
        DriverError, INPUT_QUEUE, disk_thread,
        input::DriverHandle,
        proposals::Proposals,
        run::{Driver, DriverParts},
        shared::Shared,
    },
    identity::{self, Identity, Member},
    join::{self, JoinError, Place},
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
        snapshot::{SnapshotServer, Who},
    },
};

/// A broker that is being built.
pub(super) struct Assembly {
    pub(super) args: ServeArgs,
    pub(super) shared: Arc<Shared>,
    pub(super) clients: Arc<Clients>,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) failed: CancellationToken,
    pub(super) boot_id: String,
}

impl Assembly {
    pub(super) async fn start(&self, disk: join::Disk, me: Member) -> Result<Broker, BrokerError> {
        let groups_dir = self.args.data_dir.join(identity::GROUPS_DIR);
        let peer_state = Arc::new(PeerState {
            me: me.clone(),
            restore_token: self.restore_token(),
            identity: OnceLock::new(),
            driver: OnceLock::new(),
            shared: self.shared.clone(),
            groups_dir: groups_dir.clone(),
        });
        self.serve_peers(peer_state.clone()).await?;
        let place = match disk.identity.clone() {
            Some(identity) => Place::Found(identity),
            None => join::find_cluster(&self.args, &self.clients, &me).await?,
        };
        let founds_now = matches!(place, Place::Founder(_));
        let (Place::Found(mut identity) | Place::Founder(mut identity)) = place;

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
        self.serve_sidecar(&identity, founds_now, driver_cell.clone(), &node)
            .await?;

        let seeder = Arc::new(self.seeder(&identity, &driver, &groups_dir));
        if disk.identity.is_none() {
            // One of the first who comes late, too: the others may have had nobody to ask.
            if identity.is_founder() {
                identity.looked = self.check_that_it_is_new(&seeder, &identity, &me).await?;
            }
            crash::point("identity.cluster_found");
            identity::store(&self.args.data_dir, &identity)?;
            crash::point("identity.stored");
        }
        let _ = peer_state.identity.set(identity.clone());

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
            groups_dir,
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

    fn seeder(&self, identity: &Identity, driver: &DriverHandle, groups_dir: &Path) -> Seeder {
        Seeder {
            slots: Seeder::slots(),
            shared: self.shared.clone(),
            restore_uuid: identity.restore_uuid,
            sidecar: self.args.sidecar_endpoint.clone(),
            clients: self.clients.clone(),
            driver: driver.clone(),
            groups_dir: groups_dir.to_owned(),
            cluster_id: identity.cluster_id.clone(),
            incarnation: identity.incarnation,
            boot_id: self.boot_id.clone(),
        }
    }

    /// A life of a cluster that lost all of its disks must not begin a second time over its own snapshots: neither with
    /// `new` nor with the token of a former restore. Returns whether somebody looked.
    async fn check_that_it_is_new(
        &self,
        seeder: &Seeder,
        identity: &Identity,
        me: &Member,
    ) -> Result<bool, BrokerError> {
        match seeder.ask_whether_new(&join::founders_meta(identity)).await {
            Ok(looked) => Ok(looked),
            // Other founders were quicker, and had looked: what there is is of the life that begins.
            Err(_) if join::somebody_looked(&self.clients, me, identity).await => Ok(true),
            Err(reason) => Err(JoinError::LivedBefore {
                cluster_id: identity.cluster_id.clone(),
                incarnation: identity.incarnation,
                reason,
            }
            .into()),
        }
    }

    fn restore_token(&self) -> String {
        let token = self.args.restore_token.as_ref();
        token.map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
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
        founds_now: bool,
        driver: Arc<OnceLock<DriverHandle>>,
        node: &Arc<BrokerNode>,
    ) -> Result<(), BrokerError> {
        let bound = server::bind(&self.args.snapshot_listen).await?;
        let who = Who {
            cluster_id: identity.cluster_id.clone(),
            incarnation: identity.incarnation,
            broker_id: identity.broker_id,
            boot_id: self.boot_id.clone(),
            // The logs of a restored cluster begin where its snapshots end.
            founds_now: founds_now && identity.restore_uuid.is_none(),
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
}

/// This broker as a member.
pub(super) fn member(args: &ServeArgs, replica_uuid: Uuid) -> Member {
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
