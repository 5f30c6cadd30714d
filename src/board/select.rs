//! One page of the board: searched, filtered, sorted, and counted, in one pass that clones nothing but the page.

use std::{cmp::Reverse, fmt::Write as _};

use serde::Serialize;

use super::{Board, DaemonStatus, PartitionStatus, Work};
use crate::raft::TopicPartition;

/// Which partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Only {
    /// All.
    #[default]
    All,
    /// Those with something wrong, see [`PartitionStatus::needs_attention`].
    Attention,
    /// Their log was truncated and no proven snapshot covers it.
    Unprotected,
    /// Their last visit failed.
    Failing,
    /// Nothing in their folder is deleted.
    DeletionBlocked,
    /// Paused by an operator.
    Paused,
    /// A visit runs.
    Running,
    /// No proven snapshot is known.
    WithoutSnapshot,
}

impl Only {
    /// All of them with their names.
    pub const NAMES: [(&str, Self); 8] = [
        ("all", Self::All),
        ("attention", Self::Attention),
        ("unprotected", Self::Unprotected),
        ("failing", Self::Failing),
        ("deletion_blocked", Self::DeletionBlocked),
        ("paused", Self::Paused),
        ("running", Self::Running),
        ("without_snapshot", Self::WithoutSnapshot),
    ];

    fn holds(self, status: &PartitionStatus) -> bool {
        match self {
            Self::All => true,
            Self::Attention => status.needs_attention(),
            Self::Unprotected => status.unprotected,
            Self::Failing => status.is_failing(),
            Self::DeletionBlocked => !status.deletion_blocked.is_empty(),
            Self::Paused => status.paused,
            Self::Running => status.is_visited(),
            Self::WithoutSnapshot => status.newest_last_included.is_none(),
        }
    }
}

/// In which order; what is equal is ordered by topic and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By topic and number.
    #[default]
    Name,
    /// Those without a snapshot, then the oldest snapshot first.
    Age,
    /// Most entries since the snapshot first.
    Entries,
    /// Most bytes of truncation debt first.
    Debt,
}

impl Sort {
    /// All of them with their names.
    pub const NAMES: [(&str, Self); 4] = [
        ("name", Self::Name),
        ("age", Self::Age),
        ("entries", Self::Entries),
        ("debt", Self::Debt),
    ];

    /// Sorts what is in the order of names. Stable.
    fn order(self, found: &mut [(&TopicPartition, &PartitionStatus)]) {
        match self {
            Self::Name => {}
            Self::Age => found.sort_by_key(|(_, status)| status.newest_snapshot_at_unix_ms),
            Self::Entries => {
                found.sort_by_key(|(_, status)| Reverse(status.entries_since_snapshot));
            }
            Self::Debt => found.sort_by_key(|(_, status)| {
                let (bytes, entries) =
                    (status.truncation_debt_bytes, status.truncation_debt_entries);
                Reverse((bytes, entries))
            }),
        }
    }
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// After this partition; only in the order of names.
    After(TopicPartition),
    /// After so many.
    Skip(usize),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only what has this in `topic/number`, whatever the case of ASCII letters.
    pub search: String,
    /// Only these.
    pub only: Only,
    /// In this order.
    pub sort: Sort,
    /// From here on.
    pub start: Start,
    /// At most so many.
    pub size: usize,
}

/// Everything.
impl Default for Selection {
    fn default() -> Self {
        Self {
            topic: None,
            search: String::new(),
            only: Only::All,
            sort: Sort::Name,
            start: Start::Skip(0),
            size: usize::MAX,
        }
    }
}

/// All partitions in numbers, whatever was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Partitions.
    pub partitions: usize,
    /// Those that need attention.
    pub attention: usize,
    /// Those whose log was truncated and that no proven snapshot covers.
    pub unprotected: usize,
    /// Those whose last visit failed.
    pub failing: usize,
    /// Those in whose folders nothing is deleted.
    pub deletion_blocked: usize,
    /// Those whose last drill did not succeed.
    pub drill_failed: usize,
    /// Those that are paused.
    pub paused: usize,
    /// Those that a visit works on.
    pub running: usize,
    /// Those without a proven snapshot.
    pub without_snapshot: usize,
    /// When the oldest of their newest proven snapshots was made, milliseconds since the Unix epoch; 0 = there is none.
    pub oldest_snapshot_at_unix_ms: i64,
    /// Size of all logs.
    pub log_size_bytes: u64,
    /// Entries of log that could be gone.
    pub truncation_debt_entries: u64,
    /// Their bytes.
    pub truncation_debt_bytes: u64,
}

