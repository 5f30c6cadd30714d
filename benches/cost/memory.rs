//! Peak memory of a process, by the size of what it moves.

use bytes::Bytes;

use crate::{
    bed::{Bed, STATE_BYTES, TOPIC},
    broker::Replica,
    report::Row,
    state::{Content, dense},
};

const SMALL_BYTES: u64 = 256 << 20;
const LARGE_BYTES: u64 = 8 << 30;
/// Each of the partitions that are moved at one time.
const EACH_BYTES: u64 = 1 << 30;

pub async fn run(bed: &Bed) -> Vec<Row> {
    let json = &bed.json;
    let random = dense(3, STATE_BYTES);
    let small = alone(bed, "small", json, SMALL_BYTES, "zstd").await;
    let large = alone(bed, "large", json, LARGE_BYTES, "zstd").await;
    let gzip = alone(bed, "as-gzip", json, EACH_BYTES, "gzip").await;
    let filled = alone(bed, "filled", &random, EACH_BYTES, "zstd").await;
    let busy = together(bed, "busy", json).await;
    let busy_filled = together(bed, "busy-filled", &random).await;
    vec![
        Row::one(
            "rss_mib_256m",
            "peak memory, 256 MiB snapshotted and restored",
            "MiB",
            small,
        )
        .at_most(96.0),
        Row::one(
            "rss_mib_8g",
            "peak memory, 8 GiB snapshotted and restored",
            "MiB",
            large,
        )
        .at_most(96.0),
        Row::one(
            "rss_mib_gzip",
            "peak memory, 1 GiB snapshotted and restored with gzip",
            "MiB",
            gzip,
        )
        .at_most(96.0),
        Row::one(
            "rss_mib_dense",
            "peak memory, 1 GiB that hardly compresses snapshotted and restored",
            "MiB",
            filled,
        )
        .at_most(96.0),
        Row::one(
            "rss_mib_two_and_two",
            "peak memory, two snapshots and two restores of 1 GiB at one time",
            "MiB",
            busy,
        )
        .at_most(160.0),
        Row::one(
            "rss_mib_two_and_two_dense",
            "the same with what hardly compresses",
            "MiB",
            busy_filled,
        )
        .at_most(160.0),
    ]
}

/// One snapshot, then one restore of it.
async fn alone(bed: &Bed, name: &str, records: &Bytes, bytes: u64, compression: &str) -> f64 {
    let broker = Bed::broker(Content::new(records.clone(), bytes));
    let env = [("COMPRESSION", compression)];
    let daemon = bed.daemon(name, &broker, &bed.s3(), &env).await;
    daemon.snapshot(TOPIC, 0).await;
    daemon.seed(TOPIC, 0, "/dev/null".as_ref()).await;
    daemon.peak_mib()
}

async fn together(bed: &Bed, name: &str, records: &Bytes) -> f64 {
    let content = Content::new(records.clone(), EACH_BYTES);
    let broker = Bed::broker(content.clone());
    for number in 1..4 {
        broker.put(TOPIC, number, Replica::of(content.clone()));
    }
    let env = [("COMPRESSION", "zstd")];
    let daemon = bed.daemon(name, &broker, &bed.s3(), &env).await;
    tokio::join!(daemon.snapshot(TOPIC, 0), daemon.snapshot(TOPIC, 1));
    tokio::join!(
        daemon.snapshot(TOPIC, 2),
        daemon.snapshot(TOPIC, 3),
        daemon.seed(TOPIC, 0, "/dev/null".as_ref()),
        daemon.seed(TOPIC, 1, "/dev/null".as_ref()),
    );
    daemon.peak_mib()
}
