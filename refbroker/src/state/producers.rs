//! Idempotent producers: the table that turns a retry into the answer of the first try. It is state (invariant 6):
//! it changes only when an entry is applied, so every replica and every snapshot has the same one.

use std::collections::BTreeMap;

use super::batch::{BatchHeader, wrap_sequence};
use crate::{
    api::ApiError,
    proto::peer::{ProducerBatch, ProducerState},
};

/// Batches of one producer that a retry may name, as Kafka's brokers do.
const REMEMBERED_BATCHES: usize = 5;
/// Producers of one partition; above it the one that wrote least recently is forgotten.
const MAX_PRODUCERS: usize = 10_000;

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    batches: Vec<ProducerBatch>,
    last_index: u64,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    New,
    /// It is there already, at this offset.
    Duplicate(i64),
}

/// The table of one partition.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    pruned: bool,
}

impl Producers {
    /// Checks a batch against what its producer wrote before.
    pub fn check(&self, header: &BatchHeader) -> Result<Verdict, ApiError> {
        if header.producer_id < 0 {
            return Ok(Verdict::New);
        }
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            // Unknown: it starts at 0, unless it was forgotten.
            let may_start = header.base_sequence == 0 || self.pruned;
            return may_start
                .then_some(Verdict::New)
                .ok_or(ApiError::OutOfOrderSequence);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ApiError::InvalidProducerEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return (header.base_sequence == 0)
                .then_some(Verdict::New)
                .ok_or(ApiError::OutOfOrderSequence);
        }
        let last_sequence = header.last_sequence();
        let same = |batch: &&ProducerBatch| {
            batch.first_sequence == header.base_sequence && batch.last_sequence == last_sequence
        };
        if let Some(original) = producer.batches.iter().find(same) {
            return Ok(Verdict::Duplicate(original.base_offset));
        }
        let expected = producer
            .batches
            .last()
            .map_or(0, |batch| wrap_sequence(batch.last_sequence, 1));
        (header.base_sequence == expected)
            .then_some(Verdict::New)
            .ok_or(ApiError::OutOfOrderSequence)
    }

    /// Remembers a batch that [`Producers::check`] called new.
    pub fn record(&mut self, header: &BatchHeader, base_offset: i64, index: u64) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self.by_id.entry(header.producer_id).or_insert(Producer {
            epoch: header.producer_epoch,
            batches: Vec::with_capacity(REMEMBERED_BATCHES),
            last_index: index,
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.remove(0);
        }
        producer.batches.push(ProducerBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
        });
        producer.last_index = index;
        if self.by_id.len() > MAX_PRODUCERS {
            self.prune();
        }
    }

    fn prune(&mut self) {
        let oldest = self
            .by_id
            .iter()
            .min_by_key(|(id, producer)| (producer.last_index, **id))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
            self.pruned = true;
        }
    }

    /// The form that is kept and snapshotted, and whether a producer was ever forgotten.
    pub fn to_proto(&self) -> (Vec<ProducerState>, bool) {
        let states = self.by_id.iter().map(|(id, producer)| ProducerState {
            producer_id: *id,
            epoch: i32::from(producer.epoch),
            batches: producer.batches.clone(),
            last_index: producer.last_index,
        });
        (states.collect(), self.pruned)
    }

    /// The inverse of [`Producers::to_proto`].
    pub fn from_proto(states: &[ProducerState], pruned: bool) -> Self {
        let by_id = states.iter().map(|state| {
            let producer = Producer {
                epoch: i16::try_from(state.epoch).unwrap_or(i16::MAX),
                batches: state.batches.clone(),
                last_index: state.last_index,
            };
            (state.producer_id, producer)
        });
        Self {
            by_id: by_id.collect(),
            pruned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::batch::test_batch, *};

    fn header(epoch: i16, sequence: i32, records: i32) -> BatchHeader {
        BatchHeader::read(&test_batch(1, epoch, sequence, records, b"")).unwrap()
    }

    fn append(producers: &mut Producers, epoch: i16, sequence: i32, offset: i64) {
        let header = header(epoch, sequence, 1);
        assert_eq!(producers.check(&header), Ok(Verdict::New));
        producers.record(&header, offset, 1);
    }

    #[test]
    fn a_retry_is_a_duplicate_even_after_a_restore() {
        let mut producers = Producers::default();
        for sequence in 0..8 {
            append(&mut producers, 0, sequence, 100 + i64::from(sequence));
        }
        let (states, pruned) = producers.to_proto();
        let restored = Producers::from_proto(&states, pruned);
        assert_eq!(
            restored.check(&header(0, 7, 1)),
            Ok(Verdict::Duplicate(107))
        );
        assert_eq!(
            restored.check(&header(0, 3, 1)),
            Ok(Verdict::Duplicate(103))
        );
        assert_eq!(
            restored.check(&header(0, 2, 1)),
            Err(ApiError::OutOfOrderSequence)
        );
        assert_eq!(restored.check(&header(0, 8, 1)), Ok(Verdict::New));
    }

    #[test]
    fn gaps_and_fenced_epochs_are_refused() {
        let mut producers = Producers::default();
        assert_eq!(
            producers.check(&header(0, 4, 1)),
            Err(ApiError::OutOfOrderSequence)
        );
        append(&mut producers, 1, 0, 0);
        assert_eq!(
            producers.check(&header(1, 2, 1)),
            Err(ApiError::OutOfOrderSequence)
        );
        assert_eq!(
            producers.check(&header(0, 1, 1)),
            Err(ApiError::InvalidProducerEpoch)
        );
        assert_eq!(
            producers.check(&header(2, 1, 1)),
            Err(ApiError::OutOfOrderSequence)
        );
        append(&mut producers, 2, 0, 1);
    }

    #[test]
    fn the_table_is_bounded_and_a_forgotten_producer_may_go_on() {
        let mut producers = Producers::default();
        for id in 0..=10_000_i32 {
            let header = BatchHeader {
                producer_id: i64::from(id),
                ..header(0, 0, 1)
            };
            producers.record(&header, 0, u64::from(id.unsigned_abs()));
        }
        let (states, pruned) = producers.to_proto();
        assert_eq!((states.len(), pruned), (10_000, true));
        let forgotten = BatchHeader {
            producer_id: 0,
            ..header(0, 9, 1)
        };
        assert_eq!(producers.check(&forgotten), Ok(Verdict::New));
    }
}
