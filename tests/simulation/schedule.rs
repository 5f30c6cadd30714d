//! One run: a while in which everything goes wrong, then the proof that the sidecars recover by themselves.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use crate::{
    drills::keep_drilling,
    events::go_on_for,
    profile::Profile,
    seeding::keep_seeding,
    sidecar::{Fleet, keep_running},
    world::{BROKERS, Counts, Shared, State, World},
};

/// Time after the last fault in which every partition must be covered again: a few of the longest back-offs.
const RECOVERY: Duration = Duration::from_mins(60);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) violation: Option<String>,
    pub(crate) counts: Counts,
    pub(crate) trace: Vec<String>,
}

/// Runs one seed. The same seed, profile change and program give the same run, line by line.
pub(crate) fn run(seed: u64, change: impl FnOnce(&mut Profile), traced: bool) -> Ended {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed, change, traced);
        let fleet = Fleet::default();
        for number in 0..BROKERS {
            tokio::spawn(keep_running(world.clone(), number, Arc::clone(&fleet)));
            tokio::spawn(keep_seeding(world.clone(), number, Arc::clone(&fleet)));
            if world.state().profile.drills {
                tokio::spawn(keep_drilling(world.clone(), number, Arc::clone(&fleet)));
            }
        }
        let chaos = world.state().profile.chaos;
        go_on_for(&world, &fleet, chaos).await;
        if !world.over.is_cancelled() {
            recover(&world).await;
        }
        let mut state = world.state();
        Ended {
            violation: state.violation.take(),
            counts: state.counts,
            trace: std::mem::take(&mut state.trace.lines),
        }
    })
}

/// Two rounds of growth without faults, each to be covered by a snapshot and truncated.
async fn recover(world: &Shared) {
    world.step(State::heal);
    for round in 0..2 {
        let deadline = Instant::now() + RECOVERY;
        world.step(|state| {
            state.note("--", format_args!("round {round} of recovery"));
            let count = state.profile.policy.log_threshold.get() + 1;
            for group in 0..state.groups.len() {
                state.append(group, count);
            }
        });
        loop {
            sleep(Duration::from_millis(500)).await;
            let missing = world.step(|state| {
                for group in &mut state.groups {
                    for who in 0..BROKERS {
                        group.replicate(who, u64::MAX >> 1, u64::MAX >> 1);
                    }
                }
                state.missing()
            });
            let Some(missing) = missing else { break };
            if world.over.is_cancelled() {
                return;
            }
            if Instant::now() > deadline {
                world.step(|state| state.violate(format!("no recovery within an hour: {missing}")));
                return;
            }
        }
    }
}

impl State {
    fn heal(&mut self) {
        self.healed = true;
        self.profile.lists_lag = Duration::ZERO;
        self.note("--", format_args!("no more faults"));
        for broker in 0..BROKERS {
            self.brokers[broker].up = true;
        }
        for group in &mut self.groups {
            group.hold = 0;
            // Somebody who is not being seeded leads.
            if group.replicas[group.leader].lost {
                let _ = (0..BROKERS).any(|who| group.elect(who));
            }
        }
    }

    /// What still has to happen until everything is as it should be.
    fn missing(&self) -> Option<String> {
        let policy = &self.profile.policy;
        let threshold = policy.log_threshold.get();
        let kept = policy.trailing_entries;
        self.groups.iter().zip(&self.folders).find_map(|(group, folders)| {
            let last = group.life().last();
            let covered = folders.covered(&group.life().lineage);
            let partition = &group.partition;
            if covered + threshold <= last {
                return Some(format!("{partition} ends at {last}, covered through {covered}"));
            }
            (0..BROKERS).find_map(|broker| {
                let replica = group.replicas[broker];
                if replica.lost {
                    return Some(format!("broker {broker} waits to be seeded with {partition}"));
                }
                // A follower looks into the store when its own log says so: it may be a threshold behind.
                let behind = if broker == group.leader { 0 } else { threshold };
                let through = covered.saturating_sub(kept + behind);
                (replica.first <= through).then(|| {
                    format!("broker {broker} keeps {partition} from {} on, covered through {covered}", replica.first)
                })
            })
        })
    }
}
