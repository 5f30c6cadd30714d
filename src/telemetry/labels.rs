//! The values that labels can take. Every label but topic and partition is one of these enums, so the number of
//! series is known.

use std::fmt;

use crate::{
    error::Kind,
    policy::{EvictReason, NoCut, Trigger},
};

/// A label whose values are known.
pub trait Label: Copy + PartialEq + 'static {
    /// Every value; each gets a series at start.
    const ALL: &'static [Self];

    /// The text in the series.
    fn as_str(self) -> &'static str;
}

/// Declares a label: the enum, its texts and the list of all values, so that none can be forgotten.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

label! {
    /// What the process does.
    Operation {
        /// Export, compress, upload, commit, prove; or the proof of what a dead process committed.
        Snapshot => "snapshot",
        /// Read a committed snapshot back and write its proof.
        Verify => "verify",
        /// Ask the broker to drop log entries.
        Compact => "compact",
        /// Retire snapshots that are no longer kept, and sweep.
        Retention => "retention",
        /// Look for data that no manifest names.
        Sweep => "sweep",
    }
}

label! {
    /// How an operation ended.
    Outcome {
        /// Done.
        Success => "success",
        /// Not done; see `failures_total` for the reason.
        Failure => "failure",
        /// Given up on purpose, for example at shutdown.
        Cancelled => "cancelled",
    }
}

label! {
    /// Why objects are deleted.
    DeleteReason {
        /// Older than the newest `RETENTION_COUNT` proven ones.
        BeyondCount => "beyond_count",
        /// Another proven snapshot ends at the same index.
        Duplicate => "duplicate",
        /// Never proven, and a newer proven one exists.
        Superseded => "superseded",
        /// Data that no manifest names.
        Orphan => "orphan",
        /// Files of unfinished uploads in a local directory.
        Unfinished => "unfinished",
    }
}

impl From<EvictReason> for DeleteReason {
    fn from(reason: EvictReason) -> Self {
        match reason {
            EvictReason::BeyondCount => Self::BeyondCount,
            EvictReason::Duplicate => Self::Duplicate,
            EvictReason::Superseded => Self::Superseded,
        }
    }
}

label! {
    /// Why a log that is long enough was not truncated.
    BlockReason {
        /// No proven snapshot at or below the applied index whose state encoding the broker can install.
        NoBase => "no_base",
        /// The broker needs the log: a learner catches up, or a snapshot is being sent.
        Held => "held",
        /// The replica has not applied or persisted the snapshot's index.
        NotApplied => "not_applied",
        /// The replica's term at the snapshot's index is another one: the logs have diverged.
        TermMismatch => "term_mismatch",
        /// The broker restarted, or the topic is another one by now.
        Changed => "changed",
        /// The snapshot's proof, manifest or data could not be read.
        StoreUnavailable => "store_unavailable",
        /// The snapshot's proof, manifest or data is damaged or gone.
        Damaged => "damaged",
        /// The store belongs to another cluster.
        Identity => "identity",
        /// The broker refused or failed for another reason.
        Broker => "broker",
    }
}

impl BlockReason {
    /// The reason in a plan, unless the plan is simply that nothing needs to go.
    pub fn of_plan(reason: NoCut) -> Option<Self> {
        match reason {
            NoCut::Disabled | NoCut::AlreadyCut => None,
            NoCut::NoBase => Some(Self::NoBase),
            NoCut::Held { .. } => Some(Self::Held),
        }
    }
}

label! {
    /// Why log that a proven snapshot covers is still there.
    DebtReason {
        /// It goes with the next visit.
        Due => "due",
        /// The broker needs it: a follower or learner catches up, or a snapshot is being sent.
        Held => "held",
        /// COMPACT is off.
        Disabled => "disabled",
        /// The partition is paused.
        Paused => "paused",
        /// The replica's term at the snapshot's index is another one: the logs have diverged.
        TermMismatch => "term_mismatch",
        /// The last visit failed; the partition backs off.
        Failing => "failing",
    }
}

