//! A partition's folder as one listing showed it.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use crate::{
    format::{Manifest, ManifestDigest, Proof, SnapName, SnapshotId},
    mutation::{self, Mutation},
    policy::{Candidate, plan_retention},
    raft::{Lineage, LogId, TopicPartition},
};

/// One committed snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// Digest of the manifest's bytes.
    pub digest: ManifestDigest,
    /// When the store says the manifest was written, milliseconds since the Unix epoch; for ages at start only.
    pub committed_at_unix_ms: i64,
    /// The proof, if there is one that speaks of exactly this manifest.
    pub proof: Option<Arc<Proof>>,
    /// Marked as not verifying.
    pub quarantined: bool,
    /// Marked by an operator: retention keeps it.
    pub pinned: bool,
}

impl Snapshot {
    /// Where it ends.
    pub fn last_included(&self) -> LogId {
        self.manifest.last_included
    }

    /// True when logs may be truncated on it and retention counts it.
    pub fn is_good(&self) -> bool {
        self.proof.is_some() && !self.quarantined
    }
}

/// A deleter's flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// The flagged `.snap`.
    pub snap: SnapName,
    /// The flag's id.
    pub flag: Uuid,
}

/// A manifest that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its snapshot, from the name.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
    /// Why not.
    pub problem: String,
}

/// A partition's folder, all lineages together.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Whose folder it is.
    pub partition: TopicPartition,
    /// Committed snapshots, newest first.
    pub snapshots: Vec<Snapshot>,
    /// `.snap` objects with their sizes in bytes, ordered by name.
    pub files: Vec<(SnapName, u64)>,
    /// Deleters' flags.
    pub flags: Vec<Flag>,
    /// Manifests that could not be understood. While there is one, nothing in the folder is deleted.
    pub unreadable: Vec<Unreadable>,
    /// Proofs without a manifest.
    pub stray_proofs: Vec<SnapshotId>,
    /// Pins without a manifest.
    pub stray_pins: Vec<SnapshotId>,
}

impl Folder {
    /// True when there is nothing of ours in it.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
            && self.files.is_empty()
            && self.flags.is_empty()
            && self.unreadable.is_empty()
            && self.stray_proofs.is_empty()
            && self.stray_pins.is_empty()
    }

    /// The snapshots of exactly this lineage, newest first.
    pub fn of_lineage<'a, 'b>(
        &'a self,
        lineage: &'b Lineage,
    ) -> impl Iterator<Item = &'a Snapshot> + use<'a, 'b> {
        self.snapshots.iter().filter(move |snapshot| {
            snapshot.manifest.lineage == *lineage || mutation::active(Mutation::LineageIgnored)
        })
    }

    /// The newest proven, not quarantined snapshot of the lineage.
    pub fn newest_proven<'a>(&'a self, lineage: &Lineage) -> Option<&'a Snapshot> {
        self.of_lineage(lineage).find(|snapshot| snapshot.is_good())
    }

    /// The newest one that a log applied up to `applied_index` may be truncated on.
    pub fn compaction_base<'a>(
        &'a self,
        lineage: &Lineage,
        applied_index: u64,
        accepted_state_codecs: &[String],
    ) -> Option<&'a Snapshot> {
        self.of_lineage(lineage).find(|snapshot| {
            (snapshot.is_good() || mutation::active(Mutation::TruncateBeforeProof))
                && (snapshot.last_included().index <= applied_index
                    || mutation::active(Mutation::BaseAboveApplied))
                && accepted_state_codecs.contains(&snapshot.manifest.state_codec)
        })
    }

    /// The newest committed snapshot without a proof, if it is newer than every proven one: worth adopting.
    pub fn adoptable<'a>(&'a self, lineage: &Lineage) -> Option<&'a Snapshot> {
        let first = self
            .of_lineage(lineage)
            .find(|snapshot| !snapshot.quarantined)?;
        first.proof.is_none().then_some(first)
    }

    /// A snapshot that does not verify points into this file: what damaged it there may have damaged more of it.
    pub fn is_suspicious(&self, file: &str) -> bool {
        let mut damaged = self.snapshots.iter().filter(|it| it.quarantined);
        damaged.any(|it| it.manifest.references.iter().any(|used| used == file))
    }

    /// The snapshot with this id.
    pub fn find(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    /// The lineage's snapshots as retention sees them.
    pub fn retention_candidates(&self, lineage: &Lineage) -> Vec<Candidate<SnapshotId>> {
        self.of_lineage(lineage)
            .map(|snapshot| Candidate {
                key: snapshot.id,
                last_included: if mutation::active(Mutation::OrderByClock) {
                    let clock = snapshot.manifest.created_at_unix_ms;
                    LogId::new(1, clock.unsigned_abs())
                } else {
                    snapshot.last_included()
                },
                proven: snapshot.proof.is_some()
                    || mutation::active(Mutation::RetentionCountsUnproven),
                quarantined: snapshot.quarantined,
                pinned: snapshot.pinned && !mutation::active(Mutation::PinIgnored),
            })
            .collect()
    }

    /// Two snapshots of the lineage end at one index with two terms.
    pub fn diverged(&self, lineage: &Lineage) -> bool {
        plan_retention(
            &self.retention_candidates(lineage),
            std::num::NonZeroUsize::MIN,
        )
        .diverged
    }

    /// The size in bytes of a `.snap` object; `None` = it is not there.
    pub fn size_of(&self, file: &SnapName) -> Option<u64> {
        let found = self.files.binary_search_by_key(file, |(name, _)| *name);
        found.ok().map(|at| self.files[at].1)
    }

    /// `.snap` objects that some manifest, of any lineage, points into.
    pub fn referenced_files(&self) -> BTreeSet<SnapName> {
        let manifests = self.snapshots.iter().map(|snapshot| &snapshot.manifest);
        // A decoded manifest names nothing but legal files.
        manifests
            .flat_map(|manifest| {
                let files = manifest.references.iter();
                let files = files.filter_map(|name| name.parse::<SnapName>().ok());
                files.filter(|file| {
                    file.id == manifest.snapshot_id || !mutation::active(Mutation::SweepOwnOnly)
                })
            })
            .collect()
    }

    /// `.snap` objects that no manifest points into.
    pub fn unreferenced_files(&self) -> BTreeSet<SnapName> {
        let referenced = self.referenced_files();
        let files = self.files.iter().map(|(file, _)| *file);
        files.filter(|file| !referenced.contains(file)).collect()
    }
}
