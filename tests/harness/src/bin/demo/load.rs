//! The producers: a burst, and a steady stream that goes on while brokers die.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chronik_harness::client::{Acked, Client, ClientError, Pool, PoolOptions, Progress};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{order, setup::now_ms, story::TOPIC};

/// Longest time from sending a record to its acknowledgement.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(45);
/// Producers for each partition.
const PRODUCERS: usize = 8;
/// The steady stream: this many records ...
const STREAM_BATCH: u64 = 10;
/// ... this often.
const STREAM_INTERVAL: Duration = Duration::from_millis(20);

/// Where every acknowledged record is: number by (partition, offset).
pub(crate) type Ledger = BTreeMap<(i32, i64), u64>;

fn options() -> PoolOptions {
    PoolOptions {
        producers_per_partition: PRODUCERS,
        delivery_timeout: DELIVERY_TIMEOUT,
    }
}

fn enter(ledger: &mut Ledger, acked: Vec<Acked>) {
    for record in acked {
        let number = order::number(&record.key).unwrap_or(u64::MAX);
        ledger.insert((record.partition, record.offset), number);
    }
}

fn timestamp_ms() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// Produces the orders 0 to `count` (exclusive) as fast as the cluster takes them.
pub(crate) async fn burst(
    client: &Arc<Client>,
    count: u64,
    ledger: &mut Ledger,
) -> Result<(), ClientError> {
    let mut pool = Pool::start(client, TOPIC, options()).await?;
    for number in 0..count {
        if pool
            .send(order::record(number, timestamp_ms()))
            .await
            .is_err()
        {
            break;
        }
    }
    enter(ledger, pool.finish().await?);
    Ok(())
}

/// Orders that are produced until somebody says stop.
pub(crate) struct Stream {
    tasks: JoinSet<Result<Vec<Acked>, ClientError>>,
    stop: CancellationToken,
    progress: Progress,
}

impl Stream {
    /// Begins with the order `first`.
    pub(crate) async fn start(client: &Arc<Client>, first: u64) -> Result<Self, ClientError> {
        let pool = Pool::start(client, TOPIC, options()).await?;
        let progress = pool.progress();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(produce(pool, first, stop.clone()));
        Ok(Self {
            tasks,
            stop,
            progress,
        })
    }

    /// Records acknowledged so far.
    pub(crate) fn acked(&self) -> u64 {
        self.progress.acked()
    }

    /// Stops, waits for every acknowledgement and enters them.
    pub(crate) async fn finish(mut self, ledger: &mut Ledger) -> Result<u64, ClientError> {
        self.stop.cancel();
        match self.tasks.join_next().await {
            Some(Ok(acked)) => {
                let acked = acked?;
                let count = acked.len() as u64;
                enter(ledger, acked);
                Ok(count)
            }
            _ => Err(ClientError::Stopped),
        }
    }
}

async fn produce(
    mut pool: Pool,
    first: u64,
    stop: CancellationToken,
) -> Result<Vec<Acked>, ClientError> {
    let mut clock = tokio::time::interval(STREAM_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = first;
    'stream: while !stop.is_cancelled() {
        clock.tick().await;
        for number in next..next + STREAM_BATCH {
            // Not cancelled in the middle: what was sent is waited for.
            if pool
                .send(order::record(number, timestamp_ms()))
                .await
                .is_err()
            {
                break 'stream;
            }
        }
        next += STREAM_BATCH;
    }
    pool.finish().await
}
