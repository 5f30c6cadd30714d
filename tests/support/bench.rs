//! The pipeline in this process: on one side a scripted broker, on the other a store in memory that fails as planned.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chronik_snapshotd::{
    board::Board,
    broker::{GrpcBroker, GrpcOptions},
    catalog::{Catalog, Folder, Sweeper},
    clock::SystemClock,
    format::{
        Codec, Compression, CreatedBy, FORMAT_VERSION, FileName, ManifestDigest, Quarantine,
        SnapName, SnapshotId,
    },
    pipeline::{
        AgeOf, Answer, LocalState, Pipeline, PipelineOptions, RestoreError, RestoreEvent,
        RestoreOutcome, RestorePhase, RestoreRequest, RestoreSink, SinkClosed, VisitReport,
        VisitRequest,
        plane::{DataPlane, MemoryBudget, Rates, Workers},
    },
    policy::{Options, Uploader, VerifyLevel},
    raft::{Lineage, TopicPartition},
    store::{Key, NoObserver, Store, StoreOptions},
    telemetry::Metrics,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{faults::Faults, scripted_broker::ScriptedBroker};

/// One sidecar's pipeline. [`Bench::another`] gives the one of another process beside the same broker and store.
pub struct Bench {
    pub broker: ScriptedBroker,
    pub faults: Faults,
    pub pipeline: Pipeline,
}

pub fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0).unwrap()
}

/// The lineage of orders/0 on the scripted broker.
pub fn lineage() -> Lineage {
    Lineage::new("test-cluster", 1, "topic-a").unwrap()
}

impl Bench {
    pub async fn start() -> Self {
        Self::over(ScriptedBroker::start().await, Faults::in_memory())
    }

