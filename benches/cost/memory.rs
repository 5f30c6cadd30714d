//! Peak memory of a process, by the size of what it moves.

use crate::{
    bed::{Bed, TOPIC},
    broker::Replica,
    report::Row,
    state::Content,
};

const SMALL_BYTES: u64 = 256 << 20;
const LARGE_BYTES: u64 = 8 << 30;
/// Each of the partitions that are moved at one time.
const EACH_BYTES: u64 = 1 << 30;

pub async fn run(bed: &Bed) -> Vec<Row> {
    let small = alone(bed, "small", SMALL_BYTES).await;
    let large = alone(bed, "large", LARGE_BYTES).await;
    let busy = together(bed).await;
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
            "rss_mib_two_and_two",
            "peak memory, two snapshots and two restores of 1 GiB at one time",
            "MiB",
            busy,
        )
        .at_most(160.0),
    ]
}

/// One snapshot, then one restore of it.
async fn alone(bed: &Bed, name: &str, bytes: u64) -> f64 {
    let broker = Bed::broker(Content::new(bed.json.clone(), bytes));
    let daemon = bed
        .daemon(name, &broker, &bed.s3(), &[("COMPRESSION", "zstd")])
        .await;
    daemon.snapshot(TOPIC, 0).await;
    daemon.seed(TOPIC, 0, "/dev/null".as_ref()).await;
    daemon.peak_mib()
}

async fn together(bed: &Bed) -> f64 {
    let content = Content::new(bed.json.clone(), EACH_BYTES);
    let broker = Bed::broker(content.clone());
    for number in 1..4 {
        broker.put(TOPIC, number, Replica::of(content.clone()));
    }
    let daemon = bed
        .daemon("busy", &broker, &bed.s3(), &[("COMPRESSION", "zstd")])
        .await;
    tokio::join!(daemon.snapshot(TOPIC, 0), daemon.snapshot(TOPIC, 1));
    tokio::join!(
        daemon.snapshot(TOPIC, 2),
        daemon.snapshot(TOPIC, 3),
        daemon.seed(TOPIC, 0, "/dev/null".as_ref()),
        daemon.seed(TOPIC, 1, "/dev/null".as_ref()),
    );
    daemon.peak_mib()
}
