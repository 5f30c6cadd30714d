//! Object stores that misbehave on purpose, and count.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart, path::Path,
};
use tokio::sync::Notify;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Get,
    Head,
    Put,
    PutNew,
    UploadCreate,
    UploadPart,
    UploadComplete,
    UploadAbort,
    Delete,
    List,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error, and nothing happened.
    FailBefore,
    /// An error, and yet it happened.
    FailAfter,
    /// The store says that there is no such object.
    NotFound,
    /// One bit of the answer's bytes is flipped: at this position, from the end when negative.
    Flip(isize),
    /// The answer's bytes are cut by one, with a matching length.
    Cut,
    /// No answer before [`Faults::release`].
    Stall,
}

#[derive(Debug, Clone)]
struct Rule {
    op: Op,
    key_part: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// What the decorator and its uploads share.
#[derive(Debug, Default)]
struct Plan {
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<HashMap<Op, usize>>,
    stalled: Mutex<usize>,
    released: Notify,
}

impl Plan {
    /// Counts a call and says how it goes wrong, if it does.
    fn call(&self, op: Op, key: &str) -> Option<Fault> {
        *self.calls.lock().unwrap().entry(op).or_default() += 1;
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.op == op && rule.times > 0 && key.contains(&rule.key_part))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }

    /// The part of a fault that comes before the call.
    async fn before(&self, fault: Option<Fault>, key: &str) -> Result<()> {
        match fault {
            Some(Fault::FailBefore) => Err(broken("before")),
            Some(Fault::NotFound) => Err(Error::NotFound {
                path: key.to_owned(),
                source: "injected".into(),
            }),
            Some(Fault::Stall) => {
                *self.stalled.lock().unwrap() += 1;
                self.released.notified().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn broken(when: &str) -> Error {
    Error::Generic {
        store: "faults",
        source: format!("injected, {when} the effect").into(),
    }
}

fn after<T>(fault: Option<Fault>, result: Result<T>) -> Result<T> {
    if fault == Some(Fault::FailAfter) {
        result?;
        return Err(broken("after"));
    }
    result
}

/// A store that fails as planned. Clones share the plan.
#[derive(Debug, Clone)]
pub struct Faults {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
}

impl Faults {
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            plan: Arc::default(),
        }
    }

    pub fn in_memory() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()))
    }

    /// The next `times` calls of `op` on keys with `key_part` in them go wrong, after `skip` that do not.
    pub fn plan(&self, op: Op, key_part: &str, skip: usize, times: usize, fault: Fault) {
        self.plan.rules.lock().unwrap().push(Rule {
            op,
            key_part: key_part.to_owned(),
            skip,
            times,
            fault,
        });
    }

    /// Forgets all plans.
    pub fn heal(&self) {
        self.plan.rules.lock().unwrap().clear();
    }

    /// Lets every stalled call go on.
    pub fn release(&self) {
        self.plan.released.notify_waiters();
    }

    /// Calls that have stalled so far.
    pub fn stalled(&self) -> usize {
        *self.plan.stalled.lock().unwrap()
    }

    /// Waits until that many calls have stalled.
    pub async fn wait_stalled(&self, calls: usize) {
        while self.stalled() < calls {
            tokio::task::yield_now().await;
        }
    }

    /// Calls of `op` so far.
    pub fn calls(&self, op: Op) -> usize {
        let calls = self.plan.calls.lock().unwrap();
        calls.get(&op).copied().unwrap_or_default()
    }

    /// Calls of every kind so far.
    pub fn all_calls(&self) -> usize {
        self.plan.calls.lock().unwrap().values().sum()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let op = if options.mode == PutMode::Create {
            Op::PutNew
        } else {
            Op::Put
        };
        let fault = self.plan.call(op, location.as_ref());
        self.plan.before(fault, location.as_ref()).await?;
        after(fault, self.inner.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.plan.call(Op::UploadCreate, location.as_ref());
        self.plan.before(fault, location.as_ref()).await?;
        let inner = after(
            fault,
            self.inner.put_multipart_opts(location, options).await,
        )?;
        Ok(Box::new(FaultyUpload {
            inner,
            plan: Arc::clone(&self.plan),
            key: location.to_string(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { Op::Head } else { Op::Get };
        let fault = self.plan.call(op, location.as_ref());
        self.plan.before(fault, location.as_ref()).await?;
        let answer = after(fault, self.inner.get_opts(location, options).await)?;
        match fault {
            Some(Fault::Flip(at)) => rewrite(answer, |bytes| flip(bytes, at)).await,
            Some(Fault::Cut) => {
                rewrite(answer, |bytes| {
                    bytes.pop();
                })
                .await
            }
            _ => Ok(answer),
        }
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
                    let fault = this.plan.call(Op::Delete, location.as_ref());
                    this.plan.before(fault, location.as_ref()).await?;
                    let one = stream::iter([Ok(location.clone())]).boxed();
                    let deleted = this.inner.delete_stream(one).try_collect::<Vec<_>>().await;
                    after(fault, deleted.map(|_| location))
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let key = prefix.map(ToString::to_string).unwrap_or_default();
        let fault = self.plan.call(Op::List, &key);
        let inner = self.inner.list(prefix);
        let plan = Arc::clone(&self.plan);
        // A listing that fails does so half-way: the first object has been seen.
        let first =
            fault.is_some_and(|fault| matches!(fault, Fault::FailBefore | Fault::FailAfter));
        let before = async move {
            if first {
                Ok(())
            } else {
                plan.before(fault, &key).await
            }
        };
        let broken = first.then(|| Err(broken("within")));
        before
            .into_stream()
            .flat_map(|result| stream::iter(result.err().map(Err)))
            .chain(inner.take(if first { 1 } else { usize::MAX }))
            .chain(stream::iter(broken))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.map(ToString::to_string).unwrap_or_default();
        let fault = self.plan.call(Op::List, &key);
        self.plan.before(fault, &key).await?;
        after(fault, self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn flip(bytes: &mut [u8], at: isize) {
    let at = if at < 0 {
        bytes.len().checked_add_signed(at)
    } else {
        usize::try_from(at).ok()
    };
    if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1;
    }
}

/// The answer with other bytes, and lengths that fit them.
async fn rewrite(answer: GetResult, change: impl FnOnce(&mut Vec<u8>)) -> Result<GetResult> {
    let (mut meta, mut range) = (answer.meta.clone(), answer.range.clone());
    let attributes = answer.attributes.clone();
    let extensions = answer.extensions.clone();
    let mut bytes = answer.bytes().await?.to_vec();
    let whole = range == (0..meta.size);
    change(&mut bytes);
    range.end = range.start + bytes.len() as u64;
    if whole {
        meta.size = range.end;
    }
    let piece = Ok(Bytes::from(bytes));
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream::iter([piece]).boxed()),
        meta,
        range,
        attributes,
        extensions,
    })
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    plan: Arc<Plan>,
    key: String,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.plan.call(Op::UploadPart, &self.key);
        let (plan, key) = (Arc::clone(&self.plan), self.key.clone());
        let part = self.inner.put_part(data);
        async move {
            plan.before(fault, &key).await?;
            after(fault, part.await)
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.plan.call(Op::UploadComplete, &self.key);
        self.plan.before(fault, &self.key).await?;
        after(fault, self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        let fault = self.plan.call(Op::UploadAbort, &self.key);
        self.plan.before(fault, &self.key).await?;
        after(fault, self.inner.abort().await)
    }
}
