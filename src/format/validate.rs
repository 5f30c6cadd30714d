//! The rules of a manifest, one function a subject; the first broken one is named.

use std::collections::HashSet;

use super::{
    BLOCK_MAX_BYTES, BLOCK_STORED_MAX_BYTES, CONF_MEMBERS_MAX, Codec, FORMAT_VERSION, FormatError,
    Manifest, PARTS_MAX, Part, REFERENCES_MAX, SnapName,
    rules::{Object, Rule},
};
use crate::raft::{ConfState, Lineage, TopicPartition};

impl Manifest {
    /// Checks every rule of docs/FORMAT.md that the bytes of one manifest can show.
    pub fn validate(&self) -> Result<(), FormatError> {
        let object = Object::Manifest;
        if self.format_version != FORMAT_VERSION {
            return Err(FormatError::UnknownVersion {
                object,
                found: u64::from(self.format_version),
            });
        }
        check_names(object, &self.lineage, &self.partition)?;
        self.check()
            .map_err(|rule| FormatError::Rule { object, rule })
    }

    fn check(&self) -> Result<(), Rule> {
        self.check_position()?;
        check_conf_state(&self.conf_state)?;
        require(is_label(&self.state_codec), Rule::StateCodec)?;
        require(is_label(&self.created_by.version), Rule::Version)?;
        require(self.created_at_unix_ms >= 0, Rule::NegativeTime)?;
        self.check_references()?;
        self.check_parts()?;
        self.check_files()
    }

    fn check_position(&self) -> Result<(), Rule> {
        let at = self.last_included;
        require(at.index > 0 && at.term > 0, Rule::LastIncludedPositive)?;
        let id = self.snapshot_id;
        require(id.last_included == at, Rule::IdMatchesLastIncluded)?;
        require(
            id.lineage_hash == self.lineage.short_hash(),
            Rule::IdMatchesLineage,
        )
    }

    fn check_references(&self) -> Result<(), Rule> {
        let count = self.references.len();
        require((1..=REFERENCES_MAX).contains(&count), Rule::ReferenceCount)?;
        let mut seen = HashSet::new();
        let mut own_files = 0;
        for (reference, name) in self.references.iter().enumerate() {
            let Ok(SnapName { id, number }) = name.parse() else {
                return Err(Rule::ReferenceName { reference });
            };
            require(seen.insert(name), Rule::ReferenceTwice { reference })?;
            if id == self.snapshot_id {
                let first = number as usize == own_files && reference == own_files;
                require(first, Rule::OwnFileNumber { reference })?;
                own_files += 1;
            }
            let same_lineage = id.lineage_hash == self.snapshot_id.lineage_hash;
            require(same_lineage, Rule::ReferenceForeign { reference })?;
        }
        require(
            (self.increment == 0) == (own_files == count),
            Rule::Increment,
        )?;
        Ok(())
    }

    fn check_parts(&self) -> Result<(), Rule> {
        require((1..=PARTS_MAX).contains(&self.parts.len()), Rule::PartCount)?;
        let mut seen = HashSet::new();
        for (part, content) in self.parts.iter().enumerate() {
            require(is_part_id(&content.part_id), Rule::PartId { part })?;
            require(seen.insert(&content.part_id), Rule::PartIdTwice { part })?;
            check_blocks(self.codec, part, content)?;
        }
        Ok(())
    }

    /// Blocks against the files they lie in.
    fn check_files(&self) -> Result<(), Rule> {
        let mut by_file: Vec<Vec<Placed>> = vec![Vec::new(); self.references.len()];
        for (part, content) in self.parts.iter().enumerate() {
            for (block, at) in content.blocks.iter().enumerate() {
                let blocks = by_file
                    .get_mut(at.file as usize)
                    .ok_or(Rule::BlockFile { part, block })?;
                blocks.push(Placed {
                    start_bytes: at.offset_bytes,
                    end_bytes: at.end_bytes(),
                    part,
                    block,
                });
            }
        }
        for (reference, name) in self.references.iter().enumerate() {
            check_file(reference, self.is_own(name), &mut by_file[reference])?;
        }
        Ok(())
    }
}

