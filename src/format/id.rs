//! The id of a snapshot: its name in the store.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{FormatError, hex};
use crate::raft::{Lineage, LogId};

/// Names one attempt to write one snapshot, `{index:020}-{term:020}-{lineage:08x}-{uuid}`: 87 ASCII characters.
///
/// Numbers are padded to the width of `u64`, so the order of names is the order of log positions. Two attempts
/// at one position differ in their uuid, so a retry never overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotId {
    /// Last log entry in the snapshot, inclusive.
    pub last_included: LogId,
    /// [`Lineage::short_hash`]: a filter for listings, never a proof that lineages are equal.
    pub lineage_hash: u32,
    /// Tells attempts apart.
    pub uuid: Uuid,
}

/// Length of the text form.
pub const SNAPSHOT_ID_LEN_BYTES: usize = 20 + 1 + 20 + 1 + 8 + 1 + 36;

impl SnapshotId {
    /// At or above every other id.
    pub const MAX: Self = Self {
        last_included: LogId::new(u64::MAX, u64::MAX),
        lineage_hash: u32::MAX,
        uuid: Uuid::max(),
    };

    /// An id for a new attempt.
    pub fn new(last_included: LogId, lineage: &Lineage, uuid: Uuid) -> Self {
        Self {
            last_included,
            lineage_hash: lineage.short_hash(),
            uuid,
        }
    }
}

impl PartialOrd for SnapshotId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SnapshotId {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |id: &Self| (id.last_included, id.uuid, id.lineage_hash);
        key(self).cmp(&key(other))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogId { term, index } = self.last_included;
        let lineage = self.lineage_hash;
        write!(f, "{index:020}-{term:020}-{lineage:08x}-{}", self.uuid)
    }
}

impl FromStr for SnapshotId {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        parse(text)
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| super::names::illegal(text))
    }
}

fn parse(text: &str) -> Option<SnapshotId> {
    if text.len() != SNAPSHOT_ID_LEN_BYTES || !text.is_ascii() {
        return None;
    }
    let (index, rest) = text.split_once('-')?;
    let (term, rest) = rest.split_once('-')?;
    let (lineage, uuid) = rest.split_once('-')?;
    Some(SnapshotId {
        last_included: LogId::new(term.parse().ok()?, index.parse().ok()?),
        lineage_hash: u32::try_from(hex::parse(lineage, 8)?).ok()?,
        uuid: Uuid::try_parse(uuid).ok()?,
    })
}

impl Serialize for SnapshotId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(index: u64, term: u64) -> SnapshotId {
        let lineage = Lineage::new("c", 1, "t").unwrap();
        SnapshotId::new(LogId::new(term, index), &lineage, Uuid::from_u128(7))
    }

    #[test]
    fn ten_thousand_follows_nine_thousand_nine_hundred_ninety_nine() {
        assert!(id(9_999, 3) < id(10_000, 3));
        assert!(id(9_999, 3).to_string() < id(10_000, 3).to_string());
        assert!(id(9_999, 9).to_string() < id(10_000, 1).to_string());
    }

    #[test]
    fn names_that_only_look_alike_are_refused() {
        let good = id(5, 2).to_string();
        assert_eq!(good.parse::<SnapshotId>().unwrap(), id(5, 2));
        let bad = [
            good.to_uppercase(),
            format!(" {}", &good[1..]),
            format!("+{}", &good[1..]),
            good.replacen('0', "", 1),
            format!("0{good}"),
            good.replace('-', "_"),
            String::new(),
        ];
        for name in bad.into_iter().filter(|name| *name != good) {
            assert!(name.parse::<SnapshotId>().is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn text_form_round_trips_and_keeps_the_order(
            a in any::<(u64, u64, u32, u128)>(), b in any::<(u64, u64, u32, u128)>(),
        ) {
            let make = |(index, term, lineage_hash, uuid)| SnapshotId {
                last_included: LogId::new(term, index),
                lineage_hash,
                uuid: Uuid::from_u128(uuid),
            };
            let (a, b) = (make(a), make(b));
            prop_assert_eq!(a.to_string().parse::<SnapshotId>().unwrap(), a);
            if a.last_included != b.last_included {
                prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.last_included.cmp(&b.last_included));
            }
        }
    }
}
