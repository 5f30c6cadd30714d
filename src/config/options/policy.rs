//! Options of snapshots, truncation and retention.

use super::{DefaultValue, Group, OptionSpec, ValueKind};

const DAY_SECS: u64 = 86_400;

/// See [`OptionSpec::effect`].
pub static ENABLED: OptionSpec = OptionSpec {
    key: "ENABLED",
    group: Group::Snapshots,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "`false` stops the loop: nothing is snapshotted, truncated or deleted. Bootstrap, metrics and health stay.",
    interaction: "To stop Bootstrap too, set BOOTSTRAP_ENABLED=false.",
};

/// See [`OptionSpec::effect`].
pub static LOG_THRESHOLD: OptionSpec = OptionSpec {
    key: "LOG_THRESHOLD",
    group: Group::Snapshots,
    kind: ValueKind::Whole {
        min: 1,
        max: u64::MAX,
    },
    default: DefaultValue::Value("10000"),
    unit: "entries",
    effect: "A partition is due when this many entries were applied since its newest proven snapshot.",
    interaction: "Whichever of LOG_THRESHOLD and TIME_THRESHOLD_SECS is reached first counts; never sooner than MIN_INTERVAL_SECS. `__meta`, without which nothing can be restored, is due with every entry.",
};

/// See [`OptionSpec::effect`].
pub static TIME_THRESHOLD_SECS: OptionSpec = OptionSpec {
    key: "TIME_THRESHOLD_SECS",
    group: Group::Snapshots,
    kind: ValueKind::Whole {
        min: 1,
        max: 365 * DAY_SECS,
    },
    default: DefaultValue::Value("3600"),
    unit: "seconds",
    effect: "A partition is due when its newest proven snapshot is this old and at least one entry was applied since. Idle partitions are never snapshotted again.",
    interaction: "With UPLOADER=leader another replica's sidecar steps in after twice this time without a new snapshot.",
};

/// See [`OptionSpec::effect`].
pub static MIN_INTERVAL_SECS: OptionSpec = OptionSpec {
    key: "MIN_INTERVAL_SECS",
    group: Group::Snapshots,
    kind: ValueKind::Whole {
        min: 0,
        max: DAY_SECS,
    },
    default: DefaultValue::Value("60"),
    unit: "seconds",
    effect: "Least time between the starts of two snapshots of one partition, however fast its log grows.",
    interaction: "A snapshot that an operator asks for does not wait.",
};

/// See [`OptionSpec::effect`].
pub static CHECK_INTERVAL_SECS: OptionSpec = OptionSpec {
    key: "CHECK_INTERVAL_SECS",
    group: Group::Snapshots,
    kind: ValueKind::Whole { min: 1, max: 300 },
    default: DefaultValue::Value("300"),
    unit: "seconds",
    effect: "Longest time between two looks at the broker's partitions. A little less at random, and much less while a partition's growth says that it will cross its threshold before.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static MAX_CONCURRENT: OptionSpec = OptionSpec {
    key: "MAX_CONCURRENT",
    group: Group::Snapshots,
    kind: ValueKind::Whole { min: 1, max: 64 },
    default: DefaultValue::Value("2"),
    unit: "snapshots",
    effect: "Snapshots that run at one time, one for each partition at most. The others wait, most overdue first.",
    interaction: "Memory grows with it: see COMPRESSION_THREADS.",
};

/// See [`OptionSpec::effect`].
pub static UPLOADER: OptionSpec = OptionSpec {
    key: "UPLOADER",
    group: Group::Snapshots,
    kind: ValueKind::Choice(&["leader", "any"]),
    default: DefaultValue::Value("leader"),
    unit: "",
    effect: "Whose sidecar takes a partition's snapshots: its leader's (another one steps in when it is overdue), or that of any replica that finds it due.",
    interaction: "`any` may store the same state more than once; retention counts duplicates once.",
};

/// See [`OptionSpec::effect`].
pub static TOPICS_INCLUDE: OptionSpec = OptionSpec {
    key: "TOPICS_INCLUDE",
    group: Group::Snapshots,
    kind: ValueKind::Topics,
    default: DefaultValue::Value("*"),
    unit: "",
    effect: "Topics whose partitions are snapshotted and truncated. Names, or beginnings of names followed by `*`.",
    interaction: "TOPICS_EXCLUDE wins. `__meta` is always included unless TOPICS_EXCLUDE names it in full.",
};

/// See [`OptionSpec::effect`].
pub static TOPICS_EXCLUDE: OptionSpec = OptionSpec {
    key: "TOPICS_EXCLUDE",
    group: Group::Snapshots,
    kind: ValueKind::Topics,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Topics that are left alone: no snapshot, no truncation, no deletion. Same form as TOPICS_INCLUDE.",
    interaction: "Wins over TOPICS_INCLUDE. A pattern never excludes `__meta`; its full name does.",
};

/// See [`OptionSpec::effect`].
pub static COMPACT: OptionSpec = OptionSpec {
    key: "COMPACT",
    group: Group::Keeping,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "`false` never asks the broker to drop log entries.",
    interaction: "Snapshots and retention go on.",
};

/// See [`OptionSpec::effect`].
pub static TRAILING_ENTRIES: OptionSpec = OptionSpec {
    key: "TRAILING_ENTRIES",
    group: Group::Keeping,
    kind: ValueKind::Whole {
        min: 0,
        max: u64::MAX,
    },
    default: DefaultValue::Value("1000"),
    unit: "entries",
    effect: "Entries at and below the newest proven snapshot's end that stay in the log, so that a follower that lags a little catches up from the log and not from a snapshot.",
    interaction: "0 drops everything that the snapshot covers.",
};

/// See [`OptionSpec::effect`].
pub static RETENTION: OptionSpec = OptionSpec {
    key: "RETENTION",
    group: Group::Keeping,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "`false` never deletes anything from the object store.",
    interaction: "RETENTION_COUNT and DELETE_GRACE_SECS then have no effect.",
};

/// See [`OptionSpec::effect`].
pub static RETENTION_COUNT: OptionSpec = OptionSpec {
    key: "RETENTION_COUNT",
    group: Group::Keeping,
    kind: ValueKind::Whole { min: 1, max: 1000 },
    default: DefaultValue::Value("3"),
    unit: "snapshots",
    effect: "Proven snapshots kept of each life of each partition. Counted in log order, never by age.",
    interaction: "Data that a kept snapshot points into is kept too, whatever the count.",
};

/// See [`OptionSpec::effect`].
pub static DELETE_GRACE_SECS: OptionSpec = OptionSpec {
    key: "DELETE_GRACE_SECS",
    group: Group::Keeping,
    kind: ValueKind::Whole {
        min: 1,
        max: 7 * DAY_SECS,
    },
    default: DefaultValue::Value("3600"),
    unit: "seconds",
    effect: "Time between the mark that announces the deletion of a data object and the deletion. It protects restores that are reading the object.",
    interaction: "Keep it longer than your longest restore. Below 60 it is accepted with a warning, for tests and demonstrations.",
};
