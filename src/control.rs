//! What operators may ask of the running scheduler: a bounded channel of commands, each answered once.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::Kind,
    raft::{LogId, TopicPartition},
};

/// Commands that may wait for the scheduler.
const QUEUE: usize = 64;

/// Answer to a triggered snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Triggered {
    /// Accepted; not waited for.
    Queued,
    /// A proven snapshot.
    Proven {
        /// Its id.
        snapshot_id: String,
        /// Where it ends.
        last_included: LogId,
        /// It existed already: nothing was applied since.
        already_covered: bool,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlError {
    /// No such replica on this broker.
    #[error("{0} has no replica on this broker, or the topic is excluded by configuration")]
    NotHosted(TopicPartition),
    /// Paused by an operator.
    #[error("{0} is paused; resume it first")]
    Paused(TopicPartition),
    /// Snapshots are switched off.
    #[error("snapshots are switched off (ENABLED=false)")]
    Disabled,
    /// It failed.
    #[error("{message}")]
    Failed {
        /// What must be done about it.
        kind: Kind,
        /// What happened.
        message: String,
    },
    /// The scheduler is stopping, or too many commands wait.
    #[error("the daemon is stopping or busy; try again")]
    Unavailable,
}

/// A command and where its answer goes.
#[derive(Debug)]
pub enum Command {
    /// Take a snapshot now.
    Trigger {
        /// Of which partition.
        partition: TopicPartition,
        /// Answer when it is done, not when it is queued.
        wait: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Triggered, ControlError>>,
    },
    /// Leave a partition alone.
    Pause {
        /// Which.
        partition: TopicPartition,
        /// For how long; none = until resumed.
        ttl: Option<Duration>,
        /// Why.
        reason: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), ControlError>>,
    },
    /// End a pause.
    Resume {
        /// Of which partition.
        partition: TopicPartition,
        /// Where the answer goes: was it paused?
        reply: oneshot::Sender<Result<bool, ControlError>>,
    },
}

/// The sending end.
#[derive(Debug, Clone)]
pub struct Control {
    sender: mpsc::Sender<Command>,
}

/// The two ends.
pub fn channel() -> (Control, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Control { sender }, receiver)
}

impl Control {
    /// Takes a snapshot of one partition now.
    pub async fn trigger(
        &self,
        partition: TopicPartition,
        wait: bool,
    ) -> Result<Triggered, ControlError> {
        self.ask(|reply| Command::Trigger {
            partition,
            wait,
            reply,
        })
        .await
    }

    /// Pauses one partition.
    pub async fn pause(
        &self,
        partition: TopicPartition,
        ttl: Option<Duration>,
        reason: String,
    ) -> Result<(), ControlError> {
        self.ask(|reply| Command::Pause {
            partition,
            ttl,
            reason,
            reply,
        })
        .await
    }

    /// Resumes one partition.
    pub async fn resume(&self, partition: TopicPartition) -> Result<bool, ControlError> {
        self.ask(|reply| Command::Resume { partition, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ControlError>>) -> Command,
    ) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.sender
            .try_send(command(reply))
            .map_err(|_| ControlError::Unavailable)?;
        answer.await.unwrap_or(Err(ControlError::Unavailable))
    }
}
