//! The least HTTP that reads a sidecar's `/status` and `/metrics`.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::error::HarnessError;

/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer.
const MAX_BYTES: u64 = 32 << 20;

/// GET `path` from HOST:PORT; the body of an answer with status 200.
pub async fn get(address: &str, path: &str) -> Result<String, HarnessError> {
    let fail = |source| HarnessError::Http {
        address: address.to_owned(),
        path: path.to_owned(),
        source,
    };
    let answer = timeout(TIMEOUT, exchange(address, path)).await;
    let answer = answer.map_err(|_| fail(io::ErrorKind::TimedOut.into()))?;
    let answer = answer.map_err(fail)?;
    let invalid = || fail(io::ErrorKind::InvalidData.into());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.split_ascii_whitespace().nth(1);
    let status: u16 = status
        .and_then(|code| code.parse().ok())
        .ok_or_else(invalid)?;
    if status != 200 {
        return Err(HarnessError::HttpStatus {
            path: path.to_owned(),
            status,
        });
    }
    Ok(body.to_owned())
}

async fn exchange(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // 1.0: the answer ends with the connection and is not chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    String::from_utf8(answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
