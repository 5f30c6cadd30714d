//! One sidecar's way to the store: every call waits, may fail before or after it took effect, may be answered wrong,
//! may outlive whoever asked. Listings are taken in two halves, as pages are: what changes meanwhile may show or not.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart, path::Path,
};
use tokio::time::{Instant, sleep};

use crate::{
    bucket::Object,
    world::{Shared, State},
};

/// A handle of one sidecar.
#[derive(Clone)]
pub(crate) struct SimStore {
    pub(crate) world: Shared,
    pub(crate) owner: usize,
    /// Its requests are those of drills.
    pub(crate) drills: bool,
}

/// How one call goes.
#[expect(clippy::struct_excessive_bools, reason = "each strikes by itself")]
struct Fate {
    before: Duration,
    after: Duration,
    fails_before: bool,
    fails_after: bool,
    dies: bool,
    outlives: bool,
}

/// Tells a call that outlives its caller that nobody waits any more.
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SimStore {
    pub(crate) fn who(&self) -> &'static str {
        let who = if self.drills {
            ["d0", "d1", "d2"]
        } else {
            ["s0", "s1", "s2"]
        };
        who[self.owner]
    }

    fn fate(&self) -> Fate {
        let mut state = self.world.state();
        let profile = state.profile.clone();
        let away = !state.healed && Instant::now() < state.outage_until;
        Fate {
            before: state.freeze(self.owner) + state.latency(),
            after: state.latency(),
            fails_before: (away && state.rng.chance(9_000)) || state.strikes(profile.fail_before),
            fails_after: state.strikes(profile.fail_after),
            dies: state.strikes(profile.dies_at_call),
            outlives: !state.healed && state.rng.chance(profile.outlives),
        }
    }

    /// One of the shapes in which stores say no.
    fn refusal(&self, what: &str, key: &str, create: bool) -> Error {
        let mut state = self.world.state();
        let path = key.to_owned();
        let shape = state.rng.within(0..=5);
        let who = self.who();
        state.note(who, format_args!("{what} {key} is refused ({shape})"));
        let source = |text: &str| text.to_owned().into();
        match shape {
            0 => Error::PermissionDenied {
                path,
                source: source("403 Forbidden"),
            },
            1 => Error::NotFound {
                path,
                source: source("404 NoSuchBucket"),
            },
            2 if create => Error::AlreadyExists {
                path,
                source: source("409 ConditionalRequestConflict"),
            },
            3 if create => Error::Precondition {
                path,
                source: source("412 PreconditionFailed"),
            },
            4 => Error::Generic {
                store: "simulated",
                source: source("429 Too Many Requests"),
            },
            _ => Error::Generic {
                store: "simulated",
                source: source("503 SlowDown"),
            },
        }
    }

    /// The sidecar ends here, as if killed: nothing after this runs.
    async fn die(&self) {
        self.world.crash[self.owner].notify_one();
        std::future::pending::<()>().await;
    }

    /// Runs a call that changes something.
    async fn change<T: Send + 'static>(
        &self,
        what: &'static str,
        key: &str,
        create: bool,
        change: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.drills {
            self.world.step(|state| state.drill_writes(what, key));
        }
        let fate = self.fate();
        if fate.fails_before {
            sleep(fate.before).await;
            return Err(self.refusal(what, key, create));
        }
        let gone = Arc::new(AtomicBool::new(false));
        let work = {
            let (world, key, who) = (self.world.clone(), key.to_owned(), self.who());
            let (gone, outlives) = (gone.clone(), fate.outlives);
            async move {
                sleep(fate.before).await;
                world.step(|state| {
                    state.in_flight -= u64::from(outlives);
                    let late = if gone.load(Ordering::Relaxed) {
                        ", late"
                    } else {
                        ""
                    };
                    state.note(who, format_args!("{what} {key}{late}"));
                    change(state)
                })
            }
        };
        let _caller = Caller(gone);
        let result = if fate.outlives {
            self.world.state().in_flight += 1;
            tokio::spawn(work).await.unwrap()
        } else {
            work.await
        };
        if fate.dies {
            self.die().await;
        }
        sleep(fate.after).await;
        if fate.fails_after {
            return Err(self.refusal(what, key, create));
        }
        result
    }

    /// Runs a call that only reads.
    async fn read<T>(
        &self,
        what: &'static str,
        key: &str,
        read: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let fate = self.fate();
        sleep(fate.before).await;
        if fate.fails_before {
            return Err(self.refusal(what, key, false));
        }
        let result = {
            let mut state = self.world.state();
            state.counts.steps += 1;
            let result = read(&mut state);
            let found = if result.is_ok() { "" } else { ": not there" };
            state.note(self.who(), format_args!("{what} {key}{found}"));
            result
        };
        if fate.dies {
            self.die().await;
        }
        sleep(fate.after).await;
        if fate.fails_after {
            return Err(self.refusal(what, key, false));
        }
        result
    }

    async fn list_all(&self, folder: String) -> Result<Vec<ObjectMeta>> {
        let began = Instant::now();
        let first = self
            .read("LIST", &folder, |state| Ok(state.listed(&folder)))
            .await?;
        let gap = self.world.state().latency();
        sleep(gap).await;
        let mut state = self.world.state();
        let second = state.listed(&folder);
        let mut metas = Vec::with_capacity(second.len());
        let only_first = first.iter().filter(|(key, _)| !second.contains_key(*key));
        for (key, object) in only_first.chain(&second) {
            let both = first.contains_key(key) && second.contains_key(key);
            if both || state.rng.coin() {
                metas.push(meta(key, object));
            }
        }
        if !self.drills {
            state.listings[self.owner] += 1;
            state.saw(self.owner, &folder, began);
        }
        Ok(metas)
    }
}

