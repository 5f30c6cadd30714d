//! The client against the Kafka front over a network that breaks.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Client, ClientError, Pool, PoolOptions, Record};
use crate::{
    api::ApiError,
    kafka::{fake::FakeNode, serve},
};

const TOPIC: &str = "orders";
const SOON: Duration = Duration::from_secs(20);

/// A broker behind a proxy that clients are told of.
struct Broker {
    client: Arc<Client>,
    node: Arc<FakeNode>,
    cuts: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts a broker; with `lifetime`, no connection lives longer.
async fn broker(lifetime: Option<Duration>) -> Broker {
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (behind, port) = (
        front.local_addr().unwrap(),
        proxy.local_addr().unwrap().port(),
    );
    let node = Arc::new(FakeNode::new(port).with_topic(TOPIC, 2));
    let stop = CancellationToken::new();
    let cuts = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(front, node.clone(), stop.clone()));
    let counter = Arc::clone(&cuts);
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = proxy.accept().await.unwrap();
            let counter = Arc::clone(&counter);
            connections.spawn(async move {
                let mut server = TcpStream::connect(behind).await.unwrap();
                let both = copy_bidirectional(&mut client, &mut server);
                let lifetime = lifetime.unwrap_or(Duration::from_hours(1));
                if tokio::time::timeout(lifetime, both).await.is_err() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Broker {
        client: Arc::new(Client::new([format!("127.0.0.1:{port}")])),
        node,
        cuts,
        _tasks: tasks,
        stop,
    }
}

fn record(number: u64) -> Record {
    Record {
        key: Bytes::from(number.to_string()),
        value: Bytes::from_static(b"value"),
        timestamp_ms: 1,
    }
}

async fn read_back(client: &Client) -> Vec<(i32, i64, Bytes)> {
    let mut found = Vec::new();
    for partition in 0..2 {
        let keep = |record: super::Consumed| {
            found.push((record.partition, record.offset, record.key.unwrap()));
        };
        client
            .consume(TOPIC, partition, 0, SOON, keep)
            .await
            .unwrap();
    }
    found
}

#[tokio::test]
async fn every_record_is_there_once_although_connections_break_all_the_time() {
    let broker = broker(Some(Duration::from_millis(15))).await;
    let options = PoolOptions {
        producers_per_partition: 2,
        delivery_timeout: SOON,
    };
    let mut pool = Pool::start(&broker.client, TOPIC, options).await.unwrap();
    let mut sent = 0;
    // However fast the machine is: until connections were cut some times.
    while sent < 3000 || broker.cuts.load(Ordering::Relaxed) <= 5 {
        pool.send(record(sent)).await.unwrap();
        sent += 1;
    }
    let acked = pool.finish().await.unwrap();
    let mut acked: Vec<_> = acked
        .into_iter()
        .map(|acked| (acked.partition, acked.offset, acked.key))
        .collect();
    acked.sort_unstable();
    assert_eq!(acked.len() as u64, sent);
    let read = read_back(&broker.client).await;
    assert_eq!(read, acked);
    let keys: BTreeSet<_> = read.iter().map(|(_, _, key)| key).collect();
    assert_eq!(keys.len() as u64, sent);
}

#[tokio::test]
async fn a_leader_that_refuses_for_a_while_costs_nothing_but_time() {
    let broker = broker(None).await;
    let mut pool = Pool::start(&broker.client, TOPIC, PoolOptions::default())
        .await
        .unwrap();
    let progress = pool.progress();
    for number in 0..100 {
        pool.send(record(number)).await.unwrap();
    }
    broker.node.refuse(Some(ApiError::NotLeader));
    for number in 100..110 {
        pool.send(record(number)).await.unwrap();
    }
    let node = Arc::clone(&broker.node);
    let heal = async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.refuse(None);
    };
    let (acked, ()) = tokio::join!(pool.finish(), heal);
    assert_eq!(acked.unwrap().len(), 110);
    assert_eq!(progress.acked(), 110);
    assert_eq!(read_back(&broker.client).await.len(), 110);
}

#[tokio::test]
async fn a_record_that_is_never_taken_fails_with_the_cause() {
    let broker = broker(None).await;
    let options = PoolOptions {
        producers_per_partition: 1,
        delivery_timeout: Duration::from_millis(300),
    };
    let mut pool = Pool::start(&broker.client, TOPIC, options).await.unwrap();
    broker.node.refuse(Some(ApiError::NotLeader));
    pool.send(record(1)).await.unwrap();
    let failure = pool.finish().await.unwrap_err();
    assert!(
        matches!(failure, ClientError::Undelivered { .. }),
        "{failure}"
    );
}

#[tokio::test]
async fn a_refusal_that_cannot_pass_is_not_retried() {
    let broker = broker(None).await;
    let client = &broker.client;
    let created = client.create_topic(TOPIC, 1, 1, SOON).await;
    assert!(
        matches!(created, Err(ClientError::Refused { .. })),
        "{created:?}"
    );
    let created = client.create_topic("other", 2, 1, SOON).await.unwrap();
    assert_eq!(created.partitions.len(), 2);
    client.delete_topic("other", SOON).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_cluster_is_given_up_at_the_deadline() {
    let client = Client::new(["127.0.0.1:1"]);
    let failure = client.offsets(TOPIC, 0, Duration::from_millis(200)).await;
    assert!(
        matches!(failure, Err(ClientError::GaveUp { attempts: 2.., .. })),
        "{failure:?}"
    );
}
