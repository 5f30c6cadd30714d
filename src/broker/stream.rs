//! Holds an export to the rules of the protocol before a byte of it is trusted.
//!
//! Header first, once, for the asked partition and lineage, never at an index below what was already applied;
//! chunks in part order, none larger than 1 MiB, none beyond the announced size; a trailer, once, that repeats
//! the header's position. The digests in the trailer are compared by the pipeline with what it read itself.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{BrokerError, ExportHeader, ExportMessage, ExportRequest, ExportStream, ExportTrailer};
use crate::{
    error::Kind,
    format::{Rule, check_conf_state, is_label},
    raft::LogId,
};

/// Largest chunk, in bytes.
pub const MAX_CHUNK_BYTES: usize = 1024 * 1024;
/// Most parts in a snapshot.
pub const MAX_PARTS: usize = 4096;

/// The rule that an export broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StreamViolation {
    /// The first message is not a header.
    #[error("the first message is not a header")]
    NoHeader,
    /// A second header.
    #[error("a second header arrived")]
    SecondHeader,
    /// Another partition or lineage than asked for.
    #[error("the header names {field} {got:?}, asked for was {want:?}")]
    WrongIdentity {
        /// Which.
        field: &'static str,
        /// What came.
        got: String,
        /// What was asked for.
        want: String,
    },
    /// The index lies below one that was applied before the export began.
    #[error("the header says index {got}, but index {applied} was applied before the export began")]
    IndexWentBack {
        /// What came.
        got: u64,
        /// What the broker had said before.
        applied: u64,
    },
    /// The replica has not applied the index it exported.
    #[error("the header says index {claimed}, but the replica has applied only {applied}")]
    IndexNotApplied {
        /// What the header said.
        claimed: u64,
        /// What the replica says after the export.
        applied: u64,
    },
    /// No entry, or an entry without a term.
    #[error("the header's position {0} names no entry")]
    NoEntry(LogId),
    /// Nobody could ever vote for the restored group.
    #[error("the header's conf_state has no voters")]
    NoVoters,
    /// A configuration that Raft would refuse.
    #[error("the header's conf_state is refused: {0}")]
    ConfState(Rule),
    /// No part, or too many.
    #[error("the header lists {0} parts; there must be 1 to 4096")]
    PartCount(usize),
    /// A part name breaks its rule.
    #[error("part name {0:?} is not 1 to 64 bytes of [A-Za-z0-9._-], or it is not unique")]
    PartName(String),
    /// A part is listed without bytes although it was not offered for reuse, or is not sealed.
    #[error("part {0:?} is omitted although its bytes were asked for or may change")]
    Omitted(String),
    /// The codec name breaks its rule.
    #[error("state_codec {0:?} is not 1 to 64 visible ASCII characters")]
    CodecName(String),
    /// A chunk is empty or too large.
    #[error("a chunk has {0} bytes; it must have 1 byte to 1 MiB")]
    ChunkSize(usize),
    /// A chunk of a part that is not the current one.
    #[error("a chunk of part {got} arrived after part {current}")]
    PartOrder {
        /// What came.
        got: u32,
        /// Where the stream was.
        current: u32,
    },
    /// A part is longer or shorter than announced.
    #[error("part {part} has {got} bytes, the header announced {announced}")]
    PartSize {
        /// Position of the part.
        part: u32,
        /// Bytes that came.
        got: u64,
        /// Bytes announced.
        announced: u64,
    },
    /// The stream ended early.
    #[error("the stream ended without a trailer")]
    NoTrailer,
    /// Something followed the trailer.
    #[error("a message followed the trailer")]
    AfterTrailer,
    /// The trailer is of another position.
    #[error("the trailer says {trailer}, the header said {header}")]
    TrailerPosition {
        /// In the trailer.
        trailer: LogId,
        /// In the header.
        header: LogId,
    },
    /// The trailer's sums do not add up.
    #[error("the trailer counts {got} bytes, {want} were announced")]
    TrailerSize {
        /// In the trailer.
        got: u64,
        /// In the header.
        want: u64,
    },
    /// Not one digest for each part that was sent, in their order.
    #[error("the trailer has {got} digests for {want} parts that were sent, or not in their order")]
    DigestCount {
        /// In the trailer.
        got: usize,
        /// In the header.
        want: usize,
    },
}

impl StreamViolation {
    /// A stream that just ended may be tried again; everything else is a defect of the broker.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoTrailer => Kind::Unavailable,
            _ => Kind::Invalid,
        }
    }
}

/// How an export ended: its checked trailer, or nothing when the stream failed first.
pub type ExportEnd = oneshot::Receiver<ExportTrailer>;

