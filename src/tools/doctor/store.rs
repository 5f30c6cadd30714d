//! The store: every kind of request that the daemon sends, tried once, and what the server makes of the finer points.

use std::time::Duration;

use bytes::Bytes;

use super::{Diagnosis, Doctor, Level};
use crate::{
    clock::unix_ms,
    error::chain,
    store::{Key, Store, StoreError},
};

const AREA: &str = "store";
/// Below the prefix; no topic's folder begins with `@`.
const FOLDER: &str = "@doctor/";
const FIRST: &[u8] = b"written by chronik-snapshotd doctor\n";
const SECOND: &[u8] = b"not written, if conditions are honoured\n";
/// Stores tell times in whole seconds.
const CLOCK_OK: Duration = Duration::from_secs(5);
/// Beyond this S3 refuses every request.
const CLOCK_MAX: Duration = Duration::from_mins(15);
const DOWN: &str = "no snapshot can be made, proven or restored";

/// One kind of request, and what it needs.
struct Step {
    check: &'static str,
    /// What S3 calls the permission.
    permission: &'static str,
    consequence: &'static str,
}

const PUT: Step = Step {
    check: "put",
    permission: "s3:PutObject",
    consequence: DOWN,
};
const GET: Step = Step {
    check: "get",
    permission: "s3:GetObject",
    consequence: DOWN,
};
const RANGE: Step = Step {
    check: "range",
    permission: "s3:GetObject",
    consequence: "no snapshot can be read back, so none is proven and no log is truncated",
};
const HEAD: Step = Step {
    check: "head",
    permission: "s3:GetObject",
    consequence: "no snapshot can be proven and no log is truncated",
};
const LIST: Step = Step {
    check: "list",
    permission: "s3:ListBucket",
    consequence: "nothing is known about what is stored: no snapshot, no truncation, no restore",
};
const MULTIPART: Step = Step {
    check: "multipart",
    permission: "s3:PutObject",
    consequence: "snapshots of more than 8 MiB cannot be stored",
};
const ABORT: Step = Step {
    check: "multipart abort",
    permission: "s3:AbortMultipartUpload",
    consequence: "uploads that break off leave parts that are paid for",
};
const DELETE: Step = Step {
    check: "delete",
    permission: "s3:DeleteObject",
    consequence: "retention cannot delete: the store grows without end",
};

impl Doctor<'_> {
    /// Tries everything, each step whatever became of the others, and removes what it wrote.
    pub async fn store(&self, diagnosis: &mut Diagnosis) -> Result<(), StoreError> {
        let store = self.catalog.store();
        let root = self.catalog.keys().root();
        let folder = format!("{root}{FOLDER}{}/", self.clock.new_uuid());
        let key = |name: &str| Key::new(format!("{folder}{name}"));
        let mut probe = Probe {
            store,
            folder: &folder,
            diagnosis,
            written: Vec::new(),
        };
        let object = key("object")?;
        let before = self.clock.wall();
        let put = probe.put(&object).await;
        probe.read(&object, put).await;
        if put {
            probe.clock(&object, before, self.clock.wall()).await;
        }
        probe.create(&key("created")?).await;
        probe.multipart(&key("multipart")?, &key("aborted")?).await;
        probe.checksum(self.checksummed, &key("checksummed")?).await;
        probe.clean().await;
        Ok(())
    }
}

struct Probe<'a> {
    store: &'a Store,
    folder: &'a str,
    diagnosis: &'a mut Diagnosis,
    /// What is to be removed; perhaps more than was written.
    written: Vec<Key>,
}

