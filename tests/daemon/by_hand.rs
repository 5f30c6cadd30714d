//! Pins by hand: beside a daemon that retains one snapshot.

use crate::support::cli::{Lab, keep};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pins_and_unpins() {
    let lab = Lab::with_snapshots(3).await;
    let ids = lab.ids();
    let said = lab.run(&["pin", "orders/0", &ids[1]]).ends_with(0);
    keep("pin", &format!("pin orders/0 {}", ids[1]), &said);
    said.tells(&["is pinned"]);
    lab.run(&["pin", "orders/0", &ids[1]])
        .ends_with(0)
        .tells(&["was pinned already"]);
    assert!(lab.run(&["list"]).stdout.contains("proven,pinned"));
    let one = [("CHRONIK_SNAPSHOT_RETENTION_COUNT", "1")];
    let shown = lab.run_with(&["prune", "--dry-run"], &one).ends_with(0);
    let line = shown
        .stdout
        .lines()
        .find(|line| line.contains(&ids[1]))
        .unwrap();
    assert!(line.contains("keep") && line.ends_with("pinned"), "{line}");

    let mut daemon = lab.daemon(&[one[0], ("CHRONIK_SNAPSHOT_DELETE_GRACE_SECS", "1")]);
    lab.broker.grow(100);
    daemon.wait_proven(400);
    daemon.wait("retention", |_| {
        lab.ids().len() == 2 && lab.ids()[0] == ids[1]
    });
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    // The pinned one points into the file of the first, which is long evicted.
    lab.run(&["verify", "orders/0", &ids[1], "--deep"])
        .ends_with(0);
    assert_eq!(lab.stored(".pinned").len(), 1);

    lab.run(&["unpin", "orders/0", &ids[1]])
        .ends_with(0)
        .tells(&["is not pinned any more"]);
    lab.run(&["unpin", "orders/0", &ids[1]])
        .ends_with(0)
        .tells(&["was not pinned"]);
    lab.run(&["pin", "orders/0", &ids[0]])
        .ends_with(4)
        .tells(&["holds no snapshot"]);
}