/// An export whose header has been checked and whose messages are checked as they pass.
pub struct CheckedExport<S> {
    /// The header.
    pub header: ExportHeader,
    /// Chunks as (part, raw bytes), in order. Ends with `None` only after a correct trailer.
    pub chunks: S,
    /// Delivers the trailer once `chunks` has ended without an error.
    pub end: ExportEnd,
}

/// Checks `stream` against `request`. `applied_index` is what the broker said before the export was asked for. A
/// stream that brings no message for `idle` is given up.
pub async fn check_export(
    mut stream: ExportStream,
    request: &ExportRequest,
    applied_index: u64,
    idle: Duration,
) -> Result<
    CheckedExport<impl Stream<Item = Result<(u32, Bytes), BrokerError>> + Send + use<>>,
    BrokerError,
> {
    let header = match next_message(&mut stream, idle).await? {
        Some(ExportMessage::Header(header)) => header,
        Some(_) => return Err(StreamViolation::NoHeader.into()),
        None => return Err(StreamViolation::NoTrailer.into()),
    };
    check_header(&header, request, applied_index)?;
    let (end_sender, end) = oneshot::channel();
    let cursor = Cursor::new(&header);
    let state = (stream, cursor, Some(end_sender));
    let chunks = futures::stream::try_unfold(
        state,
        move |(mut stream, mut cursor, mut sender)| async move {
            match next_message(&mut stream, idle).await? {
                Some(ExportMessage::Chunk { part, data }) => {
                    cursor.accept(part, data.len())?;
                    Ok(Some(((part, data), (stream, cursor, sender))))
                }
                Some(ExportMessage::Trailer(trailer)) => {
                    cursor.finish(&trailer)?;
                    if next_message(&mut stream, idle).await?.is_some() {
                        return Err(StreamViolation::AfterTrailer.into());
                    }
                    if let Some(sender) = sender.take() {
                        // Nobody waiting means the receiver gave up: nothing to tell.
                        drop(sender.send(trailer));
                    }
                    Ok(None)
                }
                Some(ExportMessage::Header(_)) => Err(StreamViolation::SecondHeader.into()),
                None => Err(StreamViolation::NoTrailer.into()),
            }
        },
    );
    Ok(CheckedExport {
        header,
        chunks,
        end,
    })
}

async fn next_message(
    stream: &mut ExportStream,
    idle: Duration,
) -> Result<Option<ExportMessage>, BrokerError> {
    match tokio::time::timeout(idle, stream.next()).await {
        Ok(message) => message.transpose(),
        Err(_) => Err(BrokerError::Stalled { idle }),
    }
}

fn check_header(
    header: &ExportHeader,
    request: &ExportRequest,
    applied_index: u64,
) -> Result<(), StreamViolation> {
    let wrong = |field, got: &dyn ToString, want: &dyn ToString| StreamViolation::WrongIdentity {
        field,
        got: got.to_string(),
        want: want.to_string(),
    };
    if header.partition != request.partition {
        return Err(wrong("partition", &header.partition, &request.partition));
    }
    if header.lineage != request.lineage {
        return Err(wrong("lineage", &header.lineage, &request.lineage));
    }
    if header.last_included.index == 0 || header.last_included.term == 0 {
        return Err(StreamViolation::NoEntry(header.last_included));
    }
    if header.last_included.index < applied_index {
        return Err(StreamViolation::IndexWentBack {
            got: header.last_included.index,
            applied: applied_index,
        });
    }
    if header.conf_state.voters.is_empty() {
        return Err(StreamViolation::NoVoters);
    }
    // What no manifest could say is refused before a byte is uploaded.
    check_conf_state(&header.conf_state).map_err(StreamViolation::ConfState)?;
    if !is_label(&header.state_codec) {
        return Err(StreamViolation::CodecName(header.state_codec.clone()));
    }
    if header.parts.is_empty() || header.parts.len() > MAX_PARTS {
        return Err(StreamViolation::PartCount(header.parts.len()));
    }
    let mut names = std::collections::HashSet::new();
    for part in &header.parts {
        if !legal_part_name(&part.part_id) || !names.insert(&part.part_id) {
            return Err(StreamViolation::PartName(part.part_id.clone()));
        }
        let may_be_omitted = part.sealed && request.have_parts.contains(&part.part_id);
        if part.omitted && !may_be_omitted {
            return Err(StreamViolation::Omitted(part.part_id.clone()));
        }
    }
    Ok(())
}

fn legal_part_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

/// Where in the announced parts the stream is.
struct Cursor {
    position: LogId,
    /// Raw bytes that come of each part: none of an omitted one.
    sizes_bytes: Vec<u64>,
    /// Positions of the parts that are sent.
    sent: Vec<u32>,
    part: usize,
    got_bytes: u64,
}

