//! One broker, one sidecar, a real S3 server and a faulty server in front of it, all but the last as processes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions, PartitionStatus, Poll,
    client::{Client, Pool, PoolOptions, Record},
    fault::{HttpFault, HttpProxy, Seen},
    proto::ReplicaStatus,
    s3::S3Process,
};
use chronik_snapshotd::format::{BlockDecoder, Manifest, ManifestDigest, PartHasher, Proof};

pub const TOPIC: &str = "orders";
pub const THRESHOLD: u64 = 50;
pub const TRAILING: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// Log entries that are not records, at most: a new leader's, and changes of the configuration.
const NO_RECORDS_MAX: u64 = 30;

pub struct Rig {
    pub cluster: Cluster,
    pub store: S3Process,
    pub proxy: HttpProxy,
    pub produced: u64,
    dir: tempfile::TempDir,
}

impl Rig {
    /// Everything runs except the sidecar.
    pub async fn start(change: impl FnOnce(ClusterOptions) -> ClusterOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ClusterOptions::new(dir.path())
            .brokers(1)
            .sidecar_env("LOG_THRESHOLD", &THRESHOLD.to_string())
            .sidecar_env("TRAILING_ENTRIES", &TRAILING.to_string())
            .sidecar_env("CHECK_INTERVAL_SECS", "1")
            .sidecar_env("MIN_INTERVAL_SECS", "0")
            .sidecar_env("RETENTION_COUNT", "1")
            .sidecar_env("DELETE_GRACE_SECS", "1")
            .sidecar_env("LOG_FORMAT", "text");
        let options = change(options);
        let store = S3Process::start(&options.binaries, dir.path())
            .await
            .unwrap();
        let proxy = HttpProxy::start(&store.address()).await.unwrap();
        let bucket = store.store_through(&proxy.address());
        let mut cluster = Cluster::start(options.store(bucket)).await.unwrap();
        cluster.kill_sidecar(1).unwrap();
        cluster
            .client()
            .create_topic(TOPIC, 1, 1, PATIENCE)
            .await
            .unwrap();
        Self {
            cluster,
            store,
            proxy,
            produced: 0,
            dir,
        }
    }

