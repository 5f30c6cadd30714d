//! Words of the domain to wire types, and requests checked on the way in.

use std::collections::HashMap;

use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    error::{InvalidName, Kind},
    format::Manifest,
    pipeline::{LocalState, RestoreRequest},
    proto::v1,
    raft::{ConfState, Lineage, LogId, TopicPartition, check_id},
};

/// `ErrorInfo.domain` of every refusal.
const ERROR_DOMAIN: &str = "chronik.snapshot.v1";

/// A refusal with its reason in the details.
pub(super) fn refusal(code: Code, reason: v1::ErrorReason, message: impl Into<String>) -> Status {
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let details = ErrorDetails::with_error_info(name, ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A malformed request.
pub(super) fn invalid(field: &'static str, problem: &str) -> Status {
    let message = format!("{field} {problem}");
    refusal(
        Code::InvalidArgument,
        v1::ErrorReason::InvalidRequest,
        message,
    )
}

fn bad_name(error: &InvalidName) -> Status {
    refusal(
        Code::InvalidArgument,
        v1::ErrorReason::InvalidRequest,
        error.to_string(),
    )
}

/// The status code that a kind of error has everywhere.
pub(super) const fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::Unavailable => Code::Unavailable,
        Kind::Conflict | Kind::Invalid => Code::FailedPrecondition,
        Kind::Corrupt => Code::DataLoss,
        Kind::Cancelled => Code::Aborted,
        Kind::Internal => Code::Internal,
    }
}

pub(super) fn partition(wire: Option<v1::TopicPartition>) -> Result<TopicPartition, Status> {
    let wire = wire.ok_or_else(|| invalid("partition", "is missing"))?;
    let number =
        u32::try_from(wire.partition).map_err(|_| invalid("partition.partition", "is negative"))?;
    TopicPartition::new(wire.topic, number).map_err(|error| bad_name(&error))
}

pub(super) const fn wire_log_id(id: LogId) -> v1::LogId {
    v1::LogId {
        term: id.term,
        index: id.index,
    }
}

pub(super) fn restore_request(begin: v1::BootstrapBegin) -> Result<RestoreRequest, Status> {
    let local_state = match begin.local_state() {
        v1::LocalState::Unspecified => return Err(invalid("local_state", "is not set")),
        v1::LocalState::Absent => LocalState::Absent,
        v1::LocalState::Intact => LocalState::Intact,
        v1::LocalState::Lost => LocalState::Lost,
    };
    let lineage = begin
        .lineage
        .ok_or_else(|| invalid("lineage", "is missing"))?;
    let lineage = Lineage::new(lineage.cluster_id, lineage.incarnation, lineage.topic_id)
        .map_err(|error| bad_name(&error))?;
    check_id("boot_id", &begin.boot_id).map_err(|error| bad_name(&error))?;
    if begin.accepted_state_codecs.is_empty() {
        return Err(invalid(
            "accepted_state_codecs",
            "is empty: name at least one encoding",
        ));
    }
    let restore_uuid = match begin.restore_uuid.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| invalid("restore_uuid", "is not a UUID"))?,
        ),
    };
    Ok(RestoreRequest {
        partition: partition(begin.partition)?,
        lineage,
        local_state,
        min_index: begin.min_index,
        accepted_state_codecs: begin.accepted_state_codecs,
        boot_id: begin.boot_id,
        restore_uuid,
    })
}

fn wire_conf_state(state: &ConfState) -> v1::ConfState {
    v1::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    }
}

pub(super) fn begin_message(manifest: &Manifest) -> v1::BootstrapSnapshot {
    let parts = manifest.parts.iter().map(|part| v1::PartDescriptor {
        part_id: part.part_id.clone(),
        size_bytes: part.digest.size_bytes,
        sealed: part.sealed,
        omitted: false,
    });
    v1::BootstrapSnapshot {
        snapshot_id: manifest.snapshot_id.to_string(),
        header: Some(v1::SnapshotHeader {
            lineage: Some(v1::Lineage {
                cluster_id: manifest.lineage.cluster_id.clone(),
                incarnation: manifest.lineage.incarnation,
                topic_id: manifest.lineage.topic_id.clone(),
            }),
            partition: Some((&manifest.partition).into()),
            last_included: Some(wire_log_id(manifest.last_included)),
            conf_state: Some(wire_conf_state(&manifest.conf_state)),
            state_codec: manifest.state_codec.clone(),
            parts: parts.collect(),
        }),
        created_at_unix_ms: manifest.created_at_unix_ms,
    }
}

pub(super) fn trailer_message(manifest: &Manifest) -> v1::SnapshotTrailer {
    let digests = manifest
        .parts
        .iter()
        .zip(0_u32..)
        .map(|(part, number)| v1::PartDigest {
            part: number,
            size_bytes: part.digest.size_bytes,
            crc32: part.digest.crc32,
            xxh3_128: Bytes::copy_from_slice(&part.digest.xxh3_128.to_be_bytes()),
        });
    v1::SnapshotTrailer {
        last_included: Some(wire_log_id(manifest.last_included)),
        total_size_bytes: manifest.raw_bytes(),
        digests: digests.collect(),
    }
}
