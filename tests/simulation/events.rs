//! What happens to the cluster around the sidecars.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use bytes::Bytes;
use chronik_snapshotd::format::{FileName, Identity};

use crate::{
    checks::{Found, folder},
    group::Replica,
    sidecar::Fleet,
    world::{BROKERS, CLUSTER, Shared, State},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Append,
    Replicate,
    Elect,
    Reboot,
    BrokerDown,
    LoseDisk,
    RecreateTopic,
    NewIncarnation,
    KillSidecar,
    ClockJump,
    Outage,
    Hold,
    Rob,
    Trigger,
}

impl Event {
    /// In the order of the profile's weights.
    const ALL: [Self; 14] = [
        Self::Append,
        Self::Replicate,
        Self::Elect,
        Self::Reboot,
        Self::BrokerDown,
        Self::LoseDisk,
        Self::RecreateTopic,
        Self::NewIncarnation,
        Self::KillSidecar,
        Self::ClockJump,
        Self::Outage,
        Self::Hold,
        Self::Rob,
        Self::Trigger,
    ];
}

/// Lets things happen until the time is over.
pub(crate) async fn go_on_for(world: &Shared, fleet: &Fleet, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end && !world.over.is_cancelled() {
        let gap = {
            let mut state = world.state();
            let longest = state.profile.event_gap_max_ms;
            state.rng.within(1..=longest)
        };
        sleep(Duration::from_millis(gap)).await;
        let event = draw(&mut world.state());
        if event == Event::Trigger {
            trigger(world, fleet);
        }
        if event == Event::KillSidecar {
            let number = world.state().rng.index(BROKERS);
            world.crash[number].notify_one();
        }
        if event == Event::Rob {
            stop_all(world).await;
        }
        world.step(|state| state.happen(event));
        world.state().held_down = false;
    }
}

/// Kills every sidecar, and lets none start before the next event.
async fn stop_all(world: &Shared) {
    world.state().held_down = true;
    for crash in &world.crash {
        crash.notify_one();
    }
    while world.state().running.iter().any(|runs| *runs) && !world.over.is_cancelled() {
        sleep(Duration::from_millis(100)).await;
    }
}

fn draw(state: &mut State) -> Event {
    let weights = state.profile.events;
    let total: u32 = weights.iter().sum();
    let mut at = state.rng.within(1..=u64::from(total));
    for (event, weight) in Event::ALL.into_iter().zip(weights) {
        match at.checked_sub(u64::from(weight)) {
            Some(rest) if rest > 0 => at = rest,
            _ => return event,
        }
    }
    Event::Append
}

/// An operator asks for a snapshot and does not wait.
fn trigger(world: &Shared, fleet: &Fleet) {
    let (number, partition) = {
        let mut state = world.state();
        let groups = state.groups.len();
        let group = state.rng.index(groups);
        let partition = state.groups[group].partition.clone();
        (state.rng.index(BROKERS), partition)
    };
    let live = fleet.lock().unwrap()[number].clone();
    if let Some(live) = live {
        tokio::spawn(async move {
            let control = live.control.clone();
            drop(live);
            let _ = control.trigger(partition, false).await;
        });
    }
}

impl State {
    fn happen(&mut self, event: Event) {
        let broker = self.rng.index(BROKERS);
        let group = self.rng.index(self.groups.len());
        match event {
            Event::Append => {
                let most = self.profile.policy.log_threshold.get().max(4);
                let count = self.rng.within(1..=most);
                self.append(group, count);
            }
            Event::Replicate => {
                for who in 0..BROKERS {
                    let (entries, apply) = (self.rng.within(0..=80), self.rng.within(0..=80));
                    self.groups[group].replicate(who, entries, apply);
                }
            }
            Event::Elect => {
                if self.brokers[broker].up && self.groups[group].elect(broker) {
                    self.note("--", format_args!("broker {broker} leads group {group}"));
                }
            }
            Event::Reboot => {
                self.note("--", format_args!("broker {broker} restarts"));
                self.reboot(broker);
            }
            Event::BrokerDown => {
                self.note("--", format_args!("broker {broker} goes or comes"));
                self.brokers[broker].up ^= true;
                self.reboot(broker);
            }
            Event::LoseDisk => self.lose_disk(broker),
            Event::RecreateTopic => self.recreate(group),
            Event::NewIncarnation => self.new_incarnation(),
            Event::ClockJump => {
                let who = self.rng.index(BROKERS + 1);
                self.skew_secs[who] = self.rng.pick(&[-3_600, 0, 3_600]);
                let skew = self.skew_secs[who];
                self.note("--", format_args!("clock {who} is {skew} s off"));
            }
            Event::Outage => {
                let secs = self.rng.within(1..=40);
                self.note("--", format_args!("the store is away for {secs} s"));
                self.outage_until = Instant::now() + Duration::from_secs(secs);
            }
            Event::Hold => {
                let group = &mut self.groups[group];
                let leader = group.replicas[group.leader];
                let hold = self.rng.within(leader.first..=leader.last + 1);
                group.hold = if self.rng.coin() { hold } else { 0 };
            }
            Event::Rob => self.rob(group),
            Event::Trigger => self.pin(group),
            Event::KillSidecar => {}
        }
    }

