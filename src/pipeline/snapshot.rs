//! Forward: export, compress, upload, commit, prove.
//!
//! The broker picks the index. What is uploaded becomes a snapshot with its manifest, and something to truncate
//! on only with its proof. Every error before the manifest leaves at most a `.snap` for the sweep.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tracing::{Span, info_span};

use super::{
    Pipeline, PipelineError, Stage,
    error::{Cause, Scope},
    plane::{self, PartPlan, RawChunk, Target, Written},
    reuse::{self, Offer},
    spans,
};
use crate::{
    broker::{
        BrokerError, BrokerInfo, CheckedExport, ExportHeader, ExportRequest, ExportTrailer,
        PartHeader, Refusal, Replica, SentDigest, StreamViolation, check_export,
    },
    catalog::{CatalogError, ClusterClaim, Folder},
    clock::unix_ms,
    format::{FORMAT_VERSION, Manifest, ManifestDigest, Part, PartDigest, SnapshotId},
    mutation::{self, Mutation},
    raft::{Lineage, TopicPartition},
};

/// An export whose header is right.
type Export = CheckedExport<BoxStream<'static, Result<(u32, Bytes), BrokerError>>>;

impl Pipeline {
    /// Takes a snapshot of `replica` and proves it. What the newest proven snapshot in `folder` has already is pointed
    /// to. `None`: nothing was applied beyond that one.
    pub(super) async fn take_snapshot(
        &self,
        info: &BrokerInfo,
        replica: &Replica,
        lineage: &Lineage,
        folder: &Folder,
    ) -> Result<Option<SnapshotId>, PipelineError> {
        let partition = &replica.partition;
        let newest = folder.newest_proven(lineage);
        let request = ExportRequest {
            partition: partition.clone(),
            lineage: lineage.clone(),
            newer_than_index: newest.map_or(0, |newest| newest.last_included().index),
            have_parts: BTreeSet::new(),
        };
        self.activity(partition, "exporting");
        let offer = self.offer(folder, lineage);
        let begun = async {
            let begun = self.begin_export(replica, request, offer).await;
            begun.map_err(|cause| Scope::new(Stage::Export, partition).error(cause))
        };
        let begun = spans::within(info_span!("export"), begun).await?;
        let Some((export, offer)) = begun else {
            return Ok(None);
        };
        let id = SnapshotId {
            last_included: export.header.last_included,
            lineage_hash: lineage.short_hash(),
            uuid: self.clock.new_uuid(),
        };
        let scope = |stage| Scope::new(stage, partition).snapshot(id);
        Span::current().record("snapshot_id", tracing::field::display(id));
        tracing::info!(
            %partition, snapshot_id = %id, last_included = %id.last_included,
            points_into = offer.as_ref().map(|offer| tracing::field::display(offer.base_id())), "export started"
        );

        let uploaded = self.upload(id, export, partition);
        let (header, written) = spans::within(info_span!("upload"), uploaded).await?;

        self.activity(partition, "committing");
        let mut manifest = Manifest {
            format_version: FORMAT_VERSION,
            references: written.files,
            snapshot_id: id,
            lineage: lineage.clone(),
            partition: partition.clone(),
            last_included: header.last_included,
            conf_state: header.conf_state,
            state_codec: header.state_codec,
            created_at_unix_ms: unix_ms(self.clock.wall()),
            created_by: Self::created_by(info.broker_id),
            codec: self.options.compression.codec(),
            increment: 0,
            parts: Vec::new(),
        };
        let reused_bytes =
            put_together(&mut manifest, &header.parts, written.parts, offer.as_ref())
                .map_err(|violation| scope(Stage::Export).error(BrokerError::from(violation)))?;
        self.metrics
            .add_snapshot_bytes(written.raw_bytes, written.stored_bytes, reused_bytes);
        let manifest = Arc::new(manifest);
        let committed = self.commit(info, &manifest);
        let digest = spans::within(info_span!("manifest"), committed).await?;
        self.prove(info, &manifest, digest).await?;
        Ok(Some(id))
    }

    /// Makes a snapshot of what was uploaded.
    async fn commit(
        &self,
        info: &BrokerInfo,
        manifest: &Manifest,
    ) -> Result<ManifestDigest, PipelineError> {
        let id = manifest.snapshot_id;
        let scope = |stage| Scope::new(stage, &manifest.partition).snapshot(id);
        if manifest.increment > 0 {
            self.check_earlier_files(manifest).await?;
        }
        self.check_identity(info)
            .await
            .map_err(|cause| scope(Stage::Identity).error(cause))?;
        if mutation::active(Mutation::FlagsBeforeManifest) {
            let confirmed = self.catalog.confirm_files(manifest).await;
            confirmed.map_err(|error| scope(Stage::Commit).error(error))?;
        }
        let committed = self.catalog.commit(manifest).await;
        committed.map_err(|error| scope(Stage::Commit).error(error))
    }

