//! What the store holds and hands out, when it lies: writes that are stored wrong, bodies that arrive wrong, listings
//! that lag.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use object_store::{Error, Result};
use tokio::time::Instant;

use crate::{
    bucket::Object,
    store::SimStore,
    world::{BROKERS, State},
};

impl State {
    /// What a listing sees now.
    pub(crate) fn listed(&self, folder: &str) -> BTreeMap<String, Object> {
        let mut found = self.bucket.below(folder);
        let now = Instant::now();
        let lag = self.profile.lists_lag;
        found.retain(|_, object| now.saturating_duration_since(object.written_at) >= lag);
        found
    }

    pub(crate) fn store(&mut self, key: &str, bytes: Bytes) {
        if let Some(bytes) = self.damaged(key, bytes) {
            let object = Object {
                bytes,
                written: self.wall(BROKERS),
                written_at: Instant::now(),
            };
            self.bucket.put(key, object);
        }
        self.after_write(key);
    }

    /// Written by hand, without faults.
    pub(crate) fn put_by_operator(&mut self, key: &str, bytes: Bytes) {
        let object = Object {
            bytes,
            written: self.wall(BROKERS),
            written_at: Instant::now(),
        };
        self.bucket.put(key, object);
    }

    /// What is stored in place of `bytes`, if anything: a store may lie. Flags and identities are spared: one that loses
    /// those after it has acknowledged them is no store.
    fn damaged(&mut self, key: &str, bytes: Bytes) -> Option<Bytes> {
        let spared = key.contains("@cluster/") || key.contains(".deleting-") || bytes.is_empty();
        // A lie spoils what it writes, not what was acknowledged before: with a server that overwrites, no promise would
        // outlive it.
        let replaces = self.bucket.get(key).is_some();
        if spared || replaces || !self.strikes(self.profile.bad_write) {
            return Some(bytes);
        }
        let kind = self.rng.within(0..=2);
        self.note("st", format_args!("{key} is stored wrong ({kind})"));
        match kind {
            0 => None,
            1 => Some(bytes.slice(..bytes.len() - 1)),
            _ => Some(self.flipped(&bytes)),
        }
    }

    fn flipped(&mut self, bytes: &Bytes) -> Bytes {
        let mut copy = bytes.to_vec();
        if !copy.is_empty() {
            let at = self.rng.index(copy.len());
            copy[at] ^= 1 << self.rng.within(0..=7);
        }
        Bytes::from(copy)
    }
}

impl SimStore {
    /// A body as it arrives: in one piece or two, flipped, cut, or broken off.
    pub(crate) fn body(&self, mut whole: Bytes) -> Vec<(Duration, Result<Bytes>)> {
        let mut state = self.world.state();
        let bad_read = state.profile.bad_read;
        let mut breaks = false;
        if !whole.is_empty() && state.strikes(bad_read) {
            match state.rng.within(0..=2) {
                0 => whole = state.flipped(&whole),
                1 => whole.truncate(state.rng.index(whole.len())),
                _ => breaks = true,
            }
            state.note(self.who(), format_args!("the body arrives damaged"));
        }
        let mut pieces = Vec::new();
        if whole.len() > 1 && state.rng.chance(2_000) {
            let half = whole.split_to(whole.len() / 2);
            pieces.push((Duration::ZERO, Ok(half)));
        }
        let wait = if pieces.is_empty() {
            Duration::ZERO
        } else {
            state.latency()
        };
        if breaks {
            let source = "connection reset".into();
            let store = "simulated";
            pieces.push((wait, Err(Error::Generic { store, source })));
        } else if !whole.is_empty() {
            pieces.push((wait, Ok(whole)));
        }
        pieces
    }
}
