//! Everything that is outside of the sidecars: one state, behind one lock, changed step by step.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chronik_snapshotd::raft::{Lineage, TopicPartition};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    bucket::Bucket, checks::Folders, group::Group, profile::Profile, rng::Rng, trace::Trace,
};

pub(crate) const BROKERS: usize = 3;
pub(crate) const CLUSTER: &str = "simulated";
/// Wall time at the start of every run.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// A broker process.
#[derive(Debug)]
pub(crate) struct BrokerState {
    pub(crate) up: bool,
    pub(crate) boot: u64,
    /// Cancelled when this boot ends.
    pub(crate) booted: CancellationToken,
}

/// What happened, for the report: a run in which nothing happens proves nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) proven: u64,
    pub(crate) compactions: u64,
    pub(crate) retired: u64,
    pub(crate) swept: u64,
    pub(crate) installed: u64,
    pub(crate) no_snapshot: u64,
    pub(crate) crashes: u64,
    pub(crate) faults: u64,
    pub(crate) quarantined: u64,
    pub(crate) pinned: u64,
    /// Snapshots that a drill has found right.
    pub(crate) drilled: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.proven += other.proven;
        self.compactions += other.compactions;
        self.retired += other.retired;
        self.swept += other.swept;
        self.installed += other.installed;
        self.no_snapshot += other.no_snapshot;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.quarantined += other.quarantined;
        self.pinned += other.pinned;
        self.drilled += other.drilled;
    }
}

pub(crate) struct State {
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    pub(crate) trace: Trace,
    pub(crate) origin: Instant,
    /// Nothing goes wrong any more.
    pub(crate) healed: bool,
    pub(crate) outage_until: Instant,
    pub(crate) frozen_until: [Instant; BROKERS],
    pub(crate) bucket: Bucket,
    pub(crate) folders: Vec<Folders>,
    pub(crate) groups: Vec<Group>,
    pub(crate) incarnation: u64,
    lives: u64,
    pub(crate) any_log_compacted: bool,
    pub(crate) brokers: [BrokerState; BROKERS],
    /// How wrong each sidecar's wall clock is, the store's last, in seconds.
    pub(crate) skew_secs: [i64; BROKERS + 1],
    pub(crate) running: [bool; BROKERS],
    /// No sidecar may start.
    pub(crate) held_down: bool,
    /// Listings that each sidecar was given.
    pub(crate) listings: [u64; BROKERS],
    /// When each sidecar last began to list each group's folder, conversations with its broker aside.
    pub(crate) listed_at: [Vec<Instant>; BROKERS],
    /// Conversations between sidecar and broker about each group.
    pub(crate) conversing: [Vec<u32>; BROKERS],
    /// Calls whose caller may have gone and that will take effect all the same.
    pub(crate) in_flight: u64,
    /// The snapshot whose term each broker refused last, per sidecar process.
    pub(crate) refused: [Option<String>; BROKERS],
    pub(crate) violation: Option<String>,
    pub(crate) counts: Counts,
}

pub(crate) struct World {
    state: Mutex<State>,
    pub(crate) crash: [Notify; BROKERS],
    /// A violation was found.
    pub(crate) over: CancellationToken,
}

pub(crate) type Shared = Arc<World>;

