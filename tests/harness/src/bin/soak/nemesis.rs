//! Troubles, one after the other, chosen by a seed.

use std::time::Duration;

use chronik_harness::{
    HarnessError,
    fault::{HttpFault, LinkState, Seen},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{report::Troubles, world::World};

/// Chooses.
pub(crate) struct Nemesis {
    dice: StdRng,
    /// What was done so far.
    pub(crate) troubles: Troubles,
}

/// One kind of trouble.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    KillBroker,
    KillSidecar,
    Wipe,
    FreezeBroker,
    FreezeStore,
    Isolate,
    OneWay,
    SlowLinks,
    StoreFaults,
}

/// All kinds; what is here twice is twice as likely.
const KINDS: [Trouble; 12] = [
    Trouble::KillBroker,
    Trouble::KillBroker,
    Trouble::KillSidecar,
    Trouble::KillSidecar,
    Trouble::Wipe,
    Trouble::Wipe,
    Trouble::FreezeBroker,
    Trouble::FreezeStore,
    Trouble::Isolate,
    Trouble::OneWay,
    Trouble::SlowLinks,
    Trouble::StoreFaults,
];

impl Nemesis {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: StdRng::seed_from_u64(seed),
            troubles: Troubles::default(),
        }
    }

    /// Does one thing to the cluster and undoes what does not heal by itself. Returns what it was.
    pub(crate) async fn strike(&mut self, world: &mut World) -> Result<String, HarnessError> {
        let kind = KINDS[self.dice.random_range(0..KINDS.len())];
        let id = self.dice.random_range(1..=3);
        let while_it_lasts = Duration::from_millis(self.dice.random_range(200..4_000));
        match kind {
            Trouble::KillBroker => {
                world.cluster.kill_broker(id)?;
                self.troubles.kills += 1;
                tokio::time::sleep(while_it_lasts).await;
                world.cluster.start_broker(id)?;
            }
            Trouble::KillSidecar => {
                world.cluster.kill_sidecar(id)?;
                self.troubles.kills += 1;
                tokio::time::sleep(while_it_lasts).await;
                world.cluster.start_sidecar(id)?;
            }
            Trouble::Wipe => return self.wipe(world, id).await,
            Trouble::FreezeBroker => {
                let broker = &world.cluster.node(id)?.broker;
                broker.pause()?;
                self.troubles.pauses += 1;
                tokio::time::sleep(while_it_lasts).await;
                broker.resume()?;
            }
            Trouble::FreezeStore => {
                world.store.process.pause()?;
                self.troubles.pauses += 1;
                tokio::time::sleep(while_it_lasts).await;
                world.store.process.resume()?;
            }
            Trouble::Isolate => {
                let states = [LinkState::Silent, LinkState::Reset];
                let state = states[self.dice.random_range(0..states.len())];
                world.cluster.set_links_of(id, state);
                self.troubles.partitions += 1;
                tokio::time::sleep(while_it_lasts).await;
                world.cluster.set_links_of(id, LinkState::Up);
            }
            Trouble::OneWay => {
                let to = id % 3 + 1;
                world.cluster.set_link(id, to, LinkState::Silent);
                self.troubles.partitions += 1;
                tokio::time::sleep(while_it_lasts).await;
                world.cluster.set_link(id, to, LinkState::Up);
            }
            Trouble::SlowLinks => {
                let delay = Duration::from_millis(self.dice.random_range(5..200));
                world.cluster.set_links_of(id, LinkState::Slow(delay));
                self.troubles.partitions += 1;
                tokio::time::sleep(while_it_lasts).await;
                world.cluster.set_links_of(id, LinkState::Up);
            }
            Trouble::StoreFaults => {
                self.spoil(world);
                tokio::time::sleep(2 * while_it_lasts).await;
                world.proxy.heal();
            }
        }
        Ok(format!("{kind:?} {id} for {while_it_lasts:?}"))
    }

    /// Takes a broker's disk, if nobody else is missing: more than the quorum allows is another story. Half of the
    /// time the store misbehaves while the broker comes back.
    async fn wipe(&mut self, world: &mut World, id: i32) -> Result<String, HarnessError> {
        if !world.is_whole().await {
            return Ok("Wipe: not while a group is not whole".to_owned());
        }
        world.cluster.kill_broker(id)?;
        world.cluster.wipe_broker(id)?;
        self.troubles.kills += 1;
        self.troubles.wipes += 1;
        let spoiled = self.dice.random_bool(0.5);
        if spoiled {
            self.spoil(world);
        }
        let pause = Duration::from_millis(self.dice.random_range(0..2_000));
        tokio::time::sleep(pause).await;
        world.cluster.start_broker(id)?;
        if spoiled {
            tokio::time::sleep(Duration::from_secs(3)).await;
            world.proxy.heal();
        }
        Ok(format!("Wipe {id}, store spoiled: {spoiled}"))
    }

    /// From now on the store answers a part of all requests wrongly.
    fn spoil(&mut self, world: &World) {
        let part = self.dice.random_range(0.05..0.6);
        let salt: u64 = self.dice.random();
        world.proxy.script(move |seen: &Seen| {
            // The n-th request's fate follows from the seed, not from who asks when.
            let mut dice = StdRng::seed_from_u64(salt ^ seen.number);
            if !dice.random_bool(part) {
                return None;
            }
            let late = Duration::from_millis(dice.random_range(50..1_500));
            let faults = [
                HttpFault::SlowDown,
                HttpFault::Status(500),
                HttpFault::Status(403),
                HttpFault::LostAnswer,
                HttpFault::HalfAnswer,
                HttpFault::Late(late),
            ];
            Some(faults[dice.random_range(0..faults.len())].clone())
        });
    }
}
