//! What the scheduler remembers of each partition between ticks. All of it can be lost: the store and the broker
//! tell everything that matters again.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use crate::{
    broker::Replica,
    catalog::{Folder, Snapshot},
    clock::unix_ms,
    control::{ControlError, Triggered},
    format::SnapshotId,
    policy::Facts,
    raft::{Lineage, LogId},
};

/// Somebody who waits for a manual snapshot.
pub(super) type Waiter = oneshot::Sender<Result<Triggered, ControlError>>;

/// A pause.
#[derive(Debug, Clone)]
pub(super) struct Pause {
    pub(super) until: Option<Instant>,
}

/// The newest proven snapshot that was seen, and how old it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    pub(super) last_included: Option<LogId>,
    since: Instant,
    /// Age that it had when it was first seen; only at the first look, else zero.
    head_start: Duration,
}

/// The drills of one partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrillMemory {
    /// End of the last one that came to a result; before there was one, when the partition was first seen.
    pub(super) idle_since: Instant,
    /// Those in a row that did not succeed.
    pub(super) failures: u32,
    /// After one that did not: from here on it may be tried again, out of turn.
    pub(super) retry_at: Option<Instant>,
    /// Wall time at which one last succeeded; for people.
    pub(super) last_success: Option<Duration>,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) replica: Replica,
    pub(super) lineage: Lineage,
    pub(super) newest: Newest,
    /// The folder was listed at least once in this lineage.
    pub(super) looked: bool,
    pub(super) due_since: Option<Instant>,
    pub(super) last_start: Option<Instant>,
    pub(super) failures: u32,
    /// Failures since the last success that found damage.
    pub(super) damages: u32,
    pub(super) not_before: Option<Instant>,
    /// Looks in a row that did not find what was hoped for.
    pub(super) idle_looks: u32,
    pub(super) next_look: Instant,
    pub(super) next_sweep: Instant,
    /// A flagged file may be deleted from here on.
    pub(super) delete_due: Option<Instant>,
    pub(super) pause: Option<Pause>,
    /// The broker has another term at the end of this snapshot: it is not asked to truncate on it again.
    pub(super) refused_base: Option<SnapshotId>,
    /// Nothing in the folder may be deleted.
    pub(super) deletion_blocked: bool,
    pub(super) running: bool,
    pub(super) manual: bool,
    pub(super) waiters: Vec<Waiter>,
    /// Applied index and time at the last tick, for the growth rate.
    growth: (u64, Instant),
    pub(super) entries_per_sec: f64,
    /// Wall time at which a new proven snapshot was last seen; for people.
    pub(super) last_success: Option<Duration>,
    pub(super) drills: DrillMemory,
}

impl Memory {
    pub(super) fn new(
        replica: Replica,
        lineage: Lineage,
        now: Instant,
        first_sweep: Duration,
    ) -> Self {
        let growth = (replica.facts.applied_index, now);
        Self {
            replica,
            lineage,
            newest: Newest {
                last_included: None,
                since: now,
                head_start: Duration::ZERO,
            },
            looked: false,
            due_since: None,
            last_start: None,
            failures: 0,
            damages: 0,
            not_before: None,
            idle_looks: 0,
            next_look: now,
            next_sweep: now + first_sweep,
            delete_due: None,
            pause: None,
            refused_base: None,
            deletion_blocked: false,
            running: false,
            manual: false,
            waiters: Vec::new(),
            growth,
            entries_per_sec: 0.0,
            last_success: None,
            drills: DrillMemory {
                idle_since: now,
                failures: 0,
                retry_at: None,
                last_success: None,
            },
        }
    }

