//! A Raft group as its brokers see it: one agreed log in each life of the topic, and three replicas that hold more or
//! less of it. Elections, quorums and membership are assumed to be right; what a snapshotter could break is modelled.

use chronik_snapshotd::raft::{Lineage, LogId, TopicPartition};

use crate::rng::mix;

/// One life of a topic: its agreed log, and the state after each entry.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) lineage: Lineage,
    terms: Vec<u64>,
    /// `folds[i]` is the state after entry `i`, as one number from which its bytes follow.
    folds: Vec<u64>,
    /// Greatest index that any replica truncated.
    pub(crate) truncated: u64,
}

/// Entries in a sealed segment.
const SEGMENT_ENTRIES: u64 = 4;
/// Sealed segments that the state keeps; older ones are dropped, as a topic's retention does.
const SEGMENTS_KEPT: u64 = 5;

/// One part of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) sealed: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Part {
    fn new(id: String, sealed: bool, mut seed: u64, len: u64) -> Self {
        let len = usize::try_from(len).unwrap();
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            seed = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
            bytes.extend_from_slice(&seed.to_le_bytes());
        }
        bytes.truncate(len);
        Self { id, sealed, bytes }
    }
}

impl Life {
    pub(crate) fn new(lineage: Lineage, salt: u64) -> Self {
        Self {
            lineage,
            terms: Vec::new(),
            folds: vec![mix(salt)],
            truncated: 0,
        }
    }

    /// Index of the last committed entry.
    pub(crate) fn last(&self) -> u64 {
        self.terms.len() as u64
    }

    pub(crate) fn append(&mut self, term: u64, data: u64) {
        let fold = self.folds.last().unwrap();
        self.folds.push(mix(fold ^ mix(data) ^ term));
        self.terms.push(term);
    }

    pub(crate) fn at(&self, index: u64) -> LogId {
        let term = index
            .checked_sub(1)
            .map_or(0, |at| self.terms[usize::try_from(at).unwrap()]);
        LogId::new(term, index)
    }

    /// The state after entry `index`: sealed segments named by their content, the tail, and the rest; none if there is
    /// no such entry.
    pub(crate) fn parts(&self, index: u64) -> Option<Vec<Part>> {
        let fold = *self.folds.get(usize::try_from(index).ok()?)?;
        let sealed = index / SEGMENT_ENTRIES;
        let mut parts: Vec<Part> = (sealed.saturating_sub(SEGMENTS_KEPT)..sealed)
            .map(|number| {
                let end = usize::try_from((number + 1) * SEGMENT_ENTRIES).unwrap();
                let seed = mix(self.folds[end] ^ 1);
                let id = format!("seg-{number}-{:016x}", self.folds[end]);
                Part::new(id, true, seed, 20 + seed % 150)
            })
            .collect();
        // The tail is empty now and then.
        let seed = mix(fold ^ 2);
        parts.push(Part::new("tail".to_owned(), false, seed, (seed % 5) * 40));
        let seed = mix(fold ^ 3);
        parts.push(Part::new("meta".to_owned(), false, seed, 20 + seed % 100));
        Some(parts)
    }
}

/// What a replica has on its disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replica {
    /// Its disk is gone; it waits to be seeded.
    pub(crate) lost: bool,
    pub(crate) applied: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Greatest index that was truncated because a sidecar asked for it.
    pub(crate) compacted: u64,
}

impl Replica {
    pub(crate) const fn fresh() -> Self {
        Self::seeded(0)
    }

    /// Without a log, with the state after entry `index`.
    pub(crate) const fn seeded(index: u64) -> Self {
        Self {
            lost: false,
            applied: index,
            first: index + 1,
            last: index,
            compacted: 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) partition: TopicPartition,
    /// The last one is the present.
    pub(crate) lives: Vec<Life>,
    pub(crate) term: u64,
    pub(crate) leader: usize,
    pub(crate) replicas: [Replica; 3],
    /// Lowest index that the leader holds; 0 = none.
    pub(crate) hold: u64,
}

impl Group {
    pub(crate) fn new(partition: TopicPartition, lineage: Lineage, salt: u64) -> Self {
        Self {
            partition,
            lives: vec![Life::new(lineage, salt)],
            term: 1,
            leader: 0,
            replicas: [Replica::fresh(); 3],
            hold: 0,
        }
    }

    pub(crate) fn life(&self) -> &Life {
        self.lives.last().unwrap()
    }

    pub(crate) fn life_of(&self, lineage: &Lineage) -> Option<&Life> {
        self.lives.iter().find(|life| life.lineage == *lineage)
    }

    /// The leader appends `count` entries, which are committed at once.
    pub(crate) fn append(&mut self, count: u64, mut data: impl FnMut() -> u64) {
        let term = self.term;
        let life = self.lives.last_mut().unwrap();
        for _ in 0..count {
            life.append(term, data());
        }
        let last = life.last();
        let leader = &mut self.replicas[self.leader];
        leader.last = last;
    }

    /// Replica `who` receives up to `entries` entries, and applies up to `apply` of what it has. One whose next entry
    /// the leader has truncated gets the leader's state.
    pub(crate) fn replicate(&mut self, who: usize, entries: u64, apply: u64) {
        let leader = self.replicas[self.leader];
        let last = self.life().last();
        let replica = &mut self.replicas[who];
        if replica.lost {
            return;
        }
        if replica.last + 1 < leader.first {
            if leader.applied > replica.applied {
                *replica = Replica::seeded(leader.applied);
            }
        } else {
            replica.last = last.min(replica.last + entries);
        }
        replica.applied = replica.last.min(replica.applied + apply);
    }

    /// Replica `who` leads from here on, if it can have the whole log.
    pub(crate) fn elect(&mut self, who: usize) -> bool {
        let leader = self.replicas[self.leader];
        let last = self.life().last();
        let replica = &mut self.replicas[who];
        if replica.lost || replica.last + 1 < leader.first {
            return false;
        }
        replica.last = last;
        self.leader = who;
        self.term += 1;
        self.hold = 0;
        // A new leader commits an entry of its own term.
        let term = self.term;
        self.append(1, || term);
        true
    }

    /// The topic is deleted and created again.
    pub(crate) fn begin_life(&mut self, lineage: Lineage, salt: u64) {
        self.lives.push(Life::new(lineage, salt));
        self.replicas = [Replica::fresh(); 3];
        self.hold = 0;
        self.term += 1;
    }
}
