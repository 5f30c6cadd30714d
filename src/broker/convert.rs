//! Wire types to words of the domain. Everything that comes from the broker is checked here.

use std::time::Duration;

use tonic_types::StatusExt as _;

use super::{
    BrokerError, BrokerInfo, ExportHeader, ExportMessage, ExportTrailer, PartHeader, Refusal,
    Replica, SentDigest,
};
use crate::{
    policy::{ReplicaFacts, Role},
    proto::v1,
    raft::{ConfState, Lineage, LogId, TopicPartition, check_id},
};

pub(super) const ERROR_DOMAIN: &str = "chronik.snapshot.v1";

pub(super) fn broker_info(
    call: &'static str,
    answer: v1::DescribeBrokerResponse,
) -> Result<BrokerInfo, BrokerError> {
    let named = |source| BrokerError::Name { call, source };
    // A lineage with a stand-in topic checks both the cluster id and the incarnation.
    Lineage::new(&answer.cluster_id, answer.incarnation, "any").map_err(named)?;
    check_id("boot_id", &answer.boot_id).map_err(named)?;
    Ok(BrokerInfo {
        cluster_id: answer.cluster_id,
        incarnation: answer.incarnation,
        broker_id: answer.broker_id,
        boot_id: answer.boot_id,
        version: answer.version,
        protocol: answer.protocol_min..=answer.protocol_max,
        accepted_state_codecs: answer.accepted_state_codecs,
        any_log_compacted: answer.any_log_compacted,
        produce_p99: answer
            .produce_p99_micros
            .map(|micros| Duration::from_micros(micros.into())),
    })
}

pub(super) fn replica(
    call: &'static str,
    status: v1::ReplicaStatus,
) -> Result<Replica, BrokerError> {
    let role = match status.role() {
        v1::ReplicaRole::Leader => Role::Leader,
        v1::ReplicaRole::Follower => Role::Follower,
        v1::ReplicaRole::Learner => Role::Learner,
        v1::ReplicaRole::Unspecified => Role::Unknown,
    };
    check_id("topic_id", &status.topic_id).map_err(|source| BrokerError::Name { call, source })?;
    Ok(Replica {
        partition: partition(call, status.partition)?,
        topic_id: status.topic_id,
        term: status.term,
        facts: ReplicaFacts {
            role,
            applied_index: status.applied_index,
            first_log_index: status.first_log_index,
            last_log_index: status.last_log_index,
            hold_index: status.hold_index,
            rank: status.rank,
        },
        log_size_bytes: status.log_size_bytes,
        state_size_bytes: status.state_size_bytes,
        hold_reason: status.hold_reason,
    })
}

pub(super) fn export_message(
    call: &'static str,
    answer: v1::ExportSnapshotResponse,
) -> Result<ExportMessage, BrokerError> {
    use v1::export_snapshot_response::Message;
    let missing = |field| BrokerError::Missing { call, field };
    match answer.message.ok_or(missing("message"))? {
        Message::Header(header) => Ok(ExportMessage::Header(export_header(call, header)?)),
        Message::Chunk(chunk) => Ok(ExportMessage::Chunk {
            part: chunk.part,
            data: chunk.data,
        }),
        Message::Trailer(trailer) => {
            let digests = trailer
                .digests
                .into_iter()
                .map(|digest| sent_digest(call, &digest));
            Ok(ExportMessage::Trailer(ExportTrailer {
                last_included: log_id(trailer.last_included.ok_or(missing("last_included"))?),
                total_size_bytes: trailer.total_size_bytes,
                digests: digests.collect::<Result<_, _>>()?,
            }))
        }
    }
}

fn export_header(
    call: &'static str,
    header: v1::SnapshotHeader,
) -> Result<ExportHeader, BrokerError> {
    let missing = |field| BrokerError::Missing { call, field };
    let mut parts = Vec::with_capacity(header.parts.len().min(super::MAX_PARTS));
    for part in header.parts {
        parts.push(PartHeader {
            part_id: part.part_id,
            size_bytes: part.size_bytes,
            sealed: part.sealed,
            omitted: part.omitted,
        });
    }
    Ok(ExportHeader {
        lineage: lineage(call, header.lineage)?,
        partition: partition(call, header.partition)?,
        last_included: log_id(header.last_included.ok_or(missing("last_included"))?),
        conf_state: conf_state(header.conf_state.ok_or(missing("conf_state"))?),
        state_codec: header.state_codec,
        parts,
    })
}

