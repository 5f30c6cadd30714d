//! Does the simulation notice a broken rule? Each mutation of the daemon must be caught.

use std::time::Duration;

use chronik_snapshotd::mutation::{self, Mutation};

use crate::{profile::Profile, schedule::run, search};

/// Seeds until a mutation counts as not noticed.
const SCHEDULES: u64 = 30_000;

const ALL: &[Mutation] = &[
    Mutation::TruncateBeforeProof,
    Mutation::TrustTheList,
    Mutation::BaseAboveApplied,
    Mutation::TermMismatchForgotten,
    Mutation::ProofWithoutReadBack,
    Mutation::ReadWithoutDigests,
    Mutation::ExportDigestIgnored,
    Mutation::FlagsBeforeManifest,
    Mutation::ManifestsBeforeFlag,
    Mutation::SweepWithoutFlag,
    Mutation::FlagRemovedFirst,
    Mutation::UnreadableIgnored,
    Mutation::VanishedSkipped,
    Mutation::StoreErrorIsEmpty,
    Mutation::LineageIgnored,
    Mutation::OrderByClock,
    Mutation::RetentionCountsUnproven,
    Mutation::RetentionKeepsOldest,
    Mutation::RetireWithoutLooking,
    Mutation::DataBeforeManifest,
    Mutation::SweepOwnOnly,
    Mutation::PinIgnored,
];

/// The first seed that notices, what it says, and how many were run.
fn hunt(mutation: Mutation) -> (Option<(u64, String)>, u64) {
    // Some show only in races of deletion: other days are not worth the time.
    let racing = matches!(
        mutation,
        Mutation::FlagsBeforeManifest | Mutation::FlagRemovedFirst
    );
    let wanted = |day: &Profile| !racing || (day.crowded && !day.seals);
    // Every thread of the search chooses for itself, before each run.
    let (found, _, ran) = search(SCHEDULES, wanted, |_| mutation::choose(Some(mutation)));
    (found, ran)
}

/// Chooses the mutation that `SIMULATION_MUTATION` names, if it names one.
pub(crate) fn choose_from_env() {
    let name = std::env::var("SIMULATION_MUTATION").unwrap_or_default();
    let named = ALL.iter().find(|mutation| format!("{mutation:?}") == name);
    mutation::choose(named.copied());
}

#[test]
fn every_mutation_is_caught() {
    let only = std::env::var("SIMULATION_MUTATION").ok();
    let (mut tried, mut missed) = (0, Vec::new());
    for mutation in ALL.iter().copied() {
        let name = format!("{mutation:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        tried += 1;
        let (found, ran) = hunt(mutation);
        if let Some((seed, violation)) = found {
            println!("{name:<24} {ran:>6} schedules, seed {seed}: {violation}");
            let without = run(seed, |_| mutation::choose(None), false).violation;
            assert_eq!(without, None, "seed {seed} fails without {name}");
        } else {
            println!("{name:<24} not caught");
            missed.push(name);
        }
    }
    println!("EVIDENCE mutations_tried {tried}");
    println!("EVIDENCE mutations_caught {}", tried - missed.len());
    assert!(
        missed.is_empty(),
        "not caught by {SCHEDULES} seeds: {missed:?}"
    );
}

/// What the design asks of a store: without list-after-write nothing is safe.
#[test]
fn a_store_whose_lists_lag_breaks_promises() {
    let lagging = |profile: &mut Profile| profile.lists_lag = Duration::from_secs(20);
    let unsafe_run = |seed| {
        let violation = run(seed, lagging, false).violation?;
        // Nothing but a recovery that takes too long is no loss.
        (!violation.contains("no recovery")).then_some(violation)
    };
    let broken = (0..SCHEDULES).find_map(unsafe_run);
    println!("lists that lag: {broken:?}");
    assert!(
        broken.is_some(),
        "a store without list-after-write goes unnoticed"
    );
}