fn meta(key: &str, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: Path::parse(key).unwrap(),
        last_modified: (UNIX_EPOCH + object.written).into(),
        size: object.bytes.len() as u64,
        e_tag: None,
        version: None,
    }
}

fn not_found(key: &str) -> Error {
    Error::NotFound {
        path: key.to_owned(),
        source: "404 NoSuchKey".into(),
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.owner)
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.owner)
    }
}

fn put_result() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
        extensions: object_store::Extensions::default(),
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let key = location.to_string();
        let create = options.mode == PutMode::Create;
        let bytes = Bytes::from(payload);
        let what = if create { "PUT-NEW" } else { "PUT" };
        let at = key.clone();
        self.change(what, &key, create, move |state| {
            if create && !state.profile.ignores_conditions && state.bucket.get(&at).is_some() {
                return Err(Error::AlreadyExists {
                    path: at,
                    source: "412 PreconditionFailed".into(),
                });
            }
            state.store(&at, bytes);
            Ok(put_result())
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let key = location.to_string();
        self.change("CREATE-UPLOAD", &key, false, |_| Ok(()))
            .await?;
        Ok(Box::new(SimUpload {
            store: self.clone(),
            key,
            parts: Vec::new(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.to_string();
        let what = if options.head { "HEAD" } else { "GET" };
        let object = self
            .read(what, &key, |state| {
                let object = state.bucket.object(&key).cloned();
                object.ok_or_else(|| not_found(&key))
            })
            .await?;
        let size = object.bytes.len() as u64;
        let range: Range<u64> = match options.range {
            Some(GetRange::Bounded(range)) if range.start >= size => {
                return Err(Error::Generic {
                    store: "simulated",
                    source: "416 InvalidRange".into(),
                });
            }
            Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
            _ => 0..size,
        };
        let whole = object
            .bytes
            .slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        let pieces = if options.head {
            Vec::new()
        } else {
            self.body(whole)
        };
        let payload = GetResultPayload::Stream(
            stream::iter(pieces)
                .then(|(wait, piece)| async move {
                    sleep(wait).await;
                    piece
                })
                .boxed(),
        );
        Ok(GetResult {
            payload,
            meta: meta(&key, &object),
            range,
            attributes: object_store::Attributes::default(),
            extensions: object_store::Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |location| {
                let this = this.clone();
                async move {
                    let key = location.to_string();
                    let at = key.clone();
                    // What the decision rests on was seen before the call, not before its effect.
                    let seen = this.world.state().seen(this.owner, &key);
                    let delete = move |state: &mut State| {
                        if state.bucket.get(&at).is_some() {
                            state.before_delete(&at, seen);
                            state.bucket.remove(&at);
                            state.after_delete(&at);
                        }
                        Ok(location)
                    };
                    this.change("DELETE", &key, false, delete).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix
            .map(|prefix| format!("{prefix}/"))
            .unwrap_or_default();
        let this = self.clone();
        async move {
            match this.list_all(folder).await {
                Ok(metas) => stream::iter(metas.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            }
        }
        .into_stream()
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented {
            operation: "list_with_delimiter".to_owned(),
            implementer: "SimStore".to_owned(),
        })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented {
            operation: "copy_opts".to_owned(),
            implementer: "SimStore".to_owned(),
        })
    }
}

#[derive(Debug)]
struct SimUpload {
    store: SimStore,
    key: String,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for SimUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(Bytes::from(data));
        let (store, key) = (self.store.clone(), self.key.clone());
        async move { store.change("PUT-PART", &key, false, |_| Ok(())).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let bytes = Bytes::from(self.parts.concat());
        let at = self.key.clone();
        let complete = move |state: &mut State| {
            state.store(&at, bytes);
            Ok(put_result())
        };
        let key = self.key.clone();
        self.store.change("COMPLETE", &key, false, complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        let key = self.key.clone();
        self.store.change("ABORT", &key, false, |_| Ok(())).await
    }
}
