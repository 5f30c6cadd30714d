//! Codecs on blocks, and the data plane end to end, on generated JSON records.
//!
//! `cargo bench --bench block_pipeline -- codec` compares the encoders and decoders on one core;
//! `-- plane` runs whole snapshots through the data plane into memory and into a directory.
//! Rates are raw bytes a second. The ratios, which criterion has no column for, are printed first.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark stops at the first surprise"
)]

#[path = "../tests/support/records.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod records;

use std::{
    convert::Infallible, hint::black_box, io::Read as _, num::NonZeroUsize, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chronik_snapshotd::{
    config::object_store::{Backend, ObjectStoreConfig},
    format::{
        BLOCK_MAX_BYTES, BlockDecoder, BlockEncoder, BlockRef, Codec, Compression, CreatedBy,
        EncodedBlock, FORMAT_VERSION, Manifest, PartHasher, SnapshotId,
    },
    pipeline::plane::{
        DataPlane, Folder, MemoryBudget, PartPlan, Rates, RawChunk, Scope, Target, Workers,
        read_blocks, verify_full, write_blocks,
    },
    raft::{ConfState, Lineage, LogId, TopicPartition},
    store::{NoObserver, Store, StoreOptions},
};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use futures::stream;
use records::json_records;
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BLOCK: usize = BLOCK_MAX_BYTES as usize;
/// Raw size of the snapshots.
const SNAPSHOT_BYTES: usize = 128 << 20;

fn encoder(codec: Codec, level: i32) -> BlockEncoder {
    BlockEncoder::new(Compression::new(codec, Some(level)).unwrap()).unwrap()
}

fn block_ref(block: &EncodedBlock) -> BlockRef {
    BlockRef {
        file: 0,
        offset_bytes: 0,
        stored_len_bytes: u32::try_from(block.stored.len()).unwrap(),
        raw_len_bytes: block.raw_len_bytes,
        crc32: block.crc32,
    }
}

/// gzip by flate2 on zlib-rs, the peer of libdeflate.
fn flate2_gzip(raw: &[u8], level: u32) -> Vec<u8> {
    let mut stored = Vec::new();
    flate2::bufread::GzEncoder::new(raw, flate2::Compression::new(level))
        .read_to_end(&mut stored)
        .unwrap();
    stored
}

fn ratio(raw: &[u8], stored: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let ratio = raw.len() as f64 / stored as f64;
    ratio
}

fn codecs(c: &mut Criterion) {
    let raw = Bytes::from(json_records(1, BLOCK));
    let settings = [
        (Codec::Gzip, vec![1, 2, 3, 4, 6]),
        (Codec::Zstd, vec![1, 3]),
        (Codec::None, vec![0]),
    ];
    let mut group = c.benchmark_group("codec/encode");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    for (codec, levels) in &settings {
        for level in levels {
            let mut encoder = encoder(*codec, *level);
            let stored = encoder.encode(&raw).unwrap().stored.len();
            println!("ratio {codec} {level}: {:.2}", ratio(&raw, stored));
            group.bench_function(format!("{codec}-{level}"), |b| {
                b.iter(|| black_box(encoder.encode(&raw).unwrap()));
            });
        }
    }
    for level in [1, 2, 3, 4, 6] {
        let stored = flate2_gzip(&raw, level).len();
        println!("ratio flate2-zlib-rs {level}: {:.2}", ratio(&raw, stored));
        group.bench_function(format!("flate2-zlib-rs-{level}"), |b| {
            b.iter(|| black_box(flate2_gzip(&raw, level)));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("codec/decode");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    for codec in Codec::ALL {
        let block = encoder(codec, codec.default_level()).encode(&raw).unwrap();
        let at = block_ref(&block);
        let mut buffer = Vec::new();
        group.bench_function(codec.as_str(), |b| {
            b.iter(|| {
                let mut decoder = BlockDecoder::new(codec).unwrap();
                black_box(
                    decoder
                        .decode_into(&block.stored, &at, &mut buffer)
                        .unwrap(),
                );
            });
        });
    }
    let gzip = encoder(Codec::Gzip, Codec::Gzip.default_level())
        .encode(&raw)
        .unwrap()
        .stored;
    let mut buffer = vec![0; raw.len()];
    group.bench_function("libdeflate", |b| {
        let mut decompressor = libdeflater::Decompressor::new();
        b.iter(|| black_box(decompressor.gzip_decompress(&gzip, &mut buffer).unwrap()));
    });
    group.finish();

    let mut group = c.benchmark_group("codec/digest");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    group.bench_function("crc32+xxh3", |b| {
        b.iter(|| {
            let mut hasher = PartHasher::new();
            hasher.update(&raw);
            black_box(hasher.finish())
        });
    });
    group.finish();
}

/// One store and the limits of a daemon on two cores.
struct Bench {
    runtime: Runtime,
    plane: DataPlane,
    folder: Folder,
    raw: Bytes,
}

impl Bench {
    fn new(backend: Backend) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = ObjectStoreConfig {
            backend,
            prefix: String::new(),
        };
        let store = Store::open(&config, StoreOptions::default(), Arc::new(NoObserver)).unwrap();
        Self {
            runtime,
            plane: DataPlane::new(
                MemoryBudget::new(128 << 20),
                Workers::new(NonZeroUsize::new(2).unwrap()).unwrap(),
                Rates::default(),
            ),
            folder: Folder {
                store,
                prefix: "t/0/".to_owned(),
            },
            raw: Bytes::from(json_records(2, SNAPSHOT_BYTES)),
        }
    }

    fn write(&self, compression: Compression) -> Arc<Manifest> {
        let lineage = Lineage::new("c", 1, "t").unwrap();
        let last_included = LogId::new(1, 1);
        let snapshot_id = SnapshotId::new(last_included, &lineage, Uuid::from_u128(1));
        let target = Target {
            folder: self.folder.clone(),
            snapshot_id,
        };
        let plans = [PartPlan {
            part_id: "state".to_owned(),
            sealed: false,
            size_bytes: self.raw.len() as u64,
            omitted: false,
        }];
        let raw = self.raw.clone();
        let frames = (0..raw.len()).step_by(1 << 20).map(|start| {
            let end = raw.len().min(start + (1 << 20));
            let data = raw.slice(start..end);
            Ok::<_, Infallible>(RawChunk { part: 0, data })
        });
        let cancel = CancellationToken::new();
        let frames = stream::iter(frames);
        let write = write_blocks(&self.plane, target, compression, &plans, frames, &cancel);
        let written = self.runtime.block_on(write).unwrap();
        Arc::new(Manifest {
            references: written.files,
            format_version: FORMAT_VERSION,
            snapshot_id,
            lineage,
            partition: TopicPartition::new("t", 0).unwrap(),
            last_included,
            conf_state: ConfState::default(),
            state_codec: "bench/1".to_owned(),
            created_at_unix_ms: 0,
            created_by: CreatedBy {
                broker_id: 1,
                version: "0".to_owned(),
            },
            codec: compression.codec(),
            increment: 0,
            parts: written.parts,
        })
    }

    fn read(&self, manifest: &Arc<Manifest>) -> u64 {
        let cancel = CancellationToken::new();
        let (deliver, mut chunks) = mpsc::channel(4);
        self.runtime.block_on(async {
            let take = async { while chunks.recv().await.is_some() {} };
            let read = read_blocks(&self.plane, &self.folder, manifest, deliver, &cancel);
            let (read, ()) = tokio::join!(read, take);
            read.unwrap()
        })
    }

    fn verify(&self, manifest: &Arc<Manifest>) {
        let cancel = CancellationToken::new();
        let verify = verify_full(&self.plane, &self.folder, manifest, Scope::New, &cancel);
        self.runtime.block_on(verify).unwrap();
    }
}

fn plane(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let stores = [
        ("memory", Backend::Memory),
        (
            "local",
            Backend::Local {
                root: dir.path().to_path_buf(),
            },
        ),
    ];
    for (name, backend) in stores {
        let bench = Bench::new(backend);
        let mut group = c.benchmark_group(format!("plane/{name}"));
        group.sampling_mode(SamplingMode::Flat);
        group.sample_size(10);
        group.measurement_time(Duration::from_secs(10));
        group.throughput(Throughput::Bytes(bench.raw.len() as u64));
        for codec in Codec::ALL {
            let compression = Compression::new(codec, None).unwrap();
            group.bench_function(format!("forward/{codec}"), |b| {
                b.iter(|| black_box(bench.write(compression)));
            });
            let manifest = bench.write(compression);
            group.bench_function(format!("verify-full/{codec}"), |b| {
                b.iter(|| bench.verify(&manifest));
            });
            group.bench_function(format!("backward/{codec}"), |b| {
                b.iter(|| black_box(bench.read(&manifest)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codecs, plane);
criterion_main!(benches);
