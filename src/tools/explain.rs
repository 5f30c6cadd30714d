//! Why a partition was or was not snapshotted, how far its log is truncated and what holds the rest, what retention would
//! evict next, and how its drills went: in sentences, each with its numbers.

use std::time::Duration;

use serde::Serialize;

use super::retention::{RetentionRules, evicted_next};
use crate::{
    board::{DaemonStatus, PartitionStatus},
    catalog::Folder,
    config::Config,
    format::Identity,
    raft::{Lineage, LogId},
};

/// Sentences by subject.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// Why it was or was not snapshotted.
    pub snapshots: Vec<String>,
    /// How far its log is truncated, and what holds the rest.
    pub truncation: Vec<String>,
    /// What would be evicted.
    pub retention: Vec<String>,
    /// Whether a restore was tried lately, and how long one takes.
    pub drills: Vec<String>,
}

/// What is known about one partition.
pub struct Subject<'a> {
    /// What the daemon says of itself.
    pub daemon: &'a DaemonStatus,
    /// What the daemon says of the partition.
    pub status: &'a PartitionStatus,
    /// Its configuration, if it is this one.
    pub config: &'a Config,
    /// Whose the store is, and the folder; or why it could not be read.
    pub store: Result<(&'a Identity, &'a Folder), String>,
    /// Wall time since the Unix epoch.
    pub now: Duration,
}

