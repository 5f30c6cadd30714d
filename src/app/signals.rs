//! The signals that end the process or a command, or change what the daemon does.

use std::{io, pin::pin};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{AppError, CLOSE_GRACE};

/// What the process is told.
pub(super) enum Told {
    /// To end, by the signal of this name.
    Stop(&'static str),
    /// To read its configuration again.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP.
pub(super) struct Signals {
    ends: Ends,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            ends: Ends::new()?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            name = self.ends.next() => Told::Stop(name),
        }
    }

    /// SIGTERM or SIGINT, by name.
    pub(super) async fn stop(&mut self) -> &'static str {
        self.ends.next().await
    }
}

/// SIGTERM and SIGINT.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Work that a first signal asks to end, and that a second one, or too much time after the first, ends.
pub(super) async fn until_signal<T>(
    work: impl AsyncFnOnce(CancellationToken) -> T,
) -> Result<T, AppError> {
    let mut ends = Ends::new()?;
    let abort = CancellationToken::new();
    let mut work = pin!(work(abort.clone()));
    tokio::select! {
        done = &mut work => return Ok(done),
        _ = ends.next() => abort.cancel(),
    }
    tokio::select! {
        done = &mut work => Ok(done),
        _ = ends.next() => Err(AppError::Interrupted),
        () = tokio::time::sleep(CLOSE_GRACE) => Err(AppError::Interrupted),
    }
}
