//! The link between a sidecar and its broker breaks, is slow, is silent; either end dies in the middle of a call.

use std::time::Duration;

use chronik_harness::fault::{LinkState, TcpProxy};

use crate::rig::Rig;

/// How long a broken link stays: a visit on a whole one takes a tenth of it.
const BROKEN_FOR: Duration = Duration::from_millis(1_200);
/// Bytes that a whole visit takes in one direction, with room: listing, export, truncation, listing.
const VISIT_BYTES: usize = 24_000;
const CUTS: usize = 16;

/// A rig whose sidecar reaches its broker through a link.
async fn linked() -> (Rig, TcpProxy) {
    let mut rig = Rig::start(|options| options).await;
    let endpoint = rig.cluster.node(1).unwrap().snapshot_endpoint();
    let link = TcpProxy::start(endpoint.trim_start_matches("http://"))
        .await
        .unwrap();
    let address = format!("http://{}", link.address());
    let sidecar = rig.cluster.sidecar_mut(1).unwrap();
    sidecar.set_env("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", address);
    (rig, link)
}

/// Connections cut after any number of bytes: in the listing, in the header, in the chunks, before the trailer, in
/// the question to truncate and in its answer. Every second time the sidecar dies with the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_after_any_number_of_bytes() {
    let (mut rig, link) = linked().await;
    let mut kills = 0;
    for number in 1..=CUTS {
        rig.produce_enough().await;
        link.set(LinkState::CutAfter(number * VISIT_BYTES / CUTS));
        rig.cluster.start_sidecar(1).unwrap();
        tokio::time::sleep(BROKEN_FOR).await;
        rig.check_safety().await;
        if number % 2 == 0 {
            rig.cluster.kill_sidecar(1).unwrap();
            kills += 1;
            rig.cluster.start_sidecar(1).unwrap();
        }
        link.set(LinkState::Up);
        rig.wait_cut().await;
        rig.check_safety().await;
        rig.cluster.kill_sidecar(1).unwrap();
    }
    // An idle partition is not visited: what was left behind goes with the next snapshot.
    rig.produce_enough().await;
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.wait_clean().await;
    rig.check_records().await;
    println!("EVIDENCE faults_injected {CUTS}");
    println!("EVIDENCE kills {kills}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_slow_silent_or_reset() {
    let (mut rig, link) = linked().await;
    let states = [
        LinkState::Slow(Duration::from_millis(200)),
        LinkState::Rate(10_000),
        LinkState::Silent,
        LinkState::Reset,
    ];
    for (number, state) in (1..).zip(states) {
        rig.cluster.start_sidecar(1).unwrap();
        rig.wait_cut().await;
        // Changes in the middle of whatever the sidecar does then.
        rig.produce_enough().await;
        tokio::time::sleep(Duration::from_millis(300 * number)).await;
        link.set(state);
        rig.produce_enough().await;
        tokio::time::sleep(2 * BROKEN_FOR).await;
        rig.check_safety().await;
        link.set(LinkState::Up);
        rig.wait_cut().await;
        rig.check_safety().await;
        rig.cluster.kill_sidecar(1).unwrap();
    }
    // An idle partition is not visited: what was left behind goes with the next snapshot.
    rig.produce_enough().await;
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.wait_clean().await;
    rig.check_records().await;
    println!("EVIDENCE faults_injected {}", states.len());
}

/// Half an export is no snapshot, and a broker that comes back is another one: what its predecessor said is void.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_in_the_middle_of_an_export() {
    const KILLS: u64 = 4;
    let (mut rig, link) = linked().await;
    for number in 1..=KILLS {
        // More than the connection holds: what a dead process has written still arrives.
        rig.produce_sized(60, 250_000).await;
        link.set(LinkState::Rate(4_000_000));
        rig.cluster.start_sidecar(1).unwrap();
        let exports = begun_exports(&rig) + 1;
        wait_for_export(&mut rig, exports, &format!("the export {number}")).await;
        tokio::time::sleep(Duration::from_millis(250 * number)).await;
        rig.cluster.kill_broker(1).unwrap();
        // Every second time the sidecar dies, too; else it has to make something of half an export.
        let sidecar_dies = number % 2 == 0;
        if sidecar_dies {
            rig.cluster.kill_sidecar(1).unwrap();
        }
        rig.cluster.start_broker(1).unwrap();
        link.set(LinkState::Up);
        rig.cluster.wait_formed().await.unwrap();
        rig.wait_led().await;
        rig.check_safety().await;
        if !sidecar_dies {
            rig.wait_cut().await;
            rig.check_safety().await;
            rig.cluster.kill_sidecar(1).unwrap();
        }
    }
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.wait_clean().await;
    rig.check_safety().await;
    rig.check_records().await;
    println!("EVIDENCE kills {}", KILLS + KILLS / 2);
}

/// Exports of the topic that the sidecar has begun so far.
fn begun_exports(rig: &Rig) -> usize {
    let log = rig.sidecar_log();
    let begun = |line: &&str| line.contains("export started") && line.contains("orders/0");
    log.lines().filter(begun).count()
}

/// Waits until the sidecar has begun `count` exports of the topic.
async fn wait_for_export(rig: &mut Rig, count: usize, what: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while begun_exports(rig) < count {
        let in_time = tokio::time::Instant::now() < deadline;
        assert!(in_time, "{what} did not begin\n{}", rig.cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
