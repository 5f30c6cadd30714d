//! Parts that stay in files of earlier snapshots.

use std::sync::Arc;

use chronik_snapshotd::{
    format::{Codec, Compression},
    pipeline::plane::{ReadError, Written, write_blocks},
};
use futures::stream;
use tokio_util::sync::CancellationToken;

use crate::{
    rig::{
        BLOCK, HungUp, faulty, folder, frames, manifest, plane, plans, read, snapshot, target,
        verify,
    },
    support::{
        faults::{Fault, Op},
        records::json_records,
    },
};

#[tokio::test]
async fn omitted_parts_stay_where_they_are() {
    let (faults, store) = faulty();
    let parts = [json_records(1, BLOCK + 9), json_records(2, 1000)];
    let earlier = snapshot(&plane(), &store, Codec::Gzip, &parts).await;

    // The next snapshot has part-0 already, and a new part-1 and part-2.
    let next = [parts[0].clone(), json_records(3, 2000), Vec::new()];
    let mut plans = plans(&next);
    plans[0].omitted = true;
    let sent = frames(&[Vec::new(), next[1].clone(), Vec::new()], 700);
    let cancel = CancellationToken::new();
    let plane = plane();
    let written = write_blocks(
        &plane,
        target(&store, 20_000),
        Compression::default(),
        &plans,
        sent,
        &cancel,
    );
    let written = written.await.unwrap();
    assert_eq!(written.raw_bytes, 2000);
    let mut fresh = written.parts.clone().into_iter();
    let mut manifest = manifest(
        20_000,
        Codec::Gzip,
        Written {
            parts: Vec::new(),
            ..written
        },
    );
    manifest.adopt(&earlier, &earlier.parts[0]).unwrap();
    manifest.increment = 1;
    manifest.parts.extend(&mut fresh);
    manifest.seal().unwrap();
    let manifest = Arc::new(manifest);
    assert_eq!(read(&plane, &store, &manifest).await.unwrap(), next);

    // Proving the new one reads its own bytes only, and looks at the old file.
    faults.plan(Op::Get, &earlier.references[0], 0, 1000, Fault::FailBefore);
    verify(&store, &manifest, true).await.unwrap();
    faults.heal();
    let old = folder(&store).key(&earlier.references[0]).unwrap();
    store.delete(&old).await.unwrap();
    let error = verify(&store, &manifest, true).await.unwrap_err();
    assert!(matches!(error, ReadError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_snapshot_of_omitted_parts_only_writes_no_file() {
    let (faults, store) = faulty();
    let mut plans = plans(&[vec![1; 10]]);
    plans[0].omitted = true;
    let cancel = CancellationToken::new();
    let frames = stream::empty::<Result<_, HungUp>>();
    let plane = plane();
    let written = write_blocks(
        &plane,
        target(&store, 1),
        Compression::default(),
        &plans,
        frames,
        &cancel,
    );
    let written = written.await.unwrap();
    assert_eq!(
        (
            written.files.len(),
            written.parts.len(),
            written.stored_bytes
        ),
        (0, 0, 0)
    );
    assert_eq!(faults.all_calls(), 0);
}
