//! What restore-cluster finds, decides and writes, and how brokers are seeded from its plan.

use std::sync::Arc;

use chronik_snapshotd::{
    catalog::Catalog,
    clock::SystemClock,
    error::Kind,
    format::{FileName, RestoreToken, SnapshotId},
    pipeline::{
        LocalState, RestoreError, RestoreOutcome, RestoreRequest,
        plane::{DataPlane, MemoryBudget, Rates, Workers},
        recovery::{Check, Recoverable, Recovery, RecoveryError, Survey},
    },
    raft::{Lineage, LogId, TopicPartition},
    store::{NoObserver, Store, StoreOptions},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    bench::{Bench, Installer, snap_of},
    faults::{Fault, Faults, Op},
    scripted_broker::sample_state,
};

/// An operator's restore-cluster over the store of a bench.
fn operator(faults: &Faults, check: Check) -> Recovery {
    let inner = Arc::new(faults.clone());
    let store = Store::from_object_store(inner, StoreOptions::default(), Arc::new(NoObserver));
    Recovery {
        catalog: Catalog::new(store, "snapshots/"),
        plane: DataPlane::new(
            MemoryBudget::new(64 << 20),
            Workers::new(std::num::NonZeroUsize::MIN).unwrap(),
            Rates::default(),
        ),
        check,
        clock: Arc::new(SystemClock),
        abort: CancellationToken::new(),
    }
}

fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0).unwrap()
}

/// A snapshot of `topic`, 100 entries after the last one of any topic.
async fn snapshot_of(bench: &Bench, topic: &str) -> SnapshotId {
    topic.clone_into(&mut bench.broker.script().topic);
    let id = bench.snapshot().await;
    "orders".clone_into(&mut bench.broker.script().topic);
    id
}

/// A cluster with a snapshot of its metadata at 100, and of orders at 200 and 300.
async fn lost_cluster() -> (Bench, SnapshotId, SnapshotId) {
    let bench = Bench::start().await;
    snapshot_of(&bench, "__meta").await;
    let older = bench.snapshot().await;
    let newest = bench.snapshot().await;
    (bench, older, newest)
}

fn of<'a>(survey: &'a Survey, topic: &str) -> &'a Recoverable {
    let mut found = survey.partitions.iter();
    found.find(|one| one.partition.topic == topic).unwrap()
}

fn chosen(survey: &Survey, topic: &str) -> Option<SnapshotId> {
    let chosen = of(survey, topic).chosen.as_ref();
    chosen.map(|chosen| chosen.snapshot.id)
}

async fn survey(bench: &Bench) -> Survey {
    operator(&bench.faults, Check::Full).survey().await.unwrap()
}

async fn restore(bench: &Bench) -> RestoreToken {
    let operator = operator(&bench.faults, Check::Full);
    let survey = operator.survey().await.unwrap();
    let confirmation = survey.confirmation();
    operator.commit(&survey, &confirmation).await.unwrap()
}

async fn lives(bench: &Bench) -> Vec<(u64, Uuid)> {
    let operator = operator(&bench.faults, Check::Full);
    operator.catalog.lives().await.unwrap()
}

/// A founder of the restored cluster asks for its replica of `topic`.
async fn founder(
    bench: &Bench,
    topic: &str,
    restore_uuid: Uuid,
) -> (Result<RestoreOutcome, RestoreError>, Installer) {
    let incarnation = bench.broker.script().incarnation;
    let request = RestoreRequest {
        partition: partition(topic),
        lineage: Lineage::new("test-cluster", incarnation, "topic-a").unwrap(),
        local_state: LocalState::Lost,
        min_index: 0,
        accepted_state_codecs: vec!["raw/1".to_owned()],
        boot_id: bench.broker.script().boot_id.clone(),
        restore_uuid: Some(restore_uuid),
    };
    let mut sink = Installer::default();
    let sidecar = bench.another();
    let restored = sidecar.pipeline.restore(&request, &mut sink).await;
    (restored, sink)
}

#[tokio::test]
async fn the_newest_whole_snapshot_is_chosen_and_what_is_lost_is_counted() {
    let (bench, older, newest) = lost_cluster().await;
    assert_eq!(chosen(&survey(&bench).await, "orders"), Some(newest));
    assert_eq!(of(&survey(&bench).await, "orders").known_lost(), 0);

    bench
        .put(FileName::Snap(snap_of(newest)), vec![0_u8; 100_000])
        .await;
    let found = survey(&bench).await;
    assert_eq!(chosen(&found, "orders"), Some(older));
    let passed_over = &of(&found, "orders").passed_over;
    assert_eq!(passed_over.len(), 1);
    assert_eq!(passed_over[0].id, newest);
    assert_eq!(of(&found, "orders").known_lost(), 100);
    assert!(found.has_metadata());

    bench.mark(older).await;
    let found = survey(&bench).await;
    assert_eq!(chosen(&found, "orders"), None, "nothing whole is left");
    assert_eq!(of(&found, "orders").known_lost(), 300);
}

