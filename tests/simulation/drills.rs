//! Drills at any time, on days that have them: through a store that knows their requests from others, beside a broker
//! that must not be asked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chronik_snapshotd::{
    board::Board,
    broker::{
        Broker, BrokerError, BrokerInfo, CompactRequest, Compacted, ExportRequest, ExportStream,
        Replica,
    },
    catalog::{Catalog, Sweeper},
    format::FileName,
    pipeline::{DrillOutcome, DrillReport, DrillRequest, Pipeline},
    raft::TopicPartition,
    store::{NoObserver, Store, StoreOptions},
    telemetry::Metrics,
};
use tokio::time::sleep;

use crate::{
    broker::{STATE_CODEC, unreachable},
    checks::folder,
    sidecar::{Fleet, Live, SimClock},
    store::SimStore,
    world::{CLUSTER, Shared, State},
};

/// A broker that a drill must not ask.
struct Unasked(Shared);

impl Unasked {
    fn asked<T>(&self, call: &'static str) -> Result<T, BrokerError> {
        self.0
            .step(|state| state.violate(format!("a drill asks the broker: {call}")));
        Err(unreachable(call))
    }
}

#[async_trait]
impl Broker for Unasked {
    async fn describe(&self) -> Result<BrokerInfo, BrokerError> {
        self.asked("DescribeBroker")
    }

    async fn list_replicas(&self, _: Option<&TopicPartition>) -> Result<Vec<Replica>, BrokerError> {
        self.asked("ListReplicas")
    }

    async fn export(&self, _: &ExportRequest) -> Result<ExportStream, BrokerError> {
        self.asked("ExportSnapshot")
    }

    async fn compact(&self, _: &CompactRequest) -> Result<Compacted, BrokerError> {
        self.asked("CompactLog")
    }
}

/// Drills one group after the other on one sidecar, for ever.
pub(crate) async fn keep_drilling(world: Shared, number: usize, fleet: Fleet) {
    loop {
        let (wait, group) = {
            let mut state = world.state();
            let groups = state.groups.len();
            let longest = if state.healed { 600_000 } else { 15_000 };
            (state.rng.within(500..=longest), state.rng.index(groups))
        };
        sleep(Duration::from_millis(wait)).await;
        let live = fleet.lock().unwrap()[number].clone();
        if let Some(live) = live {
            drill(&world, number, group, &live).await;
        }
    }
}

async fn drill(world: &Shared, number: usize, group: usize, live: &Live) {
    let (pipeline, request) = {
        let state = world.state();
        let request = DrillRequest {
            info: BrokerInfo {
                cluster_id: CLUSTER.to_owned(),
                incarnation: state.incarnation,
                broker_id: i32::try_from(number).unwrap(),
                boot_id: state.boot_id(number),
                version: String::new(),
                protocol: 1..=1,
                accepted_state_codecs: vec![STATE_CODEC.to_owned()],
                any_log_compacted: state.any_log_compacted,
                produce_p99: None,
            },
            partition: state.groups[group].partition.clone(),
            lineage: state.groups[group].life().lineage.clone(),
        };
        (drilling(world, number, live), request)
    };
    let report = tokio::select! {
        biased;
        () = live.dead.cancelled() => return,
        report = pipeline.drill(&request) => report,
    };
    world.step(|state| state.judge(group, &request, &report));
}

/// The sidecar's pipeline, as a drill of it sees the world.
fn drilling(world: &Shared, number: usize, live: &Live) -> Pipeline {
    let store = SimStore {
        world: world.clone(),
        owner: number,
        drills: true,
    };
    let store = Store::from_object_store(
        Arc::new(store),
        StoreOptions::default(),
        Arc::new(NoObserver),
    );
    let clock = Arc::new(SimClock {
        world: world.clone(),
        number,
    });
    let of = &live.pipeline;
    Pipeline {
        broker: Arc::new(Unasked(world.clone())),
        catalog: Arc::new(Catalog::new(store, "snapshots/")),
        sweeper: Sweeper::new(clock.clone(), Duration::ZERO),
        clock,
        metrics: Metrics::new().unwrap(),
        board: Arc::new(Board::new()),
        options: of.options.clone(),
        // Memory is lent by the sidecar's own restores, and drills give way to them.
        plane: of.plane.clone(),
        stop: of.stop.clone(),
        abort: of.abort.clone(),
    }
}

impl State {
    /// What a drill says of a snapshot is true.
    fn judge(&mut self, group: usize, request: &DrillRequest, report: &DrillReport) {
        let partition = &request.partition;
        let word = match &report.outcome {
            DrillOutcome::Restored { .. } => "right",
            DrillOutcome::Damaged { .. } => "damaged",
            DrillOutcome::Failed { .. } => "not to be looked at",
            DrillOutcome::Nothing => "not there",
            DrillOutcome::Yielded => "for later",
            DrillOutcome::Stopped => "left",
        };
        self.note("--", format_args!("drill of {partition}: {word}"));
        let Some(id) = report.snapshot else { return };
        let found = self.folders[group].found.get(&id);
        let whole = found.map(|found| found.whole);
        // Reads that are flipped on their way look like damage, twice in a row; a proof that is stored wrong is damage.
        let reads_are_true = self.profile.bad_read == 0 && self.profile.bad_write == 0;
        match (&report.outcome, whole) {
            (DrillOutcome::Restored { .. }, Some(false)) => {
                self.violate(format!(
                    "a drill finds nothing wrong with {id}, which is not whole"
                ));
            }
            (DrillOutcome::Restored { .. }, _) => self.counts.drilled += 1,
            (DrillOutcome::Damaged { problem }, Some(true)) if reads_are_true => {
                self.violate(format!(
                    "a drill calls {id} damaged, which is whole: {problem}"
                ));
            }
            _ => {}
        }
    }

    /// A drill changes an object.
    pub(crate) fn drill_writes(&mut self, what: &str, key: &str) {
        let mut groups = self.groups.iter();
        let name = groups.find_map(|group| key.strip_prefix(&folder(group))?.parse().ok());
        if !matches!(name, Some(FileName::Quarantine(_))) || what != "PUT-NEW" {
            self.violate(format!("a drill changes the store: {what} {key}"));
        }
    }
}