fn sent_digest(call: &'static str, digest: &v1::PartDigest) -> Result<SentDigest, BrokerError> {
    let wide: [u8; 16] = digest
        .xxh3_128
        .as_ref()
        .try_into()
        .map_err(|_| BrokerError::Missing {
            call,
            field: "xxh3_128 (16 bytes)",
        })?;
    Ok(SentDigest {
        part: digest.part,
        size_bytes: digest.size_bytes,
        crc32: digest.crc32,
        xxh3_128: u128::from_be_bytes(wide),
    })
}

fn lineage(call: &'static str, lineage: Option<v1::Lineage>) -> Result<Lineage, BrokerError> {
    let lineage = lineage.ok_or(BrokerError::Missing {
        call,
        field: "lineage",
    })?;
    Lineage::new(lineage.cluster_id, lineage.incarnation, lineage.topic_id)
        .map_err(|source| BrokerError::Name { call, source })
}

fn partition(
    call: &'static str,
    partition: Option<v1::TopicPartition>,
) -> Result<TopicPartition, BrokerError> {
    let partition = partition.ok_or(BrokerError::Missing {
        call,
        field: "partition",
    })?;
    let number = u32::try_from(partition.partition).map_err(|_| BrokerError::OutOfRange {
        call,
        field: "partition",
        value: i64::from(partition.partition),
    })?;
    TopicPartition::new(partition.topic, number)
        .map_err(|source| BrokerError::Name { call, source })
}

fn log_id(id: v1::LogId) -> LogId {
    LogId::new(id.term, id.index)
}

fn conf_state(state: v1::ConfState) -> ConfState {
    ConfState {
        voters: state.voters,
        learners: state.learners,
        voters_outgoing: state.voters_outgoing,
        learners_next: state.learners_next,
        auto_leave: state.auto_leave,
    }
}

pub(super) fn wire_lineage(lineage: &Lineage) -> v1::Lineage {
    v1::Lineage {
        cluster_id: lineage.cluster_id.clone(),
        incarnation: lineage.incarnation,
        topic_id: lineage.topic_id.clone(),
    }
}

/// A failed call: refused with a reason, or simply not answered.
pub(super) fn status_error(call: &'static str, status: tonic::Status) -> BrokerError {
    use tonic::Code;
    let refused = |refusal| BrokerError::Refused {
        call,
        refusal,
        message: status.message().to_owned(),
    };
    let info = status.get_details_error_info();
    if let Some(refusal) = info
        .filter(|info| info.domain == ERROR_DOMAIN)
        .and_then(|info| refusal(&info.reason))
    {
        return refused(refusal);
    }
    match status.code() {
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => refused(Refusal::Other),
        Code::ResourceExhausted => refused(Refusal::TooManyStreams),
        _ => BrokerError::Unreachable {
            call,
            source: Box::new(status),
        },
    }
}

fn refusal(reason: &str) -> Option<Refusal> {
    let name = format!("ERROR_REASON_{reason}");
    Some(match v1::ErrorReason::from_str_name(&name)? {
        v1::ErrorReason::LineageMismatch => Refusal::LineageMismatch,
        v1::ErrorReason::BootIdMismatch => Refusal::BootIdMismatch,
        v1::ErrorReason::NotHosted => Refusal::NotHosted,
        v1::ErrorReason::NotApplied => Refusal::NotApplied,
        v1::ErrorReason::NotPersisted => Refusal::NotPersisted,
        v1::ErrorReason::TermMismatch => Refusal::TermMismatch,
        v1::ErrorReason::Held => Refusal::Held,
        v1::ErrorReason::NothingNewer => Refusal::NothingNewer,
        v1::ErrorReason::PinExpired => Refusal::PinExpired,
        v1::ErrorReason::TooManyStreams => Refusal::TooManyStreams,
        v1::ErrorReason::UnsupportedProtocol => Refusal::UnsupportedProtocol,
        _ => return None,
    })
}
