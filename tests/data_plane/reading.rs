//! Reading: in large ranges, no faster than the receiver, ended when asked.

use std::time::Duration;

use chronik_snapshotd::{
    error::Kind,
    format::Codec,
    pipeline::plane::{ReadError, read_blocks},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    rig::{BLOCK, faulty, folder, plane, read, snapshot, verify},
    support::{
        faults::{Fault, Op},
        records::json_records,
    },
};

#[tokio::test]
async fn reading_asks_in_large_ranges() {
    let (faults, store) = faulty();
    let small: Vec<_> = (0..200).map(|part| json_records(part, 50_000)).collect();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &small).await;
    assert_eq!(read(&plane(), &store, &manifest).await.unwrap(), small);
    assert_eq!(
        faults.calls(Op::Get),
        1,
        "200 blocks of 200 parts in one range"
    );

    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::None, &[vec![5; 10 * BLOCK]]).await;
    read(&plane(), &store, &manifest).await.unwrap();
    assert_eq!(faults.calls(Op::Get), 10, "blocks of 4 MiB one by one");
}

#[tokio::test]
async fn a_slow_receiver_is_felt_by_the_store() {
    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::None, &[vec![5; 40 * BLOCK]]).await;
    let (deliver, mut chunks) = mpsc::channel(1);
    let (plane, cancel, folder) = (plane(), CancellationToken::new(), folder(&store));
    let read = read_blocks(&plane, &folder, &manifest, deliver, &cancel);
    let look = async {
        chunks.recv().await.unwrap();
        let mut before = 0;
        while before != faults.calls(Op::Get) {
            before = faults.calls(Op::Get);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(before <= 10, "{before} of 40 ranges were asked for");
        drop(chunks);
    };
    let (result, ()) = tokio::join!(read, look);
    assert!(matches!(result, Err(ReadError::ReceiverGone)), "{result:?}");
}

#[tokio::test]
async fn reading_stops_when_cancelled() {
    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &[json_records(1, 1000)]).await;
    faults.plan(Op::Get, "", 0, 100, Fault::Stall);
    let (deliver, _chunks) = mpsc::channel(1);
    let (plane, cancel, folder) = (plane(), CancellationToken::new(), folder(&store));
    let read = read_blocks(&plane, &folder, &manifest, deliver, &cancel);
    let stop = async {
        while faults.stalled() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(read, stop);
    assert!(matches!(result, Err(ReadError::Cancelled)));
}

#[tokio::test]
async fn a_store_that_fails_while_reading_is_not_damage() {
    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &[json_records(1, 1000)]).await;
    faults.plan(Op::Get, "", 0, 2, Fault::FailBefore);
    let error = read(&plane(), &store, &manifest).await.unwrap_err();
    assert!(matches!(error, ReadError::Store { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Unavailable);
    faults.plan(Op::Head, "", 0, 1, Fault::FailBefore);
    let error = verify(&store, &manifest, false).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}
