//! A few requests ahead of whoever needs their answers, in order.

use std::{collections::VecDeque, future::Future};

use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// Tasks in the order in which they were started. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    tasks: VecDeque<AbortOnDropHandle<T>>,
}

impl<T: Send + 'static> Ahead<T> {
    pub(super) fn new() -> Self {
        Self {
            tasks: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Starts the next one. It runs whether or not anybody waits, so an answer is not cut short by a slow reader.
    pub(super) fn start(&mut self, work: impl Future<Output = T> + Send + 'static) {
        self.tasks
            .push_back(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    /// Waits for the oldest one; none when all answers were taken.
    pub(super) async fn next(&mut self) -> Option<Result<T, JoinError>> {
        let oldest = self.tasks.front_mut()?;
        let answer = oldest.await;
        self.tasks.pop_front();
        Some(answer)
    }
}
