//! The broker's half of a Bootstrap conversation, written down for tests.

use std::{net::SocketAddr, time::Duration};

use chronik_snapshotd::proto::v1::{
    self, bootstrap_request, bootstrap_response,
    snapshot_bootstrap_service_client::SnapshotBootstrapServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

/// What a conversation brought.
#[derive(Debug, Default)]
pub struct Seeded {
    pub outcome: Option<v1::BootstrapOutcome>,
    /// Raw bytes of the snapshot that was installed.
    pub bytes: Vec<u8>,
    pub header: Option<v1::SnapshotHeader>,
    /// Snapshots that were taken back in mid-stream.
    pub abandoned: usize,
}

impl Seeded {
    pub fn result(&self) -> v1::BootstrapResult {
        self.outcome.as_ref().map_or(
            v1::BootstrapResult::Unspecified,
            v1::BootstrapOutcome::result,
        )
    }
}

/// A request for orders/0 of the scripted broker, as if its disk were gone.
pub fn lost(min_index: u64) -> v1::BootstrapBegin {
    v1::BootstrapBegin {
        partition: Some(v1::TopicPartition {
            topic: "orders".to_owned(),
            partition: 0,
        }),
        lineage: Some(v1::Lineage {
            cluster_id: "test-cluster".to_owned(),
            incarnation: 1,
            topic_id: "topic-a".to_owned(),
        }),
        boot_id: "boot-1".to_owned(),
        local_state: v1::LocalState::Lost.into(),
        local_log: None,
        min_index,
        accepted_state_codecs: vec!["raw/1".to_owned()],
        restore_uuid: String::new(),
    }
}

/// A conversation of which nothing has been read yet.
pub struct Conversation {
    answers: mpsc::Sender<v1::BootstrapRequest>,
    incoming: Streaming<v1::BootstrapResponse>,
}

impl Conversation {
    pub async fn open(sidecar: SocketAddr, begin: v1::BootstrapBegin) -> Result<Self, Status> {
        Self::open_traced(sidecar, begin, None).await
    }

    /// As part of a trace.
    pub async fn open_traced(
        sidecar: SocketAddr,
        begin: v1::BootstrapBegin,
        traceparent: Option<&str>,
    ) -> Result<Self, Status> {
        let client = SnapshotBootstrapServiceClient::connect(format!("http://{sidecar}")).await;
        let mut client =
            client.map_err(|error| Status::internal(format!("no connection: {error}")))?;
        let (answers, outgoing) = mpsc::channel(4);
        let mut call = Request::new(ReceiverStream::new(outgoing));
        if let Some(traceparent) = traceparent {
            let metadata = call.metadata_mut();
            metadata.insert("traceparent", traceparent.parse().unwrap());
        }
        let conversation = client.bootstrap(call);
        let begin = bootstrap_request::Message::Begin(begin);
        let begun = async {
            answers.send(request(begin)).await.unwrap();
            conversation.await
        };
        let incoming = begun.await?.into_inner();
        Ok(Self { answers, incoming })
    }

    /// The next message; none at the end.
    pub async fn next(&mut self) -> Result<Option<bootstrap_response::Message>, Status> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.incoming.message()).await;
        let response = next.expect("a sign of life within 60 s")?;
        Ok(response.map(|response| response.message.unwrap()))
    }
}

fn request(message: bootstrap_request::Message) -> v1::BootstrapRequest {
    v1::BootstrapRequest {
        message: Some(message),
    }
}

/// Runs a conversation to its end, taking whatever snapshot comes complete.
pub async fn seed(sidecar: SocketAddr, begin: v1::BootstrapBegin) -> Result<Seeded, Status> {
    take(Conversation::open(sidecar, begin).await?).await
}

/// Takes whatever snapshot comes complete, until the conversation ends.
pub async fn take(mut conversation: Conversation) -> Result<Seeded, Status> {
    let mut seeded = Seeded::default();
    let mut snapshot_id = String::new();
    loop {
        let Some(message) = conversation.next().await? else {
            return Ok(seeded);
        };
        match message {
            bootstrap_response::Message::Progress(_) => {}
            bootstrap_response::Message::Snapshot(snapshot) => {
                seeded.bytes.clear();
                seeded.header = snapshot.header;
                snapshot_id = snapshot.snapshot_id;
            }
            bootstrap_response::Message::Chunk(chunk) => {
                seeded.bytes.extend_from_slice(&chunk.data);
            }
            bootstrap_response::Message::Trailer(trailer) => {
                let installed = v1::BootstrapInstalled {
                    snapshot_id: snapshot_id.clone(),
                    last_included: trailer.last_included,
                };
                let installed = bootstrap_request::Message::Installed(installed);
                let sent = conversation.answers.send(request(installed));
                sent.await.unwrap();
            }
            bootstrap_response::Message::Abandon(_) => seeded.abandoned += 1,
            bootstrap_response::Message::Outcome(outcome) => seeded.outcome = Some(outcome),
        }
    }
}
