//! What fails or is cancelled leaves nothing.

use chronik_snapshotd::{
    error::Kind,
    format::{Codec, Compression},
    pipeline::plane::{DataPlane, WriteError, write_blocks},
    store::StoreOptions,
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    rig::{BLOCK, HungUp, assert_empty, faulty, faulty_with, frames, plane, plans, target, write},
    support::{
        faults::{Fault, Op},
        records::json_records,
    },
};

#[tokio::test]
async fn an_error_of_the_stream_aborts_the_upload() {
    // Small parts, so that the upload is under way when the stream ends.
    let options = StoreOptions {
        part_min_bytes: 64 << 10,
        part_max_bytes: 64 << 10,
        ..StoreOptions::default()
    };
    let (faults, store) = faulty_with(options);
    let parts = [json_records(1, 3 * BLOCK)];
    let frames = frames(&parts, 1 << 20)
        .take(9)
        .chain(stream::iter([Err(HungUp)]));
    let cancel = CancellationToken::new();
    let compression = Compression::default();
    let result = write_blocks(
        &plane(),
        target(&store, 1),
        compression,
        &plans(&parts),
        frames,
        &cancel,
    )
    .await;
    let error = result.unwrap_err();
    assert!(matches!(error, WriteError::Input(HungUp)), "{error:?}");
    assert_eq!(error.kind(|_| Kind::Unavailable), Kind::Unavailable);
    assert_eq!(
        faults.calls(Op::UploadCreate),
        faults.calls(Op::UploadAbort)
    );
    assert_empty(&store).await;
}

#[tokio::test]
async fn a_stream_that_does_not_fit_its_header_is_refused() {
    let (_, store) = faulty();
    let parts = [json_records(1, 1000), json_records(2, 500)];
    for sizes in [[999, 500], [1001, 500], [1000, 499], [1000, 501]] {
        let mut plans = plans(&parts);
        plans[0].size_bytes = sizes[0];
        plans[1].size_bytes = sizes[1];
        let cancel = CancellationToken::new();
        let frames = frames(&parts, 300);
        let result = write_blocks(
            &plane(),
            target(&store, 1),
            Compression::default(),
            &plans,
            frames,
            &cancel,
        )
        .await;
        let error = result.unwrap_err();
        assert!(
            matches!(error, WriteError::Format(_)),
            "{sizes:?}: {error:?}"
        );
        assert_eq!(error.kind(|HungUp| Kind::Unavailable), Kind::Invalid);
        assert_empty(&store).await;
    }
}

#[tokio::test]
async fn an_error_of_the_store_leaves_nothing() {
    for (op, skip) in [
        (Op::UploadCreate, 0),
        (Op::UploadPart, 1),
        (Op::UploadComplete, 0),
        (Op::Put, 0),
    ] {
        let small = op == Op::Put;
        let options = StoreOptions {
            part_min_bytes: if small { 8 << 20 } else { 64 << 10 },
            part_max_bytes: if small { 8 << 20 } else { 64 << 10 },
            ..StoreOptions::default()
        };
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            if (op, fault) == (Op::UploadComplete, Fault::FailAfter) {
                continue; // It happened, and that is found out: a success.
            }
            let (faults, store) = faulty_with(options.clone());
            faults.plan(op, "", skip, 1, fault);
            let error = write(&plane(), &store, Codec::Gzip, &[json_records(1, 2 * BLOCK)])
                .await
                .unwrap_err();
            assert!(
                matches!(error, WriteError::Store(_)),
                "{op:?} {fault:?}: {error:?}"
            );
            assert_eq!(error.kind(|HungUp| Kind::Internal), Kind::Unavailable);
            assert_empty(&store).await;
        }
    }
}

#[tokio::test]
async fn a_failed_upload_takes_its_finished_files_with_it() {
    let (faults, store) = faulty();
    let plane = DataPlane {
        file_max_bytes: 5 << 20,
        ..plane()
    };
    faults.plan(Op::Put, ".2.snap", 0, 1, Fault::FailBefore);
    let error = write(&plane, &store, Codec::None, &[json_records(1, 3 * BLOCK)])
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Store(_)), "{error:?}");
    assert_eq!(faults.calls(Op::Put), 3);
    assert_empty(&store).await;
}

#[tokio::test]
async fn cancellation_leaves_no_object() {
    let options = StoreOptions {
        part_min_bytes: 64 << 10,
        part_max_bytes: 64 << 10,
        ..StoreOptions::default()
    };
    for op in [Op::UploadCreate, Op::UploadPart, Op::UploadComplete] {
        let (faults, store) = faulty_with(options.clone());
        faults.plan(op, "", 0, 100, Fault::Stall);
        let (plane, cancel) = (plane(), CancellationToken::new());
        let parts = [json_records(1, 2 * BLOCK)];
        let plans = plans(&parts);
        let write = write_blocks(
            &plane,
            target(&store, 1),
            Compression::default(),
            &plans,
            frames(&parts, 1 << 20),
            &cancel,
        );
        let cancel_when_stalled = async {
            while faults.stalled() == 0 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(write, cancel_when_stalled);
        assert!(
            matches!(result, Err(WriteError::Cancelled)),
            "{op:?}: {result:?}"
        );
        assert_empty(&store).await;
        if op != Op::UploadCreate {
            assert_eq!(faults.calls(Op::UploadAbort), 1, "{op:?}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_snapshot_never_starts() {
    let (faults, store) = faulty();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let parts = [json_records(1, 10)];
    let plans = plans(&parts);
    let frames = frames(&parts, 5);
    let result = write_blocks(
        &plane(),
        target(&store, 1),
        Compression::default(),
        &plans,
        frames,
        &cancel,
    )
    .await;
    assert!(matches!(result, Err(WriteError::Cancelled)));
    assert_eq!(faults.all_calls(), 0);
}