label! {
    /// How a drill ended.
    DrillResult {
        /// All of the snapshot was read, and all of it is right.
        Success => "success",
        /// It is not what its manifest says; it was marked.
        Damaged => "damaged",
        /// It could not be looked at.
        Failed => "failed",
        /// There was nothing to read, or it was retired meanwhile.
        Nothing => "nothing",
        /// A Bootstrap came first.
        Yielded => "yielded",
    }
}

label! {
    /// How a Bootstrap call ended.
    BootstrapResult {
        /// The broker installed a snapshot.
        Installed => "installed",
        /// The broker's own state is intact.
        UseLocal => "use_local",
        /// The store is readable, is this cluster's, and has nothing for this partition.
        NoSnapshot => "no_snapshot",
        /// Nothing reaches the index that was truncated.
        NotCovered => "not_covered",
        /// Switched off.
        Disabled => "disabled",
        /// The store could not be read.
        StoreUnavailable => "store_unavailable",
        /// The broker does not answer its sidecar.
        BrokerUnreachable => "broker_unreachable",
        /// The store belongs to another cluster, or the lineage is another one.
        Identity => "identity",
        /// Snapshots exist and none verifies.
        NoneVerifies => "none_verifies",
        /// A newer call took its place.
        Superseded => "superseded",
        /// The request broke a rule, or there were too many.
        Refused => "refused",
        /// The broker went away, or the process is stopping.
        Cancelled => "cancelled",
        /// Any other failure.
        Failed => "failed",
    }
}

label! {
    /// Calls to the object store.
    StoreMethod {
        /// A whole object.
        Get => "get",
        /// A range of an object.
        GetRange => "get_range",
        /// Size and time of an object.
        Head => "head",
        /// All objects under a folder.
        List => "list",
        /// A write.
        Put => "put",
        /// A create-only write.
        PutNew => "put_new",
        /// Start of a multipart upload.
        UploadCreate => "upload_create",
        /// One part of it.
        UploadPart => "upload_part",
        /// Its end.
        UploadComplete => "upload_complete",
        /// Removal of an unfinished one.
        UploadAbort => "upload_abort",
        /// Removal of an object.
        Delete => "delete",
    }
}

label! {
    /// How a call to the object store ended.
    StoreCode {
        /// Done.
        Ok => "ok",
        /// No such object.
        NotFound => "not_found",
        /// A create-only write found an object.
        Exists => "exists",
        /// Not allowed.
        Denied => "denied",
        /// No answer in time.
        Timeout => "timeout",
        /// No usable answer, or no such bucket.
        Unavailable => "unavailable",
        /// The disk of a local directory is full.
        Full => "full",
        /// The object is not as long as it must be.
        BadLength => "bad_length",
        /// Refused before or by the store as not possible.
        Invalid => "invalid",
    }
}

label! {
    /// Which of the two addresses.
    Listening {
        /// LISTEN.
        Grpc => "grpc",
        /// `METRICS_LISTEN`.
        Http => "http",
    }
}

label! {
    /// Why a connection was closed before anything was answered on it.
    Refused {
        /// `MAX_CONNECTIONS` are open.
        Limit => "limit",
        /// Encryption could not be agreed upon, or the client's certificate was not accepted.
        Handshake => "handshake",
    }
}

label! {
    /// What may be allowed to some and not to others.
    Service {
        /// What changes something in the admin service.
        Admin => "admin",
        /// Bootstrap.
        Bootstrap => "bootstrap",
    }
}

label! {
    /// Whose certificate.
    Certificate {
        /// `TLS_CERT`.
        Listen => "listen",
        /// `BROKER_TLS_CERT`.
        Broker => "broker",
    }
}

impl Label for Kind {
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

impl Label for Trigger {
    const ALL: &'static [Self] = &[
        Self::Unprotected,
        Self::Metadata,
        Self::LogThreshold,
        Self::TimeThreshold,
        Self::Manual,
    ];

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}
