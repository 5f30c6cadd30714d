//! Writers and readers that keep a history.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use refbroker::client::{Acked, Client, ClientError, Consumed, Pool, PoolOptions};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::HarnessError,
    history::{History, Key},
};

/// Idempotent writers; each writes to every partition.
const IDEMPOTENT: u32 = 2;
/// Writers that send each record once, whatever happens.
const ONCE: u32 = 3;
/// Pause between two records of a writer.
const PACE: Duration = Duration::from_millis(5);
/// Longest time for an idempotent writer to get a record through: longer than any trouble.
const DELIVERY: Duration = Duration::from_mins(4);
/// Longest time for a record that is sent once.
const ONCE_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause of a reader that is at the end.
const READ_PAUSE: Duration = Duration::from_millis(200);
/// Longest time of a reader for one turn.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time to read a whole partition in the end.
const FINAL_READ_TIMEOUT: Duration = Duration::from_mins(2);

/// The load while it runs.
pub struct Load {
    client: Arc<Client>,
    topic: Arc<str>,
    partitions: u32,
    history: Arc<Mutex<History>>,
    /// Records acknowledged so far.
    progress: Arc<AtomicU64>,
    stop: CancellationToken,
    writers: JoinSet<Result<(), HarnessError>>,
    readers: JoinSet<()>,
}

impl Load {
    /// Starts all writers and readers of a topic, which exists.
    pub fn start(client: &Arc<Client>, topic: &str, partitions: u32) -> Self {
        let mut load = Self {
            client: Arc::clone(client),
            topic: topic.into(),
            partitions,
            history: Arc::default(),
            progress: Arc::default(),
            stop: CancellationToken::new(),
            writers: JoinSet::new(),
            readers: JoinSet::new(),
        };
        for writer in 0..IDEMPOTENT {
            let desk = load.desk();
            load.writers.spawn(write_idempotently(desk, writer));
        }
        for writer in IDEMPOTENT..IDEMPOTENT + ONCE {
            let desk = load.desk();
            load.writers.spawn(write_once(desk, writer));
        }
        for partition in 0..partitions {
            let desk = load.desk();
            load.readers.spawn(read(desk, number(partition)));
        }
        load
    }

    fn desk(&self) -> Desk {
        Desk {
            client: Arc::clone(&self.client),
            topic: Arc::clone(&self.topic),
            partitions: self.partitions,
            history: Arc::clone(&self.history),
            progress: Arc::clone(&self.progress),
            stop: self.stop.clone(),
        }
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Stops everybody, waits for the last acknowledgements and reads every partition from offset 0.
    pub async fn finish(mut self) -> Result<(History, Vec<Consumed>), HarnessError> {
        self.stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            ended.map_err(|_| ClientError::Stopped)??;
        }
        while self.readers.join_next().await.is_some() {}
        let mut log = Vec::new();
        for partition in 0..self.partitions {
            let keep = |record| log.push(record);
            self.client
                .consume(&self.topic, number(partition), 0, FINAL_READ_TIMEOUT, keep)
                .await?;
        }
        let history = std::mem::take(&mut *lock(&self.history));
        Ok((history, log))
    }
}

/// What writers and readers share.
struct Desk {
    client: Arc<Client>,
    topic: Arc<str>,
    partitions: u32,
    history: Arc<Mutex<History>>,
    progress: Arc<AtomicU64>,
    stop: CancellationToken,
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

async fn write_idempotently(desk: Desk, writer: u32) -> Result<(), HarnessError> {
    let options = PoolOptions {
        producers_per_partition: 1,
        delivery_timeout: DELIVERY,
    };
    let mut pool = Pool::start(&desk.client, &desk.topic, options).await?;
    let counted = pool.progress();
    let mut told = 0;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    while !desk.stop.is_cancelled() {
        pace.tick().await;
        let key = Key {
            writer,
            number: sent,
        };
        sent += 1;
        lock(&desk.history).sending(key);
        if pool.send(key.record()).await.is_err() {
            // A producer has failed; the end of the pool says why.
            break;
        }
        let now = counted.acked();
        desk.progress.fetch_add(now - told, Ordering::Relaxed);
        told = now;
    }
    let acked = pool.finish().await?;
    let mut history = lock(&desk.history);
    for acked in &acked {
        history.acked(acked);
    }
    Ok(())
}

async fn write_once(desk: Desk, writer: u32) -> Result<(), HarnessError> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    while !desk.stop.is_cancelled() {
        pace.tick().await;
        let key = Key {
            writer,
            number: sent,
        };
        let partition = number(u32::try_from(sent % u64::from(desk.partitions)).unwrap_or(0));
        sent += 1;
        lock(&desk.history).sending(key);
        let record = key.record();
        let produced = desk
            .client
            .produce_once(&desk.topic, partition, &record, ONCE_TIMEOUT)
            .await;
        // An error promises nothing.
        let Ok(offset) = produced else {
            lock(&desk.history).gave_up(key);
            continue;
        };
        lock(&desk.history).acked(&Acked {
            partition,
            offset,
            key: record.key,
        });
        desk.progress.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Follows a partition. Whatever fails is tried again: only what was read counts.
async fn read(desk: Desk, partition: i32) {
    let mut next = 0;
    while !desk.stop.is_cancelled() {
        let from = next;
        let see = |record: Consumed| {
            next = record.offset + 1;
            lock(&desk.history).read(&record);
        };
        let _ = desk
            .client
            .consume(&desk.topic, partition, from, READ_TIMEOUT, see)
            .await;
        tokio::time::sleep(READ_PAUSE).await;
    }
}
