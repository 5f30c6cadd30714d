//! What must hold of any request that a broker or an operator may send. See [`crate::fuzzing`].

use std::{sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status};

use super::{AdminService, convert};
use crate::{
    board::Board,
    clock::SystemClock,
    control::{self, Command, Triggered},
    proto::v1::{self, snapshot_admin_service_server::SnapshotAdminService as _},
    raft::{Lineage, LogId, TopicPartition, check_id},
};

const LONGEST_PAUSE: Duration = Duration::from_hours(7 * 24);
const LARGEST_PAGE: usize = 1000;

/// The first byte chooses the call, the rest is its request.
pub(crate) fn requests(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    if kind % 5 == 0 {
        bootstrap(data);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    if let Ok(runtime) = runtime {
        runtime.block_on(admin(kind % 5, data));
    }
}

fn bootstrap(data: &[u8]) {
    let Ok(begin) = v1::BootstrapBegin::decode(data) else {
        return;
    };
    let sent = begin.clone();
    let request = match convert::restore_request(begin) {
        Ok(request) => request,
        Err(status) => return assert_refusal(&status),
    };
    assert_partition(&request.partition);
    assert_eq!(Some((&request.partition).into()), sent.partition);
    let lineage = &request.lineage;
    assert!(Lineage::new(&lineage.cluster_id, lineage.incarnation, &lineage.topic_id).is_ok());
    assert!(check_id("boot_id", &request.boot_id).is_ok());
    assert!(!request.accepted_state_codecs.is_empty());
    assert_eq!(request.min_index, sent.min_index);
    assert_ne!(sent.local_state, 0, "nobody said what is on the disk");
}

/// What is refused is the caller's fault, and the caller is told which.
fn assert_refusal(status: &Status) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(!status.message().is_empty());
}

fn assert_partition(partition: &TopicPartition) {
    assert!((1..=249).contains(&partition.topic.len()));
    assert!(i32::try_from(partition.partition).is_ok());
}

/// Calls the real service; what reaches the scheduler is checked before it is answered.
async fn admin(kind: u8, data: &[u8]) {
    let board = Arc::new(Board::new());
    for number in 0..3 {
        for topic in ["a", "orders"] {
            if let Ok(partition) = TopicPartition::new(topic, number) {
                board.put(&partition, |_| {});
            }
        }
    }
    let (control, commands) = control::channel();
    let service = AdminService::new(board, control, Arc::new(SystemClock));
    let call = async {
        let called = call(&service, kind, data).await;
        drop(service);
        called
    };
    let (called, ()) = tokio::join!(call, scheduler(commands));
    if let Some(Err(status)) = called {
        assert_refusal(&status);
    }
}

/// The outcome; `None` = these bytes are no such request.
async fn call(service: &AdminService, kind: u8, data: &[u8]) -> Option<Result<(), Status>> {
    match kind {
        1 => {
            let request = Request::new(v1::GetStatusRequest::decode(data).ok()?);
            let topic = request.get_ref().topic.clone();
            let answer = service.get_status(request).await;
            Some(answer.map(|answer| {
                let page = answer.into_inner();
                assert!(page.partitions.len() <= LARGEST_PAGE);
                let of_topic = |status: &v1::PartitionStatus| {
                    status
                        .partition
                        .as_ref()
                        .is_some_and(|it| it.topic == topic)
                };
                assert!(topic.is_empty() || page.partitions.iter().all(of_topic));
            }))
        }
        2 => {
            let request = Request::new(v1::TriggerSnapshotRequest::decode(data).ok()?);
            Some(service.trigger_snapshot(request).await.map(drop))
        }
        3 => {
            let request = Request::new(v1::PausePartitionRequest::decode(data).ok()?);
            Some(service.pause_partition(request).await.map(drop))
        }
        _ => {
            let request = Request::new(v1::ResumePartitionRequest::decode(data).ok()?);
            Some(service.resume_partition(request).await.map(drop))
        }
    }
}

/// Says yes to everything that is legal. An answer that nobody waits for any more is lost, as it should be.
async fn scheduler(mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Trigger {
                partition, reply, ..
            } => {
                assert_partition(&partition);
                let _ = reply.send(Ok(Triggered::Proven {
                    snapshot_id: String::new(),
                    last_included: LogId::new(1, 1),
                    already_covered: true,
                }));
            }
            Command::Pause {
                partition,
                ttl,
                reply,
                ..
            } => {
                assert_partition(&partition);
                let legal = |ttl: Duration| !ttl.is_zero() && ttl <= LONGEST_PAUSE;
                assert!(ttl.is_none_or(legal), "{ttl:?}");
                let _ = reply.send(Ok(()));
            }
            Command::Resume { partition, reply } => {
                assert_partition(&partition);
                let _ = reply.send(Ok(true));
            }
        }
    }
}

/// Inputs to begin with.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let of_kind = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    let partition = || {
        Some(v1::TopicPartition {
            topic: "orders".to_owned(),
            partition: 2,
        })
    };
    let begin = v1::BootstrapBegin {
        partition: partition(),
        lineage: Some(v1::Lineage {
            cluster_id: "prod-eu".to_owned(),
            incarnation: 1,
            topic_id: "tq3Xk9".to_owned(),
        }),
        boot_id: "boot-1".to_owned(),
        local_state: 3,
        min_index: 9_000,
        accepted_state_codecs: vec!["raw/1".to_owned()],
        ..Default::default()
    };
    let status = v1::GetStatusRequest {
        page_size: 2,
        page_token: "a/1".to_owned(),
        topic: "orders".to_owned(),
    };
    let trigger = v1::TriggerSnapshotRequest {
        partition: partition(),
        wait: true,
    };
    let pause = v1::PausePartitionRequest {
        partition: partition(),
        ttl_ms: 60_000,
        reason: "maintenance".to_owned(),
    };
    let resume = v1::ResumePartitionRequest {
        partition: partition(),
    };
    let nameless = v1::ResumePartitionRequest {
        partition: Some(v1::TopicPartition::default()),
    };
    let long = v1::PausePartitionRequest {
        ttl_ms: u64::MAX,
        ..pause.clone()
    };
    let no_codec = v1::BootstrapBegin {
        accepted_state_codecs: Vec::new(),
        ..begin.clone()
    };
    vec![
        ("refused-nameless", of_kind(4, nameless.encode_to_vec())),
        ("refused-long-pause", of_kind(3, long.encode_to_vec())),
        ("refused-no-codec", of_kind(0, no_codec.encode_to_vec())),
        ("begin", of_kind(0, begin.encode_to_vec())),
        ("status", of_kind(1, status.encode_to_vec())),
        ("trigger", of_kind(2, trigger.encode_to_vec())),
        ("pause", of_kind(3, pause.encode_to_vec())),
        ("resume", of_kind(4, resume.encode_to_vec())),
    ]
}