#[tokio::test]
async fn an_unproven_snapshot_counts_once_it_was_read_completely() {
    let (bench, _, newest) = lost_cluster().await;
    let unproven = bench.unproven_snapshot().await;
    assert_eq!(chosen(&survey(&bench).await, "orders"), Some(unproven));
    let quick = operator(&bench.faults, Check::Quick);
    let found = quick.survey().await.unwrap();
    assert_eq!(chosen(&found, "orders"), Some(newest));
}

#[tokio::test]
async fn a_manifest_that_cannot_be_understood_is_named_and_passed_over() {
    let (bench, older, newest) = lost_cluster().await;
    bench
        .put(FileName::Manifest(newest), &b"{\"format_version\":9}\n"[..])
        .await;
    let found = survey(&bench).await;
    assert_eq!(chosen(&found, "orders"), Some(older));
    assert_eq!(of(&found, "orders").passed_over[0].id, newest);
    assert_eq!(of(&found, "orders").known_lost(), 100);
}

/// Of one life of the topic no manifest can be read, of another one some can.
#[tokio::test]
async fn a_life_that_cannot_be_read_is_not_hidden_by_one_that_can() {
    let (bench, _, newest) = lost_cluster().await;
    let before = survey(&bench).await.confirmation();
    let other = SnapshotId {
        lineage_hash: !newest.lineage_hash,
        last_included: LogId::new(1, 900),
        ..newest
    };
    bench
        .put(FileName::Manifest(other), &b"{\"format_version\":9}\n"[..])
        .await;
    let found = survey(&bench).await;
    assert_eq!(chosen(&found, "orders"), Some(newest));
    let mut partitions = found.partitions.iter();
    let unknown = partitions.find(|one| one.topic_id == "?").unwrap();
    assert_eq!(unknown.known_lost(), 900);
    assert_eq!(unknown.passed_over[0].id, other);
    assert_ne!(found.confirmation(), before);
}

/// What could not be read is not lost: the operator must never be shown a loss that is an outage.
#[tokio::test]
async fn a_store_that_cannot_be_read_decides_nothing() {
    let (bench, _, newest) = lost_cluster().await;
    let data = FileName::Snap(snap_of(newest)).to_string();
    let manifest = FileName::Manifest(newest).to_string();
    for (op, key) in [
        (Op::List, "snapshots"),
        (Op::List, "orders/0"),
        (Op::List, "@cluster"),
        (Op::Get, manifest.as_str()),
        (Op::Get, data.as_str()),
        (Op::Head, data.as_str()),
    ] {
        let faults = bench.faults.clone();
        faults.plan(op, key, 0, usize::MAX, Fault::FailBefore);
        let error = operator(&faults, Check::Full).survey().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{op:?} {key}: {error}");
        faults.heal();
    }
    assert_eq!(lives(&bench).await.len(), 1);
}

#[tokio::test]
async fn only_what_was_shown_is_begun() {
    let (bench, ..) = lost_cluster().await;
    let operator = operator(&bench.faults, Check::Full);
    let shown = operator.survey().await.unwrap().confirmation();
    bench.snapshot().await;
    let now = operator.survey().await.unwrap();
    let refused = operator.commit(&now, &shown).await.unwrap_err();
    assert!(
        matches!(refused, RecoveryError::NotConfirmed { .. }),
        "{refused}"
    );
    assert_eq!(lives(&bench).await.len(), 1);

    let without = Bench::start().await;
    without.snapshot().await;
    let operator = self::operator(&without.faults, Check::Full);
    let found = operator.survey().await.unwrap();
    assert!(!found.has_metadata());
    let refused = operator.commit(&found, &found.confirmation()).await;
    assert!(matches!(refused, Err(RecoveryError::NoMetadata)));
    assert_eq!(lives(&without).await.len(), 1);
}

