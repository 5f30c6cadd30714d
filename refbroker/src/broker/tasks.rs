//! What a broker does all the time.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{BrokerError, assembly::Assembly};
use crate::{
    api::Node as _,
    driver::{
        TICK,
        input::{DriverHandle, Input, NewReplica},
    },
    identity::{self, Identity, Member},
    join::{self, JoinError, Standing},
    meta::{self, Command},
    node::BrokerNode,
    seed::Seeder,
    service::snapshot::NoteCompaction,
};

/// Time between two looks at what the cluster knows of this broker.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two questions for leaders elsewhere.
const LEADERS_INTERVAL: Duration = Duration::from_secs(1);
/// Deadline of a command for `__meta` from here.
const META_TIMEOUT: Duration = Duration::from_secs(5);

impl Assembly {
    /// Makes the cluster remember, once, that logs are compacted.
    pub(super) fn note_compaction(&self, node: &Arc<BrokerNode>) -> NoteCompaction {
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

    pub(super) fn spawn_tasks(
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
                if replica.restored {
                    return meta_seeder.seed(*replica).await;
                }
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
        self.spawn_confirmation(identity, me, node);
        let learner = node.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(LEADERS_INTERVAL).await;
                learner.learn_leaders().await;
            }
        });
    }

    /// Keeps the cluster's idea of this broker right; finds out when the cluster has replaced this disk.
    fn spawn_confirmation(&self, identity: &Identity, me: &Member, node: &Arc<BrokerNode>) {
        let (me, node, clients) = (me.clone(), node.clone(), self.clients.clone());
        let identity = identity.clone();
        let (shared, failed) = (self.shared.clone(), self.failed.clone());
        let data_dir = self.args.data_dir.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(CONFIRM_INTERVAL).await;
                let meta = shared.meta();
                // Without a leader of the metadata the cluster may have gone on without this disk.
                let led = node.cluster().controller.is_some();
                match meta.brokers.get(&me.broker_id) {
                    Some(known) if led && *known == me => continue,
                    Some(known) if led && known.replica_uuid == me.replica_uuid => {
                        let register = Command::Register { member: me.clone() };
                        let registered = node.propose_meta(&register, META_TIMEOUT).await;
                        if let Err(error) = registered {
                            warn!(%error, "new addresses are not registered yet");
                        }
                        continue;
                    }
                    _ => {}
                }
                let own = me.replica_uuid.to_string();
                match join::standing(&clients, &me, &identity).await {
                    Standing::Known(known) if !known.is_empty() && known != own => {
                        error!(error = %BrokerError::Superseded, "stopping");
                        if let Err(error) = identity::mark_superseded(&data_dir) {
                            error!(%error, "the mark could not be written");
                        }
                    }
                    Standing::FormerLife(now) => {
                        let was = identity.incarnation;
                        error!(error = %JoinError::FormerLife { was, now }, "stopping");
                    }
                    Standing::Known(_) | Standing::Unknown => continue,
                }
                failed.cancel();
                return;
            }
        });
    }
}
