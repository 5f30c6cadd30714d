//! What a snapshot costs of a partition in which little has changed.

use bytes::Bytes;
use chronik_snapshotd::format::{BLOCK_MAX_BYTES, BlockEncoder, Codec, Compression};

use crate::{
    bed::{Bed, TOPIC, tree_bytes},
    broker::{Part, Replica, SyntheticBroker},
    report::{Row, median},
    state::Content,
};

/// Length of a sealed part. Each snapshot finds one more.
const SEGMENT_BYTES: usize = 16 << 20;
/// Sealed parts of the small partition; the large one has 64 times as many.
const SEGMENTS: usize = 4;
const TIMES: usize = 64;
/// One MiB, which is what is not sealed where that does not matter.
const MIB: usize = 1 << 20;
/// What is not sealed before the first of five snapshots that each find 1 MiB more: 8 MiB, half a segment, in the median.
const OPEN_BYTES: usize = 5 * MIB;

pub async fn run(bed: &Bed) -> Vec<Row> {
    let seal = |replica: &mut Replica| add_segment(replica, replica.parts.len() - 1, &bed.json);
    let small = further(bed, "small", SEGMENTS, MIB, seal).await;
    let large = further(bed, "large", SEGMENTS * TIMES, MIB, seal).await;
    let append = |replica: &mut Replica| {
        let part = replica.parts.last_mut().unwrap();
        let bytes = usize::try_from(part.content.len_bytes()).unwrap() + MIB;
        part.content = Content::once(bed.json.slice(..bytes));
    };
    let appended = further(bed, "open", SEGMENTS, OPEN_BYTES, append).await;
    let allowed = allowed_bytes(&segment(&bed.json, 0));
    let allowed_appended = allowed_bytes(&bed.json.slice(..MIB));
    let ratio = "stored for 16 MiB more in 4 GiB: part of 1.1 times those compressed and 1 MiB";
    let growth = "stored for 16 MiB more: in 4 GiB, against in 64 MiB";
    let calls = format!(
        "calls to the store for the last of them, which points into {} files",
        bed.pairs + 1
    );
    vec![
        Row::one(
            "incremental_bytes_ratio",
            ratio,
            "x",
            median(&large.bytes) / allowed,
        )
        .at_most(1.0),
        Row::one(
            "incremental_growth_64x",
            growth,
            "x",
            median(&large.bytes) / median(&small.bytes),
        )
        .at_most(1.1),
        Row::one(
            "incremental_open_bytes_ratio",
            "stored for 1 MiB more in a segment of 8 MiB that is appended to: part of 1.1 times that compressed and 1 MiB",
            "x",
            median(&appended.bytes) / allowed_appended,
        )
        .at_most(1.0),
        Row::one("incremental_store_calls", calls, "calls", large.calls),
    ]
}

/// What further snapshots cost.
struct Further {
    /// Bytes of all objects that each brings.
    bytes: Vec<f64>,
    /// Calls to the store for the last.
    calls: f64,
}

/// A complete snapshot of `segments` and of `open_bytes` that are not sealed, then more of them, each after `grow`.
async fn further(
    bed: &Bed,
    name: &str,
    segments: usize,
    open_bytes: usize,
    grow: impl Fn(&mut Replica),
) -> Further {
    let broker = SyntheticBroker::start();
    let mut replica = Replica::of(Content::once(bed.json.slice(..open_bytes)));
    for number in 0..segments {
        add_segment(&mut replica, number, &bed.json);
    }
    broker.put(TOPIC, 0, replica);
    let env = [("COMPRESSION", "zstd")];
    let name = format!("incremental-{name}");
    let daemon = bed.daemon(&name, &broker, &bed.local(), &env).await;
    daemon.snapshot(TOPIC, 0).await;
    let stored = || tree_bytes(&bed.path("local").join(&name));
    let mut further = Further {
        bytes: Vec::new(),
        calls: 0.0,
    };
    for _ in 0..bed.pairs {
        let (before, calls) = (stored(), daemon.store_calls().await);
        broker.grow(TOPIC, 0, &grow);
        daemon.snapshot(TOPIC, 0).await;
        further.bytes.push(stored() - before);
        further.calls = daemon.store_calls().await - calls;
    }
    further
}

/// Puts a sealed part in front of the one that still changes.
pub fn add_segment(replica: &mut Replica, number: usize, json: &Bytes) {
    let part = Part {
        id: format!("segment-{number:05}"),
        sealed: true,
        content: Content::once(segment(json, number)),
    };
    replica.parts.insert(replica.parts.len() - 1, part);
}

fn segment(json: &Bytes, number: usize) -> Bytes {
    let start = number % (json.len() / SEGMENT_BYTES) * SEGMENT_BYTES;
    json.slice(start..start + SEGMENT_BYTES)
}

/// What the target allows to be stored for new bytes.
fn allowed_bytes(raw: &Bytes) -> f64 {
    1.1 * compressed_bytes(raw) + f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn compressed_bytes(raw: &Bytes) -> f64 {
    let compression = Compression::new(Codec::Zstd, None).unwrap();
    let mut encoder = BlockEncoder::new(compression).unwrap();
    let blocks = raw.chunks(BLOCK_MAX_BYTES as usize);
    let stored = blocks.map(|block| encoder.encode(&raw.slice_ref(block)).unwrap().stored.len());
    stored.sum::<usize>() as f64
}