#[tokio::test]
async fn the_former_life_can_neither_write_nor_be_seeded_any_more() {
    let (bench, ..) = lost_cluster().await;
    let RestoreToken(identity) = restore(&bench).await;
    assert_eq!(identity.incarnation, 2);
    bench.broker.grow(100);
    let visit = bench.another().visit_to_snapshot().await;
    let error = visit.error.unwrap();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert!(visit.snapshot.is_none());
    let (restored, installer) = bench.another().restore(0).await;
    assert_eq!(restored.unwrap_err().kind(), Kind::Invalid);
    assert!(installer.bytes.is_empty());
}

#[tokio::test]
async fn founders_get_exactly_what_the_plan_names() {
    let (bench, _, newest) = lost_cluster().await;
    let RestoreToken(identity) = restore(&bench).await;
    bench.broker.script().incarnation = 2;
    let uuid = identity.restore_uuid;
    let (restored, installer) = founder(&bench, "orders", uuid).await;
    let Ok(RestoreOutcome::Installed { id, .. }) = restored else {
        panic!("{restored:?}");
    };
    assert_eq!(id, newest);
    assert!(installer.bytes == sample_state(100_000));

    let (other, _) = founder(&bench, "orders", Uuid::from_u128(1)).await;
    let error = other.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "another restore: {error}");
    let RestoreToken(third) = restore(&bench).await;
    bench.broker.script().incarnation = third.incarnation;
    let (former, _) = founder(&bench, "orders", uuid).await;
    let error = former.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "a former restore: {error}");
    let uuid = third.restore_uuid;
    let (unplanned, _) = founder(&bench, "payments", uuid).await;
    assert!(
        matches!(unplanned, Ok(RestoreOutcome::NoSnapshot)),
        "the plan was read and names nothing: {unplanned:?}"
    );
}

