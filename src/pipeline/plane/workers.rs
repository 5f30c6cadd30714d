//! Threads for work that keeps a core busy. They give way to everything else on the machine.

use std::{io, num::NonZeroUsize, sync::Arc};

use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinHandle,
};

/// Added to the threads' nice value: they get what the broker, and the rest of this process, leave.
const NICE: i32 = 10;
/// The same of drills' threads, which get what snapshots leave. Not the most there is: a block that is begun is to end.
const DRILL_NICE: i32 = 15;

/// A bounded number of threads. Clones share them.
#[derive(Debug, Clone)]
pub struct Workers {
    free: Arc<Semaphore>,
    count: usize,
    place: Place,
}

/// Where the work is done.
#[derive(Debug, Clone)]
enum Place {
    /// On threads of its own, of low priority.
    Own(Arc<Threads>),
    /// On the runtime's threads for work that blocks.
    Blocking,
    /// As tasks of the runtime.
    Tasks,
}

impl Workers {
    /// `count` threads of low priority.
    pub fn new(count: NonZeroUsize) -> io::Result<Self> {
        Self::with_nice(count, NICE)
    }

    /// One thread of a priority below that of the others.
    pub fn for_drills() -> io::Result<Self> {
        Self::with_nice(NonZeroUsize::MIN, DRILL_NICE)
    }

    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, reason = "only on Linux is it a thread's own")
    )]
    fn with_nice(count: NonZeroUsize, nice: i32) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count.get()).thread_name("codec");
        #[cfg(target_os = "linux")]
        builder.on_thread_start(move || {
            // On Linux a nice value is a thread's own. Without it the work is done all the same.
            if let Err(error) = rustix::process::nice(nice) {
                tracing::warn!(%error, "the codec threads keep their priority");
            }
        });
        let threads = Threads(Some(builder.build()?));
        Ok(Self {
            place: Place::Own(Arc::new(threads)),
            ..Self::inline(count)
        })
    }

    /// As many others, of the process's own priority; inline ones for inline ones.
    #[must_use]
    pub fn of_normal_priority(&self) -> Self {
        let place = match self.place {
            Place::Own(_) | Place::Blocking => Place::Blocking,
            Place::Tasks => Place::Tasks,
        };
        Self {
            free: Arc::new(Semaphore::new(self.count)),
            count: self.count,
            place,
        }
    }

    /// Work that runs as tasks of the runtime, on no thread of its own: what a simulation needs, whose every step
    /// must follow from its seed.
    pub fn inline(count: NonZeroUsize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.get())),
            count: count.get(),
            place: Place::Tasks,
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits for a free worker and starts `work`. Work that has started runs to its end.
    pub(super) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        // The semaphore is never closed, so there is always a permit.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let work = move || {
            let _permit = permit;
            work()
        };
        match &self.place {
            Place::Own(threads) => threads.spawn(work),
            Place::Blocking => tokio::task::spawn_blocking(work),
            Place::Tasks => tokio::spawn(async move { work() }),
        }
    }
}

/// A runtime of its own, used as a pool of threads; none only while it is dropped.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.0 {
            Some(threads) => threads.spawn(async move { work() }),
            None => tokio::task::spawn_blocking(work),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed where this may be dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_are_bounded_and_give_way() {
        let workers = Workers::new(NonZeroUsize::MIN).unwrap();
        let ours = rustix::process::getpriority_process(None).unwrap();
        let theirs = workers.start(|| rustix::process::getpriority_process(None).unwrap());
        assert_eq!(theirs.await.await.unwrap(), (ours + NICE).min(19));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), ours);
        let drills = Workers::for_drills().unwrap();
        let drills = drills.start(|| rustix::process::getpriority_process(None).unwrap());
        assert_eq!(drills.await.await.unwrap(), (ours + DRILL_NICE).min(19));

        let (release, wait) = std::sync::mpsc::channel::<()>();
        let first = workers.start(move || wait.recv().unwrap()).await;
        let second = workers.start(|| ());
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), second).await;
        assert!(early.is_err(), "two pieces of work on one thread");
        release.send(()).unwrap();
        first.await.unwrap();
        workers.start(|| ()).await.await.unwrap();
    }
}
