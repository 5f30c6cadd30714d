//! A small Kafka client for the command line and the test harness: leader discovery, idempotent pipelined
//! producing with one record per batch (one Raft entry each), consuming to the end, creating topics.
//!
//! It talks to the reference broker's own versions of the protocol without negotiating. Every call has a deadline,
//! every retry a limit and jitter.

mod admin;
mod connection;
mod consumer;
mod error;
mod pool;
mod producer;
pub mod snapshot;
mod view;

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::Rng as _;
use tokio::time::Instant;

use self::{connection::Connection, view::fetch_view};
pub use self::{
    consumer::{Consumed, Range},
    error::ClientError,
    pool::{Acked, Pool, PoolOptions, Progress},
    producer::Record,
    view::{Broker, Partition, Topic, View},
};

/// The bare connection, for the tests of the Kafka front.
#[cfg(test)]
pub(crate) mod test_support {
    pub(crate) use super::connection::Connection;
}

/// Longest time for a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for a broker that is not asked to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause between attempts; doubles up to [`MAX_PAUSE`], with jitter.
const MIN_PAUSE: Duration = Duration::from_millis(30);
/// Longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_millis(600);

/// Knows the cluster: where to ask, and what it said last. Holds no connection.
#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<String>,
    view: Mutex<Option<View>>,
}

impl Client {
    /// A client that first asks one of these HOST:PORT addresses. Connects to nothing yet.
    pub fn new<I, S>(bootstrap: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            view: Mutex::new(None),
        }
    }

    /// The cluster as some broker sees it now.
    pub async fn refresh(&self) -> Result<View, ClientError> {
        let mut last = ClientError::NoBootstrap;
        for address in self.addresses() {
            match fetch_view(&address).await {
                Ok(view) => {
                    *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Some(view.clone());
                    return Ok(view);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The cluster as it was last seen, or as it is now if it never was.
    pub async fn view(&self) -> Result<View, ClientError> {
        let known = self
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match known {
            Some(view) => Ok(view),
            None => self.refresh().await,
        }
    }

    /// Every known address once, from a random place on, so that one dead broker does not cost every refresh.
    fn addresses(&self) -> Vec<String> {
        let known = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let mut addresses = self.bootstrap.clone();
        let brokers = known.iter().flat_map(|view| &view.brokers);
        addresses.extend(brokers.map(|broker| broker.address.clone()));
        drop(known);
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            let by = rand::rng().random_range(0..addresses.len());
            addresses.rotate_left(by);
        }
        addresses
    }

    /// A connection to the leader of a partition, after asking who that is.
    async fn connect_leader(&self, topic: &str, partition: i32) -> Result<Connection, ClientError> {
        let view = self.refresh().await?;
        Connection::open(view.leader(topic, partition)?).await
    }

    /// Tries until it succeeds, fails for good, or the deadline has passed.
    async fn retry<T, F>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut failures = 0;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => {
                    failures += 1;
                    let wait = pause(failures);
                    if Instant::now() + wait >= deadline {
                        return Err(ClientError::GaveUp {
                            attempts: failures,
                            last: Box::new(error),
                        });
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// The pause after the n-th failure in a row: exponential, between half and all of it by chance.
fn pause(failures: u32) -> Duration {
    let whole = MIN_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(MAX_PAUSE);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}
