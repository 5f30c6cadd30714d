//! So many connections, and none that stays silent.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    rig::Rig,
    support::{
        daemon::{Daemon, Setup},
        scripted_broker::ScriptedBroker,
    },
};

const OPEN: &str = "chronik_snapshot_connections{listener=\"grpc\"}";
const REFUSED: &str = "chronik_snapshot_connections_refused_total{reason=\"limit\"}";

/// At each of its addresses.
fn with_four_places(broker: &ScriptedBroker, dir: &Path) -> Daemon {
    Daemon::start(&Setup {
        broker: broker.address,
        dir,
        env: &[("CHRONIK_SNAPSHOT_MAX_CONNECTIONS", "4")],
    })
}

fn silent(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).unwrap();
    stream
}

/// The other side has hung up: at once, or while we waited.
fn wait_closed(mut stream: TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_so_many_connections_are_closed_at_once_and_silent_ones_in_time() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = with_four_places(&broker, dir.path());
    let held: Vec<TcpStream> = (0..4).map(|_| silent(daemon.listen)).collect();
    daemon.wait("four connections", |daemon| {
        (daemon.metric(OPEN) - 4.0).abs() < 0.5
    });
    let begun = Instant::now();
    wait_closed(silent(daemon.listen));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!((daemon.metric(REFUSED) - 1.0).abs() < 0.5);
    daemon.wait_log("4 connections are open (MAX_CONNECTIONS)");
    // The probes have places of their own.
    assert!(daemon.get("/healthz").is_some());

    // Nobody keeps a place by saying nothing.
    for stream in held {
        wait_closed(stream);
    }
    let silence = begun.elapsed();
    assert!((5..25).contains(&silence.as_secs()), "{silence:?}");
    daemon.wait("free places", |daemon| daemon.metric(OPEN) < 0.5);
    assert!(daemon.get("/status").is_some());
}

/// Sends a request byte by byte for a minute; true = the other side hung up meanwhile.
fn drip(mut stream: TcpStream) -> bool {
    let request = b"GET /metrics HTTP/1.1\r\nX-Slow: ".iter();
    for byte in request.chain(std::iter::repeat_n(&b'a', 100)) {
        if stream.write_all(&[*byte]).is_err() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_a_place_by_asking_slowly() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = with_four_places(&broker, dir.path());
    for address in [daemon.http, daemon.listen] {
        let slow = [(); 4].map(|()| {
            let stream = silent(address);
            std::thread::spawn(move || drip(stream))
        });
        for thread in slow {
            assert!(thread.join().unwrap(), "{address}");
        }
    }
    assert!(daemon.get("/healthz").is_some());
    assert!(daemon.get("/status").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapers_and_probes_speak_http_1_only() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = with_four_places(&broker, dir.path());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for pieces in [preface.len(), 1] {
        let mut stream = silent(daemon.http);
        let sent = preface
            .chunks(pieces)
            .try_for_each(|piece| stream.write_all(piece));
        // The rest of the preface may come too late already.
        drop(sent);
        wait_closed(stream);
    }
    assert!(daemon.get("/healthz").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_go_on_keeps_nobody_waiting() {
    let rig = Rig::start(None, &[]).await;
    let held: Vec<TcpStream> = (0..20).map(|_| silent(rig.daemon.listen)).collect();
    let begun = Instant::now();
    rig.status(&rig.client(None)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    for stream in held {
        wait_closed(stream);
    }
    assert!(begun.elapsed() < Duration::from_secs(25));
    let refused = "chronik_snapshot_connections_refused_total{reason=\"handshake\"}";
    rig.daemon
        .wait("the metric", |daemon| daemon.metric(refused) > 19.5);
    rig.daemon.wait_log("within 10 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lives_keeps_its_connection_without_calling() {
    let rig = Rig::start(None, &[]).await;
    let channel = rig.client(None).channel().await.unwrap();
    crate::rig::status(channel.clone()).await.unwrap();
    // Longer than the time for the first byte.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(rig.daemon.metric(OPEN) > 0.5);
    crate::rig::status(channel).await.unwrap();
}