    pub fn over(broker: ScriptedBroker, faults: Faults) -> Self {
        let store = Store::from_object_store(
            Arc::new(faults.clone()),
            StoreOptions::default(),
            Arc::new(NoObserver),
        );
        let clock = Arc::new(SystemClock);
        let endpoint = format!("http://{}", broker.address);
        let pipeline = Pipeline {
            broker: Arc::new(GrpcBroker::tcp(&endpoint, GrpcOptions::default()).unwrap()),
            catalog: Arc::new(Catalog::new(store, "snapshots/")),
            sweeper: Sweeper::new(clock.clone(), Duration::from_secs(3600)),
            clock,
            metrics: Metrics::new().unwrap(),
            board: Arc::new(Board::new()),
            options: PipelineOptions {
                policy: policy(),
                verify: VerifyLevel::Full,
                compression: Compression::new(Codec::None, None).unwrap(),
                full_every: NonZeroU32::new(24).unwrap(),
                progress_timeout: Duration::from_mins(1),
                deposed_leader_max: Duration::from_millis(1),
            },
            plane: DataPlane::new(
                MemoryBudget::new(256 << 20),
                Workers::new(NonZeroUsize::MIN).unwrap(),
                Rates::default(),
            ),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        Self {
            broker,
            faults,
            pipeline,
        }
    }

    /// A process that knows nothing yet.
    pub fn another(&self) -> Self {
        Self::over(self.broker.clone(), self.faults.clone())
    }

    /// What a visit is asked for that does nothing but what `change` allows it.
    pub async fn request(&self, change: impl FnOnce(&mut VisitRequest)) -> VisitRequest {
        let broker = &self.pipeline.broker;
        let replicas = broker.list_replicas(None).await.unwrap();
        let mut request = VisitRequest {
            info: broker.describe().await.unwrap(),
            replica: replicas.into_iter().next().unwrap(),
            lineage: lineage(),
            may_snapshot: false,
            manual: false,
            refused_base: None,
            may_delete: false,
            age_of: AgeOf::default(),
            due_for: Duration::ZERO,
            since_last_start: None,
        };
        change(&mut request);
        request
    }

    pub async fn visit(&self, change: impl FnOnce(&mut VisitRequest)) -> VisitReport {
        let request = self.request(change).await;
        self.pipeline.visit(&request).await
    }

    /// The same process with truncation switched off.
    pub fn without_cuts(&self) -> Self {
        let mut other = self.another();
        other.pipeline.options.policy.compact = false;
        other.pipeline.clock = self.pipeline.clock.clone();
        other.pipeline.catalog = self.pipeline.catalog.clone();
        other.pipeline.abort = self.pipeline.abort.clone();
        other
    }

    /// A visit that takes a snapshot whatever the thresholds say, and truncates nothing.
    pub async fn visit_to_snapshot(&self) -> VisitReport {
        let taking = self.without_cuts();
        let visit = taking.visit(|request| {
            request.may_snapshot = true;
            request.manual = true;
        });
        visit.await
    }

    /// 100 entries more, and a proven snapshot at their end.
    pub async fn snapshot(&self) -> SnapshotId {
        self.broker.grow(100);
        let report = self.visit_to_snapshot().await;
        assert!(report.error.is_none(), "{:?}", report.error);
        report.snapshot.unwrap()
    }

    /// A snapshot as its maker leaves it when it dies after the manifest.
    pub async fn unproven_snapshot(&self) -> SnapshotId {
        let id = self.snapshot().await;
        self.delete(FileName::Proof(id)).await;
        id
    }

    /// Seeds a replica whose disk is lost.
    pub async fn restore(
        &self,
        min_index: u64,
    ) -> (Result<RestoreOutcome, RestoreError>, Installer) {
        let request = RestoreRequest {
            partition: orders(),
            lineage: lineage(),
            local_state: LocalState::Lost,
            min_index,
            accepted_state_codecs: vec!["raw/1".to_owned()],
            boot_id: self.broker.script().boot_id.clone(),
            restore_uuid: None,
        };
        let mut sink = Installer::default();
        let restored = self.pipeline.restore(&request, &mut sink).await;
        (restored, sink)
    }

    /// The partition's folder as it is now.
    pub async fn look(&self) -> Arc<Folder> {
        self.pipeline.catalog.look(&orders()).await.unwrap()
    }

    pub fn key(&self, name: FileName) -> Key {
        self.pipeline
            .catalog
            .keys()
            .object(&orders(), name)
            .unwrap()
    }

    pub async fn exists(&self, name: FileName) -> bool {
        match self.pipeline.catalog.store().head(&self.key(name)).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn put(&self, name: FileName, bytes: impl Into<Bytes>) {
        let store = self.pipeline.catalog.store();
        store.put(&self.key(name), bytes.into()).await.unwrap();
    }

    pub async fn delete(&self, name: FileName) {
        let store = self.pipeline.catalog.store();
        store.delete(&self.key(name)).await.unwrap();
    }

    /// Marks a snapshot as somebody does who found it damaged.
    pub async fn mark(&self, id: SnapshotId) {
        let mark = Quarantine {
            format_version: FORMAT_VERSION,
            snapshot_id: id,
            manifest_digest: ManifestDigest(0),
            reason: "found damaged".to_owned(),
            at_unix_ms: 0,
            by: CreatedBy {
                broker_id: 2,
                version: "test".to_owned(),
            },
        };
        let catalog = &self.pipeline.catalog;
        catalog.quarantine(&orders(), &mark).await.unwrap();
    }
}

/// The only data file of a small snapshot.
pub fn snap_of(id: SnapshotId) -> SnapName {
    SnapName { id, number: 0 }
}

/// A flag of some deleter.
pub fn flag_on(id: SnapshotId) -> FileName {
    FileName::Deleting {
        snap: snap_of(id),
        flag: Uuid::now_v7(),
    }
}

fn policy() -> Options {
    Options {
        log_threshold: NonZeroU64::new(1_000_000).unwrap(),
        time_threshold: Duration::from_secs(3600),
        min_interval: Duration::ZERO,
        uploader: Uploader::Leader,
        compact: true,
        trailing_entries: 10,
        retention: true,
        retention_count: NonZeroUsize::MIN,
    }
}

/// A broker that takes whatever snapshot comes complete.
#[derive(Debug, Default)]
pub struct Installer {
    /// Raw bytes of what was sent last.
    pub bytes: Vec<u8>,
    /// Snapshots that were taken back in mid-stream.
    pub abandoned: Vec<SnapshotId>,
    complete: Option<Answer>,
}

#[async_trait]
impl RestoreSink for Installer {
    fn progress(&mut self, _phase: RestorePhase, _sent_bytes: u64, _total_bytes: u64) {}

    async fn send(&mut self, event: RestoreEvent) -> Result<(), SinkClosed> {
        match event {
            RestoreEvent::Begin(_) => self.bytes.clear(),
            RestoreEvent::Chunk(_, data) => self.bytes.extend_from_slice(&data),
            RestoreEvent::End(manifest) => {
                self.complete = Some(Answer::Installed {
                    snapshot_id: manifest.snapshot_id.to_string(),
                    last_included: manifest.last_included,
                });
            }
            RestoreEvent::Abandon(id, _) => self.abandoned.push(id),
        }
        Ok(())
    }

    fn early_answer(&mut self) -> Option<Answer> {
        None
    }

    async fn answer(&mut self) -> Result<Answer, SinkClosed> {
        self.complete.take().ok_or(SinkClosed)
    }
}
