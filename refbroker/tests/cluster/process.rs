//! The program itself: three processes, SIGKILL, SIGTERM.

use std::{
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use chronik_harness::Port;
use refbroker::proto::v1::{
    ListReplicasRequest, ReplicaRole, ReplicaStatus,
    snapshot_broker_service_client::SnapshotBrokerServiceClient,
};

const PATIENCE: Duration = Duration::from_mins(1);

fn three_ports() -> [Port; 3] {
    [(); 3].map(|()| Port::reserve().expect("a free port"))
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(dir: &Path, id: i32, ports: &[Port], kafka: &Port) -> Process {
    let peers = ports.iter().zip(1..);
    let peers: Vec<String> = peers
        .map(|(port, id)| format!("{id}={}", port.address()))
        .collect();
    let peer = &ports[usize::try_from(id - 1).expect("an id")];
    let child = Command::new(env!("CARGO_BIN_EXE_refbroker"))
        .arg("serve")
        .args(["--broker-id", &id.to_string()])
        .args(["--data-dir".as_ref(), dir.join(id.to_string()).as_os_str()])
        .args(["--kafka-listen", &kafka.address()])
        .args(["--peer-listen", &peer.address()])
        .args(["--snapshot-listen", &socket(dir, id)])
        .args(["--peers", &peers.join(",")])
        .args(["--initial-cluster", "new"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("the program starts"))
}

fn socket(dir: &Path, id: i32) -> String {
    format!("unix:{}", dir.join(format!("{id}.sock")).display())
}

async fn meta_replica(dir: &Path, id: i32) -> Option<ReplicaStatus> {
    let endpoint = tonic::transport::Endpoint::from_shared(socket(dir, id)).ok()?;
    let channel = endpoint.connect().await.ok()?;
    let mut client = SnapshotBrokerServiceClient::new(channel);
    let mut stream = client
        .list_replicas(ListReplicasRequest::default())
        .await
        .ok()?
        .into_inner();
    stream.message().await.ok()??.replica
}

async fn until_led(dir: &Path, ids: &[i32]) {
    let since = Instant::now();
    loop {
        let mut roles = Vec::new();
        for id in ids {
            let replica = meta_replica(dir, *id).await;
            roles.extend(replica.map(|replica| (replica.role(), replica.applied_index)));
        }
        let leaders = roles
            .iter()
            .filter(|(role, _)| *role == ReplicaRole::Leader);
        let equal = roles
            .iter()
            .all(|(_, applied)| *applied == roles[0].1 && *applied > 0);
        if roles.len() == ids.len() && leaders.count() == 1 && equal {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "no leader: {roles:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn terminate(mut process: Process) -> ExitStatus {
    let pid = process.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    process.0.wait().expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_survive_sigkill_and_end_cleanly_on_sigterm() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ports, kafka) = (three_ports(), three_ports());
    let start = |id: i32| {
        let at = usize::try_from(id - 1).expect("an id");
        spawn(dir.path(), id, &ports, &kafka[at])
    };
    let first = start(1);
    let second = start(2);
    let third = start(3);
    until_led(dir.path(), &[1, 2, 3]).await;
    drop(first);
    until_led(dir.path(), &[2, 3]).await;
    let first = start(1);
    until_led(dir.path(), &[1, 2, 3]).await;
    // All at once, twice.
    drop((first, second, third));
    let processes = [start(1), start(2), start(3)];
    until_led(dir.path(), &[1, 2, 3]).await;
    for process in processes {
        assert!(terminate(process).success());
    }
}
