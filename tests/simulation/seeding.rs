//! Brokers that lost their disks ask their sidecars for a snapshot: the other end of the daemon's `restore`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chronik_snapshotd::{
    error::chain,
    format::{Manifest, PartHasher},
    pipeline::{
        Answer, LocalState, RejectReason, RestoreEvent, RestoreOutcome, RestorePhase,
        RestoreRequest, RestoreSink, SinkClosed,
    },
};
use tokio::time::sleep;

use crate::{
    broker::STATE_CODEC,
    group::Replica,
    sidecar::{Fleet, Live},
    world::{Shared, State},
};

/// A broker's end of one conversation.
struct SimSink {
    world: Shared,
    broker: usize,
    group: usize,
    boot: u64,
    request: RestoreRequest,
    /// What is being received.
    offered: Option<Arc<Manifest>>,
    parts: BTreeMap<u32, Vec<u8>>,
    complete: bool,
}

#[async_trait]
impl RestoreSink for SimSink {
    fn progress(&mut self, _: RestorePhase, _: u64, _: u64) {}

    async fn send(&mut self, event: RestoreEvent) -> Result<(), SinkClosed> {
        let (wait, hangs_up) = {
            let mut state = self.world.state();
            let rate = state.profile.broker_fails / 4;
            (state.latency(), state.strikes(rate))
        };
        sleep(wait).await;
        let here = self.world.state().brokers[self.broker].boot == self.boot;
        if hangs_up || !here {
            return Err(SinkClosed);
        }
        match event {
            RestoreEvent::Begin(manifest) => {
                self.offered = Some(manifest);
                self.parts.clear();
                self.complete = false;
            }
            RestoreEvent::Chunk(part, data) => {
                self.parts.entry(part).or_default().extend_from_slice(&data);
            }
            RestoreEvent::End(_) => self.complete = true,
            RestoreEvent::Abandon(..) => self.offered = None,
        }
        Ok(())
    }

    fn early_answer(&mut self) -> Option<Answer> {
        None
    }

    async fn answer(&mut self) -> Result<Answer, SinkClosed> {
        let (wait, disk_full) = {
            let mut state = self.world.state();
            let rate = state.profile.broker_fails / 4;
            (state.latency(), state.strikes(rate))
        };
        sleep(wait).await;
        if disk_full {
            let detail = "no space".to_owned();
            let reason = RejectReason::Io;
            return Ok(Answer::Rejected { reason, detail });
        }
        let world = self.world.clone();
        world.step(|state| self.install(state))
    }
}

impl SimSink {
    /// Checks and installs what was received.
    fn install(&mut self, state: &mut State) -> Result<Answer, SinkClosed> {
        let Some(manifest) = self.offered.take().filter(|_| self.complete) else {
            return Err(SinkClosed);
        };
        let reject = |reason| {
            let detail = "simulated".to_owned();
            Ok(Answer::Rejected { reason, detail })
        };
        let trusts = state.profile.brokers_trust;
        let group = &state.groups[self.group];
        if !trusts {
            if manifest.lineage != self.request.lineage {
                return reject(RejectReason::Lineage);
            }
            if !self.digests_fit(&manifest) {
                return reject(RejectReason::Corrupt);
            }
        }
        let replica = group.replicas[self.broker];
        let boot_is_over = state.brokers[self.broker].boot != self.boot;
        if boot_is_over || group.life().lineage != self.request.lineage {
            return Err(SinkClosed);
        }
        if !replica.lost {
            return reject(RejectReason::NotEmpty);
        }
        let last_included = manifest.last_included;
        let (broker, partition) = (self.broker, &manifest.partition);
        if manifest.lineage != self.request.lineage {
            let of = &manifest.lineage;
            state.violate(format!(
                "broker {broker} installs a snapshot of another life: {of}"
            ));
            return Err(SinkClosed);
        }
        let expected = group.life().parts(last_included.index).unwrap_or_default();
        let empty = Vec::new();
        let right = |part: usize| {
            let received = self.parts.get(&u32::try_from(part).unwrap());
            expected.get(part).is_some_and(|expected| {
                manifest.parts[part].part_id == expected.id
                    && expected.bytes == *received.unwrap_or(&empty)
            })
        };
        let mut parts = 0..manifest.parts.len().max(expected.len());
        let wrong = parts.find(|part| *part >= manifest.parts.len() || !right(*part));
        if let Some(part) = wrong {
            let id = manifest.snapshot_id;
            state.violate(format!(
                "broker {broker} installs {id}: part {part} has wrong bytes"
            ));
            return Err(SinkClosed);
        }
        let line = format!("broker {broker} installs {partition} at {last_included}");
        state.note("--", format_args!("{line}"));
        state.groups[self.group].replicas[self.broker] = Replica::seeded(last_included.index);
        state.counts.installed += 1;
        Ok(Answer::Installed {
            snapshot_id: manifest.snapshot_id.to_string(),
            last_included,
        })
    }