    pub(crate) fn append(&mut self, group: usize, count: u64) {
        let rng = &mut self.rng;
        self.groups[group].append(count, || rng.next());
    }

    /// An operator who asks for snapshots also keeps one: the oldest proven one of the group is pinned, or no longer.
    fn pin(&mut self, group: usize) {
        let found = self.folders[group].found.iter();
        let pinned = found.clone().find(|(_, found)| found.pinned_at.is_some());
        let oldest = || found.clone().find(|(_, found)| found.proven);
        let (id, is_pinned) = match (pinned, oldest()) {
            (Some((id, _)), _) => (*id, true),
            (None, Some((id, _))) => (*id, false),
            (None, None) => return,
        };
        let key = folder(&self.groups[group]) + &FileName::Pin(id).to_string();
        if is_pinned {
            self.note("--", format_args!("{id} is no longer pinned"));
            self.bucket.remove(&key);
            self.after_delete(&key);
        } else {
            self.note("--", format_args!("{id} is pinned"));
            self.counts.pinned += 1;
            self.put_by_operator(&key, Bytes::from_static(b"{}\n"));
            self.after_write(&key);
        }
    }

    /// A broker loses its disk, if the groups live on without it.
    fn lose_disk(&mut self, broker: usize) {
        for group in &mut self.groups {
            let others = (0..BROKERS).filter(|other| *other != broker);
            if others.clone().any(|other| group.replicas[other].lost) {
                return;
            }
            if group.leader == broker && !others.into_iter().any(|other| group.elect(other)) {
                return;
            }
        }
        self.note("--", format_args!("broker {broker} loses its disk"));
        // Its sidecar forgets a partition that is not there.
        self.refused[broker] = None;
        for group in &mut self.groups {
            group.replicas[broker] = Replica {
                lost: true,
                ..Replica::fresh()
            };
        }
        self.reboot(broker);
    }

    fn recreate(&mut self, group: usize) {
        let (lineage, salt) = self.new_life();
        self.note(
            "--",
            format_args!("group {group} begins a new life: {lineage}"),
        );
        self.groups[group].begin_life(lineage, salt);
    }

    /// An operator begins the cluster anew: another incarnation, everything of the old one is another lineage.
    fn new_incarnation(&mut self) {
        self.incarnation += 1;
        let incarnation = self.incarnation;
        self.note("--", format_args!("incarnation {incarnation} begins"));
        let identity = Identity::first(CLUSTER, incarnation).unwrap();
        let key = format!("snapshots/@cluster/{}", identity.file_name());
        self.put_by_operator(&key, identity.encode());
        for group in 0..self.groups.len() {
            self.recreate(group);
        }
        for broker in 0..BROKERS {
            self.reboot(broker);
        }
    }

    /// The data of a proven snapshot vanishes from the store. Only while the logs do not rest on it alone, and no
    /// sidecar runs that may have looked at it already and not acted yet.
    fn rob(&mut self, group: usize) {
        let any_runs = self.running.iter().any(|runs| *runs);
        if any_runs || self.in_flight > 0 {
            return;
        }
        let lineage = self.groups[group].life().lineage.clone();
        let folders = &self.folders[group];
        let candidates: Vec<_> = folders
            .found
            .iter()
            .filter(|(_, found)| found.proven && found.whole && found.lineage == lineage)
            .map(|(id, found)| (*id, found.references.clone()))
            .collect();
        let truncated = self.groups[group].replicas.iter().map(|one| one.compacted);
        let truncated = truncated.max().unwrap_or_default();
        let shares = |found: &Found, files: &[String]| {
            let mut references = found.references.iter();
            references.any(|name| files.contains(name))
        };
        let rest_covers = |files: &[String]| {
            let mut others = folders.found.values().filter(|found| !shares(found, files));
            others.any(|found| {
                found.proven && found.whole && found.lineage == lineage && found.index >= truncated
            })
        };
        let Some((id, files)) = candidates
            .into_iter()
            .rev()
            .find(|(_, files)| rest_covers(files))
        else {
            return;
        };
        let found = folders.found.iter();
        let robbed: Vec<_> = found
            .filter(|(_, found)| shares(found, &files))
            .map(|(id, _)| *id)
            .collect();
        self.note("--", format_args!("the data of {id} vanishes"));
        self.folders[group].robbed.extend(robbed);
        for file in files {
            let key = folder(&self.groups[group]) + &file;
            self.bucket.remove(&key);
            self.after_delete(&key);
        }
    }
}
