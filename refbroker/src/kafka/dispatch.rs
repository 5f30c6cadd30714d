//! From a frame to an answer: reads the header, picks the API, decodes, asks, encodes.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable},
};

use super::{
    MAX_REQUEST_TIMEOUT, error::ConnectionError, fetch, metadata, offsets, produce, producer_id,
    shape, topics, versions,
};
use crate::api::Node;

/// Bytes of the shortest header: API key, version, correlation id.
const MIN_HEADER_BYTES: usize = 8;

/// What a request is made of once its header was read.
pub(super) struct Request {
    /// Which API.
    key: ApiKey,
    /// Version that the client chose; served.
    pub version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Request {
    /// Reads the header of a frame.
    fn read(mut frame: Bytes) -> Result<Self, ConnectionError> {
        if frame.len() < MIN_HEADER_BYTES {
            return Err(ConnectionError::FrameSize(
                i32::try_from(frame.len()).unwrap_or(i32::MAX),
            ));
        }
        let mut peek = &frame[..MIN_HEADER_BYTES];
        let (key, version, correlation_id) = (peek.get_i16(), peek.get_i16(), peek.get_i32());
        let unsupported = ConnectionError::Unsupported { key, version };
        let api = versions::find(key, version);
        // ApiVersions is the one request that is answered whatever its version: its header layout never changes.
        if api.is_none() && key == ApiKey::ApiVersions as i16 {
            return Ok(Self {
                key: ApiKey::ApiVersions,
                version,
                correlation_id,
                body: Bytes::new(),
            });
        }
        let key = api.ok_or(unsupported)?;
        RequestHeader::decode(&mut frame, key.request_header_version(version))
            .map_err(|error| ConnectionError::Malformed(error.into()))?;
        Ok(Self {
            key,
            version,
            correlation_id,
            body: frame,
        })
    }

    /// Decodes the body, if its arrays are as long as they claim to be.
    pub(super) fn decode<T: Decodable>(&self) -> Result<T, ConnectionError> {
        shape::check(self.key, self.version, &self.body)
            .map_err(|error| ConnectionError::Malformed(error.into()))?;
        T::decode(&mut self.body.clone(), self.version)
            .map_err(|error| ConnectionError::Malformed(error.into()))
    }

    /// Encodes the answer, with its length prefix.
    pub(super) fn encode<T: Encodable>(&self, response: &T) -> Result<Bytes, ConnectionError> {
        encode(self.key, self.correlation_id, self.version, response)
    }
}

/// Encodes an answer with its header and length prefix.
pub(super) fn encode<T: Encodable>(
    key: ApiKey,
    correlation_id: i32,
    version: i16,
    response: &T,
) -> Result<Bytes, ConnectionError> {
    let fail = |error| ConnectionError::Encode(Box::from(error));
    let mut out = BytesMut::new();
    out.extend_from_slice(&[0; 4]);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut out, key.response_header_version(version))
        .map_err(fail)?;
    response.encode(&mut out, version).map_err(fail)?;
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}

/// The wait that a client asked for, within bounds.
pub(super) fn timeout(timeout_ms: i32) -> Duration {
    let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    asked.clamp(Duration::from_millis(1), MAX_REQUEST_TIMEOUT)
}

/// Answers one frame; `None` = the client wants no answer (Produce with acks=0).
pub(super) async fn answer(
    node: Arc<dyn Node>,
    frame: Bytes,
) -> Result<Option<Bytes>, ConnectionError> {
    let request = Request::read(frame)?;
    let node = node.as_ref();
    match request.key {
        ApiKey::ApiVersions => versions::answer(request.correlation_id, request.version).map(Some),
        ApiKey::Metadata => metadata::answer(node, &request).map(Some),
        ApiKey::Produce => produce::answer(node, &request).await,
        ApiKey::Fetch => fetch::answer(node, &request).await.map(Some),
        ApiKey::ListOffsets => offsets::answer(node, &request).await.map(Some),
        ApiKey::CreateTopics => topics::create(node, &request).await.map(Some),
        ApiKey::DeleteTopics => topics::delete(node, &request).await.map(Some),
        ApiKey::InitProducerId => producer_id::init(node, &request).await.map(Some),
        ApiKey::FindCoordinator => producer_id::find_coordinator(&request).map(Some),
        other => Err(ConnectionError::Unsupported {
            key: other as i16,
            version: request.version,
        }),
    }
}
