//! An export is of one point in time, whatever happens to its source while it is read.

use chronik_snapshotd::{
    format::PartHasher,
    proto::v1::{
        self, ExportSnapshotRequest, ExportSnapshotResponse, SnapshotHeader, SnapshotTrailer,
        export_snapshot_response::Message,
        snapshot_broker_service_client::SnapshotBrokerServiceClient,
    },
};
use tonic::Streaming;

use crate::support::world::{TOPIC, World};

/// Larger than everything that waits between broker and reader, so that a reader that stops is felt.
const RECORDS: u64 = 400;
const RECORD_BYTES: usize = 64 << 10;

/// An export that is read message by message.
struct Export {
    stream: Streaming<ExportSnapshotResponse>,
    header: SnapshotHeader,
    parts: Vec<Vec<u8>>,
}

impl Export {
    async fn begin(world: &World) -> Self {
        let endpoint = world.cluster.node(1).unwrap().snapshot_endpoint();
        let mut client = SnapshotBrokerServiceClient::connect(endpoint)
            .await
            .unwrap();
        let describe = v1::DescribeBrokerRequest {
            protocol_min: 1,
            protocol_max: 1,
        };
        let broker = client.describe_broker(describe).await.unwrap().into_inner();
        let replicas = world.cluster.node(1).unwrap().replicas().await.unwrap();
        let of_topic = |name: &str| name == TOPIC;
        let replica = replicas
            .into_iter()
            .find(|it| of_topic(&it.partition.as_ref().unwrap().topic));
        let request = ExportSnapshotRequest {
            partition: Some(v1::TopicPartition {
                topic: TOPIC.to_owned(),
                partition: 0,
            }),
            expected_lineage: Some(v1::Lineage {
                cluster_id: broker.cluster_id,
                incarnation: broker.incarnation,
                topic_id: replica.unwrap().topic_id,
            }),
            newer_than_index: 0,
            have_parts: Vec::new(),
        };
        let mut stream = client.export_snapshot(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap().message;
        let Some(Message::Header(header)) = first else {
            panic!("no header: {first:?}");
        };
        let parts = vec![Vec::new(); header.parts.len()];
        Self {
            stream,
            header,
            parts,
        }
    }

    async fn next(&mut self) -> Option<SnapshotTrailer> {
        match self.stream.message().await.unwrap().unwrap().message {
            Some(Message::Chunk(chunk)) => {
                self.parts[chunk.part as usize].extend_from_slice(&chunk.data);
                None
            }
            Some(Message::Trailer(trailer)) => Some(trailer),
            other => panic!("{other:?}"),
        }
    }

    async fn rest(&mut self) -> SnapshotTrailer {
        loop {
            if let Some(trailer) = self.next().await {
                return trailer;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_source_is_compacted_meanwhile_is_still_of_its_index() {
    let mut world = World::start(1, |options| options.sidecar_env("TRAILING_ENTRIES", "0")).await;
    world.produce(RECORDS, RECORD_BYTES).await;
    let mut undisturbed = Export::begin(&world).await;
    let expected = undisturbed.rest().await;

    let mut slow = Export::begin(&world).await;
    assert_eq!(slow.next().await, None, "there is more than one chunk");
    let index = slow.header.last_included.unwrap().index;
    // Everything that the export is made of is written on, snapshotted by the sidecar and cut from the log.
    world.produce(RECORDS, RECORD_BYTES).await;
    world.trigger().await;
    world
        .wait_replicas("the log to be cut", &[1], |replica| {
            replica.first_log_index > index
        })
        .await;
    let trailer = slow.rest().await;

    assert_eq!(slow.header, undisturbed.header);
    assert!(slow.parts == undisturbed.parts, "other bytes than before");
    assert_eq!(trailer, expected);
    for (part, digest) in slow.parts.iter().zip(&trailer.digests) {
        let mut hasher = PartHasher::new();
        hasher.update(part);
        assert_eq!(hasher.finish().crc32, digest.crc32);
    }
    world.check_every_record().await;
}
