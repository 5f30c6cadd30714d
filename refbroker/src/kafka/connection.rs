//! One connection: frames in, answers out, in order, with bounds on what is under way.
//!
//! Three parts run in one task: reading frames, working on requests, writing answers. Every request is polled
//! once, outside of tokio's cooperative budget, before the next one is looked at: that first poll is what puts an
//! append into its partition's queue, so the order of arrival is the order of appends.

use std::{collections::VecDeque, sync::Arc, task::Poll};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, future::BoxFuture, poll, stream::FuturesOrdered};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::coop::unconstrained,
    time::timeout,
};

use super::{
    IDLE_TIMEOUT, MAX_FRAME_BYTES, MAX_IN_FLIGHT_BYTES, MAX_IN_FLIGHT_REQUESTS, TRANSFER_TIMEOUT,
    dispatch, error::ConnectionError,
};
use crate::api::Node;

/// Memory that a frame gets before its first byte is there.
const FIRST_READ_BYTES: usize = 4096;

/// What a request came to, and how many bytes it stops counting for.
struct Done {
    answer: Result<Option<Bytes>, ConnectionError>,
    request_bytes: usize,
}

/// Serves one connection until the client leaves or breaks the protocol.
pub(super) async fn run(stream: TcpStream, node: Arc<dyn Node>) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (frames_in, frames_out) = mpsc::channel(1);
    let (answers_in, answers_out) = mpsc::channel(1);
    let ((), (), ()) = tokio::try_join!(
        read_frames(reader, frames_in),
        work(node, frames_out, answers_in),
        write_answers(writer, answers_out),
    )?;
    Ok(())
}

async fn read_frames(
    mut reader: OwnedReadHalf,
    frames: mpsc::Sender<Bytes>,
) -> Result<(), ConnectionError> {
    loop {
        let mut prefix = [0; 4];
        match timeout(IDLE_TIMEOUT, reader.read_exact(&mut prefix)).await {
            Err(_) => return Err(ConnectionError::TimedOut("waiting for a request")),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(outcome) => outcome?,
        };
        let announced = i32::from_be_bytes(prefix);
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| *length <= MAX_FRAME_BYTES)
            .ok_or(ConnectionError::FrameSize(announced))?;
        let frame = timeout(TRANSFER_TIMEOUT, read_frame(&mut reader, length))
            .await
            .map_err(|_| ConnectionError::TimedOut("reading a request"))??;
        if frames.send(frame).await.is_err() {
            return Ok(());
        }
    }
}

/// Memory is taken as bytes arrive: a length that is announced costs nothing.
async fn read_frame(reader: impl AsyncRead + Unpin, length: usize) -> std::io::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(length.min(FIRST_READ_BYTES));
    let mut rest = reader.take(length as u64);
    while frame.len() < length {
        if rest.read_buf(&mut frame).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

async fn work(
    node: Arc<dyn Node>,
    mut frames: mpsc::Receiver<Bytes>,
    answers: mpsc::Sender<Bytes>,
) -> Result<(), ConnectionError> {
    let mut running: FuturesOrdered<BoxFuture<'static, Done>> = FuturesOrdered::new();
    let mut ready: VecDeque<Bytes> = VecDeque::new();
    let mut running_bytes = 0;
    let mut open = true;
    while open || !running.is_empty() || !ready.is_empty() {
        let room = running.len() + ready.len() < MAX_IN_FLIGHT_REQUESTS
            && running_bytes < MAX_IN_FLIGHT_BYTES;
        tokio::select! {
            slot = answers.reserve(), if !ready.is_empty() => {
                let Ok(slot) = slot else { return Ok(()) };
                if let Some(answer) = ready.pop_front() {
                    slot.send(answer);
                }
            }
            Some(done) = running.next(), if !running.is_empty() => {
                running_bytes -= done.request_bytes;
                ready.extend(done.answer?);
            }
            frame = frames.recv(), if open && room => match frame {
                Some(frame) => {
                    running_bytes += frame.len();
                    running.push_back(start(Arc::clone(&node), frame).await);
                }
                None => open = false,
            },
        }
    }
    Ok(())
}

/// Begins to work on a request: when this returns, its appends have their place in the order.
async fn start(node: Arc<dyn Node>, frame: Bytes) -> BoxFuture<'static, Done> {
    let request_bytes = frame.len();
    let mut work: BoxFuture<'static, Done> = Box::pin(unconstrained(async move {
        let answer = dispatch::answer(node, frame).await;
        Done {
            answer,
            request_bytes,
        }
    }));
    match poll!(&mut work) {
        Poll::Ready(done) => Box::pin(std::future::ready(done)),
        Poll::Pending => work,
    }
}

async fn write_answers(
    mut writer: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Bytes>,
) -> Result<(), ConnectionError> {
    while let Some(answer) = answers.recv().await {
        timeout(TRANSFER_TIMEOUT, writer.write_all(&answer))
            .await
            .map_err(|_| ConnectionError::TimedOut("writing an answer"))??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::ReadBuf;

    use super::*;

    /// Hands out what it has in small pieces; remembers the most that it was offered before it gave a byte.
    struct Dribble<'a> {
        left: usize,
        given: usize,
        offered_first: &'a mut usize,
    }

    impl AsyncRead for Dribble<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.given == 0 {
                *self.offered_first = buffer.remaining();
            }
            let piece = self.left.min(buffer.remaining()).min(10_000);
            buffer.put_slice(&vec![7; piece]);
            self.left -= piece;
            self.given += piece;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_announced_frame_takes_no_memory_before_its_bytes_arrive() {
        let mut offered = 0;
        let reader = Dribble {
            left: MAX_FRAME_BYTES,
            given: 0,
            offered_first: &mut offered,
        };
        let frame = read_frame(reader, MAX_FRAME_BYTES).await.unwrap();
        assert_eq!(frame.len(), MAX_FRAME_BYTES);
        assert!(offered <= FIRST_READ_BYTES, "{offered} bytes were reserved");
    }

    #[tokio::test]
    async fn a_frame_that_ends_early_is_an_error_and_one_takes_nothing_of_the_next() {
        let cut = read_frame(&b"abc"[..], 4).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        let mut two = &b"abcdef"[..];
        assert_eq!(read_frame(&mut two, 4).await.unwrap(), b"abcd"[..]);
        assert_eq!(two, b"ef");
    }
}