impl Cursor {
    fn new(header: &ExportHeader) -> Self {
        Self {
            position: header.last_included,
            sizes_bytes: header
                .parts
                .iter()
                .map(|part| if part.omitted { 0 } else { part.size_bytes })
                .collect(),
            sent: (0..)
                .zip(&header.parts)
                .filter_map(|(number, part)| (!part.omitted).then_some(number))
                .collect(),
            part: 0,
            got_bytes: 0,
        }
    }

    fn accept(&mut self, part: u32, len: usize) -> Result<(), StreamViolation> {
        if len == 0 || len > MAX_CHUNK_BYTES {
            return Err(StreamViolation::ChunkSize(len));
        }
        let target = part as usize;
        if target < self.part || target >= self.sizes_bytes.len() {
            return Err(StreamViolation::PartOrder {
                got: part,
                current: position(self.part),
            });
        }
        while self.part < target {
            self.close_part()?;
        }
        self.got_bytes += len as u64;
        if self.got_bytes > self.sizes_bytes[self.part] {
            return Err(self.size_violation());
        }
        Ok(())
    }

    fn close_part(&mut self) -> Result<(), StreamViolation> {
        if self.got_bytes != self.sizes_bytes[self.part] {
            return Err(self.size_violation());
        }
        self.part += 1;
        self.got_bytes = 0;
        Ok(())
    }

    fn size_violation(&self) -> StreamViolation {
        StreamViolation::PartSize {
            part: position(self.part),
            got: self.got_bytes,
            announced: self.sizes_bytes[self.part],
        }
    }

    fn finish(&mut self, trailer: &ExportTrailer) -> Result<(), StreamViolation> {
        while self.part < self.sizes_bytes.len() {
            self.close_part()?;
        }
        if trailer.last_included != self.position {
            return Err(StreamViolation::TrailerPosition {
                trailer: trailer.last_included,
                header: self.position,
            });
        }
        let want: u64 = self.sizes_bytes.iter().sum();
        if trailer.total_size_bytes != want {
            return Err(StreamViolation::TrailerSize {
                got: trailer.total_size_bytes,
                want,
            });
        }
        let digests = trailer.digests.iter().map(|digest| digest.part);
        if !digests.eq(self.sent.iter().copied()) {
            return Err(StreamViolation::DigestCount {
                got: trailer.digests.len(),
                want: self.sent.len(),
            });
        }
        Ok(())
    }
}

