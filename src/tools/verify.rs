//! Does what the store holds still read back right?

use serde::Serialize;

use super::{Filter, Found, ToolError, Tools, Which, list::in_order};
use crate::{
    catalog::{CatalogError, Folder, Snapshot},
    error::{Kind, chain},
    pipeline::plane::{self, Scope},
    raft::TopicPartition,
};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Every stored byte against the CRC-32 of its block, and the size of every file.
    Stored,
    /// Also decompressed, against the digests that the broker gave.
    Deep,
}

/// What is to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subjects {
    /// One snapshot.
    One(TopicPartition, Which),
    /// All of these partitions, or of every one.
    All(Option<Filter>),
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Verification {
    /// Snapshot by snapshot.
    pub snapshots: Vec<Verdict>,
}

/// How one snapshot is.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Its id.
    pub snapshot_id: String,
    /// Raw bytes of its state; 0 when its manifest cannot be read.
    pub raw_bytes: u64,
    /// Marked: must not be used, whatever this says.
    pub quarantined: bool,
    /// What was found.
    pub state: State,
    /// The first damage; empty = none.
    pub problem: String,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything that was looked at is right.
    Ok,
    /// It is not what its manifest says.
    Damaged,
    /// Its manifest cannot be understood.
    Unreadable,
    /// It was retired while it was read.
    Retired,
}

impl Verification {
    /// True when nothing that is there fails.
    pub fn holds(&self) -> bool {
        let fails = |verdict: &Verdict| matches!(verdict.state, State::Damaged | State::Unreadable);
        !self.snapshots.iter().any(fails)
    }
}

/// Snapshots that are to be verified, and manifests that cannot be.
pub struct Work {
    folders: Vec<(std::sync::Arc<Folder>, Vec<Snapshot>)>,
    unreadable: bool,
}

impl Work {
    /// Raw bytes of all of them.
    pub fn raw_bytes(&self) -> u64 {
        let all = self.folders.iter().flat_map(|(_, snapshots)| snapshots);
        all.map(|snapshot| snapshot.manifest.raw_bytes()).sum()
    }
}

impl Tools {
    /// Finds what is to be verified.
    pub async fn to_verify(&self, subjects: &Subjects) -> Result<Work, ToolError> {
        let filter = match subjects {
            Subjects::One(partition, which) => {
                let Found { folder, snapshot } = self.find(partition, *which).await?;
                return Ok(Work {
                    folders: vec![(folder, vec![snapshot])],
                    unreadable: false,
                });
            }
            Subjects::All(filter) => filter.as_ref(),
        };
        let mut folders = Vec::new();
        for partition in self.partitions(filter).await? {
            let folder = match filter {
                Some(Filter::Partition(_)) => self.folder(&partition).await?,
                _ => self.catalog.look(&partition).await?,
            };
            let snapshots = in_order(&folder).into_iter().cloned().collect();
            folders.push((folder, snapshots));
        }
        Ok(Work {
            folders,
            unreadable: true,
        })
    }

    /// Reads all of it. Fails when something could not be read: that is not damage.
    pub async fn verify(&self, work: Work, check: Check) -> Result<Verification, ToolError> {
        let mut found = Verification::default();
        for (folder, snapshots) in work.folders {
            for snapshot in snapshots {
                found.snapshots.push(self.verdict(&snapshot, check).await?);
            }
            let unreadable = folder.unreadable.iter().filter(|_| work.unreadable);
            found.snapshots.extend(unreadable.map(|one| Verdict {
                topic: folder.partition.topic.clone(),
                partition: folder.partition.partition,
                snapshot_id: one.id.to_string(),
                raw_bytes: 0,
                quarantined: false,
                state: State::Unreadable,
                problem: one.problem.clone(),
            }));
        }
        Ok(found)
    }

    async fn verdict(&self, snapshot: &Snapshot, check: Check) -> Result<Verdict, ToolError> {
        let manifest = &snapshot.manifest;
        let TopicPartition { topic, partition } = manifest.partition.clone();
        let mut verdict = Verdict {
            topic,
            partition,
            snapshot_id: snapshot.id.to_string(),
            raw_bytes: manifest.raw_bytes(),
            quarantined: snapshot.quarantined,
            state: State::Ok,
            problem: String::new(),
        };
        if let Some(problem) = self.problem(snapshot, check).await? {
            verdict.problem = problem;
            verdict.state = State::Damaged;
            // A file that is gone may mean that the whole snapshot is.
            if self.is_retired(snapshot).await {
                verdict.state = State::Retired;
            }
        }
        Ok(verdict)
    }

    /// Its manifest is gone.
    pub(super) async fn is_retired(&self, snapshot: &Snapshot) -> bool {
        let partition = &snapshot.manifest.partition;
        let read = self.catalog.read_manifest(partition, snapshot.id).await;
        matches!(read, Err(CatalogError::Store(error)) if error.is_not_found())
    }

    /// What is wrong with a snapshot, if something is.
    pub(super) async fn problem(
        &self,
        snapshot: &Snapshot,
        check: Check,
    ) -> Result<Option<String>, ToolError> {
        let manifest = &snapshot.manifest;
        let place = self.place(&manifest.partition);
        let (plane, abort) = (&self.plane, &self.abort);
        let read = match check {
            Check::Stored => plane::verify_stored(plane, &place, manifest, Scope::All, abort).await,
            Check::Deep => plane::verify_full(plane, &place, manifest, Scope::All, abort).await,
        };
        match read {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == Kind::Corrupt => Ok(Some(chain(&error))),
            Err(source) => Err(ToolError::Read {
                partition: manifest.partition.clone(),
                id: snapshot.id,
                source,
            }),
        }
    }
}