impl World {
    pub(crate) fn new(seed: u64, change: impl FnOnce(&mut Profile), traced: bool) -> Shared {
        let mut rng = Rng::new(seed);
        let mut profile = Profile::draw(&mut rng);
        change(&mut profile);
        let now = Instant::now();
        let mut trace = Trace::new(traced);
        trace.add(Duration::ZERO, "-", format_args!("{profile:?}"));
        let broker = |boot| BrokerState {
            up: true,
            boot,
            booted: CancellationToken::new(),
        };
        let mut state = State {
            rng,
            trace,
            origin: now,
            healed: false,
            outage_until: now,
            frozen_until: [now; BROKERS],
            bucket: Bucket::default(),
            folders: Vec::new(),
            groups: Vec::new(),
            incarnation: 1,
            lives: 0,
            any_log_compacted: false,
            brokers: [broker(0), broker(1), broker(2)],
            skew_secs: [0; BROKERS + 1],
            running: [false; BROKERS],
            held_down: false,
            listings: [0; BROKERS],
            listed_at: [const { Vec::new() }; BROKERS],
            conversing: [const { Vec::new() }; BROKERS],
            in_flight: 0,
            refused: [const { None }; BROKERS],
            violation: None,
            counts: Counts::default(),
            profile,
        };
        for number in 0..state.profile.partitions {
            let partition = TopicPartition::new("orders", number).unwrap();
            let (lineage, salt) = state.new_life();
            state.groups.push(Group::new(partition, lineage, salt));
            state.folders.push(Folders::default());
            for broker in 0..BROKERS {
                state.listed_at[broker].push(now);
                state.conversing[broker].push(0);
            }
        }
        Arc::new(Self {
            state: Mutex::new(state),
            crash: [const { Notify::const_new() }; BROKERS],
            over: CancellationToken::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes the world by one step, and checks it.
    pub(crate) fn step<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        state.counts.steps += 1;
        state.check_logs();
        if state.violation.is_some() {
            self.over.cancel();
        }
        result
    }
}

impl State {
    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }

    /// Wall time as a sidecar sees it, or the store ([`BROKERS`]).
    pub(crate) fn wall(&self, who: usize) -> Duration {
        let skew = Duration::from_secs(self.skew_secs[who].unsigned_abs());
        let right = EPOCH + self.elapsed();
        if self.skew_secs[who] < 0 {
            right.saturating_sub(skew)
        } else {
            right + skew
        }
    }

    pub(crate) fn note(&mut self, who: &str, what: fmt::Arguments<'_>) {
        let elapsed = self.elapsed();
        self.trace.add(elapsed, who, what);
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.note("!", format_args!("{what}"));
        self.violation.get_or_insert(what);
    }

    /// Name and first bytes of another life of a topic.
    pub(crate) fn new_life(&mut self) -> (Lineage, u64) {
        self.lives += 1;
        let topic_id = format!("life-{}", self.lives);
        let lineage = Lineage::new(CLUSTER, self.incarnation, topic_id).unwrap();
        (lineage, self.rng.next())
    }

    pub(crate) fn group_of(&self, partition: &TopicPartition) -> Option<usize> {
        self.groups
            .iter()
            .position(|group| group.partition == *partition)
    }

    /// The broker ends and starts again.
    pub(crate) fn reboot(&mut self, broker: usize) {
        let state = &mut self.brokers[broker];
        state.boot += BROKERS as u64;
        state.booted.cancel();
        state.booted = CancellationToken::new();
    }

    pub(crate) fn boot_id(&self, broker: usize) -> String {
        format!("boot-{}", self.brokers[broker].boot)
    }

    pub(crate) fn latency(&mut self) -> Duration {
        if self.healed {
            return Duration::from_millis(1);
        }
        let (slow, stall) = (self.profile.slow, self.profile.stall);
        let ms = if self.rng.chance(stall) {
            self.rng.within(5_000..=180_000)
        } else if self.rng.chance(slow) {
            self.rng.within(20..=self.profile.slow_max_ms)
        } else {
            self.rng.within(1..=self.profile.latency_max_ms)
        };
        Duration::from_millis(ms)
    }

    /// How long a call of a sidecar waits before it begins.
    pub(crate) fn freeze(&mut self, sidecar: usize) -> Duration {
        let now = Instant::now();
        if self.strikes(self.profile.freezes) {
            let ms = self.rng.within(200..=25_000);
            let until = now + Duration::from_millis(ms);
            self.frozen_until[sidecar] = until.max(self.frozen_until[sidecar]);
        }
        self.frozen_until[sidecar].saturating_duration_since(now)
    }

    /// Does what happens so often happen now?
    pub(crate) fn strikes(&mut self, per_10k: u32) -> bool {
        let strikes = !self.healed && self.rng.chance(per_10k);
        self.counts.faults += u64::from(strikes);
        strikes
    }
}