    /// Takes over what the broker says now.
    pub(super) fn observe(&mut self, replica: Replica, now: Instant) {
        let (applied_before, at) = self.growth;
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        if elapsed > 0.0 {
            let grown = replica.facts.applied_index.saturating_sub(applied_before);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a rate needs no more than 52 bits"
            )]
            let rate = grown as f64 / elapsed;
            self.entries_per_sec = rate;
            self.growth = (replica.facts.applied_index, now);
        }
        self.replica = replica;
    }

    /// Takes over what a look into the store showed.
    pub(super) fn saw_folder(
        &mut self,
        folder: &Folder,
        now: Instant,
        wall: Duration,
        time_threshold: Duration,
    ) {
        let newest = folder.newest_proven(&self.lineage);
        let last_included = newest.map(Snapshot::last_included);
        if self.looked && last_included == self.newest.last_included {
            return;
        }
        // What is set aside leaves an older one as the newest: that is no success, and it is as old as it is.
        let fresh = self.looked && last_included > self.newest.last_included;
        let head_start = match newest {
            Some(snapshot) if !fresh => {
                let age_ms = unix_ms(wall)
                    .saturating_sub(snapshot.committed_at_unix_ms)
                    .max(0);
                Duration::from_millis(age_ms.unsigned_abs()).min(time_threshold)
            }
            _ => Duration::ZERO,
        };
        self.newest = Newest {
            last_included,
            since: now,
            head_start,
        };
        if let Some(snapshot) = newest {
            let committed_ms = snapshot.committed_at_unix_ms.max(0).unsigned_abs();
            self.last_success = Some(if fresh {
                wall
            } else {
                Duration::from_millis(committed_ms)
            });
        }
        self.looked = true;
        self.due_since = None;
        self.idle_looks = 0;
        self.next_look = now;
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.newest.since) + self.newest.head_start
    }

    pub(super) fn facts(&self, now: Instant) -> Facts {
        let since = |at: Instant| now.saturating_duration_since(at);
        Facts {
            replica: self.replica.facts,
            metadata: self.replica.partition.is_metadata(),
            newest_proven: self.newest.last_included,
            age: self.age(now),
            due_for: self.due_since.map_or(Duration::ZERO, since),
            since_last_start: self.last_start.map(since),
        }
    }

    pub(super) fn paused(&self, now: Instant) -> bool {
        match &self.pause {
            None => false,
            Some(pause) => pause.until.is_none_or(|until| now < until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::fixture::{add, bare, folder, lineage, part, partition},
        policy::{ReplicaFacts, Role},
    };

    fn memory(now: Instant) -> Memory {
        let replica = Replica {
            partition: partition(),
            topic_id: lineage().topic_id,
            term: 1,
            facts: ReplicaFacts {
                role: Role::Leader,
                applied_index: 300,
                first_log_index: 1,
                last_log_index: 300,
                hold_index: 0,
                rank: 0,
            },
            log_size_bytes: 0,
            state_size_bytes: 0,
            hold_reason: String::new(),
        };
        Memory::new(replica, lineage(), now, Duration::ZERO)
    }

    /// Three snapshots that were committed 100 s apart, the last one at 300 s.
    fn three_snapshots() -> Folder {
        let mut folder = folder();
        for index in [100, 200, 300] {
            let mut manifest = bare(index);
            manifest.parts.push(part("state", false, 0));
            add(&mut folder, manifest);
            folder.snapshots[0].committed_at_unix_ms = i64::try_from(index * 1000).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_set_aside_is_no_success_of_the_one_before_it() {
        let now = Instant::now();
        let secs = Duration::from_secs;
        let mut memory = memory(now);
        let mut folder = three_snapshots();
        let newest = folder.snapshots.remove(0);
        memory.saw_folder(&folder, now, secs(250), secs(3600));
        assert_eq!(
            (memory.last_success, memory.age(now)),
            (Some(secs(200)), secs(50))
        );
        // A new one appears: seen just now.
        folder.snapshots.insert(0, newest);
        memory.saw_folder(&folder, now, secs(310), secs(3600));
        assert_eq!(
            (memory.last_success, memory.age(now)),
            (Some(secs(310)), secs(0))
        );
        // It does not verify. What is left is as old as it is.
        folder.snapshots[0].quarantined = true;
        memory.saw_folder(&folder, now, secs(320), secs(3600));
        assert_eq!(
            (memory.last_success, memory.age(now)),
            (Some(secs(200)), secs(120))
        );
    }
}
