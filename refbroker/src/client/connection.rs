//! One connection to one broker. Requests may be sent before earlier ones are answered; answers come in order.

use std::{collections::VecDeque, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{CONNECT_TIMEOUT, REQUEST_TIMEOUT, error::ClientError};

/// Largest answer that is accepted.
const MAX_FRAME_BYTES: usize = 64 << 20;
const CLIENT_ID: &str = "refbroker-client";

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    received: BytesMut,
    expected: VecDeque<i32>,
    next_correlation_id: i32,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: &str) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            address: address.to_owned(),
            source,
        };
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| ClientError::TimedOut {
                address: address.to_owned(),
                what: "connect",
                after: CONNECT_TIMEOUT,
            })?
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok(Self {
            address: address.to_owned(),
            stream,
            received: BytesMut::new(),
            expected: VecDeque::new(),
            next_correlation_id: 0,
        })
    }

    /// Sends a request and waits for its answer, `wait` beyond the usual time.
    pub(crate) async fn call<R: Request>(
        &mut self,
        what: &'static str,
        request: &R,
        version: i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let after = REQUEST_TIMEOUT + wait;
        let answer = timeout(after, async {
            self.send(request, version).await?;
            self.receive::<R>(version).await
        })
        .await;
        answer.unwrap_or_else(|_| {
            Err(ClientError::TimedOut {
                address: self.address.clone(),
                what,
                after,
            })
        })
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request. Not safe to cancel: a connection with half a request on it is of no more use.
    pub(crate) async fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::zeroed(4);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| ClientError::Encode(error.into()))?;
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.expected.push_back(correlation_id);
        let written = self.stream.write_all(&frame).await;
        written.map_err(|source| self.unreachable(source))
    }

    /// Sends a request that the broker does not answer.
    #[cfg(test)]
    pub(crate) async fn send_unanswered<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        self.send(request, version).await?;
        self.expected.pop_back();
        Ok(())
    }

    /// The answer to the oldest request that has none yet. Safe to cancel.
    pub(crate) async fn receive<R: Request>(
        &mut self,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let mut frame = loop {
            if let Some(frame) = self.take_frame()? {
                break frame;
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Err(self.unreachable(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(source) => return Err(self.unreachable(source)),
            }
        };
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version)
            .map_err(|error| self.malformed(error.into()))?;
        if self.expected.pop_front() != Some(header.correlation_id) {
            return Err(self.malformed("an answer to another request".into()));
        }
        R::Response::decode(&mut frame, version).map_err(|error| self.malformed(error.into()))
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(prefix) = self.received.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(self.malformed("an answer above the size limit".into()));
        }
        if self.received.len() < 4 + length {
            self.received.reserve(4 + length - self.received.len());
            return Ok(None);
        }
        self.received.advance(4);
        Ok(Some(self.received.split_to(length).freeze()))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            address: self.address.clone(),
            source,
        }
    }

    fn malformed(&self, source: Box<dyn std::error::Error + Send + Sync>) -> ClientError {
        ClientError::Malformed {
            address: self.address.clone(),
            source,
        }
    }
}
