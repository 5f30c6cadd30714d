//! A snapshot is restored without this program: by the stock tools, and by the script of docs/FORMAT.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use chronik_snapshotd::{
    config::object_store::Backend,
    format::{Codec, FileName, SnapshotId},
    store::StoreOptions,
};

use crate::{
    rig::{folder, plane, snapshot},
    support::{records::json_records, stores::open},
};

/// Writes a snapshot into a directory; gives the folder with its files, and its id.
async fn snapshot_below(root: &Path, codec: Codec, parts: &[Vec<u8>]) -> (PathBuf, SnapshotId) {
    let root = root.to_path_buf();
    let store = open(
        Backend::Local { root: root.clone() },
        StoreOptions::default(),
    );
    let manifest = snapshot(&plane(), &store, codec, parts).await;
    let (bytes, _) = manifest.seal().unwrap();
    let id = manifest.snapshot_id;
    let folder = folder(&store);
    let key = folder.key(&FileName::Manifest(id).to_string()).unwrap();
    store.put_new(&key, bytes).await.unwrap();
    (root.join(&folder.prefix), id)
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
    let (folder, id) = snapshot_below(dir.path(), Codec::Gzip, std::slice::from_ref(&raw)).await;
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
    let (folder, id) = snapshot_below(dir.path(), Codec::Zstd, std::slice::from_ref(&raw)).await;
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
    let (folder, id) = snapshot_below(dir.path(), Codec::None, std::slice::from_ref(&raw)).await;
    assert!(fs::read(folder.join(format!("{id}.snap"))).unwrap() == raw);
}

#[tokio::test]
async fn the_script_of_the_format_page_gives_back_every_part() {
    let page = include_str!("../../docs/FORMAT.md");
    let (_, after) = page.split_once("```python\n").unwrap();
    let (script, _) = after.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let parts = [json_records(4, 6_000_000), Vec::new(), json_records(5, 100)];
    let (folder, id) = snapshot_below(dir.path(), Codec::Gzip, &parts).await;
    let script = script.replace("{id}", &id.to_string());
    output_of(
        Command::new("python3")
            .arg("-c")
            .arg(script)
            .current_dir(&folder),
    );
    for (part, raw) in parts.iter().enumerate() {
        let part_id = format!("part-{part}");
        assert!(
            fs::read(folder.join(&part_id)).unwrap() == *raw,
            "{part_id}"
        );
    }
}
