//! Writers that never pause, and the history of what they were told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chronik_harness::{
    Poll,
    client::{Acked, Client, Pool, PoolOptions},
    history::{History, Key},
    wait_until,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, TOPIC};

/// Pause between two records of a writer.
const PACE: Duration = Duration::from_millis(3);
/// Longest time to get a record through that is sent until it is there: longer than any trouble.
const DELIVERY: Duration = Duration::from_mins(4);
/// Longest time for a record that is sent once.
const ONCE_TIMEOUT: Duration = Duration::from_secs(3);

/// A writer that tries until each record is in, and one that sends each record once.
pub struct Load {
    desk: Desk,
    writers: JoinSet<()>,
}

#[derive(Clone)]
struct Desk {
    client: Arc<Client>,
    history: Arc<Mutex<History>>,
    acked: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Load {
    pub fn start(client: &Arc<Client>) -> Self {
        let desk = Desk {
            client: Arc::clone(client),
            history: Arc::default(),
            acked: Arc::default(),
            stop: CancellationToken::new(),
        };
        let mut writers = JoinSet::new();
        writers.spawn(write_until_it_is_in(desk.clone(), 0));
        writers.spawn(write_once(desk.clone(), 1));
        Self { desk, writers }
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.desk.acked.load(Ordering::Relaxed)
    }

    /// Waits until `count` more records are acknowledged.
    pub async fn wait_more(&self, count: u64, logs: impl FnOnce() -> String) {
        let wanted = self.acked() + count;
        let what = format!("{count} acknowledgements");
        let look = async || {
            let acked = self.acked();
            Ok(if acked >= wanted {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{acked} of {wanted}"))
            })
        };
        if let Err(error) = wait_until(&what, PATIENCE, look, logs).await {
            panic!("{error}");
        }
    }

    /// Stops the writers; the whole log must be what they were told. Returns how many records were acknowledged.
    pub async fn finish(mut self) -> u64 {
        self.desk.stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap();
        }
        let mut log = Vec::new();
        let keep = |record| log.push(record);
        let client = &self.desk.client;
        client.consume(TOPIC, 0, 0, PATIENCE, keep).await.unwrap();
        let history = std::mem::take(&mut *self.desk.history.lock().unwrap());
        let findings = history.check(&log);
        assert!(findings.is_clean(), "{findings:#?}");
        history.acked_records()
    }
}

async fn write_until_it_is_in(desk: Desk, writer: u32) {
    let options = PoolOptions {
        producers_per_partition: 1,
        delivery_timeout: DELIVERY,
    };
    let mut pool = Pool::start(&desk.client, TOPIC, options).await.unwrap();
    let counted = pool.progress();
    let (mut told, mut number) = (0, 0);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !desk.stop.is_cancelled() {
        pace.tick().await;
        let key = Key { writer, number };
        number += 1;
        desk.history.lock().unwrap().sending(key);
        pool.send(key.record()).await.unwrap();
        let now = counted.acked();
        desk.acked.fetch_add(now - told, Ordering::Relaxed);
        told = now;
    }
    let acked = pool.finish().await.unwrap();
    let mut history = desk.history.lock().unwrap();
    for acked in &acked {
        history.acked(acked);
    }
}

async fn write_once(desk: Desk, writer: u32) {
    let mut number = 0;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !desk.stop.is_cancelled() {
        pace.tick().await;
        let key = Key { writer, number };
        number += 1;
        desk.history.lock().unwrap().sending(key);
        let record = key.record();
        let produced = desk.client.produce_once(TOPIC, 0, &record, ONCE_TIMEOUT);
        // An error promises nothing.
        let Ok(offset) = produced.await else {
            desk.history.lock().unwrap().gave_up(key);
            continue;
        };
        let acked = Acked {
            partition: 0,
            offset,
            key: record.key,
        };
        desk.history.lock().unwrap().acked(&acked);
        desk.acked.fetch_add(1, Ordering::Relaxed);
    }
}
