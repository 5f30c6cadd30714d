//! Watches the length of every replica's log and notes each truncation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chronik_harness::{Node, client::snapshot, proto::ReplicaStatus};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::story::TOPIC;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// The log of one replica at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// Raft peer id of the replica.
    pub(crate) peer_id: u64,
    /// Lowest index in the log.
    pub(crate) first_index: u64,
    /// Highest index in the log (inclusive).
    pub(crate) last_index: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

impl Log {
    fn of(replica: &ReplicaStatus) -> Self {
        Self {
            peer_id: replica.peer_id,
            first_index: replica.first_log_index,
            last_index: replica.last_log_index,
            bytes: replica.log_size_bytes,
        }
    }

    /// Entries in the log.
    pub(crate) fn entries(&self) -> u64 {
        (self.last_index + 1).saturating_sub(self.first_index)
    }
}

/// One truncation: the last look before it and the first look after it.
#[derive(Debug, Clone, Copy)]
struct Truncation {
    before: Log,
    after: Log,
}

/// Sums over all truncations seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Savings {
    /// Truncations.
    pub(crate) truncations: usize,
    /// Entries of the longest log that was truncated, at the last look before.
    pub(crate) max_entries_before: u64,
    /// Entries of the longest log at the first look after its truncation.
    pub(crate) max_entries_after: u64,
    /// Share of the bytes that truncations freed, of those that were there at the last look before.
    pub(crate) bytes_percent: f64,
}

#[derive(Debug, Default)]
struct Notes {
    /// By broker and partition.
    latest: BTreeMap<(i32, i32), Log>,
    truncations: Vec<Truncation>,
}

/// Notes of a watcher that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Logbook {
    notes: Arc<Mutex<Notes>>,
    _watchers: JoinSet<()>,
}

impl Logbook {
    /// Starts to watch every broker.
    pub(crate) fn open(nodes: &[Node]) -> Self {
        let notes = Arc::new(Mutex::new(Notes::default()));
        let mut watchers = JoinSet::new();
        for node in nodes {
            watchers.spawn(watch(
                node.id(),
                node.snapshot_endpoint(),
                Arc::clone(&notes),
            ));
        }
        Self {
            notes,
            _watchers: watchers,
        }
    }

    /// What the truncations so far have saved; `None` if there was none.
    pub(crate) fn savings(&self) -> Option<Savings> {
        let notes = lock(&self.notes);
        let truncations = &notes.truncations;
        let before: u64 = truncations.iter().map(|each| each.before.bytes).sum();
        let after: u64 = truncations.iter().map(|each| each.after.bytes).sum();
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let bytes_percent = 100.0 * (1.0 - after as f64 / before.max(1) as f64);
        Some(Savings {
            truncations: truncations.len(),
            max_entries_before: truncations.iter().map(|each| each.before.entries()).max()?,
            max_entries_after: truncations.iter().map(|each| each.after.entries()).max()?,
            bytes_percent,
        })
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(broker: i32, endpoint: String, notes: Arc<Mutex<Notes>>) {
    let mut clock = tokio::time::interval(INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        // A broker that is down is a gap in the notes, not an error.
        let Ok(replicas) = snapshot::list_replicas(&endpoint).await else {
            continue;
        };
        let mut notes = lock(&notes);
        for replica in replicas {
            notes.enter(broker, &replica);
        }
    }
}

impl Notes {
    fn enter(&mut self, broker: i32, replica: &ReplicaStatus) {
        let name = replica.partition.clone().unwrap_or_default();
        if name.topic != TOPIC {
            return;
        }
        let after = Log::of(replica);
        let before = self.latest.insert((broker, name.partition), after);
        let Some(before) = before else { return };
        // Another peer id is another log: a seeded one begins where its snapshot ends.
        if before.peer_id == after.peer_id && before.first_index < after.first_index {
            self.truncations.push(Truncation { before, after });
        }
    }
}

#[cfg(test)]
mod tests {
    use chronik_harness::proto::TopicPartition;

    use super::*;

    fn look(peer_id: u64, first: u64, last: u64) -> ReplicaStatus {
        ReplicaStatus {
            partition: Some(TopicPartition {
                topic: TOPIC.to_owned(),
                partition: 0,
            }),
            peer_id,
            first_log_index: first,
            last_log_index: last,
            log_size_bytes: (last + 1 - first) * 10,
            ..ReplicaStatus::default()
        }
    }

    #[test]
    fn only_a_log_that_gets_shorter_at_its_beginning_is_a_truncation() {
        let mut notes = Notes::default();
        notes.enter(1, &look(1, 1, 500));
        notes.enter(1, &look(1, 1, 1000));
        assert!(notes.truncations.is_empty());
        notes.enter(1, &look(1, 901, 1000));
        notes.enter(1, &look(7, 951, 1000));
        assert_eq!(notes.truncations.len(), 1);
        let book = Logbook {
            notes: Arc::new(Mutex::new(notes)),
            _watchers: JoinSet::new(),
        };
        let savings = book.savings().unwrap();
        assert_eq!(
            (savings.max_entries_before, savings.max_entries_after),
            (1000, 100)
        );
        assert!((savings.bytes_percent - 90.0).abs() < 1e-9);
    }
}
