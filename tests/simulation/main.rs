//! The real daemon code, three sidecars of it, in a world that is made of one seed: a store that fails before and
//! after, brokers that die, clocks that jump. After every step the promises of docs/SAFETY.md are checked; when the
//! faults stop, everything must recover. See docs/SIMULATION.md.
//!
//! `SIMULATION_SCHEDULES=10000 cargo test --test simulation` runs as many schedules;
//! `SIMULATION_SEED=7 cargo test --test simulation replay -- --nocapture` shows one.

#![expect(
    clippy::unwrap_used,
    reason = "a simulation stops at the first surprise"
)]

mod broker;
mod bucket;
mod checks;
mod damage;
mod drills;
mod events;
mod group;
#[cfg(feature = "mutations")]
mod mutants;
mod profile;
mod rng;
mod schedule;
mod seeding;
mod sidecar;
mod store;
mod trace;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use profile::Profile;
use rng::Rng;
use schedule::{Ended, run};
use world::Counts;

/// Lines of a failed run that are shown without asking.
const TAIL: usize = 60;

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

/// Runs the seeds below `seeds` whose day is wanted until one fails; the first of those that failed, what happened in
/// all, and how many ran.
fn search(
    seeds: u64,
    wanted: impl Fn(&Profile) -> bool + Sync,
    change: impl Fn(&mut Profile) + Sync,
) -> (Option<(u64, String)>, Counts, u64) {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut counts = Counts::default();
        let mut ran = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (None, counts, ran);
            }
            if !wanted(&Profile::draw(&mut Rng::new(seed))) {
                continue;
            }
            let ended = run(seed, &change, false);
            ran += 1;
            counts.add(&ended.counts);
            if let Some(violation) = ended.violation {
                next.fetch_max(seeds, Ordering::Relaxed);
                return (Some((seed, violation)), counts, ran);
            }
        }
    };
    let found: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        started.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut all = Counts::default();
    let mut ran = 0;
    for (_, counts, runs) in &found {
        all.add(counts);
        ran += runs;
    }
    let first = found.into_iter().filter_map(|(failed, ..)| failed).min();
    (first, all, ran)
}

fn show(seed: u64, ended: &Ended, lines: usize) {
    let from = ended.trace.len().saturating_sub(lines);
    for line in &ended.trace[from..] {
        println!("{line}");
    }
    println!("seed {seed}: {:?}; {:?}", ended.violation, ended.counts);
}

#[test]
fn no_schedule_breaks_a_promise() {
    let schedules = number_from_env("SIMULATION_SCHEDULES").unwrap_or(500);
    let start = Instant::now();
    let (failed, counts, ran) = search(schedules, |_| true, |_| {});
    println!("{ran} schedules in {:.1?}: {counts:?}", start.elapsed());
    println!("EVIDENCE schedules {ran}");
    println!("EVIDENCE faults_injected {}", counts.faults);
    println!("EVIDENCE simulated_crashes {}", counts.crashes);
    if let Some((seed, violation)) = failed {
        show(seed, &run(seed, |_| {}, true), TAIL);
        panic!(
            "seed {seed}: {violation}\nreplay: SIMULATION_SEED={seed} cargo test --test simulation replay -- --nocapture"
        );
    }
    let happened = [
        counts.proven,
        counts.compactions,
        counts.retired,
        counts.swept,
        counts.installed,
        counts.no_snapshot,
        counts.crashes,
        counts.quarantined,
        counts.pinned,
    ];
    assert!(
        happened.iter().all(|count| *count > 0),
        "something never happened: {counts:?}"
    );
}

/// Drills on top of everything: no promise breaks, nobody is asked, nothing is written but marks, and what they say is
/// true.
#[test]
fn drills_change_nothing() {
    let schedules = number_from_env("SIMULATION_SCHEDULES").unwrap_or(500) / 4;
    let with_drills = |profile: &mut Profile| profile.drills = true;
    let (failed, counts, ran) = search(schedules, |_| true, with_drills);
    println!("{ran} schedules with drills: {counts:?}");
    if let Some((seed, violation)) = failed {
        show(seed, &run(seed, with_drills, true), TAIL);
        panic!(
            "seed {seed}: {violation}\nreplay: SIMULATION_DRILLS=1 SIMULATION_SEED={seed} cargo test --test simulation replay -- --nocapture"
        );
    }
    assert!(counts.drilled > schedules, "hardly any drill: {counts:?}");
    assert!(counts.quarantined > 0 && counts.installed > 0, "{counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        // Every other one with drills.
        let day = |profile: &mut Profile| profile.drills = seed % 2 == 1;
        let (first, second) = (run(seed, day, true), run(seed, day, true));
        let other = first
            .trace
            .iter()
            .zip(&second.trace)
            .position(|(a, b)| a != b);
        assert_eq!(other, None, "seed {seed} is not the same twice");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.trace.len() > 100, "seed {seed} shows nothing");
    }
}

/// Drills, if `SIMULATION_DRILLS` is 1; with the feature `mutations`, the mutation that `SIMULATION_MUTATION` names.
fn choose_from_env(profile: &mut Profile) {
    profile.drills = number_from_env("SIMULATION_DRILLS") == Some(1);
    #[cfg(feature = "mutations")]
    mutants::choose_from_env();
}

/// Shows the run of `SIMULATION_SEED`.
#[test]
fn replay() {
    let Some(seed) = number_from_env("SIMULATION_SEED") else {
        return;
    };
    let ended = run(seed, choose_from_env, true);
    show(seed, &ended, usize::MAX);
    assert_eq!(ended.violation, None);
}
