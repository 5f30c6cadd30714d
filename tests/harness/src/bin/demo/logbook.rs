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
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

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

/// What truncation has saved: each replica's log as it is now against the longest that it ever was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Savings {
    /// Entries of the longest log of all, before it was truncated.
    pub(crate) max_entries_before: u64,
    /// Entries of the log that is longest now.
    pub(crate) max_entries_after: u64,
    /// Bytes of all logs now, subtracted from the bytes of all logs when each was longest, in percent of these.
    pub(crate) bytes_percent: f64,
}

/// The history of one replica's log.
#[derive(Debug, Clone, Copy)]
struct History {
    longest: Log,
    latest: Log,
    truncations: usize,
}

#[derive(Debug, Default)]
struct Notes {
    /// By broker and partition.
    histories: BTreeMap<(i32, i32), History>,
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

    /// Truncations seen so far.
    pub(crate) fn truncations(&self) -> usize {
        let notes = lock(&self.notes);
        notes.histories.values().map(|log| log.truncations).sum()
    }

    /// What truncation has saved until now; `None` before anything was looked at.
    pub(crate) fn savings(&self) -> Option<Savings> {
        let notes = lock(&self.notes);
        let logs = || notes.histories.values();
        let before: u64 = logs().map(|log| log.longest.bytes).sum();
        let after: u64 = logs().map(|log| log.latest.bytes).sum();
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let bytes_percent = 100.0 * (1.0 - after as f64 / before.max(1) as f64);
        Some(Savings {
            max_entries_before: logs().map(|log| log.longest.entries()).max()?,
            max_entries_after: logs().map(|log| log.latest.entries()).max()?,
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
        let seen = Log::of(replica);
        let place = (broker, name.partition);
        let history = self.histories.entry(place).or_insert(History {
            longest: seen,
            latest: seen,
            truncations: 0,
        });
        // Another peer id is another log: a seeded one begins where its snapshot ends, which is no truncation.
        let same_log = history.latest.peer_id == seen.peer_id;
        if same_log && history.latest.first_index < seen.first_index {
            history.truncations += 1;
        }
        if seen.bytes > history.longest.bytes {
            history.longest = seen;
        }
        history.latest = seen;
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
        notes.enter(1, &look(1, 901, 1000));
        notes.enter(1, &look(7, 951, 1000));
        notes.enter(2, &look(2, 1, 1000));
        notes.enter(2, &look(2, 951, 1000));
        let book = Logbook {
            notes: Arc::new(Mutex::new(notes)),
            _watchers: JoinSet::new(),
        };
        assert_eq!(book.truncations(), 2);
        let savings = book.savings().unwrap();
        assert_eq!(
            (savings.max_entries_before, savings.max_entries_after),
            (1000, 50)
        );
        assert!((savings.bytes_percent - 95.0).abs() < 1e-9);
    }
}