    fn digests_fit(&self, manifest: &Manifest) -> bool {
        (0..).zip(&manifest.parts).all(|(number, part)| {
            let mut hasher = PartHasher::new();
            hasher.update(self.parts.get(&number).map_or(&[], Vec::as_slice));
            hasher.finish() == part.digest
        })
    }
}

/// Asks for every replica that the broker has lost, until none is left; for ever.
pub(crate) async fn keep_seeding(world: Shared, broker: usize, fleet: Fleet) {
    let mut tries = 0;
    loop {
        let wait = {
            let mut state = world.state();
            if state.healed {
                100
            } else {
                state.rng.within(50..=3_000)
            }
        };
        sleep(Duration::from_millis(wait)).await;
        let lost = {
            let state = world.state();
            let mut groups = state.groups.iter();
            groups
                .position(|group| group.replicas[broker].lost)
                .filter(|_| state.brokers[broker].up)
        };
        let Some(group) = lost else {
            tries = 0;
            continue;
        };
        tries += 1;
        if tries > 8 {
            // An empty learner, healed by its leader.
            world.step(|state| {
                let leader = state.groups[group].replicas[state.groups[group].leader];
                state.note(
                    "--",
                    format_args!("broker {broker} is healed by its leader"),
                );
                state.groups[group].replicas[broker] = Replica::seeded(leader.applied);
            });
            continue;
        }
        let live = fleet.lock().unwrap()[broker].clone();
        if let Some(live) = live {
            converse(&world, broker, group, &live).await;
        }
    }
}

async fn converse(world: &Shared, broker: usize, group: usize, live: &Live) {
    let (request, boot, booted, covered, listings) = {
        let mut state = world.state();
        let life = state.groups[group].life();
        let (lineage, truncated) = (life.lineage.clone(), life.truncated);
        // The metadata may not know yet how far another replica is truncated.
        let min_index = match state.rng.within(0..=3) {
            0 => 0,
            1 => state.rng.within(0..=truncated),
            _ => truncated,
        };
        let request = RestoreRequest {
            partition: state.groups[group].partition.clone(),
            lineage: lineage.clone(),
            local_state: LocalState::Lost,
            min_index,
            accepted_state_codecs: vec![STATE_CODEC.to_owned()],
            boot_id: state.boot_id(broker),
            restore_uuid: None,
        };
        let covered = state.folders[group].covered(&lineage);
        let own = &state.brokers[broker];
        (
            request,
            own.boot,
            own.booted.clone(),
            covered,
            state.listings[broker],
        )
    };
    let mut sink = SimSink {
        world: world.clone(),
        broker,
        group,
        boot,
        request: request.clone(),
        offered: None,
        parts: BTreeMap::new(),
        complete: false,
    };
    world.state().conversing[broker][group] += 1;
    let outcome = tokio::select! {
        biased;
        () = live.dead.cancelled() => None,
        () = booted.cancelled() => None,
        outcome = live.pipeline.restore(&request, &mut sink) => Some(outcome),
    };
    world.state().conversing[broker][group] -= 1;
    let Some(outcome) = outcome else { return };
    let answer = match &outcome {
        Ok(outcome) => outcome.as_str().to_owned(),
        Err(error) => chain(error),
    };
    world.step(|state| {
        let partition = &request.partition;
        state.note(
            "--",
            format_args!("bootstrap of {partition} on broker {broker}: {answer}"),
        );
        match outcome {
            Ok(RestoreOutcome::NoSnapshot) => {
                state.counts.no_snapshot += 1;
                if covered > 0 {
                    state.violate(format!(
                        "NO_SNAPSHOT, but {partition} is covered through {covered}"
                    ));
                }
                if state.listings[broker] == listings {
                    state.violate("NO_SNAPSHOT, but the store was not read".to_owned());
                }
                state.begin_empty(group, broker, &request);
            }
            Ok(RestoreOutcome::Installed { last_included, .. }) => {
                let replica = state.groups[group].replicas[broker];
                let here = state.groups[group].life().lineage == request.lineage;
                if here && (replica.lost || replica.applied < last_included.index) {
                    state.violate(format!("{partition} was reported installed and was not"));
                }
            }
            Ok(RestoreOutcome::UseLocal) => {
                state.violate("USE_LOCAL for a disk that was lost".to_owned());
            }
            Ok(RestoreOutcome::NotCovered { .. }) | Err(_) => {}
        }
    });
}

impl State {
    /// A replica begins without anything, because there is nothing.
    fn begin_empty(&mut self, group: usize, broker: usize, request: &RestoreRequest) {
        let group = &mut self.groups[group];
        let replica = &mut group.replicas[broker];
        if replica.lost && group.lives.last().unwrap().lineage == request.lineage {
            *replica = Replica::fresh();
        }
    }
}