/// All voters of a group start from one state: another snapshot than the planned one would be a divergence.
#[tokio::test]
async fn a_planned_snapshot_that_is_gone_or_damaged_is_followed_by_no_other() {
    let (bench, older, newest) = lost_cluster().await;
    let RestoreToken(identity) = restore(&bench).await;
    bench.broker.script().incarnation = 2;
    bench
        .put(FileName::Snap(snap_of(newest)), vec![0_u8; 100_000])
        .await;
    let (damaged, installer) = founder(&bench, "orders", identity.restore_uuid).await;
    let error = damaged.unwrap_err();
    assert!(
        matches!(error, RestoreError::NoneVerifies { .. }),
        "{error}"
    );
    assert_eq!(installer.abandoned, [newest]);
    // Marked by hand after the plan was confirmed.
    bench.put(FileName::Quarantine(newest), "{}\n").await;
    let (marked, installer) = founder(&bench, "orders", identity.restore_uuid).await;
    let error = marked.unwrap_err().to_string();
    assert!(error.contains("is quarantined"), "{error}");
    assert!(installer.bytes.is_empty() && installer.abandoned.is_empty());
    bench.delete(FileName::Quarantine(newest)).await;
    bench.delete(FileName::Manifest(newest)).await;
    let (gone, installer) = founder(&bench, "orders", identity.restore_uuid).await;
    assert!(matches!(gone, Err(RestoreError::NoneVerifies { .. })));
    assert!(
        installer.bytes.is_empty(),
        "{older} is whole, and not offered"
    );
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_is_never_an_empty_one() {
    let (bench, ..) = lost_cluster().await;
    let RestoreToken(identity) = restore(&bench).await;
    bench.broker.script().incarnation = 2;
    let faults = bench.faults.clone();
    faults.plan(Op::Get, "@holds", 0, usize::MAX, Fault::FailBefore);
    let (away, _) = founder(&bench, "payments", identity.restore_uuid).await;
    assert_eq!(away.unwrap_err().kind(), Kind::Unavailable);
    faults.heal();
    faults.plan(Op::Get, "@holds", 0, usize::MAX, Fault::Flip(10));
    let (flipped, _) = founder(&bench, "payments", identity.restore_uuid).await;
    assert_eq!(flipped.unwrap_err().kind(), Kind::Corrupt);
    faults.heal();
    faults.plan(Op::Get, "@holds", 0, usize::MAX, Fault::NotFound);
    let (gone, _) = founder(&bench, "payments", identity.restore_uuid).await;
    assert!(gone.is_err());
}

#[tokio::test]
async fn a_second_loss_before_the_first_new_snapshot_goes_back_to_the_plan() {
    let (bench, _, newest) = lost_cluster().await;
    restore(&bench).await;
    let again = survey(&bench).await;
    assert_eq!(again.identity.incarnation, 2);
    assert_eq!(chosen(&again, "orders"), Some(newest));
    let from = of(&again, "orders").chosen.as_ref().unwrap();
    assert_eq!(from.from_incarnation, 1);
    let RestoreToken(third) = restore(&bench).await;
    assert_eq!(third.incarnation, 3);
    bench.broker.script().incarnation = 3;
    let (restored, _) = founder(&bench, "orders", third.restore_uuid).await;
    assert!(
        matches!(restored, Ok(RestoreOutcome::Installed { id, .. }) if id == newest),
        "{restored:?}"
    );
}

#[tokio::test]
async fn a_restore_that_dies_before_its_identity_is_written_has_not_begun() {
    let (bench, ..) = lost_cluster().await;
    let operator = operator(&bench.faults, Check::Full);
    let found = operator.survey().await.unwrap();
    let confirmation = found.confirmation();
    let faults = bench.faults.clone();
    faults.plan(Op::PutNew, "@holds", 0, usize::MAX, Fault::FailBefore);
    let died = operator.commit(&found, &confirmation).await;
    assert_eq!(died.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(lives(&bench).await.len(), 1, "no life without its plan");
    faults.heal();
    faults.plan(Op::PutNew, "@cluster", 0, usize::MAX, Fault::FailBefore);
    let died = operator.commit(&found, &confirmation).await;
    assert_eq!(died.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(lives(&bench).await.len(), 1);
    assert!(bench.another().visit_to_snapshot().await.error.is_none());
    faults.heal();

    faults.plan(Op::PutNew, "@cluster", 0, 1, Fault::FailAfter);
    let found = operator.survey().await.unwrap();
    let begun = operator.commit(&found, &found.confirmation()).await;
    assert_eq!(begun.unwrap().0.incarnation, 2, "it took effect");
}

/// A sidecar of the former life that was deleting when the identity came.
#[tokio::test]
async fn a_planned_snapshot_that_is_deleted_meanwhile_is_noticed() {
    let (bench, _, newest) = lost_cluster().await;
    let operator = operator(&bench.faults, Check::Full);
    let found = operator.survey().await.unwrap();
    bench.delete(FileName::Snap(snap_of(newest))).await;
    let error = operator.commit(&found, &found.confirmation()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, RecoveryError::Changed { .. }), "{error}");
    // Run again, as it says: the next incarnation goes without it.
    let again = survey(&bench).await;
    assert_ne!(chosen(&again, "orders"), Some(newest));
    assert!(chosen(&again, "orders").is_some());
    restore(&bench).await;
}

#[tokio::test]
async fn whoever_loses_the_store_after_the_point_of_no_return_is_told_the_token() {
    let (bench, ..) = lost_cluster().await;
    let operator = operator(&bench.faults, Check::Full);
    let found = operator.survey().await.unwrap();
    let faults = bench.faults.clone();
    faults.plan(Op::Get, ".manifest.json", 0, usize::MAX, Fault::FailBefore);
    let error = operator.commit(&found, &found.confirmation()).await;
    let error = error.unwrap_err();
    faults.heal();
    let RecoveryError::Begun { token, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(lives(&bench).await[0], (2, token.0.restore_uuid));
    assert!(error.to_string().contains(&token.to_string()), "{error}");
}

#[tokio::test]
async fn a_plan_that_is_gone_matters_only_where_it_is_needed() {
    let (bench, _, first_life) = lost_cluster().await;
    let RestoreToken(second) = restore(&bench).await;
    bench.broker.script().incarnation = 2;
    let mut newest = None;
    for topic in ["__meta", "orders"] {
        topic.clone_into(&mut bench.broker.script().topic);
        bench.broker.grow(100);
        let taking = bench.without_cuts();
        let report = taking.visit(|request| {
            request.may_snapshot = true;
            request.manual = true;
            request.lineage.incarnation = 2;
        });
        let report = report.await;
        assert!(report.error.is_none(), "{:?}", report.error);
        newest = report.snapshot;
    }
    let operator = operator(&bench.faults, Check::Full);
    let key = operator.catalog.keys().plan(second.restore_uuid).unwrap();
    operator.catalog.store().delete(&key).await.unwrap();
    assert_eq!(chosen(&survey(&bench).await, "orders"), newest);

    // Without a snapshot of its own, the second life of the partition is what it began with.
    let newest = newest.unwrap();
    bench.delete(FileName::Manifest(newest)).await;
    bench.delete(FileName::Snap(snap_of(newest))).await;
    let error = operator.survey().await.unwrap_err();
    assert!(
        matches!(&error, RecoveryError::Plan { incarnation: 2, .. }),
        "{first_life} alone decides nothing: {error}"
    );
}
