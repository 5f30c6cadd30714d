//! A snapshot is restored without this program: by the stock tools, and by the script of docs/FORMAT.md.

use std::{
    convert::Infallible,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{records::json_records, stores::open};
use bytes::Bytes;
use chronik_snapshotd::{
    config::object_store::Backend,
    format::{Codec, Compression, CreatedBy, FORMAT_VERSION, FileName, Manifest, SnapshotId},
    pipeline::plane::{
        DataPlane, Folder, MemoryBudget, PartPlan, Rates, RawChunk, Target, Workers, write_blocks,
    },
    raft::{ConfState, Lineage, LogId, TopicPartition},
    store::StoreOptions,
};
use futures::stream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Writes a snapshot into a directory; gives the folder with its files, and its id.
async fn snapshot(root: &Path, codec: Codec, parts: &[(&str, Vec<u8>)]) -> (PathBuf, SnapshotId) {
    let plane = DataPlane::new(
        MemoryBudget::new(128 << 20),
        Workers::new(NonZeroUsize::new(2).unwrap()).unwrap(),
        Rates::default(),
    );
    let root = root.to_path_buf();
    let store = open(
        Backend::Local { root: root.clone() },
        StoreOptions::default(),
    );
    let lineage = Lineage::new("prod-eu", 1, "tq3Xk9").unwrap();
    let last_included = LogId::new(3, 10_000);
    let id = SnapshotId::new(last_included, &lineage, Uuid::from_u128(1));
    let folder = Folder {
        store: store.clone(),
        prefix: "orders/7/".to_owned(),
    };
    let target = Target {
        folder: folder.clone(),
        snapshot_id: id,
    };
    let plans: Vec<_> = parts
        .iter()
        .map(|(part_id, raw)| PartPlan {
            part_id: (*part_id).to_owned(),
            sealed: true,
            size_bytes: raw.len() as u64,
            omitted: false,
        })
        .collect();
    let mut frames = Vec::new();
    for (part, (_, raw)) in (0..).zip(parts) {
        for chunk in raw.chunks(1 << 20) {
            let data = Bytes::copy_from_slice(chunk);
            frames.push(Ok::<_, Infallible>(RawChunk { part, data }));
        }
    }
    let compression = Compression::new(codec, None).unwrap();
    let cancel = CancellationToken::new();
    let frames = stream::iter(frames);
    let written = write_blocks(&plane, target, compression, &plans, frames, &cancel)
        .await
        .unwrap();
    let manifest = Manifest {
        references: written.files,
        format_version: FORMAT_VERSION,
        snapshot_id: id,
        lineage,
        partition: TopicPartition::new("orders", 7).unwrap(),
        last_included,
        conf_state: ConfState {
            voters: vec![1],
            ..ConfState::default()
        },
        state_codec: "test/1".to_owned(),
        created_at_unix_ms: 0,
        created_by: CreatedBy {
            broker_id: 1,
            version: "0".to_owned(),
        },
        codec,
        increment: 0,
        parts: written.parts,
    };
    let (bytes, _) = manifest.seal().unwrap();
    let key = folder.key(&FileName::Manifest(id).to_string()).unwrap();
    store.put_new(&key, bytes).await.unwrap();
    (root.join("orders/7"), id)
}

/// Runs a command that must succeed; gives what it wrote to standard output.
fn output_of(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaints}");
    output.stdout
}

fn zstd_command() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/zstd-cli.sh");
    let path = output_of(Command::new("sh").arg(script));
    String::from_utf8(path).unwrap().trim().to_owned()
}

#[tokio::test]
async fn gunzip_gives_back_a_snapshot_of_one_part() {
    let dir = tempfile::tempdir().unwrap();
    let raw = json_records(1, 13_000_000);
    let (folder, id) = snapshot(dir.path(), Codec::Gzip, &[("state", raw.clone())]).await;
    let snap = folder.join(format!("{id}.snap"));
    let unzipped = output_of(
        Command::new("sh")
            .arg("-c")
            .arg("gunzip -c < \"$0\"")
            .arg(&snap),
    );
    assert!(unzipped == raw, "four members, one stream");
    output_of(
        Command::new("sh")
            .arg("-c")
            .arg("gzip -t < \"$0\"")
            .arg(&snap),
    );
}

#[tokio::test]
async fn zstd_gives_back_a_snapshot_of_one_part() {
    let dir = tempfile::tempdir().unwrap();
    let raw = json_records(2, 13_000_000);
    let (folder, id) = snapshot(dir.path(), Codec::Zstd, &[("state", raw.clone())]).await;
    let snap = folder.join(format!("{id}.snap"));
    let unzipped = output_of(Command::new(zstd_command()).arg("-dc").arg(&snap));
    assert!(unzipped == raw, "four frames, one stream");
    // The content size is in every frame, so the tool knows the total without decompressing.
    let listed = String::from_utf8(output_of(
        Command::new(zstd_command()).arg("-lv").arg(&snap),
    ))
    .unwrap();
    assert!(listed.contains("13000000 B"), "{listed}");
}

#[tokio::test]
async fn an_uncompressed_snapshot_of_one_part_is_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let raw = json_records(3, 5_000_000);
    let (folder, id) = snapshot(dir.path(), Codec::None, &[("state", raw.clone())]).await;
    assert!(fs::read(folder.join(format!("{id}.snap"))).unwrap() == raw);
}

#[tokio::test]
async fn the_script_of_the_format_page_gives_back_every_part() {
    let page = include_str!("../../docs/FORMAT.md");
    let (_, after) = page.split_once("```python\n").unwrap();
    let (script, _) = after.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let parts = [
        ("state", json_records(4, 6_000_000)),
        ("empty", Vec::new()),
        ("seg-0", json_records(5, 100)),
    ];
    let (folder, id) = snapshot(dir.path(), Codec::Gzip, &parts).await;
    let script = script.replace("{id}", &id.to_string());
    output_of(
        Command::new("python3")
            .arg("-c")
            .arg(script)
            .current_dir(&folder),
    );
    for (part_id, raw) in parts {
        assert!(fs::read(folder.join(part_id)).unwrap() == raw, "{part_id}");
    }
}