impl Summary {
    fn count(&mut self, status: &PartitionStatus) {
        let is = |only: Only| usize::from(only.holds(status));
        self.partitions += is(Only::All);
        self.attention += is(Only::Attention);
        self.unprotected += is(Only::Unprotected);
        self.failing += is(Only::Failing);
        self.deletion_blocked += is(Only::DeletionBlocked);
        self.paused += is(Only::Paused);
        self.running += is(Only::Running);
        self.without_snapshot += is(Only::WithoutSnapshot);
        self.drill_failed += usize::from(!status.last_drill_problem.is_empty());
        let made_at = status.newest_snapshot_at_unix_ms;
        let oldest = self.oldest_snapshot_at_unix_ms;
        if made_at > 0 && (oldest == 0 || made_at < oldest) {
            self.oldest_snapshot_at_unix_ms = made_at;
        }
        let add = |sum: &mut u64, more| *sum = sum.saturating_add(more);
        add(&mut self.log_size_bytes, status.log_size_bytes);
        add(
            &mut self.truncation_debt_entries,
            status.truncation_debt_entries,
        );
        add(
            &mut self.truncation_debt_bytes,
            status.truncation_debt_bytes,
        );
    }
}

/// One page of the board.
#[derive(Debug, Clone)]
pub struct Page {
    /// The process.
    pub daemon: DaemonStatus,
    /// All partitions in numbers.
    pub summary: Summary,
    /// What runs now, the longest first.
    pub running: Vec<Work>,
    /// Partitions that were asked for, on all pages.
    pub matching: usize,
    /// Those of this page.
    pub partitions: Vec<PartitionStatus>,
    /// The last partition of this page. `None` = no page follows.
    pub next_after: Option<TopicPartition>,
}

