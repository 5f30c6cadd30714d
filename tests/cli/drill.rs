//! `drill`: restores for practice, by hand.

use std::fs;

use crate::support::cli::{Lab, assert_shape, damage, keep, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_tells_how_fast_a_restore_is_and_keeps_nothing() {
    let lab = Lab::with_snapshots(2).await;
    let ids = lab.ids();
    let said = lab.run(&["drill", "orders/0"]).ends_with(0);
    keep("drill", "drill orders/0", &said);
    assert!(
        said.stdout.contains(&ids[1]) && !said.stdout.contains(&ids[0]),
        "{said:#?}"
    );
    assert!(said.stdout.contains("ok") && said.stdout.contains("/s"));
    let said = said.tells(&["390.6 KiB restored in", "a second", "at that speed"]);
    assert!(!said.stderr.contains("does not verify"));
    let said = lab
        .run(&["drill", "--all", "--output", "json"])
        .ends_with(0);
    assert_shape("drill", &said);
    let told = said.json();
    assert_eq!(told["drills"].as_array().unwrap().len(), 1);
    assert_eq!(told["drills"][0]["state"], "restored");
    assert_eq!(told["raw_bytes"], 400_000);
    assert!(told["raw_bytes_per_sec"].as_u64().unwrap() > 0);
    assert_eq!(told["restore_estimate_secs"], 1);

    let scratch = lab.dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let below = ["drill", "orders/0", "--scratch", scratch.to_str().unwrap()];
    lab.run(&below).ends_with(0);
    assert_eq!(
        fs::read_dir(&scratch).unwrap().count(),
        0,
        "something stayed"
    );

    lab.run(&["drill"]).ends_with(2);
    lab.run(&["drill", "orders/0", "--all"]).ends_with(2);
    lab.run(&["drill", "payments/0"]).ends_with(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_ends_it_with_5_and_nothing_to_restore_with_4() {
    let lab = Lab::with_snapshots(2).await;
    let marks = || lab.stored(".quarantined.json").len();
    damage(&lab.stored(".snap")[1]);
    let said = lab.run(&["drill", "orders/0"]).ends_with(5);
    assert!(said.stdout.contains("DAMAGED"), "{said:#?}");
    assert_eq!(marks(), 0, "a command marks nothing unasked");
    let scratch = lab.dir.path().join("scratch");
    let below = ["drill", "--all", "--scratch", scratch.to_str().unwrap()];
    lab.run(&below).ends_with(5);
    assert_eq!(
        fs::read_dir(&scratch).unwrap().count(),
        0,
        "something stayed"
    );

    for proof in lab.stored(".verified.json") {
        fs::remove_file(proof).unwrap();
    }
    lab.run(&["drill", "orders/0"]).ends_with(4);
    let said = lab.run(&["drill", "--all"]).ends_with(4);
    assert!(said.stdout.contains("MISSING"), "{said:#?}");

    // Nobody listens on port 1.
    let environment = [
        ("S3_BUCKET", "b"),
        ("S3_ENDPOINT", "http://127.0.0.1:1"),
        ("S3_DISABLE_SSL", "true"),
        ("S3_ACCESS_KEY", "k"),
        ("S3_SECRET_KEY", "s"),
    ];
    let said = run(&["drill", "--all"], &environment).ends_with(69);
    assert_eq!(said.stdout, "");
}
