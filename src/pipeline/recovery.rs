//! A whole lost cluster: what the store can bring back, and the plan that decides it once for all brokers.
//!
//! [`Recovery::survey`] only reads; [`Recovery::commit`] writes the plan, then the identity of the new incarnation:
//! its existence is the commit. From then on every sidecar of the former incarnation refuses to write and to
//! delete, and a broker with the plan's token is seeded from exactly the planned snapshots.
//!
//! | die after | what is left | who goes on |
//! |---|---|---|
//! | the plan is written | a plan without an identity: nobody acts on it | the operator begins again |
//! | the identity is written | a plan and its incarnation | the operator asks for the token again, or begins again |

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3Default;

use super::plane::{self, DataPlane, ReadError};
use crate::{
    catalog::{Catalog, CatalogError, Folder, Snapshot},
    clock::{SharedClock, unix_ms},
    error::{Kind, chain},
    format::{
        FORMAT_VERSION, FormatError, Identity, ManifestDigest, PlannedPartition, RestorePlan,
        RestoreToken, SnapshotId,
    },
    raft::{METADATA_TOPIC, TopicPartition},
};

/// Every incarnation, with the restore that it began with, if it did.
type Lives = BTreeMap<u64, Option<Uuid>>;

/// How closely a snapshot is looked at before it is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It has a proof, every file is there with its size, and one block of each reads back right.
    Quick,
    /// Every stored byte is read and decompressed, and the digests of the raw state are compared.
    Full,
}

/// Why a cluster cannot be recovered.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// The store could not be read, or is not what it must be. Nothing was decided.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A snapshot could not be read: not "damaged", and so nothing was decided.
    #[error("{partition}: {snapshot_id} could not be read")]
    Read {
        /// Whose.
        partition: TopicPartition,
        /// Which.
        snapshot_id: SnapshotId,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// No identity.
    #[error("the store has no identity below {prefix:?}: check bucket and prefix")]
    Empty {
        /// Where it was looked for.
        prefix: String,
    },
    /// Without metadata nobody knows which partitions there are.
    #[error(
        "no usable snapshot of {METADATA_TOPIC}, the metadata of the cluster: nothing can be restored"
    )]
    NoMetadata,
    /// What was confirmed is not what would be restored now.
    #[error(
        "{given} does not confirm what would be restored now: run restore-cluster without --confirm, read the plan, and \
         confirm that one"
    )]
    NotConfirmed {
        /// What the operator gave.
        given: String,
    },
    /// A snapshot went away between its choice and the commit of the plan.
    #[error(
        "the incarnation of the token {token} has begun, but {partition}: {snapshot_id} changed while its plan was written \
         ({problem}); is a broker or sidecar of the former incarnation still running? stop it and run restore-cluster again, \
         without --confirm first; the token is of no use"
    )]
    Changed {
        /// The token of the incarnation.
        token: RestoreToken,
        /// Whose.
        partition: TopicPartition,
        /// Which.
        snapshot_id: SnapshotId,
        /// What is wrong with it.
        problem: String,
    },
    /// What the last life began with is needed and cannot be read.
    #[error(
        "{partition} has no usable snapshot of incarnation {incarnation} itself, and the plan that this incarnation began \
         with cannot be read: nothing was decided; bring the plan back from a copy of the store"
    )]
    Plan {
        /// Whose.
        partition: TopicPartition,
        /// The incarnation.
        incarnation: u64,
        /// Why not.
        #[source]
        source: CatalogError,
    },
    /// The store failed after the point of no return.
    #[error(
        "incarnation {} has begun, or may have, and not everything could be looked at again: run restore-cluster without \
         --confirm to see which incarnation counts. If it is this one, brokers start with the token {token}",
        token.0.incarnation
    )]
    Begun {
        /// The token of the incarnation.
        token: RestoreToken,
        /// What failed.
        #[source]
        source: CatalogError,
    },
    /// A plan that breaks the format.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl RecoveryError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Plan { source, .. } | Self::Begun { source, .. } => source.kind(),
            Self::Read { source, .. } => source.kind(),
            Self::Format(error) => error.kind(),
            Self::Empty { .. } | Self::NotConfirmed { .. } => Kind::Invalid,
            Self::NoMetadata => Kind::Corrupt,
            Self::Changed { .. } => Kind::Conflict,
        }
    }
}

