//! Reads everything back and compares it with what was acknowledged.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chronik_harness::client::{Client, ClientError, Consumed};

use crate::{load::Ledger, order, story::TOPIC};

/// Longest time to read one partition.
const CONSUME_TIMEOUT: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Records read.
    pub(crate) consumed: u64,
    /// Acknowledged records that are not at the offset that was acknowledged, or not with their content.
    pub(crate) missing: u64,
    /// Records that are there more than once.
    pub(crate) duplicated: u64,
    /// Records that nobody was told of.
    pub(crate) unexpected: u64,
    /// Offsets that are not where they must be: each partition's begin at 0 and have no gap.
    pub(crate) gaps: u64,
}

impl Findings {
    /// Everything that was acknowledged was read exactly once, and nothing else.
    pub(crate) fn is_clean(&self, acked: u64) -> bool {
        let faults = [self.missing, self.duplicated, self.unexpected, self.gaps];
        self.consumed == acked && faults.iter().all(|count| *count == 0)
    }
}

/// Compares records with the ledger as they come.
struct Auditor<'a> {
    ledger: &'a Ledger,
    found: BTreeSet<(i32, i64)>,
    numbers: BTreeSet<u64>,
    next_offset: i64,
    findings: Findings,
}

impl<'a> Auditor<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        Self {
            ledger,
            found: BTreeSet::new(),
            numbers: BTreeSet::new(),
            next_offset: 0,
            findings: Findings::default(),
        }
    }

    fn see(&mut self, record: &Consumed) {
        self.findings.consumed += 1;
        if record.offset != self.next_offset {
            self.findings.gaps += 1;
        }
        self.next_offset = record.offset + 1;
        let place = (record.partition, record.offset);
        let key = record.key.clone().unwrap_or_default();
        let Some(number) = order::number(&key) else {
            self.findings.unexpected += 1;
            return;
        };
        if !self.numbers.insert(number) {
            self.findings.duplicated += 1;
        }
        match self.ledger.get(&place) {
            None => self.findings.unexpected += 1,
            Some(acked) if *acked != number => {}
            Some(_) if record.value != Some(order::value(number)) => {}
            Some(_) => {
                self.found.insert(place);
            }
        }
    }

    fn close(mut self) -> Findings {
        self.findings.missing = (self.ledger.len() - self.found.len()) as u64;
        self.findings
    }
}

/// Consumes every partition from offset 0.
pub(crate) async fn check(
    client: &Arc<Client>,
    partitions: i32,
    ledger: &Ledger,
) -> Result<Findings, ClientError> {
    let mut auditor = Auditor::new(ledger);
    for partition in 0..partitions {
        auditor.next_offset = 0;
        let see = |record: Consumed| auditor.see(&record);
        client
            .consume(TOPIC, partition, 0, CONSUME_TIMEOUT, see)
            .await?;
    }
    Ok(auditor.close())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumed(offset: i64, number: u64) -> Consumed {
        Consumed {
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: Some(order::key(number)),
            value: Some(order::value(number)),
        }
    }

    fn audit(records: &[Consumed]) -> Findings {
        let ledger = Ledger::from([((0, 0), 10), ((0, 1), 11), ((0, 2), 12)]);
        let mut auditor = Auditor::new(&ledger);
        for record in records {
            auditor.see(record);
        }
        auditor.close()
    }

    #[test]
    fn what_was_acknowledged_and_nothing_else_is_clean() {
        let all = [consumed(0, 10), consumed(1, 11), consumed(2, 12)];
        assert!(audit(&all).is_clean(3));
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let lost = audit(&[consumed(0, 10), consumed(1, 11)]);
        assert_eq!((lost.missing, lost.is_clean(3)), (1, false));
        let swapped = audit(&[consumed(0, 11), consumed(1, 10), consumed(2, 12)]);
        assert_eq!(swapped.missing, 2);
        let twice = [
            consumed(0, 10),
            consumed(1, 11),
            consumed(2, 12),
            consumed(3, 12),
        ];
        let twice = audit(&twice);
        assert_eq!((twice.duplicated, twice.unexpected), (1, 1));
        let mut changed = [consumed(0, 10), consumed(1, 11), consumed(2, 12)];
        changed[1].value = Some(order::value(99));
        assert_eq!(audit(&changed).missing, 1);
        let gap = [consumed(0, 10), consumed(2, 12)];
        assert_eq!(audit(&gap).gaps, 1);
        let mut foreign = [consumed(0, 10)];
        foreign[0].key = None;
        assert_eq!(audit(&foreign).unexpected, 1);
    }
}
