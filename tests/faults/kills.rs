//! kill -9 of the sidecar at every request that it makes to its store, before and after the request took effect.
//!
//! Whatever a sidecar does is a sequence of such requests with calls to its broker between them, so these are all the
//! steps that it can die at. The calls to the broker lie between the request before and the one after.

use chronik_harness::fault::HttpFault;

use crate::rig::Rig;

/// Environment variable: kill at every n-th request only.
const STRIDE_VARIABLE: &str = "FAULTS_KILL_STRIDE";
/// Without it; 1 kills at every request, which takes some minutes.
const STRIDE: usize = 12;
/// More requests than one visit makes: listing, upload, commit, verification, truncation, retention, deletion.
const MORE_THAN_ALL: u64 = 200;

async fn killed_at_every_request(fault: HttpFault) {
    let mut rig = Rig::start(|options| options).await;
    let (mut kills, mut last) = (0, 0);
    let stride = std::env::var(STRIDE_VARIABLE).map(|it| it.parse().unwrap());
    for request in (1..MORE_THAN_ALL).step_by(stride.unwrap_or(STRIDE)) {
        rig.produce_enough().await;
        let reached = rig.stopped_at(request, fault.clone()).await;
        rig.cluster.kill_sidecar(1).unwrap();
        kills += 1;
        last = request;
        rig.check_safety().await;
        if !reached {
            break;
        }
    }
    // The identity alone takes requests; a visit with upload, commit, proof, cut and deletion takes many more.
    assert!(last > 20, "only {last} requests were made");
    rig.proxy.heal();
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.wait_clean().await;
    rig.check_safety().await;
    rig.check_records().await;
    println!("EVIDENCE kills {kills}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_killed_before_any_request_leaves_nothing_uncovered() {
    killed_at_every_request(HttpFault::StopBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_killed_after_any_request_leaves_nothing_uncovered() {
    killed_at_every_request(HttpFault::StopAfter).await;
}