/// A snapshot that was not taken although it is newer than the one that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which.
    pub id: SnapshotId,
    /// Why not.
    pub problem: String,
}

/// The snapshot that a partition would start from.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Incarnation that it was made in.
    pub from_incarnation: u64,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// What the store can bring back of one life of a partition.
#[derive(Debug, Clone)]
pub struct Recoverable {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Life of the topic.
    pub topic_id: String,
    /// What it would start from; `None` = all of it is lost.
    pub chosen: Option<Chosen>,
    /// Newer ones that are of no use.
    pub passed_over: Vec<PassedOver>,
    /// Highest index that any object in the store tells of (inclusive). Entries above it are not known to have been.
    pub known_through: u64,
}

impl Recoverable {
    /// Entries that are known to have been and are not brought back.
    pub fn known_lost(&self) -> u64 {
        let through = self.chosen.as_ref();
        let through = through.map_or(0, |chosen| chosen.snapshot.last_included().index);
        self.known_through.saturating_sub(through)
    }
}

/// What the store can bring back.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The life that ends.
    pub identity: Identity,
    /// Every life of every partition, ascending.
    pub partitions: Vec<Recoverable>,
}

impl Survey {
    /// What confirms exactly this restore: it changes with anything that would be restored, or is passed over.
    pub fn confirmation(&self) -> String {
        let mut hash = Xxh3Default::new();
        hash.update(&self.identity.encode());
        for recoverable in &self.partitions {
            let chosen = recoverable.chosen.as_ref();
            let chosen = chosen.map(|chosen| (chosen.snapshot.id, chosen.snapshot.digest));
            let (partition, topic_id) = (&recoverable.partition, &recoverable.topic_id);
            let passed_over = recoverable.passed_over.iter().map(|passed| passed.id);
            let passed_over: Vec<_> = passed_over.collect();
            let line = format!("{partition}\n{topic_id}\n{chosen:?}\n{passed_over:?}\n");
            hash.update(line.as_bytes());
        }
        format!("{:012x}", hash.digest() >> 16)
    }
}

/// Reads what is left of a cluster, and begins its next life.
pub struct Recovery {
    /// What the store holds.
    pub catalog: Catalog,
    /// Memory and threads.
    pub plane: DataPlane,
    /// How closely to look.
    pub check: Check,
    /// Time and unique ids.
    pub clock: SharedClock,
    /// Ends it.
    pub abort: CancellationToken,
}

impl Recovery {
    /// Finds for every partition the newest snapshot that is usable. Fails if anything could not be read: what was
    /// not seen is not lost.
    pub async fn survey(&self) -> Result<Survey, RecoveryError> {
        let identity = self.catalog.read_identity().await?;
        let identity = identity.ok_or_else(|| RecoveryError::Empty {
            prefix: self.catalog.keys().identity_folder(),
        })?;
        let lives = self.lives(&identity).await?;
        let mut partitions = Vec::new();
        for partition in self.catalog.partitions().await? {
            let folder = self.catalog.look(&partition).await?;
            for topic_id in topic_ids(&folder, &identity) {
                let found = self.choose(&folder, topic_id, &identity, &lives);
                partitions.push(found.await?);
            }
            partitions.extend(unnamed(&folder, &identity, &lives)?);
        }
        Ok(Survey {
            identity,
            partitions,
        })
    }

    /// Every incarnation, and the restore that it began with.
    async fn lives(&self, identity: &Identity) -> Result<Lives, RecoveryError> {
        let mut lives = Lives::new();
        for (incarnation, restore_uuid) in self.catalog.lives().await? {
            let first = Identity::first(&identity.cluster_id, incarnation)?;
            let restored = restore_uuid != first.restore_uuid;
            lives.insert(incarnation, restored.then_some(restore_uuid));
        }
        Ok(lives)
    }

    /// What a partition began an incarnation with. Read only where it is needed: a plan of long ago that is gone keeps
    /// nobody from what came after it.
    async fn began_with(
        &self,
        partition: &TopicPartition,
        topic_id: &str,
        incarnation: u64,
        lives: &Lives,
    ) -> Result<Option<(u64, SnapshotId)>, RecoveryError> {
        let Some(restore_uuid) = lives.get(&incarnation).copied().flatten() else {
            return Ok(None);
        };
        let read = self.catalog.plan(restore_uuid).await;
        let plan = read.map_err(|source| RecoveryError::Plan {
            partition: partition.clone(),
            incarnation,
            source,
        })?;
        let planned = plan.find(partition, topic_id);
        Ok(planned.map(|planned| (planned.from_incarnation, planned.snapshot_id)))
    }

