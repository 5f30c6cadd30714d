//! Proving a committed snapshot: nothing under it is being deleted, every new byte reads back right, and a proof
//! says so. Only a proven snapshot is truncated on. Also used to adopt a snapshot whose maker died in between.

use std::sync::Arc;

use super::{
    Pipeline, PipelineError, Stage,
    error::{Cause, Scope},
    plane::{self, DataPlane},
};
use crate::{
    board::Progress,
    broker::BrokerInfo,
    catalog::CatalogError,
    clock::unix_ms,
    error::{Kind, chain},
    format::{FORMAT_VERSION, Manifest, ManifestDigest, Proof, Quarantine},
    mutation::{self, Mutation},
    policy::VerifyLevel,
    telemetry::Operation,
};

/// What a second reading of a damaged snapshot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recheck {
    /// It is damaged, and marked unless the mark could not be written.
    Damaged,
    /// All of it is right: one read went wrong.
    Sound,
    /// Its manifest is gone, or another one by now.
    Retired,
    /// It could not be read, or nobody looked.
    Unknown,
}

impl Pipeline {
    /// Verifies `manifest` and writes its proof.
    ///
    /// A file flagged for deletion or gone: not proven (`CatalogError::Undermined`).
    /// Bytes that do not verify, twice: the snapshot is quarantined and the error is of kind `Corrupt`.
    pub(super) async fn prove(
        &self,
        info: &BrokerInfo,
        manifest: &Arc<Manifest>,
        digest: ManifestDigest,
    ) -> Result<(), PipelineError> {
        let work = self.verify_and_prove(info, manifest, digest);
        self.measured(Operation::Verify, work).await
    }

    async fn verify_and_prove(
        &self,
        info: &BrokerInfo,
        manifest: &Arc<Manifest>,
        digest: ManifestDigest,
    ) -> Result<(), PipelineError> {
        let partition = &manifest.partition;
        let id = manifest.snapshot_id;
        let scope = || Scope::new(Stage::Verify, partition).snapshot(id);
        let total_bytes = plane::raw_bytes_in(plane::Scope::New, manifest);
        let read = self.moving(partition, "verifying", total_bytes);
        // A flag or a missing file: no proof from here. The manifest stays, because somebody else may have proven
        // it before the flag was there and have truncated on it; retention supersedes it if nobody has.
        let objects = if mutation::active(Mutation::FlagsBeforeManifest) {
            self.catalog.head_files(manifest).await
        } else {
            self.catalog.confirm_files(manifest).await
        };
        let objects = objects.map_err(|error| scope().error(error))?;
        if let Err(cause) = self.verify(manifest, read).await {
            if cause.kind() == Kind::Corrupt {
                self.quarantine_if_still_corrupt(&self.plane, info, manifest, digest)
                    .await?;
            }
            return Err(scope().error(cause));
        }
        let proof = Proof {
            format_version: FORMAT_VERSION,
            snapshot_id: id,
            manifest_digest: digest,
            verify: self.options.verify,
            verified_at_unix_ms: unix_ms(self.clock.wall()),
            verified_by: Self::created_by(info.broker_id),
            objects,
        };
        self.catalog
            .prove(partition, &proof)
            .await
            .map_err(|error| scope().error(error))?;
        tracing::info!(%partition, snapshot_id = %id, last_included = %manifest.last_included, "snapshot proven");
        Ok(())
    }

    async fn verify(&self, manifest: &Arc<Manifest>, read: Progress) -> Result<(), Cause> {
        if mutation::active(Mutation::ProofWithoutReadBack) {
            return Ok(());
        }
        let plane = self.plane.counting(read);
        let folder = self.plane_folder(&manifest.partition);
        let new = plane::Scope::New;
        match self.options.verify {
            VerifyLevel::Stored => {
                plane::verify_stored(&plane, &folder, manifest, new, &self.abort).await?
            }
            VerifyLevel::Full => {
                plane::verify_full(&plane, &folder, manifest, new, &self.abort).await?
            }
        };
        Ok(())
    }

    /// One bad read may be the network's: only a snapshot that fails a second, full reading is marked. Fails only when
    /// the mark cannot be written.
    pub(super) async fn quarantine_if_still_corrupt(
        &self,
        plane: &DataPlane,
        info: &BrokerInfo,
        manifest: &Arc<Manifest>,
        digest: ManifestDigest,
    ) -> Result<Recheck, PipelineError> {
        let partition = &manifest.partition;
        let id = manifest.snapshot_id;
        // Retired meanwhile: nothing to mark.
        match self.catalog.read_manifest(partition, id).await {
            Ok((_, current)) if current == digest => {}
            Ok(_) => return Ok(Recheck::Retired),
            Err(CatalogError::Store(error)) if error.is_not_found() => return Ok(Recheck::Retired),
            Err(_) => return Ok(Recheck::Unknown),
        }
        let folder = self.plane_folder(partition);
        let all = plane::Scope::All;
        let second = plane::verify_full(plane, &folder, manifest, all, &self.abort).await;
        let Err(problem) = second else {
            return Ok(Recheck::Sound);
        };
        if problem.kind() != Kind::Corrupt {
            return Ok(Recheck::Unknown);
        }
        let marked = self.set_aside(info, manifest, digest, chain(&problem));
        marked.await.map(|()| Recheck::Damaged)
    }

    /// Marks a snapshot: nothing rests on it any more, and it is never deleted.
    pub(super) async fn set_aside(
        &self,
        info: &BrokerInfo,
        manifest: &Manifest,
        digest: ManifestDigest,
        reason: String,
    ) -> Result<(), PipelineError> {
        let (partition, id) = (&manifest.partition, manifest.snapshot_id);
        tracing::error!(%partition, snapshot_id = %id, reason, "snapshot quarantined");
        self.metrics.quarantined();
        let mark = Quarantine {
            format_version: FORMAT_VERSION,
            snapshot_id: id,
            manifest_digest: digest,
            reason,
            at_unix_ms: unix_ms(self.clock.wall()),
            by: Self::created_by(info.broker_id),
        };
        let written = self.catalog.quarantine(partition, &mark).await;
        let scope = || Scope::new(Stage::Verify, partition).snapshot(id);
        written.map_err(|error| scope().error(error))
    }
}
