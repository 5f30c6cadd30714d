//! How fast three brokers in one process replicate. Run with
//! `cargo test --release -p refbroker --test cluster throughput -- --ignored --nocapture`.

use std::time::Instant;

use refbroker::api::Node as _;

use crate::common::{Cluster, PATIENCE, batch};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn entries_of_one_kibibyte_by_pipelined_clients() {
    let cluster = Cluster::start_with(3, |args| {
        args.segment_bytes = (16 << 20).try_into().expect("not zero");
    })
    .await;
    cluster.topic("t").await;
    let leader = cluster.elected("t").await;
    for clients in [1_usize, 16, 64, 256] {
        let count = if clients == 1 { 1000 } else { 20_000 };
        let since = Instant::now();
        let tasks = (0..clients).map(|_| {
            let node = cluster.running[&leader].node();
            tokio::spawn(async move {
                let batch = batch(&[7; 1024 - 61]);
                for _ in 0..count / clients {
                    node.append("t", 0, batch.clone(), PATIENCE)
                        .await
                        .expect("acked");
                }
            })
        });
        futures::future::join_all(tasks).await;
        let seconds = since.elapsed().as_secs_f64();
        let rate = f64::from(u32::try_from(count).unwrap_or(0)) / seconds;
        println!("{clients:4} in flight: {rate:8.0} entries/s");
    }
}