impl Subject<'_> {
    /// Everything that can be told.
    pub fn explain(&self) -> Explanation {
        Explanation {
            snapshots: self.snapshots(),
            truncation: self.truncation(),
            retention: self.retention(),
            drills: self.drills(),
        }
    }

    fn lineage(&self) -> Lineage {
        Lineage {
            cluster_id: self.daemon.cluster_id.clone(),
            incarnation: self.daemon.incarnation,
            topic_id: self.status.topic_id.clone(),
        }
    }

    fn snapshots(&self) -> Vec<String> {
        let status = self.status;
        let policy = &self.config.policy;
        let mut told = Vec::new();
        let (role, applied) = (&status.role, status.applied_index);
        told.push(match status.newest_last_included {
            Some(end) => format!(
                "The broker's replica ({role}) has applied entries through {applied}; the newest proven snapshot ends at {end} \
                 (index@term){}.",
                self.made(&status.newest_snapshot_id)
            ),
            None => format!(
                "The broker's replica ({role}) has applied entries through {applied}; no proven snapshot of this life of the topic \
                 is known."
            ),
        });
        let entries = status.entries_since_snapshot;
        let (threshold, secs) = (policy.log_threshold, policy.time_threshold.as_secs());
        told.push(format!(
            "{entries} entries were applied since; {threshold} (LOG_THRESHOLD) make a snapshot due, and with at least one, an age of \
             {secs} s (TIME_THRESHOLD_SECS)."
        ));
        if status.topic == crate::raft::METADATA_TOPIC {
            told.push("It is the cluster's metadata, which is due with every entry.".to_owned());
        }
        told.push(format!("The daemon's last decision: {}.", status.decision));
        if status.unprotected {
            told.push(format!(
                "UNPROTECTED: entries 1 to {} are gone from the log and no proven snapshot covers them (SAFETY.md, the lemma); a \
                 snapshot is due at once.",
                status.first_log_index.saturating_sub(1)
            ));
        }
        if status.paused {
            told.push("It is paused: no snapshot is taken until it is resumed.".to_owned());
        }
        if !self.config.enabled {
            told.push("ENABLED is false: the daemon takes no snapshots at all.".to_owned());
        }
        if !self.config.topics.matches(&status.topic) {
            told.push("TOPICS_INCLUDE and TOPICS_EXCLUDE leave its topic out.".to_owned());
        }
        if status.consecutive_failures > 0 {
            let (failures, error) = (status.consecutive_failures, &status.last_error);
            told.push(format!("The last {failures} visits failed: {error}"));
        }
        told
    }

    /// How long ago a snapshot was made, if its manifest could be read.
    fn made(&self, id: &str) -> String {
        let Ok((_, folder)) = &self.store else {
            return String::new();
        };
        let snapshot = id.parse().ok().and_then(|id| folder.find(id));
        snapshot.map_or_else(String::new, |snapshot| {
            let made = snapshot.manifest.created_at_unix_ms.unsigned_abs();
            let age = self.now.saturating_sub(Duration::from_millis(made));
            format!(" and was made {} s ago by its maker's clock", age.as_secs())
        })
    }

    fn truncation(&self) -> Vec<String> {
        let status = self.status;
        let (first, last) = (status.first_log_index, status.last_log_index);
        let mut told = vec![match first {
            0 | 1 => format!("The log holds entries {first} to {last}; nothing was truncated yet."),
            _ => format!(
                "The log holds entries {first} to {last}; 1 to {} were truncated.",
                first - 1
            ),
        }];
        let trailing = self.config.policy.trailing_entries;
        match status.newest_last_included {
            None => told.push(
                "Nothing may be truncated: only a proven snapshot allows it (SAFETY.md, rules 13 and 14).".to_owned(),
            ),
            Some(LogId { index, .. }) => told.push(format!(
                "The newest proven snapshot allows a cut through {}: its end {index} less {trailing} (TRAILING_ENTRIES; SAFETY.md, \
                 rule 4), and never beyond what is applied.",
                index.saturating_sub(trailing)
            )),
        }
        let (entries, bytes) = (status.truncation_debt_entries, status.truncation_debt_bytes);
        if entries == 0 {
            told.push("No entry that may go is left.".to_owned());
            return told;
        }
        let why = match &*status.truncation_held_by {
            "due" => "they go with the next visit".to_owned(),
            "held" => "the broker holds them: a follower or learner catches up, or a snapshot is being sent (SAFETY.md, rule 5); \
                       `compact --dry-run` asks the broker which index it holds"
                .to_owned(),
            "disabled" => "COMPACT is false".to_owned(),
            "paused" => "the partition is paused".to_owned(),
            "term_mismatch" => "the broker has another term at the snapshot's end: the logs have diverged, nothing is truncated or \
                                deleted until an operator has looked (SAFETY.md, rule 7)"
                .to_owned(),
            "failing" => format!("the last visit failed: {}", status.last_error),
            other => format!("held by {other:?}"),
        };
        told.push(format!(
            "{entries} entries ({bytes} bytes) may go and are still there: {why}."
        ));
        told
    }

    fn retention(&self) -> Vec<String> {
        let (identity, folder) = match &self.store {
            Ok(read) => *read,
            Err(problem) => {
                return vec![format!(
                    "Nothing is known about retention: the store could not be read ({problem})."
                )];
            }
        };
        let policy = &self.config.policy;
        let lineage = self.lineage();
        let rules = RetentionRules {
            identity,
            policy,
            topics: &self.config.topics,
        };
        let plan = rules.of_folder(folder);
        let mine = folder.of_lineage(&lineage);
        let good = mine.filter(|snapshot| snapshot.is_good()).count();
        let count = policy.retention_count;
        let mut told = vec![format!(
            "The store holds {good} proven snapshots of this life of the topic; the newest {count} (RETENTION_COUNT) are kept."
        )];
        if let Some(blocked) = &plan.blocked {
            told.push(format!("Nothing is deleted here: {blocked}."));
            return told;
        }
        let evicted: Vec<_> = plan
            .snapshots
            .iter()
            .filter(|it| it.evict && it.topic_id == lineage.topic_id)
            .collect();
        if evicted.is_empty() {
            told.push("None would be evicted now.".to_owned());
        }
        for it in evicted {
            let (id, reason) = (&it.snapshot_id, it.reason);
            told.push(format!("{id} would be evicted now ({reason})."));
        }
        let next = evicted_next(folder, &lineage, count);
        match next.last() {
            None => told.push("With the next proven snapshot none would be evicted.".to_owned()),
            Some(id) => told.push(format!(
                "With the next proven snapshot {id} would be evicted."
            )),
        }
        told
    }
    fn drills(&self) -> Vec<String> {
        let status = self.status;
        let partition = format!("{}/{}", status.topic, status.partition);
        let mut told = vec![match self.daemon.drill_interval_secs {
            0 => format!(
                "Drills are off (DRILL_INTERVAL_SECS is 0); `chronik-snapshotd drill {partition}` makes one now."
            ),
            secs => {
                format!("One partition is drilled every {secs} s (DRILL_INTERVAL_SECS), in turn.")
            }
        }];
        if self.daemon.drilling == partition {
            told.push("It is being drilled now.".to_owned());
        }
        let ago = |unix_ms: i64| {
            let at = Duration::from_millis(unix_ms.unsigned_abs());
            self.now.saturating_sub(at).as_secs()
        };
        match (&*status.last_drill_outcome, status.last_drill_at_unix_ms) {
            ("", _) => told.push("It was not drilled since the daemon started.".to_owned()),
            ("success", at) => told.push(format!(
                "{} was restored in {} ms for practice {} s ago, and all of it was right.",
                status.last_drill_snapshot_id,
                status.last_drill_success_ms,
                ago(at)
            )),
            (outcome, at) => {
                told.push(format!(
                    "The last drill, {} s ago, {outcome}: {}",
                    ago(at),
                    status.last_drill_problem
                ));
                if status.last_drill_success_at_unix_ms != 0 {
                    let secs = ago(status.last_drill_success_at_unix_ms);
                    told.push(format!("The last one that succeeded was {secs} s ago."));
                }
            }
        }
        told.push(match status.restore_estimate_secs {
            0 => "How long a restore takes is not known yet.".to_owned(),
            secs => format!("A restore of the newest proven snapshot takes about {secs} s."),
        });
        told
    }
}
