//! What must hold of anything that a broker may answer. See [`crate::fuzzing`].

use std::{collections::HashSet, time::Duration};

use futures::StreamExt as _;
use prost::Message;

use super::{
    BrokerError, ExportHeader, ExportMessage, ExportRequest, ExportTrailer, MAX_CHUNK_BYTES,
    MAX_PARTS, check_export, convert,
};
use crate::{
    format::fuzzing::assert_conf_state,
    proto::v1,
    raft::{Lineage, TopicPartition, check_id},
};

const CALL: &str = "Fuzz";

/// The first byte chooses the call, the rest is its answer: one message, or for an export messages with their lengths.
pub(crate) fn answers(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => broker_info(data),
        1 => replica(data),
        _ => export(data),
    }
}

fn broker_info(data: &[u8]) {
    let Ok(answer) = v1::DescribeBrokerResponse::decode(data) else {
        return;
    };
    if let Ok(info) = convert::broker_info(CALL, answer) {
        assert!(Lineage::new(&info.cluster_id, info.incarnation, "any").is_ok());
        assert!(check_id("boot_id", &info.boot_id).is_ok());
    }
}

fn replica(data: &[u8]) {
    let Ok(status) = v1::ReplicaStatus::decode(data) else {
        return;
    };
    let sent = status.clone();
    let Ok(replica) = convert::replica(CALL, status) else {
        return;
    };
    assert_partition(&replica.partition);
    assert!(check_id("topic_id", &replica.topic_id).is_ok());
    let wire = v1::TopicPartition::from(&replica.partition);
    assert_eq!(
        Some(wire),
        sent.partition,
        "another partition than was sent"
    );
    let facts = replica.facts;
    assert_eq!(
        (
            facts.applied_index,
            facts.first_log_index,
            facts.last_log_index,
            facts.hold_index
        ),
        (
            sent.applied_index,
            sent.first_log_index,
            sent.last_log_index,
            sent.hold_index
        ),
    );
}

fn assert_partition(partition: &TopicPartition) {
    assert!((1..=249).contains(&partition.topic.len()));
    assert!(i32::try_from(partition.partition).is_ok());
}

