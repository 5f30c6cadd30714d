//! Restores for practice: the newest good snapshot of each partition comes out of the store the way a restore takes it, into
//! nothing or into files that are removed again, and it is told how long that took.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::{fs, io};

use super::{Filter, ToolError, Tools, Which};
use crate::{
    catalog::Snapshot,
    error::{Kind, chain},
    raft::TopicPartition,
};

/// What is to be drilled: the newest good snapshots, and partitions that have none.
pub struct DrillWork {
    snapshots: Vec<Snapshot>,
    without: Vec<(TopicPartition, String)>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Drilled {
    /// Partition by partition.
    pub drills: Vec<PartitionDrill>,
    /// Raw bytes that were restored.
    pub raw_bytes: u64,
    /// How long all of it took.
    pub elapsed_ms: u64,
    /// Raw bytes a second while snapshots were read; 0 = nothing was.
    pub raw_bytes_per_sec: u64,
    /// Time to restore all of these snapshots one after the other at the measured speed, rounded up; none = nothing was
    /// measured.
    pub restore_estimate_secs: Option<u64>,
}

/// How the drill of one partition went.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionDrill {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// What was restored; empty = there was nothing.
    pub snapshot_id: String,
    /// Raw bytes of its state.
    pub raw_bytes: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Raw bytes a second; 0 = it was not restored.
    pub raw_bytes_per_sec: u64,
    /// What was found.
    pub state: DrillState,
    /// What is wrong; empty = nothing.
    pub problem: String,
}

/// What a drill found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillState {
    /// All of it came out, and all of it is right.
    Restored,
    /// It is not what its manifest says.
    Damaged,
    /// There is no snapshot that could be restored.
    Missing,
    /// It was retired while it was read.
    Retired,
}

impl Drilled {
    /// True when some drill ended so.
    pub fn any(&self, state: DrillState) -> bool {
        self.drills.iter().any(|drill| drill.state == state)
    }
}

impl DrillWork {
    /// Raw bytes of all of them.
    pub fn raw_bytes(&self) -> u64 {
        let sizes = self.snapshots.iter().map(|it| it.manifest.raw_bytes());
        sizes.sum()
    }
}

impl Tools {
    /// Finds the newest good snapshot of one partition, or of every one that has snapshots.
    pub async fn to_drill(&self, one: Option<&TopicPartition>) -> Result<DrillWork, ToolError> {
        let mut work = DrillWork {
            snapshots: Vec::new(),
            without: Vec::new(),
        };
        if let Some(partition) = one {
            let found = self.find(partition, Which::Latest).await?;
            work.snapshots.push(found.snapshot);
            return Ok(work);
        }
        let filter: Option<&Filter> = None;
        for partition in self.partitions(filter).await? {
            match self.find(&partition, Which::Latest).await {
                Ok(found) => work.snapshots.push(found.snapshot),
                // Files that wait for their deletion, and no snapshot.
                Err(
                    ToolError::NoPartition { .. }
                    | ToolError::NoneProven {
                        unproven: 0,
                        unreadable: 0,
                        ..
                    },
                ) => {}
                Err(error @ (ToolError::NoneProven { .. } | ToolError::Ambiguous { .. })) => {
                    work.without.push((partition, chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(work)
    }

    /// Restores all of it, into nothing or into a directory made below `scratch` and removed again. Fails when something
    /// could not be read: that is not damage.
    pub async fn drill(
        &self,
        work: DrillWork,
        scratch: Option<&Path>,
    ) -> Result<Drilled, ToolError> {
        let begun = self.clock.now();
        let (mut found, mut reading) = (Drilled::default(), Duration::ZERO);
        let wanted_bytes = work.raw_bytes();
        for snapshot in work.snapshots {
            let drill = self.drill_one(&snapshot, scratch).await?;
            if drill.state == DrillState::Restored {
                found.raw_bytes += drill.raw_bytes;
                reading += Duration::from_millis(drill.elapsed_ms);
            }
            found.drills.push(drill);
        }
        let without = work.without.into_iter();
        found.drills.extend(without.map(|(partition, problem)| {
            let nothing = (DrillState::Missing, problem);
            told(&partition, String::new(), 0, Duration::ZERO, nothing)
        }));
        let elapsed = self.clock.now().saturating_duration_since(begun);
        found.elapsed_ms = millis(elapsed);
        found.raw_bytes_per_sec = per_sec(found.raw_bytes, reading);
        let estimate = self.plane.restore_time(wanted_bytes);
        found.restore_estimate_secs = estimate.map(|time| millis(time).div_ceil(1000).max(1));
        Ok(found)
    }

    async fn drill_one(
        &self,
        snapshot: &Snapshot,
        scratch: Option<&Path>,
    ) -> Result<PartitionDrill, ToolError> {
        let begun = self.clock.now();
        let restored = match scratch {
            None => self.stream(snapshot, &mut io::sink()).await.map(drop),
            Some(scratch) => self.restore_and_remove(snapshot, scratch).await,
        };
        let elapsed = self.clock.now().saturating_duration_since(begun);
        let end = match restored {
            Ok(()) => (DrillState::Restored, String::new()),
            Err(error) if error.kind() == Kind::Corrupt => {
                let state = if self.is_retired(snapshot).await {
                    DrillState::Retired
                } else {
                    DrillState::Damaged
                };
                (state, chain(&error))
            }
            Err(error) => return Err(error),
        };
        let manifest = &snapshot.manifest;
        let (id, raw_bytes) = (snapshot.id.to_string(), manifest.raw_bytes());
        Ok(told(&manifest.partition, id, raw_bytes, elapsed, end))
    }

    async fn restore_and_remove(
        &self,
        snapshot: &Snapshot,
        scratch: &Path,
    ) -> Result<(), ToolError> {
        let dir = scratch.join(format!("chronik-drill-{}", self.clock.new_uuid()));
        let restored = self.restore_to_dir(snapshot, &dir).await;
        let removed = fs::remove_dir_all(&dir).await;
        restored?;
        removed.map_err(ToolError::file(&dir, "removing it"))
    }
}

fn told(
    partition: &TopicPartition,
    snapshot_id: String,
    raw_bytes: u64,
    elapsed: Duration,
    (state, problem): (DrillState, String),
) -> PartitionDrill {
    PartitionDrill {
        topic: partition.topic.clone(),
        partition: partition.partition,
        snapshot_id,
        raw_bytes,
        elapsed_ms: millis(elapsed),
        raw_bytes_per_sec: match state {
            DrillState::Restored => per_sec(raw_bytes, elapsed),
            _ => 0,
        },
        state,
        problem,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is over in less than a millisecond took one.
fn per_sec(bytes: u64, time: Duration) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let per_sec = u128::from(bytes) * 1000 / time.as_millis().max(1);
    u64::try_from(per_sec).unwrap_or(u64::MAX)
}
