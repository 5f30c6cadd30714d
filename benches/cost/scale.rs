//! Ten thousand partitions on one sidecar.

use std::time::Duration;

use crate::{
    bed::Bed,
    broker::{Replica, SyntheticBroker},
    report::Row,
    state::Content,
};

const PARTITIONS: i32 = 10_000;
/// Of each topic.
const EACH: i32 = 100;
const STATE_BYTES: usize = 4 << 10;
/// Idle ticks that are looked at.
const TICKS: u32 = 30;

pub async fn run(bed: &Bed) -> Vec<Row> {
    let one = idle(bed, "one", 1).await;
    let many = idle(bed, "many", PARTITIONS).await;
    let tick = "CPU of an idle tick over 10,000 partitions with a snapshot each";
    let requests = "calls to the store in it";
    let memory = "memory more with 10,000 partitions than with one";
    let first = "from nothing to 10,000 proven snapshots of 4 KiB into a directory";
    vec![
        Row::one("tick_ms_10k", tick, "ms", many.tick_ms).at_most(50.0),
        Row::one(
            "store_requests_idle_tick_10k",
            requests,
            "calls",
            many.store_calls,
        )
        .at_most(1.0),
        Row::one(
            "partitions_10k_rss_mib",
            memory,
            "MiB",
            many.resident_mib - one.resident_mib,
        )
        .at_most(64.0),
        Row::one("partitions_10k_first_s", first, "s", many.first_secs),
    ]
}

struct Idle {
    tick_ms: f64,
    store_calls: f64,
    resident_mib: f64,
    first_secs: f64,
}

async fn idle(bed: &Bed, name: &str, partitions: i32) -> Idle {
    let broker = SyntheticBroker::start();
    for number in 0..partitions {
        let state = bed.json.slice(..STATE_BYTES);
        let mut replica = Replica::of(Content::once(state));
        replica.applied_index = 10;
        broker.put(
            &format!("topic-{:03}", number / EACH),
            number % EACH,
            replica,
        );
    }
    let env = [
        ("CHECK_INTERVAL_SECS", "1"),
        ("LOG_THRESHOLD", "10"),
        ("COMPACT", "true"),
        ("RETENTION", "true"),
        ("MAX_CONCURRENT", "16"),
    ];
    let begun = std::time::Instant::now();
    let name = format!("scale-{name}");
    let daemon = bed.daemon(&name, &broker, &bed.local(), &env).await;
    daemon
        .wait("a proof of everything", |metrics| {
            let labels = [("operation", "verify"), ("result", "success")];
            metrics.sum("chronik_snapshot_operations_total", &labels) >= f64::from(partitions)
        })
        .await;
    let first_secs = begun.elapsed().as_secs_f64();
    daemon
        .wait("peace", |metrics| {
            metrics.sum("chronik_snapshot_queue_depth", &[]) < 0.5
                && metrics.sum("chronik_snapshot_in_flight", &[]) < 0.5
        })
        .await;
    ticks(&broker, 3).await;
    let (calls, cpu) = (daemon.store_calls().await, daemon.cpu_secs());
    ticks(&broker, TICKS).await;
    Idle {
        tick_ms: (daemon.cpu_secs() - cpu) * 1000.0 / f64::from(TICKS),
        store_calls: (daemon.store_calls().await - calls) / f64::from(TICKS),
        resident_mib: daemon.resident_mib(),
        first_secs,
    }
}

/// Waits for so many listings of the broker's replicas; asking the daemon would cost it something.
async fn ticks(broker: &SyntheticBroker, count: u32) {
    let end = broker.listings() + count;
    while broker.listings() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