    /// Stores what the export brings, and holds it to what the broker says it sent.
    async fn upload(
        &self,
        id: SnapshotId,
        export: Export,
        partition: &TopicPartition,
    ) -> Result<(ExportHeader, Written), PipelineError> {
        let scope = |stage| Scope::new(stage, partition).snapshot(id);
        let target = Target {
            folder: self.plane_folder(partition),
            snapshot_id: id,
        };
        let plans: Vec<PartPlan> = export.header.parts.iter().map(part_plan).collect();
        let moved = self.moving(partition, "uploading", plane::expected_bytes(&plans));
        let frames = export.chunks.map_ok(|(part, data)| {
            moved.add(data.len() as u64);
            RawChunk { part, data }
        });
        let compression = self.options.compression;
        let written = plane::write_blocks(
            &self.plane,
            target,
            compression,
            &plans,
            frames,
            &self.abort,
        );
        let written = written.await.map_err(|error| {
            self.metrics.multipart_aborted();
            scope(Stage::Upload).error(error)
        })?;
        let exported = async {
            let trailer = export.end.await.map_err(|_| Cause::Cancelled)?;
            check_digests(&export.header, &trailer, &written.parts)?;
            self.check_applied(&export.header).await
        };
        let exported = exported.await;
        exported.map_err(|cause| scope(Stage::Export).error(cause))?;
        Ok((export.header, written))
    }

    fn offer(&self, folder: &Folder, lineage: &Lineage) -> Option<Offer> {
        if folder.diverged(lineage) {
            return None;
        }
        let codec = self.options.compression.codec();
        reuse::offer(folder, lineage, codec, self.options.full_every)
    }

    /// Asks the broker for the state, without the parts that are offered. `None`: nothing newer.
    ///
    /// A header that leaves out something else than the earlier snapshot has is a defect of the broker that costs one
    /// more export, of everything.
    async fn begin_export(
        &self,
        replica: &Replica,
        mut request: ExportRequest,
        mut offer: Option<Offer>,
    ) -> Result<Option<(Export, Option<Offer>)>, Cause> {
        loop {
            let parts = offer.as_ref().map(|offer| offer.parts.clone());
            request.have_parts = parts.unwrap_or_default();
            let begun = async {
                let stream = self.broker.export(&request).await?;
                let applied_index = replica.facts.applied_index;
                check_export(
                    stream,
                    &request,
                    applied_index,
                    self.options.progress_timeout,
                )
                .await
            };
            let export = match begun.await {
                Ok(export) => export,
                Err(error) if error.refusal() == Some(Refusal::NothingNewer) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if offer
                .as_ref()
                .is_none_or(|offer| offer.fits(&export.header))
            {
                let export = Export {
                    header: export.header,
                    chunks: export.chunks.boxed(),
                    end: export.end,
                };
                return Ok(Some((export, offer)));
            }
            let partition = &request.partition;
            tracing::error!(%partition, "the broker gives other content to the name of a sealed part: all of it is stored anew");
            offer = None;
        }
    }

    /// Right before the commit: what the manifest points into is still there, under no flag and under no suspicion.
    /// Cheap, and no guard: that is what follows the commit.
    async fn check_earlier_files(&self, manifest: &Manifest) -> Result<(), PipelineError> {
        let folder = self.look(&manifest.partition).await?;
        let Some((file, state)) = reuse::undermined(&folder, manifest) else {
            return Ok(());
        };
        let scope = Scope::new(Stage::Commit, &manifest.partition).snapshot(manifest.snapshot_id);
        Err(scope.error(CatalogError::Undermined { file, state }))
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
        omitted: part.omitted,
    }
}

/// Gives the manifest its parts in the header's order: those that were written, and the others from the earlier
/// snapshot. Returns the stored bytes that are pointed to.
fn put_together(
    manifest: &mut Manifest,
    header: &[PartHeader],
    written: Vec<Part>,
    offer: Option<&Offer>,
) -> Result<u64, StreamViolation> {
    let mut written = written.into_iter();
    for part in header {
        if part.omitted {
            offer
                .and_then(|offer| offer.adopt_into(manifest, &part.part_id))
                .ok_or_else(|| StreamViolation::Omitted(part.part_id.clone()))?;
        } else {
            let missing = || StreamViolation::Omitted(part.part_id.clone());
            manifest.parts.push(written.next().ok_or_else(missing)?);
        }
    }
    let extents = manifest.file_extents();
    let own = |file: u32| extents.get(file as usize).is_some_and(|extent| extent.own);
    let blocks = manifest.parts.iter().flat_map(|part| &part.blocks);
    let earlier = blocks.filter(|block| !own(block.file));
    let reused_bytes = earlier.map(|block| u64::from(block.stored_len_bytes)).sum();
    manifest.increment = match offer {
        Some(offer) if extents.iter().any(|extent| !extent.own) => offer.next_increment(),
        _ => 0,
    };
    Ok(reused_bytes)
}

/// Compares what was read off the wire with what the broker says it sent.
fn check_digests(
    header: &ExportHeader,
    trailer: &ExportTrailer,
    parts: &[Part],
) -> Result<(), Cause> {
    let announced = header.parts.iter().filter(|part| !part.omitted);
    for ((announced, sent), part) in announced.zip(&trailer.digests).zip(parts) {
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
