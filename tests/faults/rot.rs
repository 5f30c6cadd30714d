//! A store that corrupts what it was given, and one that lets nobody in any more.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chronik_harness::fault::{HttpFault, Seen};
use chronik_snapshotd::format::Manifest;

use crate::rig::{Rig, TOPIC};

fn flip_a_byte(file: &PathBuf) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// The bytes are wrong on the server's disk before anybody has read them back.
#[tokio::test(flavor = "multi_thread")]
async fn what_rots_before_it_is_read_back_is_never_truncated_on() {
    let mut rig = Rig::start(|options| options).await;
    rig.produce_enough().await;
    let folder = rig.folder();
    let done = Arc::new(AtomicBool::new(false));
    let once = done.clone();
    rig.proxy.script(move |seen: &Seen| {
        let path = Path::new(seen.target.split('?').next()?);
        let of_topic = seen.target.contains(&format!("/{TOPIC}/0/"));
        let is_data = path.extension().is_some_and(|it| it == "snap");
        let reads_data = seen.method == "GET" && of_topic && is_data;
        if reads_data && !once.swap(true, Ordering::SeqCst) {
            let snaps = fs::read_dir(&folder).unwrap();
            let paths = snaps.map(|entry| entry.unwrap().path());
            paths
                .filter(|path| path.extension().is_some_and(|it| it == "snap"))
                .for_each(|path| flip_a_byte(&path));
        }
        None
    });
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_logged("snapshot quarantined").await;
    rig.check_safety().await;
    rig.wait_cut().await;
    rig.check_safety().await;
    assert!(done.load(Ordering::SeqCst));
    assert_eq!(rig.stored(".quarantined.json").len(), 1);
    rig.check_records().await;
    println!("EVIDENCE faults_injected 1");
}

/// Flips a byte of every block of the newest snapshot: whichever is looked at, it shows.
fn damage_newest(rig: &Rig) {
    let newest = rig.stored(".manifest.json").pop().unwrap();
    let manifest = Manifest::decode(&fs::read(newest).unwrap()).unwrap();
    for block in manifest.parts.iter().flat_map(|part| &part.blocks) {
        let file = usize::try_from(block.file).unwrap();
        let path = rig.folder().join(&manifest.references[file]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(block.offset_bytes).unwrap()] ^= 0x10;
        fs::write(path, bytes).unwrap();
    }
}

/// Proven, and then the disk rots before the log is truncated: the truncation looks at the files again.
#[tokio::test(flavor = "multi_thread")]
async fn what_rots_after_its_proof_is_not_truncated_on_and_replaced() {
    const TIMES: usize = 3;
    let mut rig = Rig::start(|options| options.sidecar_env("RETENTION_COUNT", "10")).await;
    for time in 1..=TIMES {
        rig.produce_enough().await;
        rig.set_option("COMPACT", "false");
        rig.cluster.start_sidecar(1).unwrap();
        rig.wait_proven(2 * time - 1).await;
        rig.cluster.kill_sidecar(1).unwrap();
        damage_newest(&rig);
        rig.set_option("COMPACT", "true");
        rig.cluster.start_sidecar(1).unwrap();
        rig.wait_cut().await;
        rig.check_safety().await;
        assert_eq!(rig.stored(".quarantined.json").len(), time);
        rig.cluster.kill_sidecar(1).unwrap();
    }
    rig.check_records().await;
    println!("EVIDENCE faults_injected {TIMES}");
}

/// The access key is rotated while an upload is under way: the operator is told so, and nothing is truncated.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_rotated_in_mid_upload() {
    const NEW_SECRET: &str = "aN0ther+secret/0f+the+tests";
    let mut rig = Rig::start(|options| options.sidecar_env("COMPRESSION", "none")).await;
    // More than one part of an upload.
    rig.produce_sized(60, 400_000).await;
    let second_part = |seen: &Seen| seen.target.contains("partNumber=2&");
    rig.proxy
        .script(move |seen: &Seen| second_part(seen).then_some(HttpFault::Held));
    let mut stopped = rig.proxy.stopped();
    let before = *stopped.borrow_and_update();
    rig.cluster.start_sidecar(1).unwrap();
    let reached = stopped.wait_for(|now| *now > before);
    tokio::time::timeout(std::time::Duration::from_mins(1), reached)
        .await
        .unwrap()
        .unwrap();
    rig.store.rotate_secret(NEW_SECRET).await.unwrap();
    rig.proxy.heal();
    rig.wait_store_away("403 Forbidden").await;
    rig.check_safety().await;
    assert!(rig.stored(".manifest.json").is_empty());

    rig.cluster.kill_sidecar(1).unwrap();
    let sidecar = rig.cluster.sidecar_mut(1).unwrap();
    sidecar.set_env("S3_SECRET_KEY", NEW_SECRET);
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.wait_clean().await;
    rig.check_safety().await;
    rig.check_records().await;
    println!("EVIDENCE faults_injected 1");
}