    /// The last life's snapshots, newest first; then what that life began with, and what is older.
    async fn choose(
        &self,
        folder: &Folder,
        topic_id: &str,
        identity: &Identity,
        lives: &Lives,
    ) -> Result<Recoverable, RecoveryError> {
        let partition = folder.partition.clone();
        let mut found = Recoverable {
            topic_id: topic_id.to_owned(),
            chosen: None,
            passed_over: Vec::new(),
            known_through: 0,
            partition,
        };
        let mut next = Some((identity.incarnation, SnapshotId::MAX));
        while let Some((incarnation, limit)) = next.take() {
            let lineage = PlannedPartition::lineage(&identity.cluster_id, incarnation, topic_id)?;
            let hash = lineage.short_hash();
            let files = folder.files.iter().map(|(file, _)| file.id);
            let unreadable = folder.unreadable.iter().map(|one| one.id);
            let seen = files.chain(unreadable).filter(|id| id.lineage_hash == hash);
            let highest = seen.filter(|id| *id <= limit).max();
            let highest = highest.map_or(0, |id| id.last_included.index);
            found.known_through = found.known_through.max(highest);
            for one in &folder.unreadable {
                if one.id.lineage_hash == hash && one.id <= limit {
                    found.passed_over.push(PassedOver {
                        id: one.id,
                        problem: one.problem.clone(),
                    });
                }
            }
            for snapshot in folder.of_lineage(&lineage).filter(|one| one.id <= limit) {
                let index = snapshot.last_included().index;
                found.known_through = found.known_through.max(index);
                match self.problem(folder, snapshot).await? {
                    None => {
                        found.chosen = Some(Chosen {
                            from_incarnation: incarnation,
                            snapshot: snapshot.clone(),
                        });
                        found.passed_over.retain(|passed| passed.id > snapshot.id);
                        return Ok(found);
                    }
                    Some(problem) => found.passed_over.push(PassedOver {
                        id: snapshot.id,
                        problem,
                    }),
                }
            }
            next = self
                .began_with(&folder.partition, topic_id, incarnation, lives)
                .await?;
        }
        Ok(found)
    }

    /// What is wrong with a snapshot, if it can be known that something is.
    async fn problem(
        &self,
        folder: &Folder,
        snapshot: &Snapshot,
    ) -> Result<Option<String>, RecoveryError> {
        if snapshot.quarantined {
            return Ok(Some("it is quarantined".to_owned()));
        }
        if self.check == Check::Quick && snapshot.proof.is_none() {
            return Ok(Some("it has no proof".to_owned()));
        }
        let place = plane::Folder {
            store: self.catalog.store().clone(),
            prefix: self.catalog.keys().folder(&folder.partition),
        };
        let manifest = &snapshot.manifest;
        // One block of a file proves nothing about the others once some of it is known to be damaged.
        let mut files = manifest.references.iter();
        let check = if files.any(|file| folder.is_suspicious(file)) {
            Check::Full
        } else {
            self.check
        };
        let looked = match check {
            Check::Quick => plane::spot_check(&place, manifest, u64::MAX).await,
            Check::Full => {
                let all = plane::Scope::All;
                plane::verify_full(&self.plane, &place, manifest, all, &self.abort)
                    .await
                    .map(drop)
            }
        };
        match looked {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == Kind::Corrupt => Ok(Some(chain(&error))),
            Err(source) => Err(RecoveryError::Read {
                partition: folder.partition.clone(),
                snapshot_id: snapshot.id,
                source,
            }),
        }
    }