    /// An option of the sidecar, from its next start on.
    pub fn set_option(&mut self, key: &str, value: &str) {
        let sidecar = self.cluster.sidecar_mut(1).unwrap();
        sidecar.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value);
    }

    /// Makes the partition due.
    pub async fn produce_enough(&mut self) {
        self.produce(THRESHOLD + 10).await;
    }

    pub async fn produce(&mut self, count: u64) {
        self.produce_sized(count, 0).await;
    }

    /// Values of at least so many bytes, which do not compress.
    pub async fn produce_sized(&mut self, count: u64, value_bytes: usize) {
        let client: Arc<Client> = self.cluster.client().clone();
        let mut pool = Pool::start(&client, TOPIC, PoolOptions::default())
            .await
            .unwrap();
        for number in self.produced..self.produced + count {
            let mut value = format!("value {number} ").into_bytes();
            let mut noise = number | 1;
            while value.len() < value_bytes {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005) ^ (noise >> 29);
                value.extend_from_slice(&noise.to_le_bytes());
            }
            let record = Record {
                key: Bytes::from(number.to_string()),
                value: Bytes::from(value),
                timestamp_ms: 1,
            };
            pool.send(record).await.unwrap();
        }
        self.produced += count;
        assert_eq!(pool.finish().await.unwrap().len() as u64, count);
    }

    pub async fn replica(&mut self) -> ReplicaStatus {
        self.cluster.replicas_of(TOPIC).await.remove(0).1
    }

    /// Files of the partition in the store whose names end so, sorted. Read from the server's disk.
    pub fn stored(&self, ending: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        let mut found: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(ending))
            .collect();
        found.sort();
        found
    }

    /// The index that the newest proven and whole snapshot ends at; 0 = there is none.
    pub fn covered(&self) -> u64 {
        let proofs = self.stored(".verified.json");
        let whole = proofs.iter().filter_map(|proof| {
            let stem = proof.to_str().unwrap().strip_suffix(".verified.json")?;
            read_back(stem)
        });
        whole.max().unwrap_or(0)
    }

    /// What was cut from the log is covered by a proven snapshot that restores byte by byte.
    pub async fn check_safety(&mut self) {
        let first = self.replica().await.first_log_index;
        let covered = self.covered();
        assert!(
            first - 1 <= covered,
            "the log begins at {first}, snapshots cover up to {covered}\n{}",
            self.cluster.log_tails()
        );
    }

    /// Waits until so many snapshots were proven, counting those that were set aside since.
    pub async fn wait_proven(&mut self, count: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.stored(".verified.json").len() < count {
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "no proof\n{}", self.cluster.log_tails());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the broker leads the partition: after a restart it campaigns first.
    pub async fn wait_led(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let led = self.cluster.replicas_of(TOPIC).await;
            let leads = |replica: &ReplicaStatus| {
                replica.role == chronik_snapshotd::proto::v1::ReplicaRole::Leader as i32
            };
            if led.iter().any(|(_, replica)| leads(replica)) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the sidecar has logged so far.
    pub fn sidecar_log(&self) -> String {
        let sidecar = self.cluster.node(1).unwrap().sidecar.as_ref().unwrap();
        fs::read_to_string(sidecar.log_path()).unwrap()
    }

    /// Waits until the sidecar says of itself that the store is away, and of the partition this error.
    pub async fn wait_store_away(&mut self, error: &str) {
        let node = self.cluster.node(1).unwrap();
        let look = async || {
            let status = node.status().await?;
            let says = |it: &PartitionStatus| it.topic == TOPIC && it.last_error.contains(error);
            let away = !status.daemon.store_available && status.partitions.iter().any(says);
            Ok(if away {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{status:?}"))
            })
        };
        let what = format!("no store: {error:?}");
        self.cluster
            .wait_until(&what, PATIENCE, look)
            .await
            .unwrap();
    }

    /// Waits until the sidecar has logged this.
    pub async fn wait_logged(&mut self, text: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.sidecar_log().contains(text) {
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(
                in_time,
                "{text:?} was not logged:\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The partition's folder, on the server's disk.
    pub fn folder(&self) -> PathBuf {
        let bucket = self.dir.path().join("s3/bucket/snapshots");
        bucket.join(TOPIC).join("0")
    }

    /// Waits until the log was cut behind everything that is produced.
    pub async fn wait_cut(&mut self) {
        let client = self.cluster.node(1).unwrap().snapshot_endpoint();
        let look = async || {
            let replicas = chronik_harness::client::snapshot::list_replicas(&client).await?;
            let of_topic = replicas.iter().find(|replica| {
                replica
                    .partition
                    .as_ref()
                    .is_some_and(|it| it.topic == TOPIC)
            });
            let Some(replica) = of_topic else {
                return Ok(Poll::NotYet("no replica".to_owned()));
            };
            let kept = replica.last_log_index + 1 - replica.first_log_index;
            Ok(if kept < THRESHOLD {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{kept} entries in the log"))
            })
        };
        self.cluster
            .wait_until("a short log", PATIENCE, look)
            .await
            .unwrap();
    }

    /// Waits until the store holds exactly one proven snapshot, the files that it points into, and no trace of others.
    pub async fn wait_clean(&mut self) {
        let wanted = |rig: &Self| {
            let kept = rig.stored(".manifest.json");
            let bytes = fs::read(kept.last()?).ok()?;
            let files = Manifest::decode(&bytes).ok()?.references.len();
            (files > 0).then_some([files, 1, 1, files + 2])
        };
        self.wait_counts(wanted).await;
    }

    /// Waits until there are so many `.snap` files, manifests, proofs, and files of any name.
    pub async fn wait_files(&mut self, wanted: [usize; 4]) {
        self.wait_counts(|_| Some(wanted)).await;
    }

    /// `wanted` is asked anew each time; nothing equals `None`.
    async fn wait_counts(&mut self, wanted: impl Fn(&Self) -> Option<[usize; 4]>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (wanted, counts) = (wanted(self), self.counts());
            if wanted == Some(counts) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "files: {counts:?} instead of {wanted:?}\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Numbers of `.snap` files, manifests, proofs, and files of any name.
    fn counts(&self) -> [usize; 4] {
        [".snap", ".manifest.json", ".verified.json", ""].map(|ending| self.stored(ending).len())
    }

    /// Reads everything from offset 0.
    pub async fn check_records(&self) {
        let mut next = 0;
        let see = |record: chronik_harness::client::Consumed| {
            assert_eq!(record.offset, next, "a gap");
            next += 1;
        };
        let client = self.cluster.client();
        client.consume(TOPIC, 0, 0, PATIENCE, see).await.unwrap();
        assert_eq!(u64::try_from(next).unwrap(), self.produced);
    }

    /// Stops the sidecar for good at its n-th request to the store from now on. Resolves to `true` when it has got
    /// there, or to `false` when the log was cut first.
    pub async fn stopped_at(&mut self, request: u64, fault: HttpFault) -> bool {
        let count = AtomicU64::new(0);
        self.proxy.script(move |_: &Seen| {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            (number >= request).then(|| fault.clone())
        });
        let mut stopped = self.proxy.stopped();
        let before = *stopped.borrow_and_update();
        self.cluster.start_sidecar(1).unwrap();
        let reached = stopped.wait_for(|now| *now > before);
        tokio::time::timeout(Duration::from_secs(5), reached)
            .await
            .is_ok()
    }
}

/// Decodes a whole snapshot. `None` = it is not what its manifest and proof say, or records are missing from it.
fn read_back(stem: &str) -> Option<u64> {
    let bytes = fs::read(format!("{stem}.manifest.json")).ok()?;
    let manifest = Manifest::decode(&bytes).ok()?;
    let proof = Proof::decode(&fs::read(format!("{stem}.verified.json")).ok()?).ok()?;
    if !proof.covers(manifest.snapshot_id, ManifestDigest::of(&bytes)) {
        return None;
    }
    let folder = Path::new(stem).parent()?;
    let mut decoder = BlockDecoder::new(manifest.codec).ok()?;
    let mut records = BTreeSet::new();
    for part in &manifest.parts {
        let mut raw = Vec::new();
        for block in &part.blocks {
            let file = manifest.references.get(usize::try_from(block.file).ok()?)?;
            let stored = fs::read(folder.join(file)).ok()?;
            let begin = usize::try_from(block.offset_bytes).ok()?;
            let end = begin + usize::try_from(block.stored_len_bytes).ok()?;
            let stored = Bytes::copy_from_slice(stored.get(begin..end)?);
            raw.extend_from_slice(&decoder.decode(&stored, block).ok()?);
        }
        let mut hasher = PartHasher::new();
        hasher.update(&raw);
        if hasher.finish() != part.digest {
            return None;
        }
        records.extend(numbers_of_records(&raw));
    }
    let index = manifest.last_included.index;
    // Numbers begin at 0, so one that is missing leaves too few below the index.
    let expected = index.saturating_sub(NO_RECORDS_MAX);
    (records.range(..expected).count() as u64 == expected).then_some(index)
}

/// Numbers of the records whose values are in `raw`, see [`Rig::produce_sized`].
fn numbers_of_records(raw: &[u8]) -> impl Iterator<Item = u64> {
    const WORD: &[u8] = b"value ";
    let starts = raw.windows(WORD.len()).enumerate();
    starts.filter_map(|(at, word)| {
        let rest = (word == WORD).then(|| &raw[at + WORD.len()..])?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    })
}
