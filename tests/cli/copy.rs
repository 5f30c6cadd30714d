//! `copy`: to another prefix, to another bucket and back.

use std::{fs, path::Path};

use crate::support::{
    cli::{Lab, damage, keep, run},
    s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY},
};

/// Names and contents of all files below a directory, sorted.
fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_and_is_made_once() {
    let lab = Lab::with_snapshots(3).await;
    let root = lab.dir.path().join("store");
    let (from, to) = (root.join("snapshots"), root.join("copy"));
    let copy = ["copy", "--all", "--to-prefix", "copy/"];
    let said = lab.run(&copy).ends_with(0);
    keep("copy", "copy --all --to-prefix copy/", &said);
    said.tells(&["3 snapshots copied (3 files", "0 were there"]);
    assert!(tree(&from) == tree(&to));
    lab.run(&copy)
        .ends_with(0)
        .tells(&["0 snapshots copied (0 files", "3 were there"]);
    lab.run_with(&["verify", "--all", "--deep"], &[("S3_PREFIX", "copy/")])
        .ends_with(0);

    // Marked since: the mark follows.
    let id = lab.ids()[0].clone();
    lab.run(&["quarantine", "orders/0", &id, "--yes"])
        .ends_with(0);
    lab.run(&copy).ends_with(0).tells(&[
        "1 snapshots are quarantined",
        "1 of them are marked in the target now",
    ]);
    assert!(tree(&from) == tree(&to));
    for prefix in ["snapshots/", "copy/"] {
        lab.run_with(
            &["quarantine", "orders/0", &id, "--undo", "--yes"],
            &[("S3_PREFIX", prefix)],
        )
        .ends_with(0);
    }

    // Broken off after the data: what is there is kept, the rest is made.
    for (name, _) in tree(&to)
        .iter()
        .filter(|(name, _)| name.rsplit('.').next() == Some("json") && name.contains("orders"))
    {
        fs::remove_file(to.join(name)).unwrap();
    }
    lab.run(&["copy", "orders/0", "--to-prefix", "copy/"])
        .ends_with(0)
        .tells(&["3 snapshots copied (0 files"]);
    assert!(tree(&from) == tree(&to));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_replaces_nothing() {
    let lab = Lab::with_snapshots(1).await;
    let root = lab.dir.path().join("store");
    let copy = ["copy", "--all", "--to-prefix", "copy/"];
    // Somebody's file, in a prefix that is nobody's.
    fs::create_dir_all(root.join("copy")).unwrap();
    fs::write(root.join("copy/report.txt"), "x").unwrap();
    lab.run(&copy)
        .ends_with(1)
        .tells(&["copy/report.txt is there", "nothing was copied"]);
    fs::remove_file(root.join("copy/report.txt")).unwrap();
    lab.run(&copy).ends_with(0);
    let snap = tree(&root.join("copy"))
        .into_iter()
        .find(|(name, _)| name.rsplit('.').next() == Some("snap"))
        .unwrap();
    let manifest = snap.0.replace(".snap", ".manifest.json");
    fs::remove_file(root.join("copy").join(&manifest)).unwrap();
    fs::write(root.join("copy").join(&snap.0), "other bytes").unwrap();
    lab.run(&copy)
        .ends_with(1)
        .tells(&["something else at copy/orders/0"]);
    assert_eq!(
        fs::read(root.join("copy").join(&snap.0)).unwrap(),
        b"other bytes"
    );

    for inside in ["snapshots/", "snapshots/copy/", "/"] {
        lab.run(&["copy", "--all", "--to-prefix", inside])
            .ends_with(1)
            .tells(&["one lies inside the other"]);
    }
    lab.run(&["copy", "--all"]).ends_with(2);
    lab.run(&["copy", "--to-prefix", "copy/"]).ends_with(2);
    lab.run(&["copy", "--all", "--to-prefix", "copy"])
        .ends_with(2)
        .tells(&["does not end in /"]);
    lab.run(&["copy", "orders/9", "--to-prefix", "copy/"])
        .ends_with(4);

    // The store of another cluster.
    let other = Lab::with_snapshots(0).await;
    other.broker.script().cluster_id = "another".to_owned();
    let environment = [
        ("S3_PREFIX", "other/"),
        ("LOCAL_STORAGE_PATH", root.to_str().unwrap()),
    ];
    other.run_with(&["init"], &environment).ends_with(0);
    lab.run(&["copy", "--all", "--to-prefix", "other/"])
        .ends_with(1)
        .tells(&["belongs to cluster another"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_not_copied() {
    let lab = Lab::with_snapshots(2).await;
    let root = lab.dir.path().join("store");
    damage(&lab.stored(".snap")[1]);
    let ids = lab.ids();
    let said = lab
        .run(&["copy", "--all", "--to-prefix", "copy/"])
        .ends_with(5);
    said.tells(&[
        &ids[1],
        "was not copied, it does not verify",
        "1 snapshots copied",
    ]);
    let names: Vec<_> = tree(&root.join("copy/orders"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|name| name.contains(&ids[0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_to_a_bucket_and_back() {
    let lab = Lab::with_snapshots(2).await;
    let server = S3Server::start().await;
    let dir = lab.dir.path();
    let secret = dir.join("secret");
    fs::write(&secret, SECRET_KEY).unwrap();
    let bucket = dir.join("bucket.toml");
    let endpoint = server.endpoint.as_str();
    let text = format!(
        "s3_bucket = {BUCKET:?}\ns3_region = \"us-east-1\"\ns3_endpoint = {endpoint:?}\ns3_disable_ssl = true\n\
         s3_access_key = {ACCESS_KEY:?}\ns3_secret_key_file = {secret:?}\n"
    );
    fs::write(&bucket, text).unwrap();
    let copy = ["copy", "--all", "--to-config", bucket.to_str().unwrap()];
    lab.run(&copy).ends_with(0).tells(&["2 snapshots copied"]);
    lab.run(&copy)
        .ends_with(0)
        .tells(&["0 snapshots copied (0 files", "2 were there"]);
    let there = run(&["list", "--config", bucket.to_str().unwrap()], &[]).ends_with(0);
    assert!(there.stdout == lab.run(&["list"]).stdout, "{there:#?}");

    let back = dir.join("back");
    fs::create_dir(&back).unwrap();
    let directory = dir.join("directory.toml");
    let text = format!("object_store_backend = \"local\"\nlocal_storage_path = {back:?}\n");
    fs::write(&directory, text).unwrap();
    let arguments = [
        "copy",
        "--all",
        "--config",
        bucket.to_str().unwrap(),
        "--to-config",
        directory.to_str().unwrap(),
    ];
    run(&arguments, &[]).ends_with(0);
    assert!(tree(&back) == tree(&dir.join("store")));
    // A second configuration that is wrong.
    fs::write(&directory, "retention_cuont = 3\n").unwrap();
    run(&arguments, &[])
        .ends_with(78)
        .tells(&["retention_cuont"]);
}
