//! What a broker tells its sidecar, asked from outside: identity, replicas, and what an export would hold.

use std::time::Duration;

use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::error::ClientError;
use crate::proto::v1::{
    DescribeBrokerRequest, DescribeBrokerResponse, ExportSnapshotRequest, Lineage,
    ListReplicasRequest, ReplicaStatus, SnapshotHeader, SnapshotTrailer, export_snapshot_response,
    snapshot_broker_service_client::SnapshotBrokerServiceClient,
};

/// Longest time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The version of the protocol that this client speaks.
const PROTOCOL: u32 = 1;
/// Replicas of one broker beyond which the answer is refused.
const MAX_REPLICAS: usize = 100_000;

/// Who the broker at `endpoint` (`http://HOST:PORT`) is.
pub async fn describe(endpoint: &str) -> Result<DescribeBrokerResponse, ClientError> {
    let mut client = connect(endpoint)?;
    let request = DescribeBrokerRequest {
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
    };
    let answer = client.describe_broker(Request::new(request)).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| failed("DescribeBroker", endpoint, status))
}

/// The replicas that run on the broker at `endpoint`, ordered by topic and partition.
pub async fn list_replicas(endpoint: &str) -> Result<Vec<ReplicaStatus>, ClientError> {
    let fail = |status| failed("ListReplicas", endpoint, status);
    let mut client = connect(endpoint)?;
    let answer = client.list_replicas(Request::new(ListReplicasRequest::default()));
    let mut stream = answer.await.map_err(fail)?.into_inner();
    let mut replicas = Vec::new();
    while let Some(message) = stream.message().await.map_err(fail)? {
        if replicas.len() == MAX_REPLICAS {
            return Err(fail(Status::resource_exhausted("too many replicas")));
        }
        replicas.extend(message.replica);
    }
    replicas.sort_by_key(|replica: &ReplicaStatus| {
        let name = replica.partition.clone().unwrap_or_default();
        (name.topic, name.partition)
    });
    Ok(replicas)
}

/// Header and trailer of an export: two replicas whose digests are equal at one position hold the same bytes.
pub async fn fingerprint(
    endpoint: &str,
    replica: &ReplicaStatus,
) -> Result<(SnapshotHeader, SnapshotTrailer), ClientError> {
    let fail = |status| failed("ExportSnapshot", endpoint, status);
    let broker = describe(endpoint).await?;
    let mut client = connect(endpoint)?;
    let request = ExportSnapshotRequest {
        partition: replica.partition.clone(),
        expected_lineage: Some(Lineage {
            cluster_id: broker.cluster_id,
            incarnation: broker.incarnation,
            topic_id: replica.topic_id.clone(),
        }),
        newer_than_index: 0,
        have_parts: Vec::new(),
    };
    let answer = client.export_snapshot(Request::new(request)).await;
    let mut stream = answer.map_err(fail)?.into_inner();
    let (mut header, mut trailer) = (None, None);
    while let Some(message) = stream.message().await.map_err(fail)? {
        match message.message {
            Some(export_snapshot_response::Message::Header(found)) => header = Some(found),
            Some(export_snapshot_response::Message::Trailer(found)) => trailer = Some(found),
            _ => {}
        }
    }
    header
        .zip(trailer)
        .ok_or_else(|| fail(Status::data_loss("the export ended early")))
}

fn connect(endpoint: &str) -> Result<SnapshotBrokerServiceClient<Channel>, ClientError> {
    let parsed = Endpoint::from_shared(endpoint.to_owned());
    let parsed = parsed.map_err(|source| ClientError::Endpoint {
        endpoint: endpoint.to_owned(),
        source,
    })?;
    let channel = parsed
        .connect_timeout(CALL_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .connect_lazy();
    Ok(SnapshotBrokerServiceClient::new(channel))
}

fn failed(what: &'static str, endpoint: &str, status: Status) -> ClientError {
    ClientError::Grpc {
        what,
        endpoint: endpoint.to_owned(),
        source: Box::new(status),
    }
}
