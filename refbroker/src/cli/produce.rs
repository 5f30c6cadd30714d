//! `refbroker produce`.

use std::{
    io::{self, BufRead as _, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use clap::Args;
use tokio::{sync::mpsc, time::Instant};

use super::{CliError, Cluster};
use crate::client::{Pool, PoolOptions, Record};

/// Lines that were read but not sent yet.
const LINES: usize = 64;

/// Writes records, idempotent, acks=all, one Raft entry each: lines of standard input, or generated ones.
#[derive(Debug, Clone, Args)]
pub struct Produce {
    #[command(flatten)]
    cluster: Cluster,
    /// Name of the topic.
    topic: String,
    /// Generates this many records instead of reading lines.
    #[arg(long, short)]
    count: Option<u64>,
    /// Size of a generated value in bytes.
    #[arg(long, default_value = "1024")]
    value_bytes: usize,
    /// Producers for each partition; records keep their order only within one of them.
    #[arg(long, default_value = "1")]
    producers: usize,
    /// Splits a line into key and value here; without it, lines are values under a running number as key.
    #[arg(long)]
    key_separator: Option<char>,
}

impl Produce {
    /// Runs the command.
    pub async fn run(self) -> Result<(), CliError> {
        let client = self.cluster.client();
        let options = PoolOptions {
            producers_per_partition: self.producers,
            delivery_timeout: self.cluster.timeout(),
        };
        let mut pool = Pool::start(&client, &self.topic, options).await?;
        let begun = Instant::now();
        let sent = match self.count {
            Some(count) => self.generate(&mut pool, count).await,
            None => self.read_lines(&mut pool).await,
        };
        // Finishing names the cause when a producer has failed, so it comes first.
        let acked = pool.finish().await?;
        sent?;
        let seconds = begun.elapsed().as_secs_f64();
        writeln!(
            io::stdout(),
            "{} records acknowledged in {seconds:.2} s",
            acked.len()
        )?;
        Ok(())
    }

    async fn generate(&self, pool: &mut Pool, count: u64) -> Result<(), CliError> {
        let value = Bytes::from(vec![b'x'; self.value_bytes]);
        for number in 0..count {
            pool.send(record(number.to_string(), value.clone())).await?;
        }
        Ok(())
    }

    async fn read_lines(&self, pool: &mut Pool) -> Result<(), CliError> {
        let (lines_in, mut lines) = mpsc::channel(LINES);
        let reader = tokio::task::spawn_blocking(move || forward_lines(&lines_in));
        let mut number = 0_u64;
        while let Some(line) = lines.recv().await {
            let split = self.key_separator.and_then(|at| line.split_once(at));
            let (key, value) = match split {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (number.to_string(), line),
            };
            pool.send(record(key, value.into())).await?;
            number += 1;
        }
        reader.await.map_err(io::Error::other)??;
        Ok(())
    }
}

/// Hands on every line of standard input until it ends or nobody listens.
fn forward_lines(lines: &mpsc::Sender<String>) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        if lines.blocking_send(line?).is_err() {
            break;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a record's timestamp is its writer's wall clock"
)]
fn record(key: String, value: Bytes) -> Record {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Record {
        key: key.into(),
        value,
        timestamp_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
    }
}
