//! What was acknowledged and what was read, and whether the two can both be true.
//!
//! Every record's key names its writer and counts that writer's records. A log is right if
//! - its offsets begin at 0 and have no gap;
//! - every acknowledged record is at the offset that was acknowledged, with its value, and nowhere else;
//! - a record that was sent and not acknowledged is there once or not at all; no other record is there;
//! - what one writer sent to one partition is there in the order in which it was sent, but for a record that its writer gave up
//!   before it went on: its bytes may still be on the way, and then it is there late;
//! - whoever read an offset while the cluster was in trouble read what is there at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use bytes::Bytes;
use refbroker::client::{Acked, Consumed, Record};

/// Findings that are kept with their words; the others are only counted.
const MAX_WORDS: usize = 20;
/// Length of a value in bytes.
const VALUE_BYTES: usize = 200;

/// Names a record: a writer and the number of its record, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Writer.
    pub writer: u32,
    /// Number.
    pub number: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.writer, self.number)
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (writer, number) = text.split_once('-').ok_or(())?;
        Ok(Self {
            writer: writer.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

impl Key {
    /// The record of this name.
    pub fn record(self) -> Record {
        Record {
            key: Bytes::from(self.to_string()),
            value: self.value(),
            timestamp_ms: 1,
        }
    }

    fn value(self) -> Bytes {
        let mut value = format!("value of {self} ").into_bytes();
        value.resize(VALUE_BYTES, b'.');
        Bytes::from(value)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

/// Everything that clients were told.
#[derive(Debug, Default)]
pub struct History {
    /// Records sent by each writer: numbers below this may be in the log.
    sent: BTreeMap<u32, u64>,
    acked: BTreeMap<Key, (i32, i64)>,
    /// Records that their writers gave up on.
    given_up: BTreeSet<Key>,
    /// What consumers saw on the way.
    seen: BTreeMap<(i32, i64), Option<Key>>,
    findings: Findings,
}

/// What cannot be true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged records that are not where they were acknowledged.
    pub lost: u64,
    /// Records that are there more than once.
    pub duplicated: u64,
    /// Records that nobody sent, or with another value.
    pub unexpected: u64,
    /// Offsets that are left out or come twice.
    pub gaps: u64,
    /// Records of a writer that come before an earlier one of the same writer.
    pub disordered: u64,
    /// Offsets that were read with other content before.
    pub changed: u64,
    /// The first of them, in words.
    pub words: Vec<String>,
}

impl Findings {
    /// Nothing was found.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        if self.words.len() < MAX_WORDS {
            self.words.push(words());
        }
    }
}

impl History {
    /// A writer is about to send its record of this number.
    pub fn sending(&mut self, key: Key) {
        let sent = self.sent.entry(key.writer).or_default();
        *sent = (*sent).max(key.number + 1);
    }

    /// A writer without sequence numbers goes on though it was not told what became of this record.
    pub fn gave_up(&mut self, key: Key) {
        self.given_up.insert(key);
    }

    /// The cluster took a record.
    pub fn acked(&mut self, acked: &Acked) {
        let Some(key) = Key::read(&acked.key) else {
            return;
        };
        let place = (acked.partition, acked.offset);
        if let Some(before) = self.acked.insert(key, place) {
            self.findings.duplicated += 1;
            self.findings
                .say(|| format!("{key} was acknowledged at {before:?} and at {place:?}"));
        }
    }

    /// A consumer read a record while everything was going on.
    pub fn read(&mut self, record: &Consumed) {
        let place = (record.partition, record.offset);
        let key = record.key.as_deref().and_then(Key::read);
        if let Some(before) = self.seen.insert(place, key)
            && before != key
        {
            self.findings.changed += 1;
            self.findings
                .say(|| format!("{place:?} was read as {before:?} and as {key:?}"));
        }
    }

    /// Records acknowledged.
    pub fn acked_records(&self) -> u64 {
        self.acked.len() as u64
    }

    /// Records that consumers read on the way.
    pub fn seen_records(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Compares with the whole log: every record of every partition, each partition's in the order read.
    pub fn check(&self, log: &[Consumed]) -> Findings {
        let mut findings = self.findings.clone();
        let mut next_offset = BTreeMap::new();
        let mut last_of_writer = BTreeMap::new();
        let mut places: BTreeMap<Key, (i32, i64)> = BTreeMap::new();
        for record in log {
            let place = (record.partition, record.offset);
            let expected = next_offset.entry(record.partition).or_insert(0);
            if record.offset != *expected {
                findings.gaps += 1;
                findings.say(|| format!("{place:?} follows offset {}", *expected - 1));
            }
            *expected = record.offset + 1;
            let key = record.key.as_deref().and_then(Key::read);
            if let Some(before) = self.seen.get(&place)
                && *before != key
            {
                findings.changed += 1;
                findings.say(|| format!("{place:?} was {before:?} and is {key:?}"));
            }
            let sent = |key: &Key| {
                self.sent
                    .get(&key.writer)
                    .is_some_and(|sent| key.number < *sent)
            };
            let Some(key) = key
                .filter(sent)
                .filter(|key| record.value == Some(key.value()))
            else {
                findings.unexpected += 1;
                findings.say(|| format!("nobody sent what is at {place:?}: {key:?}"));
                continue;
            };
            if let Some(before) = places.insert(key, place) {
                findings.duplicated += 1;
                findings.say(|| format!("{key} is at {before:?} and at {place:?}"));
            }
            if self.given_up.contains(&key) {
                continue;
            }
            let last = last_of_writer
                .entry((key.writer, record.partition))
                .or_insert(key.number);
            if key.number < *last {
                findings.disordered += 1;
                findings.say(|| format!("{key} is at {place:?}, after number {last}"));
            }
            *last = (*last).max(key.number);
        }
        for (key, place) in &self.acked {
            if places.get(key) != Some(place) {
                findings.lost += 1;
                let instead = places.get(key);
                findings
                    .say(|| format!("{key} was acknowledged at {place:?} and is at {instead:?}"));
            }
        }
        let ends: BTreeSet<_> = log.iter().map(|it| (it.partition, it.offset)).collect();
        for place in self.seen.keys().filter(|place| !ends.contains(place)) {
            findings.changed += 1;
            findings.say(|| format!("{place:?} was read and is gone"));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(writer: u32, number: u64) -> Key {
        Key { writer, number }
    }

    fn at(partition: i32, offset: i64, key: Key) -> Consumed {
        let record = key.record();
        Consumed {
            partition,
            offset,
            timestamp_ms: record.timestamp_ms,
            key: Some(record.key),
            value: Some(record.value),
        }
    }

    /// Writer 1 sent 0 to 3 to partition 0; 0, 1 and 2 were acknowledged.
    fn history() -> History {
        let mut history = History::default();
        for number in 0..4 {
            history.sending(key(1, number));
        }
        for number in 0..3 {
            history.acked(&Acked {
                partition: 0,
                offset: i64::try_from(number).unwrap(),
                key: key(1, number).record().key,
            });
        }
        history
    }

    fn log() -> Vec<Consumed> {
        (0..3)
            .map(|number| at(0, number, key(1, u64::try_from(number).unwrap())))
            .collect()
    }

    #[test]
    fn the_log_that_was_promised_is_clean() {
        assert!(history().check(&log()).is_clean());
        let mut with_the_unacknowledged = log();
        with_the_unacknowledged.push(at(0, 3, key(1, 3)));
        assert!(history().check(&with_the_unacknowledged).is_clean());
    }

    #[test]
    fn every_lie_is_found() {
        let mut short = log();
        short.pop();
        assert_eq!(history().check(&short).lost, 1);

        let mut twice = log();
        twice.push(at(0, 3, key(1, 2)));
        assert_eq!(history().check(&twice).duplicated, 1);

        let mut foreign = log();
        foreign.push(at(0, 3, key(2, 0)));
        assert_eq!(history().check(&foreign).unexpected, 1);

        let mut other_value = log();
        other_value[1].value = Some(Bytes::from_static(b"x"));
        assert_eq!(history().check(&other_value).unexpected, 1);

        let mut gap = log();
        gap[2].offset = 3;
        let found = history().check(&gap);
        assert_eq!((found.gaps, found.lost), (1, 1));

        let mut swapped = log();
        swapped.swap(1, 2);
        swapped[1].offset = 1;
        swapped[2].offset = 2;
        let found = history().check(&swapped);
        assert_eq!((found.disordered, found.lost), (1, 2));
    }

    #[test]
    fn a_record_that_was_given_up_may_come_late_and_no_other_may() {
        let late = [at(0, 0, key(1, 1)), at(0, 1, key(1, 0))];
        let mut history = History::default();
        history.sending(key(1, 1));
        assert_eq!(history.check(&late).disordered, 1);
        history.gave_up(key(1, 0));
        assert!(history.check(&late).is_clean());
        let twice = [late[0].clone(), late[1].clone(), at(0, 2, key(1, 0))];
        assert_eq!(history.check(&twice).duplicated, 1);
    }

    #[test]
    fn what_was_read_once_must_stay() {
        let mut early = history();
        early.read(&at(0, 3, key(1, 3)));
        assert_eq!(early.check(&log()).changed, 1, "read, and gone at the end");
        let mut other = history();
        other.read(&at(0, 2, key(1, 3)));
        assert_eq!(
            other.check(&log()).changed,
            1,
            "read, and something else at the end"
        );
        let mut both = history();
        both.read(&at(0, 2, key(1, 2)));
        both.read(&at(0, 2, key(1, 3)));
        assert!(both.check(&log()).changed >= 1);
    }
}
