//! The rules that a decoded object must keep, and their words in errors.

use thiserror::Error;

use super::{
    BLOCK_MAX_BYTES, BLOCK_STORED_MAX_BYTES, CONF_MEMBERS_MAX, PARTS_MAX, PLAN_PARTITIONS_MAX,
    REASON_MAX_BYTES, REFERENCES_MAX,
};

/// Kinds of object and pieces of objects, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Object {
    /// `{id}.manifest.json`
    #[error("manifest")]
    Manifest,
    /// `{id}.verified.json`
    #[error("proof")]
    Proof,
    /// `@cluster/...json`
    #[error("identity")]
    Identity,
    /// `{id}.quarantined.json`
    #[error("quarantine mark")]
    Quarantine,
    /// `@holds/...json`
    #[error("restore plan")]
    Plan,
    /// One block of a `.snap`.
    #[error("block")]
    Block,
}

/// A rule of docs/FORMAT.md that an object breaks. Parts, blocks and references are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the message of each rule is its documentation")]
pub enum Rule {
    #[error("last_included has an index and a term of at least 1")]
    LastIncludedPositive,
    #[error("snapshot_id carries last_included")]
    IdMatchesLastIncluded,
    #[error("snapshot_id carries the hash of lineage")]
    IdMatchesLineage,
    #[error("snapshot_id is that of the object name")]
    IdMatchesName,
    #[error("conf_state has at least one voter")]
    NoVoters,
    #[error("conf_state lists at most {CONF_MEMBERS_MAX} members of each role")]
    ConfTooLarge,
    #[error("conf_state names no peer 0 and no peer twice in one role")]
    ConfPeerIds,
    #[error("a learner of conf_state is not a voter, old or new")]
    ConfLearnerIsVoter,
    #[error("a learner-to-be of conf_state is a voter of the outgoing configuration")]
    ConfLearnersNext,
    #[error("conf_state has learners_next or auto_leave in a joint configuration only")]
    ConfNotJoint,
    #[error("state_codec has 1 to 64 visible ASCII characters")]
    StateCodec,
    #[error("created_by.version has 1 to 64 visible ASCII characters")]
    Version,
    #[error("times are not negative")]
    NegativeTime,
    #[error("there are 1 to {PARTS_MAX} parts")]
    PartCount,
    #[error("part {part}: part_id has 1 to 64 bytes of [A-Za-z0-9._-]")]
    PartId { part: usize },
    #[error("part {part}: part_id is unique in the snapshot")]
    PartIdTwice { part: usize },
    #[error("part {part}: there is at least one block")]
    NoBlocks { part: usize },
    #[error("part {part}: the raw lengths of the blocks add up to size_bytes")]
    PartSum { part: usize },
    #[error("part {part}: only the single block of an empty part is empty")]
    EmptyBlock { part: usize },
    #[error("part {part}, block {block}: raw_len_bytes is at most {BLOCK_MAX_BYTES}")]
    BlockTooLarge { part: usize, block: usize },
    #[error(
        "part {part}, block {block}: stored_len_bytes is at most {BLOCK_STORED_MAX_BYTES}, and not 0 for gzip and zstd"
    )]
    BlockStoredLength { part: usize, block: usize },
    #[error("part {part}, block {block}: with codec none the stored length is the raw length")]
    BlockNotRaw { part: usize, block: usize },
    #[error("part {part}, block {block}: file is a position in references")]
    BlockFile { part: usize, block: usize },
    #[error("part {part}, block {block}: consecutive blocks in one file touch")]
    BlockGap { part: usize, block: usize },
    #[error("part {part}, block {block}: a file of this snapshot starts at offset 0")]
    OwnFileStart { part: usize, block: usize },
    #[error("part {part}, block {block}: blocks of one file do not overlap")]
    BlockOverlap { part: usize, block: usize },
    #[error("there are 1 to {REFERENCES_MAX} references")]
    ReferenceCount,
    #[error("reference {reference}: it is the name of a .snap file")]
    ReferenceName { reference: usize },
    #[error("reference {reference}: it is listed once")]
    ReferenceTwice { reference: usize },
    #[error("reference {reference}: a block lies in it")]
    ReferenceUnused { reference: usize },
    #[error("reference {reference}: it carries the hash of this lineage")]
    ReferenceForeign { reference: usize },
    #[error(
        "reference {reference}: files of this snapshot come first and are numbered from 0 without a gap"
    )]
    OwnFileNumber { reference: usize },
    #[error("increment is 0 if and only if every reference is a file of this snapshot")]
    Increment,
    #[error("objects names each .snap file once and at least one")]
    CheckedObjects,
    #[error("a plan has at most {PLAN_PARTITIONS_MAX} partitions")]
    PlanSize,
    #[error("partitions are ascending by partition, then topic_id, each once")]
    PlanOrder,
    #[error("partition {position}: snapshot_id carries the hash of its lineage")]
    PlanLineage { position: usize },
    #[error("partition {position}: from_incarnation is below the plan's incarnation")]
    PlanIncarnation { position: usize },
    #[error("reason has 1 to {REASON_MAX_BYTES} bytes without control characters")]
    Reason,
}
