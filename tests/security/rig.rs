//! A daemon with certificates, and clients of it.

use chronik_snapshotd::proto::v1::{
    self, snapshot_admin_service_client::SnapshotAdminServiceClient,
    snapshot_bootstrap_service_client::SnapshotBootstrapServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    certificates::{Authority, Files, Pair},
    daemon::{Daemon, Setup},
    scripted_broker::ScriptedBroker,
    tls::{TlsClient, told},
};

/// A daemon whose LISTEN is encrypted.
pub(crate) struct Rig {
    pub(crate) authority: Authority,
    pub(crate) daemon: Daemon,
    _broker: ScriptedBroker,
    pub(crate) dir: tempfile::TempDir,
}

impl Rig {
    /// With a certificate for localhost and these variables besides. `clients`: their authority, if they need
    /// certificates.
    pub(crate) async fn start(clients: Option<&Authority>, env: &[(&str, &str)]) -> Self {
        let authority = Authority::new("servers");
        let own = authority.server();
        Self::start_with(authority, &own, clients, env).await
    }

    pub(crate) async fn start_with(
        authority: Authority,
        own: &Pair,
        clients: Option<&Authority>,
        env: &[(&str, &str)],
    ) -> Self {
        let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
        let files = Files(dir.path());
        let (cert, key) = files.pair("server", own);
        let ca = clients.map(|clients| files.authority("clients", clients));
        let mut all = vec![
            ("CHRONIK_SNAPSHOT_TLS_CERT", cert.as_str()),
            ("CHRONIK_SNAPSHOT_TLS_KEY", key.as_str()),
        ];
        if let Some(ca) = &ca {
            all.push(("CHRONIK_SNAPSHOT_TLS_CLIENT_CA", ca));
        }
        all.extend_from_slice(env);
        let daemon = Daemon::start(&Setup {
            broker: broker.address,
            dir: dir.path(),
            env: &all,
        });
        Self {
            authority,
            daemon,
            _broker: broker,
            dir,
        }
    }

    pub(crate) fn client(&self, own: Option<&Pair>) -> TlsClient {
        TlsClient::new(self.daemon.listen, &self.authority, own)
    }

    /// The status over a connection of its own, or what went wrong on the way.
    pub(crate) async fn status(&self, client: &TlsClient) -> Result<(), String> {
        let asked = status(client.channel().await?).await;
        asked.map_err(|status| told(&status))
    }

    /// Waits until the daemon knows its broker's partition.
    pub(crate) fn wait_partition(&self) {
        let tick = "chronik_snapshot_loop_last_tick_timestamp_seconds";
        self.daemon
            .wait("a tick", |daemon| daemon.metric(tick) > 0.5);
    }

    pub(crate) fn files(&self) -> Files<'_> {
        Files(self.dir.path())
    }
}

pub(crate) async fn status(channel: Channel) -> Result<(), Status> {
    let mut admin = SnapshotAdminServiceClient::new(channel);
    let asked = admin.get_status(v1::GetStatusRequest::default()).await;
    asked.map(drop)
}

/// A pause, which is what an operator does.
pub(crate) async fn pause(channel: Channel) -> Result<(), Status> {
    let mut admin = SnapshotAdminServiceClient::new(channel);
    let request = v1::PausePartitionRequest {
        partition: Some(v1::TopicPartition {
            topic: "orders".to_owned(),
            partition: 0,
        }),
        ttl_ms: 0,
        reason: "a test".to_owned(),
    };
    admin.pause_partition(request).await.map(drop)
}

/// A call of Bootstrap by a broker whose state is intact, which is the shortest.
pub(crate) async fn bootstrap(channel: Channel) -> Result<v1::BootstrapResult, Status> {
    let mut client = SnapshotBootstrapServiceClient::new(channel);
    let begin = v1::BootstrapBegin {
        local_state: v1::LocalState::Intact.into(),
        ..crate::support::seeding::lost(0)
    };
    let request = v1::BootstrapRequest {
        message: Some(v1::bootstrap_request::Message::Begin(begin)),
    };
    let answers = client.bootstrap(tokio_stream::iter([request])).await?;
    let answer = answers.into_inner().message().await?;
    match answer.and_then(|answer| answer.message) {
        Some(v1::bootstrap_response::Message::Outcome(outcome)) => Ok(outcome.result()),
        other => panic!("{other:?}"),
    }
}

/// Asserts `PERMISSION_DENIED` with all of these in its message.
#[track_caller]
pub(crate) fn assert_denied(status: &Status, parts: &[&str]) {
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    for part in parts {
        assert!(
            status.message().contains(part),
            "{part:?} is missing: {status:?}"
        );
    }
}