fn export(mut data: &[u8]) {
    let mut messages = Vec::new();
    while !data.is_empty() {
        let Ok(message) = v1::ExportSnapshotResponse::decode_length_delimited(&mut data) else {
            break;
        };
        messages.push(convert::export_message(CALL, message));
    }
    let request = match messages.first() {
        // As if just this had been asked for.
        Some(Ok(ExportMessage::Header(header))) => ExportRequest {
            partition: header.partition.clone(),
            lineage: header.lineage.clone(),
            newer_than_index: 0,
            have_parts: ["seg-0".to_owned()].into(),
        },
        _ => return,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let Ok(runtime) = runtime else { return };
    let Ok(checked) = runtime.block_on(checked(messages, &request)) else {
        return;
    };
    assert_header(&checked.0);
    if let Some(trailer) = &checked.2 {
        assert_whole(&checked.0, &checked.1, trailer);
    }
}

type Checked = (ExportHeader, Vec<u64>, Option<ExportTrailer>);

/// The header, the bytes of each part that came, and the trailer if all of it was accepted.
async fn checked(
    messages: Vec<Result<ExportMessage, BrokerError>>,
    request: &ExportRequest,
) -> Result<Checked, BrokerError> {
    let stream = futures::stream::iter(messages).boxed();
    let export = check_export(stream, request, 0, Duration::from_mins(1)).await?;
    let mut chunks = Box::pin(export.chunks);
    let mut got_bytes = vec![0_u64; export.header.parts.len()];
    let mut last_part = 0;
    while let Some(chunk) = chunks.next().await {
        let Ok((part, data)) = chunk else {
            return Ok((export.header, got_bytes, None));
        };
        assert!(part >= last_part, "a part went back");
        assert!((1..=MAX_CHUNK_BYTES).contains(&data.len()));
        last_part = part;
        got_bytes[part as usize] += data.len() as u64;
    }
    let trailer = export.end.await;
    assert!(
        trailer.is_ok(),
        "it ended without an error and without a trailer"
    );
    Ok((export.header, got_bytes, trailer.ok()))
}

fn assert_header(header: &ExportHeader) {
    assert_partition(&header.partition);
    assert!(header.lineage.incarnation > 0);
    assert!(header.last_included.index > 0 && header.last_included.term > 0);
    assert_conf_state(&header.conf_state);
    assert!((1..=64).contains(&header.state_codec.len()));
    assert!(header.state_codec.bytes().all(|b| b.is_ascii_graphic()));
    let names: HashSet<_> = header.parts.iter().map(|part| &part.part_id).collect();
    assert_eq!(names.len(), header.parts.len(), "a part twice");
    assert!((1..=MAX_PARTS).contains(&names.len()));
}

fn assert_whole(header: &ExportHeader, got_bytes: &[u64], trailer: &ExportTrailer) {
    let announced: Vec<u64> = header.parts.iter().map(|part| part.size_bytes).collect();
    assert_eq!(got_bytes, announced, "other bytes than announced");
    assert_eq!(trailer.last_included, header.last_included);
    assert_eq!(trailer.total_size_bytes, announced.iter().sum::<u64>());
    assert_eq!(trailer.digests.len(), header.parts.len());
}

/// Inputs to begin with.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let of_kind = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let partition = v1::TopicPartition {
        topic: "orders".to_owned(),
        partition: 7,
    };
    let info = v1::DescribeBrokerResponse {
        cluster_id: "prod-eu".to_owned(),
        incarnation: 1,
        broker_id: 1,
        boot_id: "boot-1".to_owned(),
        accepted_state_codecs: vec!["raw/1".to_owned()],
        any_log_compacted: true,
        ..Default::default()
    };
    let status = v1::ReplicaStatus {
        partition: Some(partition.clone()),
        topic_id: "tq3Xk9".to_owned(),
        role: 1,
        applied_index: 10_000,
        first_log_index: 9_000,
        last_log_index: 10_003,
        hold_index: 9_500,
        ..Default::default()
    };
    let conf = v1::ConfState {
        voters: vec![1, 2, 3],
        ..Default::default()
    };
    let mut illegal = Vec::new();
    for (name, conf) in [
        (
            "export-voter-twice",
            v1::ConfState {
                voters: vec![1, 1],
                ..Default::default()
            },
        ),
        (
            "export-peer-0",
            v1::ConfState {
                voters: vec![0],
                ..Default::default()
            },
        ),
    ] {
        illegal.push((name, of_kind(2, &whole_export(&partition, conf, "raw/1"))));
    }
    let mut seeds = vec![
        ("broker", of_kind(0, &info.encode_to_vec())),
        ("replica", of_kind(1, &status.encode_to_vec())),
        (
            "export",
            of_kind(2, &whole_export(&partition, conf.clone(), "raw/1")),
        ),
        (
            "export-codec-with-a-blank",
            of_kind(2, &whole_export(&partition, conf, "raw 1")),
        ),
    ];
    seeds.extend(illegal);
    seeds
}

#[cfg(test)]
fn whole_export(
    partition: &v1::TopicPartition,
    conf_state: v1::ConfState,
    state_codec: &str,
) -> Vec<u8> {
    use v1::export_snapshot_response::Message as Wire;
    let part = |part_id: &str, size_bytes| v1::PartDescriptor {
        part_id: part_id.to_owned(),
        size_bytes,
        ..Default::default()
    };
    let position = Some(v1::LogId {
        term: 3,
        index: 10_000,
    });
    let header = v1::SnapshotHeader {
        lineage: Some(v1::Lineage {
            cluster_id: "prod-eu".to_owned(),
            incarnation: 1,
            topic_id: "tq3Xk9".to_owned(),
        }),
        partition: Some(partition.clone()),
        last_included: position,
        conf_state: Some(conf_state),
        state_codec: state_codec.to_owned(),
        parts: vec![part("state", 3), part("none", 0)],
    };
    let digest = |part, size_bytes| v1::PartDigest {
        part,
        size_bytes,
        crc32: 0,
        xxh3_128: bytes::Bytes::from_static(&[0; 16]),
    };
    let trailer = v1::SnapshotTrailer {
        last_included: position,
        total_size_bytes: 3,
        digests: vec![digest(0, 3), digest(1, 0)],
    };
    let chunk = v1::SnapshotChunk {
        part: 0,
        data: bytes::Bytes::from_static(b"abc"),
    };
    let messages = [
        Wire::Header(header),
        Wire::Chunk(chunk),
        Wire::Trailer(trailer),
    ];
    let mut bytes = Vec::new();
    for message in messages {
        let answer = v1::ExportSnapshotResponse {
            message: Some(message),
        };
        bytes.extend(answer.encode_length_delimited_to_vec());
    }
    bytes
}