impl Board {
    /// The page that is asked for.
    pub fn select(&self, wanted: &Selection) -> Page {
        let search = wanted.search.to_ascii_lowercase();
        let mut name = String::new();
        let mut contains = |partition: &TopicPartition| {
            name.clear();
            // Writing to a string cannot fail.
            let _ = write!(name, "{partition}");
            name.make_ascii_lowercase();
            name.contains(&search)
        };
        let inner = self.lock();
        let mut summary = Summary::default();
        let mut found = Vec::new();
        for (partition, status) in &inner.partitions {
            summary.count(status);
            let of_topic = wanted.topic.as_ref();
            if of_topic.is_none_or(|topic| *topic == partition.topic)
                && wanted.only.holds(status)
                && (search.is_empty() || contains(partition))
            {
                found.push((partition, status.as_ref()));
            }
        }
        wanted.sort.order(&mut found);
        let start = match &wanted.start {
            Start::After(after) => found.partition_point(|(partition, _)| *partition <= after),
            Start::Skip(count) => *count,
        };
        let rest = found.get(start..).unwrap_or_default();
        let page = &rest[..rest.len().min(wanted.size)];
        let last = page.last().filter(|_| page.len() < rest.len());
        Page {
            daemon: inner.daemon.clone(),
            summary,
            running: inner.works.values().cloned().collect(),
            matching: found.len(),
            partitions: page.iter().map(|(_, status)| (*status).clone()).collect(),
            next_after: last.map(|(partition, _)| (*partition).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LogId;

    fn put(board: &Board, topic: &str, number: u32, change: impl FnOnce(&mut PartitionStatus)) {
        board.put(&TopicPartition::new(topic, number).unwrap(), change);
    }

    /// Names of what is selected.
    fn names(page: &Page) -> Vec<String> {
        let name = |one: &PartitionStatus| format!("{}/{}", one.topic, one.partition);
        page.partitions.iter().map(name).collect()
    }

    fn four() -> Board {
        let board = Board::new();
        put(&board, "orders", 0, |one| {
            one.newest_last_included = Some(LogId::new(1, 10));
            one.newest_snapshot_at_unix_ms = 2000;
            one.entries_since_snapshot = 5;
            one.truncation_debt_bytes = 10;
            one.truncation_debt_entries = 1;
            one.log_size_bytes = 100;
        });
        put(&board, "orders", 10, |one| {
            one.newest_last_included = Some(LogId::new(1, 10));
            one.newest_snapshot_at_unix_ms = 1000;
            one.consecutive_failures = 2;
            one.entries_since_snapshot = 7;
            one.truncation_debt_bytes = 10;
            one.truncation_debt_entries = 3;
            one.activity = "uploading".into();
        });
        put(&board, "Payments", 1, |one| {
            one.unprotected = true;
            one.paused = true;
            one.activity = "queued".into();
        });
        put(&board, "users", 1, |one| {
            one.newest_last_included = Some(LogId::new(1, 10));
            one.newest_snapshot_at_unix_ms = 3000;
            one.deletion_blocked = "a manifest cannot be read".to_owned();
            one.last_drill_problem = "damaged".to_owned();
        });
        board
    }

    #[test]
    fn pages_cover_every_partition_once_in_order() {
        let board = Board::new();
        for number in (0..25).rev() {
            put(&board, "t", number, |_| {});
        }
        let mut seen = Vec::new();
        let mut wanted = Selection {
            topic: Some("t".to_owned()),
            size: 10,
            ..Selection::default()
        };
        loop {
            let page = board.select(&wanted);
            assert_eq!(page.matching, 25);
            seen.extend(page.partitions.iter().map(|status| status.partition));
            match page.next_after {
                Some(after) => wanted.start = Start::After(after),
                None => break,
            }
        }
        assert_eq!(seen, (0..25).collect::<Vec<_>>());
        wanted.start = Start::Skip(20);
        assert_eq!(board.select(&wanted).partitions.len(), 5);
        wanted.start = Start::Skip(26);
        assert_eq!(board.select(&wanted).partitions.len(), 0);
    }

    #[test]
    fn the_worst_come_first_and_equals_by_name() {
        let board = four();
        let by = |sort| {
            names(&board.select(&Selection {
                sort,
                ..Selection::default()
            }))
        };
        assert_eq!(
            by(Sort::Name),
            ["Payments/1", "orders/0", "orders/10", "users/1"]
        );
        assert_eq!(
            by(Sort::Age),
            ["Payments/1", "orders/10", "orders/0", "users/1"]
        );
        assert_eq!(
            by(Sort::Entries),
            ["orders/10", "orders/0", "Payments/1", "users/1"]
        );
        assert_eq!(
            by(Sort::Debt),
            ["orders/10", "orders/0", "Payments/1", "users/1"]
        );
    }

    #[test]
    fn every_filter_shows_what_it_names_and_nothing_else() {
        let board = four();
        let only = |only| {
            names(&board.select(&Selection {
                only,
                ..Selection::default()
            }))
        };
        assert_eq!(
            only(Only::Attention),
            ["Payments/1", "orders/10", "users/1"]
        );
        assert_eq!(only(Only::Unprotected), ["Payments/1"]);
        assert_eq!(only(Only::Failing), ["orders/10"]);
        assert_eq!(only(Only::DeletionBlocked), ["users/1"]);
        assert_eq!(only(Only::Paused), ["Payments/1"]);
        assert_eq!(only(Only::Running), ["orders/10"]);
        assert_eq!(only(Only::WithoutSnapshot), ["Payments/1"]);
        assert_eq!(only(Only::All).len(), 4);
    }

    #[test]
    fn a_search_looks_at_topic_and_number_whatever_the_case() {
        let board = four();
        let search = |text: &str| {
            let wanted = Selection {
                search: text.to_owned(),
                size: 1,
                ..Selection::default()
            };
            let page = board.select(&wanted);
            (names(&page), page.matching)
        };
        assert_eq!(search("PAY"), (vec!["Payments/1".to_owned()], 1));
        assert_eq!(search("ers/1"), (vec!["orders/10".to_owned()], 2));
        assert_eq!(search("nothing"), (Vec::new(), 0));
    }

    #[test]
    fn the_summary_counts_all_partitions_whatever_is_asked_for() {
        let nothing = Selection {
            search: "nothing".to_owned(),
            ..Selection::default()
        };
        let summary = four().select(&nothing).summary;
        let expected = Summary {
            partitions: 4,
            attention: 3,
            unprotected: 1,
            failing: 1,
            deletion_blocked: 1,
            drill_failed: 1,
            paused: 1,
            running: 1,
            without_snapshot: 1,
            oldest_snapshot_at_unix_ms: 1000,
            log_size_bytes: 100,
            truncation_debt_entries: 4,
            truncation_debt_bytes: 20,
        };
        assert_eq!(summary, expected);
    }
}
