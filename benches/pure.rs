//! What a tick and a visit compute without asking anybody: manifests, decisions, plans.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark stops at the first surprise"
)]

use std::{
    hint::black_box,
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use chronik_snapshotd::{
    format::{
        BLOCK_MAX_BYTES, BlockRef, Codec, CreatedBy, FORMAT_VERSION, Manifest, Part, PartHasher,
        SnapName, SnapshotId,
    },
    policy::{
        Candidate, Facts, Options, ReplicaFacts, Role, Uploader, decide, plan_compaction,
        plan_retention,
    },
    raft::{ConfState, Lineage, LogId, TopicPartition},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uuid::Uuid;

/// Blocks of a partition of 4 GiB.
const BLOCKS: u32 = 1024;
/// Snapshots in a folder whose retention is planned.
const SNAPSHOTS: u64 = 100;

fn manifest() -> Manifest {
    let lineage = Lineage::new("c", 1, "t").unwrap();
    let last_included = LogId::new(7, 10_000);
    let snapshot_id = SnapshotId::new(last_included, &lineage, Uuid::from_u128(1));
    let own = SnapName {
        id: snapshot_id,
        number: 0,
    };
    let stored_len_bytes = BLOCK_MAX_BYTES / 5;
    let blocks = (0..BLOCKS).map(|number| BlockRef {
        file: 0,
        offset_bytes: u64::from(number) * u64::from(stored_len_bytes),
        stored_len_bytes,
        raw_len_bytes: BLOCK_MAX_BYTES,
        crc32: number.wrapping_mul(0x9E37_79B9),
    });
    let mut digest = PartHasher::new().finish();
    digest.size_bytes = u64::from(BLOCKS) * u64::from(BLOCK_MAX_BYTES);
    Manifest {
        format_version: FORMAT_VERSION,
        references: vec![own.to_string()],
        snapshot_id,
        lineage,
        partition: TopicPartition::new("orders", 0).unwrap(),
        last_included,
        conf_state: ConfState {
            voters: vec![1, 2, 3],
            ..ConfState::default()
        },
        state_codec: "bench/1".to_owned(),
        created_at_unix_ms: 1_795_000_000_000,
        created_by: CreatedBy {
            broker_id: 1,
            version: "0".to_owned(),
        },
        codec: Codec::Zstd,
        increment: 0,
        parts: vec![Part {
            part_id: "state".to_owned(),
            sealed: false,
            digest,
            blocks: blocks.collect(),
        }],
    }
}

fn manifests(c: &mut Criterion) {
    let manifest = manifest();
    let (bytes, _) = manifest.seal().unwrap();
    println!("a manifest of {BLOCKS} blocks has {} bytes", bytes.len());
    let mut group = c.benchmark_group("manifest");
    group.throughput(Throughput::Elements(BLOCKS.into()));
    group.bench_function("seal", |b| b.iter(|| black_box(manifest.seal().unwrap())));
    group.bench_function("decode", |b| {
        b.iter(|| black_box(Manifest::decode(&bytes).unwrap()));
    });
    group.finish();
}

fn decisions(c: &mut Criterion) {
    let options = Options {
        log_threshold: NonZeroU64::new(10_000).unwrap(),
        time_threshold: Duration::from_secs(3600),
        min_interval: Duration::from_secs(60),
        uploader: Uploader::Leader,
        compact: true,
        trailing_entries: 1000,
        retention: true,
        retention_count: NonZeroUsize::new(3).unwrap(),
    };
    let facts = Facts {
        replica: ReplicaFacts {
            role: Role::Leader,
            applied_index: 15_000,
            first_log_index: 9_001,
            last_log_index: 15_003,
            hold_index: 0,
            rank: 0,
        },
        metadata: false,
        newest_proven: Some(LogId::new(7, 10_000)),
        age: Duration::from_secs(1800),
        due_for: Duration::ZERO,
        since_last_start: Some(Duration::from_secs(1800)),
    };
    let candidates: Vec<_> = (1..=SNAPSHOTS)
        .map(|number| Candidate {
            key: number,
            last_included: LogId::new(7, number * 10_000),
            proven: true,
            quarantined: false,
            pinned: false,
        })
        .collect();
    let mut group = c.benchmark_group("decision");
    group.bench_function("decide", |b| {
        b.iter(|| black_box(decide(black_box(&facts), &options)));
    });
    group.bench_function("plan_compaction", |b| {
        b.iter(|| {
            let facts = black_box(&facts);
            black_box(plan_compaction(
                &facts.replica,
                facts.newest_proven,
                &options,
            ))
        });
    });
    group.bench_function("plan_retention", |b| {
        let count = options.retention_count;
        b.iter(|| black_box(plan_retention(black_box(&candidates), count)));
    });
    group.finish();
}

criterion_group!(benches, manifests, decisions);
criterion_main!(benches);
