//! The Raft log: one raft-engine for all groups, one region for each group.
//!
//! A region holds the entries and four keys:
//!
//! | key | value | written together with |
//! |---|---|---|
//! | `hs` | `HardState` | the entries of the same `Ready` |
//! | `trunc` | (index, term) of the last entry that was dropped | the compaction itself |
//! | `applied` | [`AppliedRecord`](crate::proto::peer::AppliedRecord): commit record of the state | nothing, or an installed snapshot |
//!
//! | die after | what is left | who cleans it |
//! |---|---|---|
//! | entries written, not flushed | a prefix of them | raft-engine drops a torn tail |
//! | state files flushed, `applied` not written | the older record rules | replay from the log; stray files go at start |
//! | an install's batch written | all of it: truncated, hard state, configuration, applied | nobody has to |

pub mod engine;
pub mod storage;

use raft::eraftpb;

use crate::proto::v1;

/// A position in a log: an index and the term of the entry there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPos {
    /// Term of the entry.
    pub term: u64,
    /// Its index, 0 = before the first.
    pub index: u64,
}

impl LogPos {
    /// The wire form.
    pub fn to_proto(self) -> v1::LogId {
        v1::LogId {
            term: self.term,
            index: self.index,
        }
    }

    /// From the wire; absent = before the first entry.
    pub fn from_proto(id: Option<&v1::LogId>) -> Self {
        id.map_or_else(Self::default, |id| Self {
            term: id.term,
            index: id.index,
        })
    }
}

/// The wire form of a configuration.
pub fn conf_to_proto(conf: &eraftpb::ConfState) -> v1::ConfState {
    v1::ConfState {
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.voters_outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        auto_leave: conf.auto_leave,
    }
}

/// The configuration that Raft understands.
pub fn conf_from_proto(conf: &v1::ConfState) -> eraftpb::ConfState {
    let mut result = eraftpb::ConfState::default();
    result.set_voters(conf.voters.clone());
    result.set_learners(conf.learners.clone());
    result.set_voters_outgoing(conf.voters_outgoing.clone());
    result.set_learners_next(conf.learners_next.clone());
    result.auto_leave = conf.auto_leave;
    result
}

/// True = the peer has a place in the configuration.
pub fn conf_contains(conf: &eraftpb::ConfState, peer: u64) -> bool {
    conf.voters.contains(&peer)
        || conf.learners.contains(&peer)
        || conf.voters_outgoing.contains(&peer)
        || conf.learners_next.contains(&peer)
}
