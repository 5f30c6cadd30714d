//! Forward: export, compress, upload, commit, prove.
//!
//! The broker picks the index. What is uploaded becomes a snapshot with its manifest, and something to truncate
//! on only with its proof. Every error before the manifest leaves at most a `.snap` for the sweep.

use std::sync::Arc;

use futures::TryStreamExt as _;

use super::{
    Pipeline, PipelineError, Stage,
    error::{Cause, Scope},
    plane::{self, PartPlan, RawChunk, Target},
};
use crate::{
    broker::{
        BrokerInfo, ExportHeader, ExportRequest, ExportTrailer, PartHeader, Refusal, Replica,
        SentDigest, StreamViolation, check_export,
    },
    catalog::ClusterClaim,
    clock::unix_ms,
    format::{FORMAT_VERSION, Manifest, Part, PartDigest, SnapshotId},
    mutation::{self, Mutation},
    raft::Lineage,
};

impl Pipeline {
    /// Takes a snapshot of `replica` and proves it. `None`: nothing was applied beyond `newer_than_index`.
    pub(super) async fn take_snapshot(
        &self,
        info: &BrokerInfo,
        replica: &Replica,
        lineage: &Lineage,
        newer_than_index: u64,
    ) -> Result<Option<SnapshotId>, PipelineError> {
        let partition = &replica.partition;
        let scope = |stage| Scope::new(stage, partition);
        let request = ExportRequest {
            partition: partition.clone(),
            lineage: lineage.clone(),
            newer_than_index,
        };
        self.activity(partition, "exporting");
        let stream = match self.broker.export(&request).await {
            Ok(stream) => stream,
            Err(error) if error.refusal() == Some(Refusal::NothingNewer) => return Ok(None),
            Err(error) => return Err(scope(Stage::Export).error(error)),
        };
        let checked = check_export(
            stream,
            &request,
            replica.facts.applied_index,
            self.options.progress_timeout,
        );
        let export = match checked.await {
            Ok(export) => export,
            Err(error) if error.refusal() == Some(Refusal::NothingNewer) => return Ok(None),
            Err(error) => return Err(scope(Stage::Export).error(error)),
        };
        let id = SnapshotId {
            last_included: export.header.last_included,
            lineage_hash: lineage.short_hash(),
            uuid: self.clock.new_uuid(),
        };
        let scope = |stage| Scope::new(stage, partition).snapshot(id);
        tracing::info!(%partition, snapshot_id = %id, last_included = %id.last_included, "export started");

        self.activity(partition, "uploading");
        let target = Target {
            folder: self.plane_folder(partition),
            snapshot_id: id,
        };
        let plans: Vec<PartPlan> = export.header.parts.iter().map(part_plan).collect();
        let frames = export.chunks.map_ok(|(part, data)| RawChunk { part, data });
        let compression = self.options.compression;
        let written = plane::write_blocks(
            &self.plane,
            target,
            compression,
            &plans,
            frames,
            &self.abort,
        )
        .await;
        let written = written.map_err(|error| {
            self.metrics.multipart_aborted();
            scope(Stage::Upload).error(error)
        })?;
        self.metrics
            .add_snapshot_bytes(written.raw_bytes, written.stored_bytes);
        let trailer = export
            .end
            .await
            .map_err(|_| scope(Stage::Export).error(Cause::Cancelled))?;
        check_digests(&export.header, &trailer, &written.parts)
            .map_err(|cause| scope(Stage::Export).error(cause))?;
        self.check_applied(&export.header)
            .await
            .map_err(|cause| scope(Stage::Export).error(cause))?;

        self.activity(partition, "committing");
        let manifest = Arc::new(Manifest {
            format_version: FORMAT_VERSION,
            references: written.files,
            snapshot_id: id,
            lineage: lineage.clone(),
            partition: partition.clone(),
            last_included: export.header.last_included,
            conf_state: export.header.conf_state,
            state_codec: export.header.state_codec,
            created_at_unix_ms: unix_ms(self.clock.wall()),
            created_by: Self::created_by(info.broker_id),
            codec: self.options.compression.codec(),
            parts: written.parts,
        });
        self.check_identity(info)
            .await
            .map_err(|cause| scope(Stage::Identity).error(cause))?;
        if mutation::active(Mutation::FlagsBeforeManifest) {
            let confirmed = self.catalog.confirm_files(&manifest).await;
            confirmed.map_err(|error| scope(Stage::Commit).error(error))?;
        }
        let digest = self
            .catalog
            .commit(&manifest)
            .await
            .map_err(|error| scope(Stage::Commit).error(error))?;
        self.prove(info, &manifest, digest).await?;
        Ok(Some(id))
    }

    /// Reads the store's identity and compares it with the broker's.
    pub(super) async fn check_identity(&self, info: &BrokerInfo) -> Result<(), Cause> {
        let claim = ClusterClaim {
            cluster_id: info.cluster_id.clone(),
            incarnation: info.incarnation,
            any_log_compacted: info.any_log_compacted,
        };
        Ok(self.catalog.check_identity(&claim).await?)
    }

    /// A broker that says it exported what it has not applied is lying about the index: refuse before committing.
    async fn check_applied(&self, header: &ExportHeader) -> Result<(), Cause> {
        let replicas = self.broker.list_replicas(Some(&header.partition)).await?;
        let applied = replicas
            .first()
            .map_or(0, |replica| replica.facts.applied_index);
        if applied < header.last_included.index {
            let claimed = header.last_included.index;
            let violation = StreamViolation::IndexNotApplied { claimed, applied };
            return Err(Cause::Broker(violation.into()));
        }
        Ok(())
    }
}

fn part_plan(part: &PartHeader) -> PartPlan {
    PartPlan {
        part_id: part.part_id.clone(),
        sealed: part.sealed,
        size_bytes: part.size_bytes,
        omitted: false,
    }
}

/// Compares what was read off the wire with what the broker says it sent.
fn check_digests(
    header: &ExportHeader,
    trailer: &ExportTrailer,
    parts: &[Part],
) -> Result<(), Cause> {
    for ((announced, sent), part) in header.parts.iter().zip(&trailer.digests).zip(parts) {
        let difference = difference(sent, &part.digest)
            .filter(|_| !mutation::active(Mutation::ExportDigestIgnored));
        if let Some(what) = difference {
            return Err(Cause::DigestMismatch {
                part_id: announced.part_id.clone(),
                what,
            });
        }
    }
    Ok(())
}

fn difference(sent: &SentDigest, read: &PartDigest) -> Option<&'static str> {
    if sent.size_bytes != read.size_bytes {
        Some("size")
    } else if sent.crc32 != read.crc32 {
        Some("CRC32")
    } else if sent.xxh3_128 != read.xxh3_128 {
        Some("XXH3-128")
    } else {
        None
    }
}