fn position(part: usize) -> u32 {
    u32::try_from(part).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{PartHeader, SentDigest},
        raft::{ConfState, Lineage, TopicPartition},
    };

    const IDLE: Duration = Duration::from_mins(1);

    fn request() -> ExportRequest {
        ExportRequest {
            partition: TopicPartition::new("orders", 0).unwrap(),
            lineage: Lineage::new("c", 1, "t").unwrap(),
            newer_than_index: 0,
            have_parts: ["p0".to_owned(), "p2".to_owned()].into(),
        }
    }

    fn header(sizes: &[u64]) -> ExportHeader {
        ExportHeader {
            lineage: request().lineage,
            partition: request().partition,
            last_included: LogId::new(2, 100),
            conf_state: ConfState {
                voters: vec![1],
                ..ConfState::default()
            },
            state_codec: "raw/1".into(),
            parts: sizes
                .iter()
                .enumerate()
                .map(|(n, size)| PartHeader {
                    part_id: format!("p{n}"),
                    size_bytes: *size,
                    sealed: false,
                    omitted: false,
                })
                .collect(),
        }
    }

    fn trailer(sizes: &[u64]) -> ExportTrailer {
        ExportTrailer {
            last_included: LogId::new(2, 100),
            total_size_bytes: sizes.iter().sum(),
            digests: (0..sizes.len())
                .map(|part| SentDigest {
                    part: position(part),
                    size_bytes: sizes[part],
                    crc32: 0,
                    xxh3_128: 0,
                })
                .collect(),
        }
    }

    fn chunk(part: u32, len: usize) -> ExportMessage {
        ExportMessage::Chunk {
            part,
            data: Bytes::from(vec![7; len]),
        }
    }

    async fn run(messages: Vec<ExportMessage>) -> Result<u64, String> {
        let stream = futures::stream::iter(messages.into_iter().map(Ok)).boxed();
        let checked = check_export(stream, &request(), 100, IDLE)
            .await
            .map_err(|e| e.to_string())?;
        let mut total = 0;
        let mut chunks = Box::pin(checked.chunks);
        while let Some(item) = chunks.next().await {
            total += item.map_err(|e| e.to_string())?.1.len() as u64;
        }
        checked.end.await.map_err(|e| e.to_string())?;
        Ok(total)
    }

    #[tokio::test]
    async fn a_correct_export_passes_empty_parts_included() {
        let sizes = [0, 5, 0, 3, 0];
        let messages = vec![
            ExportMessage::Header(header(&sizes)),
            chunk(1, 2),
            chunk(1, 3),
            chunk(3, 3),
            ExportMessage::Trailer(trailer(&sizes)),
        ];
        assert_eq!(run(messages).await, Ok(8));
    }

    /// Of three parts of 4 bytes the first and the last are not sent.
    fn with_omitted(change: impl FnOnce(&mut ExportHeader)) -> ExportMessage {
        let mut header = header(&[4, 4, 4]);
        for part in [0, 2] {
            header.parts[part].sealed = true;
            header.parts[part].omitted = true;
        }
        change(&mut header);
        ExportMessage::Header(header)
    }

    #[tokio::test]
    async fn offered_parts_need_not_be_sent_and_are_not_counted() {
        let mut end = trailer(&[0, 4]);
        end.digests.remove(0);
        let sent = vec![
            with_omitted(|_| {}),
            chunk(1, 4),
            ExportMessage::Trailer(end.clone()),
        ];
        assert_eq!(run(sent).await, Ok(4));
        let refused = [
            (with_omitted(|_| {}), chunk(0, 4), "has 4 bytes"),
            (
                with_omitted(|header| header.parts[1].omitted = true),
                chunk(1, 4),
                "\"p1\" is omitted",
            ),
            (
                with_omitted(|header| header.parts[0].sealed = false),
                chunk(1, 4),
                "\"p0\" is omitted",
            ),
        ];
        for (header, chunk, expected) in refused {
            let messages = vec![header, chunk, ExportMessage::Trailer(end.clone())];
            let error = run(messages).await.expect_err(expected);
            assert!(
                error.contains(expected),
                "{error:?} should contain {expected:?}"
            );
        }
        // A digest of another part than the one that was sent.
        end.digests[0].part = 0;
        let messages = vec![
            with_omitted(|_| {}),
            chunk(1, 4),
            ExportMessage::Trailer(end),
        ];
        assert!(
            run(messages)
                .await
                .unwrap_err()
                .contains("1 digests for 1 parts")
        );
    }

    #[tokio::test]
    async fn every_broken_rule_is_named() {
        let good = || ExportMessage::Header(header(&[4]));
        let end = || ExportMessage::Trailer(trailer(&[4]));
        let mut back = header(&[4]);
        back.last_included.index = 99;
        let mut voters = header(&[4]);
        voters.conf_state.voters.clear();
        let mut twice = header(&[4]);
        twice.conf_state.voters.push(1);
        let mut codec = header(&[4]);
        codec.state_codec = "raw 1".into();
        let mut lineage = header(&[4]);
        lineage.lineage.topic_id = "other".into();
        let mut moved = trailer(&[4]);
        moved.last_included.index = 101;
        let cases: Vec<(Vec<ExportMessage>, &str)> = vec![
            (vec![chunk(0, 4)], "not a header"),
            (vec![], "without a trailer"),
            (vec![good(), chunk(0, 4)], "without a trailer"),
            (vec![good(), chunk(0, 3), end()], "has 3 bytes"),
            (vec![good(), chunk(0, 5)], "has 5 bytes"),
            (vec![good(), chunk(1, 4)], "part 1 arrived"),
            (vec![good(), chunk(0, 0)], "0 bytes"),
            (vec![good(), good()], "second header"),
            (
                vec![good(), chunk(0, 4), end(), chunk(0, 1)],
                "followed the trailer",
            ),
            (
                vec![good(), chunk(0, 4), ExportMessage::Trailer(moved)],
                "trailer says 101@2",
            ),
            (vec![ExportMessage::Header(back)], "says index 99"),
            (vec![ExportMessage::Header(voters)], "no voters"),
            (vec![ExportMessage::Header(twice)], "no peer twice"),
            (vec![ExportMessage::Header(codec)], "visible ASCII"),
            (vec![ExportMessage::Header(lineage)], "names lineage"),
            (vec![ExportMessage::Header(header(&[]))], "lists 0 parts"),
        ];
        for (messages, expected) in cases {
            let error = run(messages).await.expect_err(expected);
            assert!(
                error.contains(expected),
                "{error:?} should contain {expected:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_stops_is_given_up() {
        let head = futures::stream::iter([Ok(ExportMessage::Header(header(&[4])))]);
        let stream = head.chain(futures::stream::pending()).boxed();
        let checked = check_export(stream, &request(), 0, IDLE).await.unwrap();
        let error = Box::pin(checked.chunks).next().await.unwrap().unwrap_err();
        assert!(matches!(error, BrokerError::Stalled { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Unavailable);
    }
}