impl Probe<'_> {
    /// Notes how a step went; true if it did.
    fn note(&mut self, step: &Step, result: Result<String, Trouble>) -> bool {
        let place = (AREA, step.check, Level::Error);
        let error = match result {
            Ok(detail) => {
                self.diagnosis.ok(AREA, step.check, detail);
                return true;
            }
            Err(Trouble::Other(detail)) => {
                let fix = "use another store: this one does not show what was written to it";
                self.diagnosis
                    .bad(place, detail.to_owned(), step.consequence, fix);
                return false;
            }
            Err(Trouble::Store(error)) => error,
        };
        let permission = step.permission;
        let (detail, fix) = match &error {
            StoreError::Denied { .. } => (
                format!("denied: {}", chain(&error)),
                format!(
                    "check the keys, and allow {permission} (or its like) below {}",
                    self.folder_root()
                ),
            ),
            StoreError::NoBucket { .. } => (
                chain(&error),
                "create the bucket or directory, or correct its name".to_owned(),
            ),
            StoreError::Timeout { .. } | StoreError::Request { .. } => (
                chain(&error),
                "check endpoint, network and the server; S3_ENDPOINT, S3_REGION, S3_PATH_STYLE"
                    .to_owned(),
            ),
            _ => (chain(&error), "see the detail".to_owned()),
        };
        self.diagnosis.bad(place, detail, step.consequence, &fix);
        false
    }

    /// The prefix.
    fn folder_root(&self) -> &str {
        self.folder
            .rsplit_once(FOLDER)
            .map_or(self.folder, |(prefix, _)| prefix)
    }

    async fn put(&mut self, key: &Key) -> bool {
        self.written.push(key.clone());
        let put = self.store.put(key, Bytes::from_static(FIRST)).await;
        let put = put.map(|()| format!("wrote {} bytes", FIRST.len()));
        self.note(&PUT, put.map_err(Trouble::Store))
    }

    /// What was written shows at once. Without it, only that the requests are allowed can be seen.
    async fn read(&mut self, key: &Key, put: bool) {
        let len = FIRST.len() as u64;
        let allowed = |error: StoreError| match error {
            StoreError::NotFound { .. } if !put => Ok("allowed".to_owned()),
            StoreError::NotFound { .. } => {
                Err(Trouble::Other("what was just written is not there"))
            }
            error => Err(Trouble::Store(error)),
        };
        let got = self.store.get(key, len).await;
        let got = got.map_or_else(allowed, |object| right(object.bytes == FIRST, "reads back"));
        self.note(&GET, got);
        let got = self.store.get_range(key, 8..len).await;
        let got = got.map_or_else(allowed, |bytes| {
            right(bytes == FIRST[8..], "a range reads back")
        });
        self.note(&RANGE, got);
        let seen = self.store.head(key).await;
        let seen = seen.map_or_else(allowed, |info| {
            right(info.size_bytes == len, "has its size")
        });
        self.note(&HEAD, seen);
        let listed = self.store.list(self.folder).await;
        let shows =
            |listed: Vec<crate::store::ObjectInfo>| listed.iter().any(|info| info.key == *key);
        let listed = listed.map_err(Trouble::Store).and_then(|listed| {
            if put {
                right(
                    shows(listed),
                    "shows in a listing right after it was written",
                )
            } else {
                Ok("allowed".to_owned())
            }
        });
        self.note(&LIST, listed);
    }

    async fn clock(&mut self, key: &Key, before: Duration, after: Duration) {
        let Ok(info) = self.store.head(key).await else {
            return;
        };
        let ours = i64::midpoint(unix_ms(before), unix_ms(after));
        let offset_ms = info.last_modified_unix_ms - ours;
        let offset = Duration::from_millis(offset_ms.unsigned_abs());
        let took = after.saturating_sub(before);
        let detail = format!(
            "the store's clock is {:+.1} s from ours",
            seconds(offset_ms)
        );
        if offset <= CLOCK_OK + took {
            return self.diagnosis.ok(AREA, "clock", detail);
        }
        let level = if offset > CLOCK_MAX {
            Level::Error
        } else {
            Level::Warning
        };
        self.diagnosis.bad(
            (AREA, "clock", level),
            detail,
            "times and ages that people read are off (nothing is decided by them); beyond 15 minutes S3 refuses every request",
            "let NTP set this host's clock, and the store's",
        );
    }

    /// Create-only writes: nothing rests on them, but they are sent.
    async fn create(&mut self, key: &Key) {
        const CHECK: &str = "conditional create";
        self.written.push(key.clone());
        let first = self.store.create(key, Bytes::from_static(FIRST)).await;
        match first {
            Ok(()) => {}
            Err(error @ StoreError::Denied { .. }) => {
                self.note(
                    &Step {
                        check: CHECK,
                        ..PUT
                    },
                    Err(error.into()),
                );
                return;
            }
            Err(error @ StoreError::Unsupported { .. }) => {
                return self.diagnosis.bad(
                    (AREA, CHECK, Level::Warning),
                    format!("refused: {}", chain(&error)),
                    "create-only writes are made as read, write, read instead; safety does not rest on them",
                    "nothing",
                );
            }
            Err(error) => {
                return self.diagnosis.bad(
                    (AREA, CHECK, Level::Error),
                    format!("refused: {}", chain(&error)),
                    "no snapshot can be committed",
                    "set AWS_CONDITIONAL_PUT=disabled in the sidecar's environment",
                );
            }
        }
        match self.store.create(key, Bytes::from_static(SECOND)).await {
            Err(StoreError::Exists { .. }) => {
                self.diagnosis.ok(
                    AREA,
                    CHECK,
                    "honoured: a second writer is refused".to_owned(),
                );
            }
            Ok(()) => self.diagnosis.bad(
                (AREA, CHECK, Level::Warning),
                "silently ignored: a second writer replaced the object".to_owned(),
                "none for safety: names are unique, or all writers write the same bytes",
                "nothing",
            ),
            Err(error) => {
                self.note(
                    &Step {
                        check: CHECK,
                        ..PUT
                    },
                    Err(error.into()),
                );
            }
        }
    }

    async fn multipart(&mut self, whole: &Key, aborted: &Key) {
        self.written.extend([whole.clone(), aborted.clone()]);
        let part = usize::try_from(self.store.options().part_min_bytes).unwrap_or(8 << 20);
        let bytes = Bytes::from(vec![b'.'; part + 1]);
        let len = bytes.len() as u64;
        let mut upload = self.store.upload(whole, len);
        let work = async {
            upload.write(bytes.clone()).await?;
            upload.finish().await?;
            right(
                self.store.head(whole).await?.size_bytes == len,
                "two parts make one object",
            )
        };
        let result = work.await;
        if result.is_err() {
            // Its parts must not stay; that it fails, too, is told by the next step.
            let _ = upload.abort().await;
        }
        if !self.note(&MULTIPART, result) {
            return;
        }
        let mut upload = self.store.upload(aborted, len);
        let work = async {
            upload.write(bytes).await?;
            upload.abort().await?;
            match self.store.head(aborted).await {
                Err(error) if error.is_not_found() => {
                    Ok("an upload that is given up leaves nothing".to_owned())
                }
                Ok(_) => Err(Trouble::Other(
                    "an upload that was given up left its object",
                )),
                Err(error) => Err(Trouble::Store(error)),
            }
        };
        let result = work.await;
        self.note(&ABORT, result);
    }

    /// Servers that do not know checksums refuse the request; those that do check the bytes on arrival.
    async fn checksum(&mut self, store: &Store, key: &Key) {
        const CHECK: &str = "content checksum";
        self.written.push(key.clone());
        match store.put(key, Bytes::from_static(FIRST)).await {
            Ok(()) => self.diagnosis.ok(
                AREA,
                CHECK,
                "a write with a checksum is taken; AWS_CHECKSUM_ALGORITHM=SHA256 sends one with every write to S3".to_owned(),
            ),
            Err(error) => self.diagnosis.bad(
                (AREA, CHECK, Level::Warning),
                format!("refused: {}", chain(&error)),
                "bytes that change on their way to the store are found when they are read back, not on arrival",
                "leave AWS_CHECKSUM_ALGORITHM unset",
            ),
        }
    }

    /// Removes everything, and looks that it is gone.
    async fn clean(&mut self) {
        let mut failed = None;
        for key in std::mem::take(&mut self.written) {
            if let Err(error) = self.store.delete(&key).await {
                failed.get_or_insert(error);
            }
        }
        let result = match failed {
            Some(error) => Err(Trouble::Store(error)),
            None => match self.store.list(self.folder).await {
                Ok(left) => right(left.is_empty(), "what the probe wrote is gone"),
                Err(error) => Err(Trouble::Store(error)),
            },
        };
        self.note(&DELETE, result);
    }
}

/// Why a step did not go as it should.
enum Trouble {
    Store(StoreError),
    Other(&'static str),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What was seen, or that the store answers something else than was written.
fn right(holds: bool, detail: &str) -> Result<String, Trouble> {
    if holds {
        return Ok(detail.to_owned());
    }
    Err(Trouble::Other(
        "the store answers something else than was written",
    ))
}

#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
