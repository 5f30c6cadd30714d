//! Entries on their way to the driver.
//!
//! Pushing is synchronous, so entries are proposed in the order in which callers come, however busy the driver is:
//! pipelined requests of an idempotent producer must not overtake each other.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use super::input::{Applied, Reply};
use crate::api::ApiError;

/// Bytes that wait for the driver; what comes then is refused and may be sent again.
const MAX_BYTES: usize = 64 << 20;

/// An entry to replicate.
#[derive(Debug)]
pub struct Proposal {
    /// Group.
    pub group_id: u64,
    /// Its data.
    pub data: Bytes,
    /// Answered when it is applied here, or lost.
    pub reply: Reply<Result<Applied, ApiError>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Proposal>,
    bytes: usize,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Proposals {
    queue: Mutex<Queue>,
}

impl Proposals {
    /// Adds a proposal. `Ok(true)` = it is the first one: wake the driver.
    pub fn push(&self, proposal: Proposal) -> Result<bool, ApiError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = queue.bytes + proposal.data.len();
        if bytes > MAX_BYTES && !queue.waiting.is_empty() {
            return Err(ApiError::TimedOut);
        }
        queue.bytes = bytes;
        queue.waiting.push(proposal);
        Ok(queue.waiting.len() == 1)
    }

    /// Takes all of them, in order.
    pub fn take(&self) -> Vec<Proposal> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.bytes = 0;
        mem::take(&mut queue.waiting)
    }
}
