//! The commands that look at a store without a daemon.

use std::{fs, io::Read as _, process::Stdio};

use chronik_snapshotd::format::{CreatedBy, ManifestDigest, Quarantine};

use crate::support::cli::{Lab, assert_shape, command, damage, keep, output, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_newest_first_and_never_empty_because_of_an_error() {
    let lab = Lab::with_snapshots(3).await;
    let ids = lab.ids();
    let said = lab.run(&["list"]).ends_with(0);
    keep("list", "list", &said);
    let shown: Vec<_> = said.stdout.lines().skip(1).collect();
    assert_eq!(shown.len(), 3, "{said:#?}");
    for (line, id) in shown.iter().zip(ids.iter().rev()) {
        assert!(line.contains(id) && line.contains("proven"), "{line}");
    }
    let said = lab
        .run(&["list", "orders/0", "--output", "json"])
        .ends_with(0);
    assert_shape("list", &said);
    let listed = said.json();
    let newest = &listed["snapshots"][0];
    assert_eq!(newest["snapshot_id"], ids[2].as_str());
    assert_eq!(newest["increment"], 2);
    assert_eq!(newest["raw_bytes"], 400_000);
    assert_eq!(newest["files"].as_array().unwrap().len(), 2);
    assert!(newest["new_stored_bytes"].as_u64() < newest["stored_bytes"].as_u64());

    lab.run(&["list", "orders"]).ends_with(0);
    lab.run(&["list", "payments"])
        .ends_with(4)
        .tells(&["was read and holds nothing of"]);
    lab.run(&["list", "orders/7"])
        .ends_with(4)
        .tells(&["orders/7"]);
    lab.run(&["list", "orders/x"]).ends_with(2);
    let empty = lab
        .run_with(&["list"], &[("S3_PREFIX", "elsewhere/")])
        .ends_with(0);
    empty.tells(&["the store was read", "holds no snapshots"]);

    let away = lab.dir.path().join("away");
    let environment = [("LOCAL_STORAGE_PATH", away.to_str().unwrap())];
    let said = lab.run_with(&["list"], &environment).ends_with(69);
    assert_eq!(said.stdout, "", "an error is no list");
    said.tells(&["does not exist"]);
    assert!(!away.exists(), "looking makes no directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_so() {
    // Nobody listens on port 1.
    let environment = [
        ("S3_BUCKET", "b"),
        ("S3_ENDPOINT", "http://127.0.0.1:1"),
        ("S3_DISABLE_SSL", "true"),
        ("S3_ACCESS_KEY", "k"),
        ("S3_SECRET_KEY", "s"),
    ];
    let said = run(&["list"], &environment).ends_with(69);
    assert_eq!(said.stdout, "");
    said.tells(&["nothing is known about what the store holds"]);
    run(&["list"], &[]).ends_with(78).tells(&["S3_BUCKET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_is_shown_with_its_proof() {
    let lab = Lab::with_snapshots(2).await;
    let ids = lab.ids();
    let said = lab.run(&["show", "orders/0", "latest"]).ends_with(0);
    keep("show", "show orders/0 latest", &said);
    for part in [
        ids[1].as_str(),
        "seg-a",
        "state",
        "full at 2",
        "an earlier one",
        "index 200, term 3",
    ] {
        assert!(said.stdout.contains(part), "{part:?} is missing: {said:#?}");
    }
    let said = lab
        .run(&["show", "orders/0", &ids[0], "--output", "json"])
        .ends_with(0);
    assert_shape("show", &said);
    assert_eq!(said.json()["manifest"]["snapshot_id"], ids[0].as_str());
    let other = ids[0].replace("-00000000000000000003-", "-00000000000000000004-");
    lab.run(&["show", "orders/0", &other])
        .ends_with(4)
        .tells(&["holds no snapshot"]);
    lab.run(&["show", "orders/0", "newest"])
        .ends_with(2)
        .tells(&["latest"]);
    // A manifest that is not what it was.
    damage(&lab.stored(".manifest.json")[0]);
    lab.run(&["show", "orders/0", &ids[0]])
        .ends_with(5)
        .tells(&["cannot be read"]);
    lab.run(&["list"])
        .ends_with(0)
        .tells(&[&ids[0], "cannot be read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_ends_with_5() {
    let lab = Lab::with_snapshots(2).await;
    let ids = lab.ids();
    let said = lab.run(&["verify", "orders/0"]).ends_with(0);
    keep("verify", "verify orders/0", &said);
    assert!(said.stdout.contains(&ids[1]) && !said.stdout.contains(&ids[0]));
    let said = lab
        .run(&["verify", "--all", "--deep", "--output", "json"])
        .ends_with(0);
    assert_shape("verify", &said);
    assert_eq!(said.json()["snapshots"].as_array().unwrap().len(), 2);
    lab.run(&["verify"]).ends_with(2);
    lab.run(&["verify", "orders/1"]).ends_with(4);

    damage(&lab.stored(".snap")[1]);
    lab.run(&["verify", "orders/0", &ids[0]]).ends_with(0);
    for arguments in [
        &["verify", "orders/0", "latest"][..],
        &["verify", "--all"],
        &["verify", "orders/0", "--all", "--deep"],
    ] {
        let said = lab.run(arguments).ends_with(5);
        assert!(said.stdout.contains("DAMAGED"), "{said:#?}");
    }
    fs::remove_file(&lab.stored(".snap")[1]).unwrap();
    let said = lab.run(&["verify", "--all"]).ends_with(5);
    assert!(said.stdout.contains("does not exist"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_raw_state_comes_out_as_it_went_in() {
    let lab = Lab::with_snapshots(2).await;
    let store = lab.dir.path().join("store");
    let environment = [
        ("OBJECT_STORE_BACKEND", "local"),
        ("LOCAL_STORAGE_PATH", store.to_str().unwrap()),
    ];
    let said = output(&["cat", "orders/0"], &environment);
    assert!(said.status.success() && said.stderr.is_empty());
    assert!(said.stdout == lab.raw(), "other bytes came out");
    let said = output(&["cat", "orders/0", &lab.ids()[0]], &environment);
    assert!(said.stdout == lab.raw(), "other bytes came out");

    // A reader that goes away is no panic.
    let mut child = command(&["cat", "orders/0"], &environment)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");

    damage(&lab.stored(".snap")[0]);
    lab.run(&["cat", "orders/0"])
        .ends_with(5)
        .tells(&["could not be read", "seg-a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_complete_or_goes_on_where_it_broke_off() {
    let lab = Lab::with_snapshots(2).await;
    let ids = lab.ids();
    let to = lab.dir.path().join("restored");
    let restore = ["restore", "orders/0", "--to", to.to_str().unwrap()];
    let said = lab.run(&restore).ends_with(0);
    keep("restore", "restore orders/0 --to restored/", &said);
    said.tells(&["2 parts written", "0 were there"]);
    let read = |name: &str| fs::read(to.join(name)).unwrap();
    assert!(read("seg-a") == lab.sealed && read("state") == lab.state);
    let manifest = format!("{}.manifest.json", ids[1]);
    let stored = fs::read(&lab.stored(".manifest.json")[1]).unwrap();
    assert_eq!(read(&manifest), stored);
    assert_eq!(
        fs::read_dir(&to).unwrap().count(),
        3,
        "nothing temporary stays"
    );

    // Broken off before the second part.
    fs::remove_file(to.join(&manifest)).unwrap();
    fs::rename(to.join("state"), to.join("@state.partial")).unwrap();
    lab.run(&restore)
        .ends_with(0)
        .tells(&["1 parts written", "1 were there"]);
    assert!(read("state") == lab.state);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 3);
    lab.run(&restore)
        .ends_with(0)
        .tells(&["0 parts written", "2 were there"]);

    // Nothing of anybody else's is replaced.
    let older = [&restore[..2], &[&ids[0]], &restore[2..]].concat();
    lab.run(&older)
        .ends_with(1)
        .tells(&["holds a restore of", "choose another directory"]);
    damage(&to.join("seg-a"));
    lab.run(&restore)
        .ends_with(1)
        .tells(&["seg-a", "exists already and is not what"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_one_file_appears_when_it_is_whole() {
    let lab = Lab::with_snapshots(1).await;
    let file = lab.dir.path().join("state.bin");
    let restore = [
        "restore",
        "orders/0",
        "latest",
        "--to",
        file.to_str().unwrap(),
    ];
    lab.run(&restore).ends_with(0);
    assert!(fs::read(&file).unwrap() == lab.raw());
    lab.run(&restore).ends_with(1).tells(&["exists already"]);
    fs::remove_file(&file).unwrap();
    damage(&lab.stored(".snap")[0]);
    lab.run(&restore).ends_with(5);
    assert!(!file.exists() && !lab.dir.path().join("@state.bin.partial").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_only_shows_what_the_daemon_would_do() {
    let lab = Lab::with_snapshots(4).await;
    let ids = lab.ids();
    lab.run(&["prune"])
        .ends_with(2)
        .tells(&["the daemon does", "--dry-run"]);
    let two = [("CHRONIK_SNAPSHOT_RETENTION_COUNT", "2")];
    let said = lab
        .run_with(
            &["prune", "orders/0", "--dry-run", "--output", "json"],
            &two,
        )
        .ends_with(0);
    assert_shape("prune", &said);
    let report = said.json();
    let verdicts: Vec<_> = report["partitions"][0]["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["snapshot_id"].as_str().unwrap(),
                it["evict"].as_bool().unwrap(),
                it["reason"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        (ids[3].as_str(), false, "newest"),
        (ids[2].as_str(), false, "newest"),
        (ids[1].as_str(), true, "beyond_count"),
        (ids[0].as_str(), true, "beyond_count"),
    ];
    assert_eq!(verdicts, expected);
    // The first one's file is pointed into by those that stay.
    let files = report["partitions"][0]["files"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0]["name"].as_str().unwrap().starts_with(&ids[1]));
    let said = lab.run_with(&["prune", "--dry-run"], &two).ends_with(0);
    assert_eq!(said.stdout.matches("evict").count(), 2, "{said:#?}");
    keep("prune", "prune --dry-run", &said);
    let off = [("CHRONIK_SNAPSHOT_RETENTION", "false")];
    let said = lab.run_with(&["prune", "--dry-run"], &off).ends_with(0);
    assert!(!said.stdout.contains("evict"));
    said.tells(&["nothing is deleted: RETENTION is false"]);
    assert_eq!(lab.ids(), ids);

    // The daemon does just that, once there is another one: the newest two are that and the last of these.
    let mut daemon = lab.daemon(&two);
    let end = lab.broker.grow(100);
    daemon.wait_proven(end);
    daemon.wait("retention", |_| lab.ids().len() == 2);
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    assert_eq!(lab.ids()[0], ids[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_only_shows_what_the_daemon_would_ask_for() {
    let lab = Lab::with_snapshots(1).await;
    {
        let mut script = lab.broker.script();
        script.first_log_index = 1;
        script.hold_index = 41;
    }
    lab.run(&["compact", "orders/0"])
        .ends_with(2)
        .tells(&["the daemon does", "--dry-run"]);
    let compact = ["compact", "orders/0", "--dry-run"];
    let asked = lab.broker.script().compactions.len();
    let said = lab.run(&compact).ends_with(0);
    keep("compact", "compact orders/0 --dry-run", &said);
    for part in [
        "entries 1 to 40 (40)",
        "the broker, from index 41 on",
        "covered beyond    90 entries",
    ] {
        assert!(said.stdout.contains(part), "{part:?} is missing: {said:#?}");
    }
    let said = lab
        .run(&[&compact[..], &["--output", "json"]].concat())
        .ends_with(0);
    assert_shape("compact", &said);
    let off = lab
        .run_with(&compact, &[("CHRONIK_SNAPSHOT_COMPACT", "false")])
        .ends_with(0);
    assert!(off.stdout.contains("COMPACT=false"), "{off:#?}");
    assert_eq!(
        lab.broker.script().compactions.len(),
        asked,
        "nothing was asked of the broker"
    );
    lab.run(&["compact", "payments/0", "--dry-run"])
        .ends_with(4);
    let nobody = [("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", "http://127.0.0.1:1")];
    lab.run_with(&compact, &nobody)
        .ends_with(69)
        .tells(&["the broker could not be reached"]);
    lab.broker.script().cluster_id = "another".to_owned();
    lab.run(&compact)
        .ends_with(1)
        .tells(&["the store belongs to cluster test-cluster"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_by_hand_needs_a_word_and_its_removal_a_sound_snapshot() {
    let lab = Lab::with_snapshots(2).await;
    let ids = lab.ids();
    let quarantine = ["quarantine", "orders/0", ids[1].as_str()];
    let said = lab.run(&quarantine).ends_with(2);
    let line = format!("quarantine orders/0 {}", ids[1]);
    keep("quarantine", &line, &said);
    said.tells(&[
        "is 200@3 (index@term) now and 100@3 then",
        "nothing was changed",
        "--yes",
    ]);
    assert!(lab.stored(".quarantined.json").is_empty());

    let yes = [&quarantine[..], &["--yes", "--reason", "bad batch"]].concat();
    lab.run(&yes).ends_with(0).tells(&["done"]);
    let mark = fs::read_to_string(&lab.stored(".quarantined.json")[0]).unwrap();
    assert!(
        mark.contains("\"reason\":\"bad batch\"") && mark.contains("\"broker_id\":-1"),
        "{mark}"
    );
    assert!(lab.run(&["list"]).stdout.contains("proven,quarantined"));
    let latest = lab.run(&["show", "orders/0", "latest", "--output", "json"]);
    assert_eq!(latest.json()["manifest"]["snapshot_id"], ids[0].as_str());
    lab.run(&yes)
        .ends_with(0)
        .tells(&["quarantined already: nothing to do"]);

    let undo = [&quarantine[..], &["--undo", "--yes"]].concat();
    lab.run(&undo).ends_with(0);
    assert!(lab.stored(".quarantined.json").is_empty());
    lab.run(&undo)
        .ends_with(0)
        .tells(&["is not quarantined: nothing to do"]);
    lab.run(&yes).ends_with(0);
    damage(&lab.stored(".snap")[1]);
    lab.run(&undo)
        .ends_with(5)
        .tells(&["does not verify", "its mark stays"]);
    assert_eq!(lab.stored(".quarantined.json").len(), 1);
    lab.run(&["quarantine", "orders/0", "1234"]).ends_with(2);

    // A sidecar's mark may be there for a history that is gone: right bytes do not take it back.
    let manifest = fs::read(&lab.stored(".manifest.json")[0]).unwrap();
    let mark = Quarantine::new(
        ids[0].parse().unwrap(),
        ManifestDigest::of(&manifest),
        "it ends beyond the log of its leader",
        5,
        CreatedBy {
            broker_id: 1,
            version: "0.1.0".to_owned(),
        },
    );
    let path =
        lab.stored(".manifest.json")[0].with_file_name(format!("{}.quarantined.json", ids[0]));
    fs::write(&path, mark.encode()).unwrap();
    let undo = ["quarantine", "orders/0", ids[0].as_str(), "--undo", "--yes"];
    lab.run(&undo)
        .ends_with(1)
        .tells(&["it ends beyond the log of its leader", "--force"]);
    assert!(path.exists());
    lab.run(&[&undo[..], &["--force"]].concat()).ends_with(0);
    assert!(!path.exists());
}
