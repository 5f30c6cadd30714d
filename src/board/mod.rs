//! What the process knows and does, for people: filled by the scheduler, the pipeline and the server, read by
//! `GetStatus`, `/status` and the status page. Nothing is ever decided by what stands here.
//!
//! Only what the broker lists is put here ([`Board::put`]). Work may end after its partition has left: it changes what
//! is still there ([`Board::partition`]) and brings nothing back.

mod select;
mod status;
mod work;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use select::{Only, Page, Selection, Sort, Start, Summary};
pub use status::{DaemonStatus, PartitionStatus};
pub use work::{Progress, Running, Work, WorkKind};

use crate::raft::TopicPartition;

#[derive(Debug, Default)]
struct Inner {
    daemon: DaemonStatus,
    /// Boxed: a map that grows in order is half empty.
    partitions: BTreeMap<TopicPartition, Box<PartitionStatus>>,
    /// What runs, in the order of its beginning. As bounded as visits, drills and conversations are.
    works: BTreeMap<u64, Work>,
    next_work: u64,
}

/// The board. Every method takes its lock for a few assignments only, [`Board::select`] for one pass.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
}

impl Board {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what is said about the process.
    pub fn daemon(&self, change: impl FnOnce(&mut DaemonStatus)) {
        change(&mut self.lock().daemon);
    }

    /// Puts a partition that the broker has on the board, if it is not there, and changes what is said about it.
    pub fn put(&self, partition: &TopicPartition, change: impl FnOnce(&mut PartitionStatus)) {
        let mut inner = self.lock();
        let status = inner
            .partitions
            .entry(partition.clone())
            .or_insert_with(|| Box::new(PartitionStatus::new(partition)));
        change(status);
    }

    /// Changes what is said about a partition, if it is on the board.
    pub fn partition(&self, partition: &TopicPartition, change: impl FnOnce(&mut PartitionStatus)) {
        if let Some(status) = self.lock().partitions.get_mut(partition) {
            change(status);
        }
    }

    /// True if the partition is on the board.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.lock().partitions.contains_key(partition)
    }

    /// Removes partitions that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) {
        self.lock()
            .partitions
            .retain(|partition, _| keep(partition));
    }

    /// What is said about the process.
    pub fn daemon_status(&self) -> DaemonStatus {
        self.lock().daemon.clone()
    }

    /// Work begins; it is shown until what is returned is dropped, however it ends.
    pub fn begin(
        self: &Arc<Self>,
        kind: WorkKind,
        partition: &TopicPartition,
        began_at_unix_ms: i64,
    ) -> Running {
        let mut inner = self.lock();
        let id = inner.next_work;
        inner.next_work += 1;
        let work = Work::new(kind, partition, began_at_unix_ms);
        inner.works.insert(id, work);
        Running::new(Arc::clone(self), id)
    }

    /// The visit of a partition enters a stage that moves `total_bytes`, 0 = none or nobody knows. What it has moved is
    /// counted in what is returned.
    pub fn visit_stage(
        &self,
        partition: &TopicPartition,
        stage: &'static str,
        total_bytes: u64,
    ) -> Progress {
        let mut inner = self.lock();
        if let Some(status) = inner.partitions.get_mut(partition) {
            status.activity = stage.into();
        }
        let visit = inner
            .works
            .values_mut()
            .find(|work| work.is_visit_of(partition));
        visit.map_or_else(Progress::default, |visit| visit.enter(stage, total_bytes))
    }

    fn work_stage(&self, id: u64, stage: &'static str, total_bytes: u64) -> Progress {
        let mut inner = self.lock();
        let work = inner.works.get_mut(&id);
        work.map_or_else(Progress::default, |work| work.enter(stage, total_bytes))
    }

    fn end(&self, id: u64) {
        self.lock().works.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition::new("orders", 0).unwrap()
    }

    fn shown(board: &Board) -> usize {
        board.select(&Selection::default()).partitions.len()
    }

    #[test]
    fn a_partition_that_left_is_not_brought_back_by_what_ends_late() {
        let board = Arc::new(Board::new());
        board.put(&orders(), |_| {});
        let running = board.begin(WorkKind::Visit, &orders(), 1);
        assert_eq!(shown(&board), 1);
        board.retain(|_| false);
        board.visit_stage(&orders(), "verifying", 10);
        board.partition(&orders(), |status| status.paused = true);
        assert_eq!((shown(&board), board.has(&orders())), (0, false));
        // It still runs, and that is said.
        assert_eq!(board.select(&Selection::default()).running.len(), 1);
        drop(running);
        assert_eq!(board.select(&Selection::default()).running.len(), 0);
        board.put(&orders(), |_| {});
        assert_eq!(shown(&board), 1);
    }

    #[test]
    fn each_stage_counts_from_nothing_and_only_for_its_own_work() {
        let board = Arc::new(Board::new());
        board.put(&orders(), |_| {});
        let _visit = board.begin(WorkKind::Visit, &orders(), 1);
        let mut restore = board.begin(WorkKind::Restore, &orders(), 2);
        let exported = board.visit_stage(&orders(), "uploading", 100);
        exported.add(60);
        restore.at("sending", 3, 50);
        restore.at("sending", 7, 50);
        let told = |board: &Board| {
            let running = board.select(&Selection::default()).running;
            let of = |work: &Work| (work.stage.clone(), work.done.bytes(), work.total_bytes);
            running.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&board),
            [("uploading".into(), 60, 100), ("sending".into(), 7, 50)]
        );
        board.visit_stage(&orders(), "verifying", 80);
        // What comes late from the stage before counts nowhere.
        exported.add(40);
        assert_eq!(told(&board)[0], ("verifying".into(), 0, 80));
        let page = board.select(&Selection::default());
        assert_eq!(page.partitions[0].activity, "verifying");
    }
}
