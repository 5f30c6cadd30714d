//! What kind of bad day a seed has. Every schedule draws its own mix, so that rare things are common somewhere:
//! a schedule in which everything fails at once explores little.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    time::Duration,
};

use chronik_snapshotd::{
    format::{Codec, Compression},
    policy::{Options, Uploader, VerifyLevel},
};

use crate::{events::Event, rng::Rng};

/// Chances are in 10,000.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent property of the day"
)]
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Everybody uploads, retires and sweeps all the time.
    pub(crate) crowded: bool,
    pub(crate) partitions: u32,
    /// How long things go wrong.
    pub(crate) chaos: Duration,
    pub(crate) latency_max_ms: u64,
    /// A call that takes up to `slow_max_ms`.
    pub(crate) slow: u32,
    pub(crate) slow_max_ms: u64,
    /// A call that takes longer than anybody waits.
    pub(crate) stall: u32,
    /// The sidecar freezes before a call, for up to 25 s, and all of its calls with it.
    pub(crate) freezes: u32,
    pub(crate) fail_before: u32,
    pub(crate) fail_after: u32,
    /// A read that is flipped or cut on its way.
    pub(crate) bad_read: u32,
    /// A write that is acknowledged and stored wrong, or not at all.
    pub(crate) bad_write: u32,
    /// A write whose caller gave up happens all the same, perhaps much later.
    pub(crate) outlives: u32,
    pub(crate) broker_fails: u32,
    /// A byte of an export is flipped on its way.
    pub(crate) bad_export: u32,
    /// The sidecar dies right after a call took effect.
    pub(crate) dies_at_call: u32,
    /// Longest time between two events of the world.
    pub(crate) event_gap_max_ms: u64,
    /// Weights of the events, in the order of `events::Event::ALL`.
    pub(crate) events: [u32; 14],
    /// Conditional writes overwrite.
    pub(crate) ignores_conditions: bool,
    /// A broker has another term at the end of a snapshot, for so many pairs of the two.
    pub(crate) refuses_terms: u32,
    /// Brokers believe what the sidecar says: its own checks must be enough.
    pub(crate) brokers_trust: bool,
    /// A listing shows what was written up to this long ago, against what the design asks for.
    pub(crate) lists_lag: Duration,
    pub(crate) policy: Options,
    pub(crate) verify: VerifyLevel,
    pub(crate) compression: Compression,
    /// Brokers seal parts of their states; else every snapshot is complete.
    pub(crate) seals: bool,
    /// Every so many snapshots one is complete.
    pub(crate) full_every: NonZeroU32,
    pub(crate) grace: Duration,
    pub(crate) check_interval: Duration,
    pub(crate) upload_part_bytes: u64,
    pub(crate) file_max_bytes: u64,
    /// Sidecars drill. Never drawn: with it, every later draw is another one.
    pub(crate) drills: bool,
}

impl Profile {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        // Some days have no fault of a kind at all.
        let rate = |rng: &mut Rng, rates: &[u32]| if rng.coin() { 0 } else { rng.pick(rates) };
        let secs = |rng: &mut Rng, choices: &[u64]| Duration::from_secs(rng.pick(choices));
        let events = std::array::from_fn(|kind| match kind {
            // The log grows on every day.
            0 | 1 => 60,
            _ => rate(rng, &[2, 10, 30]),
        });
        let codec = rng.pick(&[Codec::None, Codec::None, Codec::None, Codec::Gzip]);
        let day = Self {
            crowded: false,
            partitions: if rng.chance(2_500) { 2 } else { 1 },
            chaos: Duration::from_secs(rng.within(30..=300)),
            latency_max_ms: rng.pick(&[2, 5, 40, 200]),
            slow: rate(rng, &[100, 500, 2_000]),
            slow_max_ms: rng.pick(&[2_000, 8_000]),
            stall: rate(rng, &[10, 50, 200]),
            freezes: rate(rng, &[10, 50, 200]),
            fail_before: rate(rng, &[50, 200, 1_000]),
            fail_after: rate(rng, &[50, 200, 1_000]),
            bad_read: rate(rng, &[50, 300]),
            bad_write: rate(rng, &[50, 300]),
            outlives: rate(rng, &[2_000, 8_000]),
            broker_fails: rate(rng, &[50, 500]),
            bad_export: rate(rng, &[50, 500]),
            dies_at_call: rate(rng, &[5, 30, 100]),
            event_gap_max_ms: rng.pick(&[300, 1_500, 6_000]),
            events,
            ignores_conditions: rng.chance(2_000),
            refuses_terms: rate(rng, &[300, 3_000]),
            brokers_trust: rng.chance(2_500),
            lists_lag: Duration::ZERO,
            policy: Options {
                log_threshold: NonZeroU64::new(rng.pick(&[1, 5, 20, 60])).unwrap(),
                time_threshold: secs(rng, &[5, 30, 600, 3_600]),
                min_interval: secs(rng, &[0, 0, 10]),
                uploader: rng.pick(&[Uploader::Leader, Uploader::Any]),
                compact: true,
                trailing_entries: rng.pick(&[0, 0, 3, 30]),
                retention: true,
                retention_count: NonZeroUsize::new(rng.pick(&[1, 2, 3])).unwrap(),
            },
            verify: rng.pick(&[VerifyLevel::Stored, VerifyLevel::Full]),
            compression: Compression::new(codec, None).unwrap(),
            seals: rng.chance(4_000),
            full_every: NonZeroU32::new(rng.pick(&[1, 3, 24])).unwrap(),
            grace: secs(rng, &[0, 0, 1, 10, 60]),
            check_interval: secs(rng, &[1, 5, 30]),
            upload_part_bytes: rng.pick(&[64, 256, 4_096]),
            file_max_bytes: rng.pick(&[100, 1_000, 1 << 30]),
            drills: false,
        };
        match rng.within(0..=9) {
            0..=2 => day.crowded(rng),
            3 => day.crowded(rng).losing_disks(),
            _ => day,
        }
    }

    /// Everybody uploads, retires and sweeps all the time, and now and then one of them
    /// freezes while the others go on: the races of deletion.
    fn crowded(mut self, rng: &mut Rng) -> Self {
        self.crowded = true;
        self.policy.uploader = Uploader::Any;
        self.policy.log_threshold = NonZeroU64::MIN;
        self.policy.min_interval = Duration::ZERO;
        self.policy.trailing_entries = 0;
        self.grace = Duration::ZERO;
        // Files that are pointed into come and go quickly.
        self.full_every = NonZeroU32::new(rng.pick(&[1, 2, 24])).unwrap();
        self.check_interval = Duration::from_secs(1);
        self.event_gap_max_ms = 1_500;
        self.slow = rng.pick(&[0, 50, 1_000]);
        self.stall = 0;
        self.freezes = rng.pick(&[50, 150, 400]);
        self.outlives = rng.pick(&[0, 2_000, 8_000]);
        self.bad_read = rng.pick(&[0, 100, 300]);
        self
    }

    /// Brokers lose their disks all the time, and there is never more than one snapshot to seed them from.
    fn losing_disks(mut self) -> Self {
        self.policy.retention_count = NonZeroUsize::MIN;
        self.partitions = 1;
        self.events[Event::LoseDisk as usize] = 60;
        self
    }
}