/// One block in its file.
#[derive(Debug, Clone, Copy)]
struct Placed {
    start_bytes: u64,
    end_bytes: u64,
    part: usize,
    block: usize,
}

/// Own files are covered from offset 0 without a gap, in manifest order; in others blocks may not overlap.
fn check_file(reference: usize, own: bool, blocks: &mut [Placed]) -> Result<(), Rule> {
    let first = blocks.first().ok_or(Rule::ReferenceUnused { reference })?;
    if own {
        let Placed { part, block, .. } = *first;
        require(first.start_bytes == 0, Rule::OwnFileStart { part, block })?;
    } else {
        blocks.sort_by_key(|placed| (placed.start_bytes, placed.end_bytes));
    }
    for pair in blocks.windows(2) {
        let Placed { part, block, .. } = pair[1];
        let (end, start) = (pair[0].end_bytes, pair[1].start_bytes);
        if own {
            require(start == end, Rule::BlockGap { part, block })?;
        } else {
            require(start >= end, Rule::BlockOverlap { part, block })?;
        }
    }
    Ok(())
}

fn check_blocks(codec: Codec, part: usize, content: &Part) -> Result<(), Rule> {
    let blocks = &content.blocks;
    require(!blocks.is_empty(), Rule::NoBlocks { part })?;
    let mut sum_bytes = 0_u64;
    for (block, at) in blocks.iter().enumerate() {
        sum_bytes += u64::from(at.raw_len_bytes);
        require(
            at.raw_len_bytes <= BLOCK_MAX_BYTES,
            Rule::BlockTooLarge { part, block },
        )?;
        let stored = at.stored_len_bytes;
        require(
            stored <= BLOCK_STORED_MAX_BYTES && (stored > 0 || codec == Codec::None),
            Rule::BlockStoredLength { part, block },
        )?;
        require(
            stored == at.raw_len_bytes || codec != Codec::None,
            Rule::BlockNotRaw { part, block },
        )?;
        require(
            at.raw_len_bytes > 0 || blocks.len() == 1,
            Rule::EmptyBlock { part },
        )?;
    }
    require(
        sum_bytes == content.digest.size_bytes,
        Rule::PartSum { part },
    )?;
    for (before, pair) in blocks.windows(2).enumerate() {
        let touch = pair[0].file != pair[1].file || pair[0].end_bytes() == pair[1].offset_bytes;
        let block = before + 1;
        require(touch, Rule::BlockGap { part, block })?;
    }
    Ok(())
}

/// raft-rs's own invariants of a configuration, and bounds.
pub fn check_conf_state(conf: &ConfState) -> Result<(), Rule> {
    require(!conf.voters.is_empty(), Rule::NoVoters)?;
    let roles = [
        &conf.voters,
        &conf.learners,
        &conf.voters_outgoing,
        &conf.learners_next,
    ];
    for peers in roles {
        require(peers.len() <= CONF_MEMBERS_MAX, Rule::ConfTooLarge)?;
        let distinct: HashSet<_> = peers.iter().collect();
        let legal = distinct.len() == peers.len() && !peers.contains(&0);
        require(legal, Rule::ConfPeerIds)?;
    }
    let votes = |peer: &u64| conf.voters.contains(peer) || conf.voters_outgoing.contains(peer);
    require(!conf.learners.iter().any(votes), Rule::ConfLearnerIsVoter)?;
    let leaves = |peer: &u64| conf.voters_outgoing.contains(peer);
    require(
        conf.learners_next.iter().all(leaves),
        Rule::ConfLearnersNext,
    )?;
    let joint = !conf.voters_outgoing.is_empty();
    require(joint || !conf.auto_leave, Rule::ConfNotJoint)
}

pub(super) fn check_names(
    object: Object,
    lineage: &Lineage,
    partition: &TopicPartition,
) -> Result<(), FormatError> {
    let domain = |source| FormatError::Domain { object, source };
    let Lineage {
        cluster_id,
        incarnation,
        topic_id,
    } = lineage;
    Lineage::new(cluster_id, *incarnation, topic_id).map_err(domain)?;
    TopicPartition::new(&partition.topic, partition.partition).map_err(domain)?;
    Ok(())
}

pub(super) fn require(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}

/// 1 to 64 visible ASCII characters.
pub fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_part_id(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}
