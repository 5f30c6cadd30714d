//! Stores that fail, lie and forget: every kind of fault on every kind of request, and the sidecar gets through.

use std::sync::atomic::{AtomicU64, Ordering};

use chronik_harness::fault::{HttpFault, Seen};

use crate::rig::Rig;

/// More than the client's own retries, so that the failure is seen above them.
const TIMES_RETRIED: u64 = 6;
/// Of faults that the client does not retry.
const TIMES: u64 = 2;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    List,
    ReadData,
    ReadObject,
    Look,
    WriteData,
    WriteManifest,
    WriteProof,
    Delete,
}

fn purpose(seen: &Seen) -> Purpose {
    let path = seen.target.split('?').next().unwrap_or_default();
    let is_data = path.rsplit('.').next() == Some("snap");
    match seen.method.as_str() {
        "GET" if seen.target.contains("list-type") => Purpose::List,
        "GET" if is_data => Purpose::ReadData,
        "GET" => Purpose::ReadObject,
        "HEAD" => Purpose::Look,
        "DELETE" => Purpose::Delete,
        _ if path.ends_with(".manifest.json") => Purpose::WriteManifest,
        _ if path.ends_with(".verified.json") => Purpose::WriteProof,
        _ => Purpose::WriteData,
    }
}

/// The first requests of this purpose go wrong. The log may be cut only behind what is really there, meanwhile and
/// afterwards, and the sidecar gets through by itself.
async fn gets_through(rig: &mut Rig, wrong: Purpose, fault: HttpFault) {
    let retried = [
        HttpFault::SlowDown,
        HttpFault::Status(500),
        HttpFault::LostAnswer,
    ];
    let times = if retried.contains(&fault) {
        TIMES_RETRIED
    } else {
        TIMES
    };
    // A new process meets them: no back-off is left from the fault before.
    rig.cluster.kill_sidecar(1).unwrap();
    let before = rig.proxy.faults();
    let left = AtomicU64::new(times);
    let planned = fault.clone();
    rig.proxy.script(move |seen: &Seen| {
        if purpose(seen) != wrong {
            return None;
        }
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        });
        taken.ok().map(|_| planned.clone())
    });
    rig.produce_enough().await;
    rig.cluster.start_sidecar(1).unwrap();
    rig.check_safety().await;
    rig.wait_cut().await;
    rig.check_safety().await;
    rig.proxy.heal();
    let faults = rig.proxy.faults() - before;
    assert!(faults > 0, "no request went wrong: {wrong:?} {fault:?}");
}

/// Each fault on requests of each purpose.
fn every(purposes: &[Purpose], faults: &[HttpFault]) -> Vec<(Purpose, HttpFault)> {
    purposes
        .iter()
        .flat_map(|purpose| faults.iter().map(|fault| (*purpose, fault.clone())))
        .collect()
}

async fn survives(faults: &[(Purpose, HttpFault)]) {
    let mut rig = Rig::start(|options| options).await;
    for (wrong, fault) in faults {
        gets_through(&mut rig, *wrong, fault.clone()).await;
    }
    rig.check_records().await;
    println!("EVIDENCE faults_injected {}", rig.proxy.faults());
}

/// On requests of every purpose.
async fn survives_everywhere(fault: HttpFault) {
    let purposes = [
        Purpose::List,
        Purpose::ReadData,
        Purpose::ReadObject,
        Purpose::Look,
        Purpose::WriteData,
        Purpose::WriteManifest,
        Purpose::WriteProof,
    ];
    survives(&every(&purposes, &[fault])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_too_fast() {
    survives_everywhere(HttpFault::SlowDown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail() {
    survives_everywhere(HttpFault::Status(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_denied() {
    survives_everywhere(HttpFault::Status(403)).await;
}

/// On requests that change something.
async fn survives_on_writes(fault: HttpFault) {
    let purposes = [
        Purpose::WriteData,
        Purpose::WriteManifest,
        Purpose::WriteProof,
    ];
    survives(&every(&purposes, &[fault])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_whose_fate_is_unknown() {
    survives_on_writes(HttpFault::LostAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_succeed_with_an_error_inside() {
    survives_on_writes(HttpFault::ErrorIn200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_are_lost() {
    survives_on_writes(HttpFault::Swallowed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_are_short_wrong_or_say_that_nothing_is_there() {
    let purposes = [Purpose::List, Purpose::ReadData, Purpose::ReadObject];
    let faults = [
        HttpFault::HalfAnswer,
        HttpFault::FlippedAnswer,
        HttpFault::Status(404),
    ];
    let mut all = every(&purposes, &faults);
    all.push((Purpose::Look, HttpFault::Status(404)));
    survives(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_store_stops_nothing_but_snapshots() {
    let mut rig = Rig::start(|options| options.sidecar_env("PROGRESS_TIMEOUT_SECS", "2")).await;
    rig.cluster.start_sidecar(1).unwrap();
    rig.produce_enough().await;
    rig.wait_cut().await;
    rig.store.process.pause().unwrap();
    rig.produce_enough().await;
    rig.check_safety().await;
    let node = rig.cluster.node(1).unwrap();
    assert_eq!(
        node.status().await.unwrap().partitions.len(),
        2,
        "the sidecar answers"
    );
    rig.store.process.resume().unwrap();
    rig.wait_cut().await;
    rig.check_safety().await;
    rig.check_records().await;
}
