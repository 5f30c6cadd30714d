//! The contract with the sidecar, over the wire.

use std::time::Duration;

use refbroker::{
    api::Node as _,
    proto::v1::{ExportSnapshotRequest, LogId, ReplicaRole},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::common::{
    Cluster, PATIENCE, batch,
    sidecar::{Snapshot, partition},
};

/// The bytes of all parts but the last, which is the state without its records.
fn records(snapshot: &Snapshot) -> Vec<u8> {
    let state = u32::try_from(snapshot.header.parts.len() - 1).unwrap();
    let chunks = snapshot.chunks.iter().filter(|chunk| chunk.part != state);
    chunks.flat_map(|chunk| chunk.data.to_vec()).collect()
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_under_full_load_is_one_point_in_time() {
    let cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 500).await;
    let leader = cluster.elected("t").await;
    let exports = async {
        let mut exports = Vec::new();
        for _ in 0..10 {
            exports.push(cluster.export(leader, "t").await);
        }
        exports
    };
    let (exports, ()) = tokio::join!(exports, cluster.fill("t", 500, 3000));
    let whole = cluster.export(leader, "t").await;
    let all = records(&whole);
    for export in &exports {
        let part = records(export);
        assert_eq!(part, all[..part.len()]);
        // One record an entry, beside the leader's first, empty one.
        let index = export.header.last_included.unwrap().index;
        let entries = part.windows(1).count();
        assert!(entries > 0 && index > 500);
        let mut count = 0;
        let mut rest = &part[..];
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[8..12].try_into().unwrap());
            rest = &rest[12 + usize::try_from(length).unwrap()..];
            count += 1;
        }
        assert_eq!(count + 1, index);
        assert_eq!(export.trailer.last_included, export.header.last_included);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_leaders_export_has_nothing_of_its_uncommitted_tail() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 100).await;
    let leader = cluster.elected("t").await;
    let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    for id in &others {
        cluster.kill(*id).await;
    }
    // Entries that nobody else has. Their clients get no answer.
    let node = cluster.running[&leader].node();
    for number in 0..5_u8 {
        let lost = node.append("t", 0, batch(&[0xee, number]), Duration::from_millis(50));
        lost.await.unwrap_err();
    }
    let status = cluster.replica(leader, "t").await;
    assert_eq!(status.last_log_index, status.applied_index + 5);
    let snapshot = cluster.export(leader, "t").await;
    let last = snapshot.header.last_included.unwrap();
    assert_eq!(last.index, status.applied_index);
    drop(node);
    cluster.kill(leader).await;
    for id in &others {
        cluster.restart(*id).await;
    }
    let new_leader = cluster.elected("t").await;
    cluster.fill("t", 100, 50).await;
    assert_eq!(cluster.read_all("t").await.len(), 150);
    // Index and term are those of an entry that the group agreed on, and so is every byte. (The dead one may hold
    // the log, which is looked at last.)
    let compacted = cluster.compact(new_leader, "t", &snapshot).await;
    if let Err(refused) = compacted {
        assert_eq!(reason(&refused), "HELD");
    }
    let (before, now) = (
        records(&snapshot),
        records(&cluster.export(new_leader, "t").await),
    );
    assert_eq!(before, now[..before.len()]);
    assert!(!before.contains(&0xee));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_parts_that_the_sidecar_has_are_not_sent_again_whoever_sealed_them() {
    let cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 3000).await;
    cluster
        .until("brokers 1 and 2 applied the same", |cluster| {
            let applied = |id| cluster.status(id, "t").unwrap().applied_index;
            applied(1) > 3000 && applied(1) == applied(2)
        })
        .await;
    let first = cluster.export(1, "t").await;
    let sealed = first.header.parts.iter().filter(|part| part.sealed);
    let have_parts: Vec<String> = sealed.map(|part| part.part_id.clone()).collect();
    assert!(have_parts.len() >= 2);
    let request = ExportSnapshotRequest {
        partition: Some(partition("t")),
        expected_lineage: Some(cluster.lineage("t")),
        newer_than_index: 0,
        have_parts: have_parts.clone(),
    };
    let second = cluster.export_with(2, request.clone()).await.unwrap();
    let omitted = second.header.parts.iter().filter(|part| part.omitted);
    assert_eq!(omitted.count(), have_parts.len());
    assert_eq!(
        second.trailer.digests.len(),
        second.header.parts.len() - have_parts.len()
    );
    assert_eq!(
        second.trailer.digests[0],
        first.trailer.digests[have_parts.len()]
    );

    let newest = ExportSnapshotRequest {
        newer_than_index: u64::MAX,
        ..request.clone()
    };
    let refused = cluster.export_with(2, newest).await.err().unwrap();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "NOTHING_NEWER")
    );
    let mut other = request;
    other.expected_lineage.as_mut().unwrap().topic_id = "x".to_owned();
    let refused = cluster.export_with(2, other).await.err().unwrap();
    assert_eq!(reason(&refused), "LINEAGE_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_compacted_only_when_every_precondition_holds() {
    let mut cluster = Cluster::start(1).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 300).await;
    let snapshot = cluster.export(1, "t").await;
    let last = snapshot.header.last_included.unwrap();
    let good = cluster.compact_request(1, "t", &snapshot, last.index - 100);
    let mut client = cluster.sidecar(1).await;
    let cases = [
        ("BOOT_ID_MISMATCH", Code::Aborted, {
            let mut request = good.clone();
            request.boot_id = "old".to_owned();
            request
        }),
        ("LINEAGE_MISMATCH", Code::FailedPrecondition, {
            let mut request = good.clone();
            request.lineage.as_mut().unwrap().incarnation = 2;
            request
        }),
        ("NOT_HOSTED", Code::NotFound, {
            let mut request = good.clone();
            request.partition = Some(partition("nowhere"));
            request
        }),
        ("NOT_APPLIED", Code::FailedPrecondition, {
            let mut request = good.clone();
            request.snapshot_last_included.as_mut().unwrap().index = last.index + 1000;
            request
        }),
        ("TERM_MISMATCH", Code::FailedPrecondition, {
            let mut request = good.clone();
            request.snapshot_last_included.as_mut().unwrap().term = last.term + 1;
            request
        }),
        ("INVALID_REQUEST", Code::InvalidArgument, {
            let mut request = good.clone();
            request.through_index = last.index + 1;
            request
        }),
    ];
    for (expected, code, request) in cases {
        let refused = client.compact_log(request).await.err().unwrap();
        assert_eq!(
            (reason(&refused).as_str(), refused.code()),
            (expected, code)
        );
        assert_eq!(cluster.replica(1, "t").await.first_log_index, 1);
    }
    let done = client.compact_log(good.clone()).await.unwrap().into_inner();
    assert_eq!(done.first_log_index, last.index - 99);
    assert!(done.freed_bytes > 0);
    // Again, and further back: success, nothing freed.
    for through in [good.through_index, 1] {
        let request = cluster.compact_request(1, "t", &snapshot, through);
        let again = client.compact_log(request).await.unwrap().into_inner();
        assert_eq!(
            (again.first_log_index, again.freed_bytes),
            (last.index - 99, 0)
        );
    }
    // Records stay, whatever happens to the log (invariant 22), also after a crash.
    assert_eq!(cluster.read_all("t").await.len(), 300);
    cluster.compact(1, "t", &snapshot).await.unwrap();
    cluster.kill(1).await;
    cluster.restart(1).await;
    assert_eq!(cluster.read_all("t").await.len(), 300);
    let replica = cluster.replica(1, "t").await;
    assert_eq!(replica.first_log_index, last.index + 1);
    assert_eq!(replica.role(), ReplicaRole::Leader);
    cluster.append("t", batch(b"more")).await;
    assert_eq!(cluster.read_all("t").await.len(), 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lags_a_little_holds_the_log_and_one_that_lags_much_does_not() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 100).await;
    let leader = cluster.elected("t").await;
    let down = leader % 3 + 1;
    cluster
        .until("all caught up", |cluster| {
            cluster.status(down, "t").unwrap().applied_index
                == cluster.status(leader, "t").unwrap().applied_index
        })
        .await;
    cluster.kill(down).await;
    cluster.fill("t", 100, 100).await;
    cluster
        .until("the leader knows", |cluster| {
            cluster.status(leader, "t").unwrap().hold_index != 0
        })
        .await;
    let snapshot = cluster.export(leader, "t").await;
    let refused = cluster.compact(leader, "t", &snapshot).await.err().unwrap();
    assert_eq!(reason(&refused), "HELD");
    let hold = cluster.replica(leader, "t").await.hold_index;
    let request = cluster.compact_request(leader, "t", &snapshot, hold - 1);
    cluster
        .sidecar(leader)
        .await
        .compact_log(request)
        .await
        .unwrap();

    cluster.fill("t", 200, 500).await;
    let snapshot = cluster.export(leader, "t").await;
    let LogId { index, .. } = snapshot.header.last_included.unwrap();
    let done = cluster.compact(leader, "t", &snapshot).await.unwrap();
    assert_eq!(done.first_log_index, index + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_frees_the_disk() {
    let cluster = Cluster::start(1).await;
    cluster.topic("t").await;
    let leader = cluster.elected("t").await;
    let node = cluster.running[&leader].node();
    for _ in 0..40 {
        let payload = batch(&[7; 1024]);
        let appends = (0..1000).map(|_| node.append("t", 0, payload.clone(), PATIENCE));
        for appended in futures::future::join_all(appends).await {
            appended.unwrap();
        }
    }
    let log_files = || {
        let files = std::fs::read_dir(cluster.data_dir(1).join("log")).unwrap();
        let sizes = files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len()));
        sizes.sum::<u64>()
    };
    let before = (cluster.replica(1, "t").await.log_size_bytes, log_files());
    assert!(before.0 > 40 << 20 && before.1 > 40 << 20, "{before:?}");
    let snapshot = cluster.export(1, "t").await;
    let done = cluster.compact(1, "t", &snapshot).await.unwrap();
    assert!(done.freed_bytes > before.0 * 9 / 10);
    assert!(cluster.replica(1, "t").await.log_size_bytes < before.0 / 10);
    // What remains is the file being written and a few that are rewritten.
    cluster
        .until("the files are gone", |_| log_files() < before.1 / 3)
        .await;
}
