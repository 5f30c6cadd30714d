//! One driver with one voter, driven by hand.

mod compaction;
mod membership;
mod snapshots;

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
};

use bytes::Bytes;
use raft::{
    Storage as _,
    eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Message, MessageType},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    input::{Applied, CompactRefusal, CompactRequest, Compacted, Input, NewReplica},
    proposals::{Proposal, Proposals},
    run::{DiskTask, Driver, DriverParts, Outbound},
    shared::Shared,
};
use crate::{
    api::{ApiError, Appended},
    proto::v1,
    raftlog::{LogPos, engine::LogEngine},
    state::{
        batch::test_batch,
        checkpoint,
        pin::Pin,
        staging::{Expected, Staged, Staging},
    },
};

const GROUP: u64 = 1000;
const HOLD_ENTRIES: u64 = 10;

struct Nowhere;

impl Outbound for Nowhere {
    fn send(&self, _broker: i32, _group_id: u64, _message: &Message) -> bool {
        false
    }

    fn send_snapshot(&self, _broker: i32, _group_id: u64, _message: Message, _pin: Pin) {}
}

struct Bench {
    driver: Driver,
    proposals: Arc<Proposals>,
    disk: Receiver<DiskTask>,
    shared: Arc<Shared>,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        let (disk_tasks, disk) = sync_channel(16);
        let shared = Arc::new(Shared::default());
        let proposals = Arc::<Proposals>::default();
        let parts = DriverParts {
            broker_id: 1,
            replica_uuid: Uuid::from_u128(1),
            cluster_id: "c".to_owned(),
            incarnation: 1,
            founders: Vec::new(),
            groups_dir: dir.join("groups"),
            segment_bytes: 700,
            hold_entries: HOLD_ENTRIES,
            log: LogEngine::open(&dir.join("log")).unwrap(),
            inputs: mpsc::channel(1).1,
            proposals: proposals.clone(),
            shared: shared.clone(),
            outbound: Arc::new(Nowhere),
            disk: disk_tasks,
            lost: mpsc::channel(1).0,
        };
        let driver = Driver::new(parts).unwrap();
        let mut bench = Self {
            driver,
            proposals,
            disk,
            shared,
        };
        bench.settle();
        bench
    }

    fn replica(peer_id: u64, voters: &[u64]) -> NewReplica {
        NewReplica {
            restored: false,
            group_id: GROUP,
            topic: "t".to_owned(),
            partition: 0,
            topic_id: "id".to_owned(),
            peer_id,
            initial_voters: voters.to_vec(),
        }
    }

    fn start(&mut self, peer_id: u64, voters: &[u64], seed: Option<Box<Staged>>) -> bool {
        let (reply, mut answer) = oneshot::channel();
        let start = Input::Start {
            replica: Box::new(Self::replica(peer_id, voters)),
            seed,
            reply,
        };
        self.driver.handle(start).unwrap();
        self.settle();
        answer.try_recv().unwrap().is_ok()
    }

    fn add_learner(&mut self, peer: u64) {
        let change = ConfChangeSingle {
            change_type: ConfChangeType::AddLearnerNode,
            node_id: peer,
            ..ConfChangeSingle::default()
        };
        let mut changes = ConfChangeV2::default();
        changes.set_changes(vec![change].into());
        let group = self.driver.groups.get_mut(&GROUP).unwrap();
        group.node.propose_conf_change(Vec::new(), changes).unwrap();
        self.settle();
        assert_eq!(self.driver.groups[&GROUP].conf_state.learners, vec![peer]);
    }

    fn settle(&mut self) {
        for _ in 0..2 {
            self.driver.handle(Input::Tick).unwrap();
            self.driver.round().unwrap();
        }
    }

    fn append(&mut self, batch: Bytes) -> Result<Appended, ApiError> {
        let (reply, mut answer) = oneshot::channel();
        let proposal = Proposal {
            group_id: GROUP,
            data: batch,
            reply,
        };
        self.proposals.push(proposal).unwrap();
        self.driver.round().unwrap();
        match answer.try_recv().unwrap()? {
            Applied::Batch(outcome) => outcome,
            Applied::Meta(..) => panic!("not a batch"),
        }
    }

    /// Makes the state durable: what the disk thread does, at once.
    fn persist(&mut self) {
        self.driver.handle(Input::Checkpoint(GROUP)).unwrap();
        while let Ok(task) = self.disk.try_recv() {
            if !matches!(task, DiskTask::Checkpoint(_)) {
                continue;
            }
            self.driver.handle(work(task)).unwrap();
            self.driver.round().unwrap();
        }
    }

    fn compact(&mut self, snapshot: LogPos, through: u64) -> Result<Compacted, CompactRefusal> {
        let (reply, mut answer) = oneshot::channel();
        let request = CompactRequest {
            group_id: GROUP,
            snapshot,
            through_index: through,
        };
        self.driver.handle(Input::Compact(request, reply)).unwrap();
        answer.try_recv().unwrap()
    }

    fn position(&self, index: u64) -> LogPos {
        let term = self.driver.groups[&GROUP].node.store().term(index);
        LogPos {
            term: term.unwrap_or(0),
            index,
        }
    }

    fn applied(&self) -> u64 {
        self.driver.groups[&GROUP].applied.index
    }

    fn persisted(&self) -> u64 {
        self.driver.groups[&GROUP].persisted.applied.index
    }

    fn truncated(&self) -> u64 {
        self.driver.groups[&GROUP].node.store().truncated().index
    }

    fn records(&self) -> Vec<u8> {
        let view = self.shared.group(GROUP).unwrap().view.clone().unwrap();
        let mut offset = view.offsets().log_start_offset;
        let mut payloads = Vec::new();
        loop {
            let fetched = view.read(offset, 1).unwrap();
            let Some(payload) = fetched.batches.get(61) else {
                return payloads;
            };
            payloads.push(*payload);
            offset += 1;
        }
    }

    async fn stage(&mut self, dir: &Path, seed_for_peer: Option<u64>) -> Result<Staged, String> {
        let (reply, answer) = oneshot::channel();
        let export = Input::Export {
            group_id: GROUP,
            newer_than_index: 0,
            reply,
        };
        self.driver.handle(export).unwrap();
        let pin = answer.await.unwrap().unwrap();
        let expected = Expected {
            lineage: pin.header.lineage.clone().unwrap(),
            partition: pin.header.partition.clone().unwrap(),
            seed_for_peer,
            restored: false,
        };
        let (to, mut from) = mpsc::channel(1000);
        pin.send(&[], &to, |item| item).await.unwrap();
        drop(to);
        let mut staging = None;
        while let Some(item) = from.recv().await {
            match item {
                crate::state::pin::PinItem::Header(header) => {
                    let begun = Staging::begin(dir, *header, &expected);
                    staging = Some(begun.map_err(|error| error.to_string())?);
                }
                crate::state::pin::PinItem::Chunk(chunk) => {
                    staging.as_mut().unwrap().chunk(&chunk).unwrap();
                }
                crate::state::pin::PinItem::Trailer(trailer) => {
                    return Ok(staging.take().unwrap().finish(&trailer).unwrap());
                }
            }
        }
        panic!("no trailer")
    }
}

fn payload(number: u8) -> Bytes {
    test_batch(-1, -1, -1, 1, &[number; 40])
}

/// A checkpoint task, as the disk thread does it.
fn work(task: DiskTask) -> Input {
    let DiskTask::Checkpoint(task) = task else {
        panic!("not a checkpoint");
    };
    Input::CheckpointDone {
        group_id: task.group_id,
        epoch: task.epoch,
        applied: task.job.applied,
        conf_state: Box::new(task.conf_state),
        result: checkpoint::write(&task.job),
    }
}
