//! Defects on purpose, for the simulation: does it notice when a rule of docs/SAFETY.md is broken?
//!
//! Without the feature `mutations` none of them exists: [`active`] is a constant `false`. With it, a thread may
//! choose one for what it runs itself. Programs with optimisation and without checks refuse the feature.

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` breaks the daemon on purpose: never in a release");

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// Logs are truncated on a snapshot that is committed and not proven.
    TruncateBeforeProof,
    /// Logs are truncated on what the last listing showed, without looking at anything again.
    TrustTheList,
    /// Logs are truncated on a snapshot beyond the applied index.
    BaseAboveApplied,
    /// A refused term is tried again.
    TermMismatchForgotten,
    /// The proof is written without reading back.
    ProofWithoutReadBack,
    /// Blocks and parts that are read are not compared with their digests.
    ReadWithoutDigests,
    /// What arrived from the broker is not compared with what it says it sent.
    ExportDigestIgnored,
    /// The committer looks for flags before its manifest is written, not after.
    FlagsBeforeManifest,
    /// The deleter lists the manifests before it flags, not after.
    ManifestsBeforeFlag,
    /// Unreferenced files are deleted at once, without flag and grace.
    SweepWithoutFlag,
    /// The flags go before the file does.
    FlagRemovedFirst,
    /// A manifest that cannot be read does not keep anything from being deleted.
    UnreadableIgnored,
    /// A manifest that vanished between listing and reading is skipped.
    VanishedSkipped,
    /// A listing that failed is an empty one.
    StoreErrorIsEmpty,
    /// Snapshots of another life of the topic count.
    LineageIgnored,
    /// Retention orders by the clock.
    OrderByClock,
    /// Retention counts what is not proven, and does not look at it again.
    RetentionCountsUnproven,
    /// Retention keeps the oldest.
    RetentionKeepsOldest,
    /// Retention does not look at what it keeps.
    RetireWithoutLooking,
    /// The data goes before the manifest.
    DataBeforeManifest,
    /// A file that only later snapshots point into counts as unreferenced.
    SweepOwnOnly,
    /// Retention evicts what an operator has pinned.
    PinIgnored,
}

#[cfg(feature = "mutations")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Does this thread run with `mutation`?
#[cfg(feature = "mutations")]
pub fn active(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(mutation)
}

/// Does this thread run with a mutation? Never: they are not compiled in.
#[cfg(not(feature = "mutations"))]
pub const fn active(_: Mutation) -> bool {
    false
}

/// Chooses what this thread runs with.
#[cfg(feature = "mutations")]
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}