    /// Begins the next life of the cluster with what `survey` found, if `confirmation` is that of this survey.
    pub async fn commit(
        &self,
        survey: &Survey,
        confirmation: &str,
    ) -> Result<RestoreToken, RecoveryError> {
        // The right code is told by the plan only, or it would be pasted unread.
        if confirmation != survey.confirmation() {
            return Err(RecoveryError::NotConfirmed {
                given: confirmation.to_owned(),
            });
        }
        if !survey.has_metadata() {
            return Err(RecoveryError::NoMetadata);
        }
        let plan = RestorePlan {
            format_version: FORMAT_VERSION,
            cluster_id: survey.identity.cluster_id.clone(),
            incarnation: survey.identity.incarnation + 1,
            restore_uuid: self.clock.new_uuid(),
            created_at_unix_ms: unix_ms(self.clock.wall()),
            partitions: survey.planned().collect(),
        };
        let token = RestoreToken(plan.identity()?);
        self.catalog.write_plan(&plan).await?;
        let begun = |source| RecoveryError::Begun {
            token: token.clone(),
            source,
        };
        let written = self.catalog.write_identity(&token.0).await;
        written.map_err(begun)?;
        // Nothing of the former incarnation begins a deletion any more. What was under way has shown by now.
        for planned in &plan.partitions {
            self.confirm(planned, &token, begun).await?;
        }
        Ok(token)
    }

    async fn confirm(
        &self,
        planned: &PlannedPartition,
        token: &RestoreToken,
        unknown: impl Fn(CatalogError) -> RecoveryError,
    ) -> Result<(), RecoveryError> {
        let PlannedPartition {
            partition,
            snapshot_id,
            manifest_digest,
            ..
        } = planned;
        let changed = |problem| RecoveryError::Changed {
            token: token.clone(),
            partition: partition.clone(),
            snapshot_id: *snapshot_id,
            problem,
        };
        let check = async {
            let (manifest, digest) = self.catalog.read_manifest(partition, *snapshot_id).await?;
            // Flags of sidecars that were stopped say nothing: the manifest was there when theirs listed last.
            self.catalog.head_files(&manifest).await?;
            Ok::<ManifestDigest, CatalogError>(digest)
        };
        match check.await {
            Ok(digest) if digest == *manifest_digest => Ok(()),
            Ok(_) => Err(changed("its manifest is another one".to_owned())),
            Err(error) if error.kind() == Kind::Unavailable => Err(unknown(error)),
            Err(error) => Err(changed(chain(&error))),
        }
    }
}

impl Survey {
    /// True when the metadata of the cluster can be restored.
    pub fn has_metadata(&self) -> bool {
        self.partitions
            .iter()
            .any(|one| one.partition.is_metadata() && one.chosen.is_some())
    }

    fn planned(&self) -> impl Iterator<Item = PlannedPartition> {
        self.partitions.iter().filter_map(|one| {
            let chosen = one.chosen.as_ref()?;
            Some(PlannedPartition {
                partition: one.partition.clone(),
                topic_id: one.topic_id.clone(),
                from_incarnation: chosen.from_incarnation,
                snapshot_id: chosen.snapshot.id,
                manifest_digest: chosen.snapshot.digest,
            })
        })
    }
}

/// The lives of the topic that the folder knows of.
fn topic_ids<'a>(folder: &'a Folder, identity: &Identity) -> BTreeSet<&'a str> {
    let lineages = folder.snapshots.iter().map(|one| &one.manifest.lineage);
    lineages
        .filter(|lineage| lineage.cluster_id == identity.cluster_id)
        .map(|lineage| lineage.topic_id.as_str())
        .collect()
}

/// Manifests that cannot be read, of a life that no other manifest tells of: something is lost, and nobody can say what
/// the topic's id was.
fn unnamed(
    folder: &Folder,
    identity: &Identity,
    lives: &Lives,
) -> Result<Option<Recoverable>, RecoveryError> {
    let mut named = BTreeSet::new();
    for topic_id in topic_ids(folder, identity) {
        for incarnation in lives.keys() {
            let lineage = PlannedPartition::lineage(&identity.cluster_id, *incarnation, topic_id)?;
            named.insert(lineage.short_hash());
        }
    }
    let unreadable = folder.unreadable.iter();
    let passed_over: Vec<PassedOver> = unreadable
        .filter(|one| !named.contains(&one.id.lineage_hash))
        .map(|one| PassedOver {
            id: one.id,
            problem: one.problem.clone(),
        })
        .collect();
    let indexes = passed_over.iter().map(|one| one.id.last_included.index);
    Ok(indexes.max().map(|known_through| Recoverable {
        partition: folder.partition.clone(),
        topic_id: "?".to_owned(),
        chosen: None,
        passed_over,
        known_through,
    }))
}
