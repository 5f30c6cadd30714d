//! A sidecar: the daemon's own catalog, sweeper, pipeline and scheduler, wired as `app.rs` wires them, between the
//! simulated store and the simulated broker. It is killed and started again with an empty memory.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use chronik_snapshotd::{
    board::Board,
    catalog::{Catalog, Sweeper},
    clock::{Clock, SharedClock},
    config::TopicFilter,
    control::{self, Control},
    pipeline::{
        Pipeline, PipelineOptions,
        plane::{DataPlane, MemoryBudget, Rates, Workers},
    },
    scheduler::{Scheduler, SchedulerOptions},
    store::{NoObserver, Store, StoreOptions},
    telemetry::Metrics,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    broker::SimBroker,
    store::SimStore,
    world::{BROKERS, Shared},
};

/// Time and randomness of one sidecar, from the seed.
pub(crate) struct SimClock {
    pub(crate) world: Shared,
    pub(crate) number: usize,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Duration {
        self.world.state().wall(self.number)
    }

    fn new_uuid(&self) -> Uuid {
        let mut state = self.world.state();
        Uuid::from_u64_pair(state.rng.next(), state.rng.next())
    }

    fn jitter(&self) -> f64 {
        let per_10k = self.world.state().rng.within(0..=9_999);
        f64::from(u32::try_from(per_10k).unwrap()) / 10_000.0
    }
}

/// A sidecar that runs.
pub(crate) struct Live {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) control: Control,
    /// Cancelled when it dies, whichever way.
    pub(crate) dead: CancellationToken,
    stop: CancellationToken,
}

/// The sidecars that run now.
pub(crate) type Fleet = Arc<Mutex<[Option<Arc<Live>>; BROKERS]>>;

fn start(world: &Shared, number: usize) -> (Live, JoinHandle<()>) {
    let profile = world.state().profile.clone();
    let clock: SharedClock = Arc::new(SimClock {
        world: world.clone(),
        number,
    });
    let board = Arc::new(Board::new());
    world.state().running[number] = true;
    let store = SimStore {
        world: world.clone(),
        owner: number,
        drills: false,
    };
    let options = StoreOptions {
        part_min_bytes: profile.upload_part_bytes,
        part_max_bytes: profile.upload_part_bytes,
        ..StoreOptions::default()
    };
    let store = Store::from_object_store(Arc::new(store), options, Arc::new(NoObserver));
    let two = NonZeroUsize::new(2).unwrap();
    let mut plane = DataPlane::new(
        MemoryBudget::new(64 << 20),
        Workers::inline(two),
        Rates::default(),
    );
    plane.file_max_bytes = profile.file_max_bytes;
    let stop = CancellationToken::new();
    let broker = SimBroker {
        world: world.clone(),
        number,
    };
    let pipeline = Arc::new(Pipeline {
        broker: Arc::new(broker),
        catalog: Arc::new(Catalog::new(store, "snapshots/")),
        sweeper: Sweeper::new(clock.clone(), profile.grace),
        clock,
        metrics: Metrics::new().unwrap(),
        board,
        options: PipelineOptions {
            progress_timeout: Duration::from_mins(1),
            deposed_leader_max: Duration::from_secs(10),
            policy: profile.policy,
            verify: profile.verify,
            compression: profile.compression,
            full_every: profile.full_every,
        },
        plane,
        stop: stop.clone(),
        abort: CancellationToken::new(),
    });
    let (control, commands) = control::channel();
    let options = SchedulerOptions {
        enabled: true,
        check_interval: profile.check_interval,
        max_concurrent: two,
        topics: TopicFilter::parse("*", "").unwrap(),
        // The world asks for drills, so that it can tell their requests from others.
        drill_interval: None,
        shutdown_grace: Duration::from_secs(5),
    };
    let scheduler = Scheduler::new(pipeline.clone(), options, commands, stop.clone());
    let running = tokio::spawn(scheduler.run());
    let live = Live {
        pipeline,
        control,
        dead: CancellationToken::new(),
        stop,
    };
    (live, running)
}

/// Runs one sidecar for ever: killed when its `crash` says so, now and then stopped in order, started again.
pub(crate) async fn keep_running(world: Shared, number: usize, fleet: Fleet) {
    let who = ["s0", "s1", "s2"][number];
    loop {
        let (live, mut running) = start(&world, number);
        world.state().note(who, format_args!("starts"));
        let live = Arc::new(live);
        fleet.lock().unwrap()[number] = Some(live.clone());
        let panicked = tokio::select! {
            biased;
            () = world.crash[number].notified() => false,
            _ = &mut running => true,
        };
        if panicked {
            world.step(|state| {
                state.violate(format!("the loop of sidecar {number} ended by itself"));
            });
            return;
        }
        let (in_order, down) = {
            let mut state = world.state();
            let in_order = state.rng.chance(2_000);
            let word = if in_order { "is stopped" } else { "is killed" };
            state.note(who, format_args!("{word}"));
            state.counts.crashes += 1;
            let down = if state.healed {
                1
            } else {
                state.rng.within(1..=20_000)
            };
            (in_order, Duration::from_millis(down))
        };
        if in_order {
            live.stop.cancel();
            let grace = Duration::from_secs(15);
            if timeout(grace, &mut running).await.is_err() {
                world.step(|state| {
                    state.violate(format!("sidecar {number} did not stop in time"));
                });
            }
        }
        running.abort();
        live.pipeline.abort.cancel();
        live.dead.cancel();
        fleet.lock().unwrap()[number] = None;
        {
            let mut state = world.state();
            state.running[number] = false;
            state.refused[number] = None;
        }
        sleep(down).await;
        while world.state().held_down {
            sleep(Duration::from_millis(50)).await;
        }
    }
}
