//! The applied state of a replica: records in segments, and a small `state` part with everything else.
//!
//! Only the driver's thread changes it. It reaches the disk in two steps: records are appended to the active
//! segment as entries are applied (not flushed), and from time to time a checkpoint flushes the segments, writes the
//! state part to a new file and names both in the `applied` key beside the log. Until then the log holds
//! everything again, and applying is idempotent because a restart cuts the segments back to what the key names.
//!
//! | die after | what is left | who cleans it |
//! |---|---|---|
//! | records appended | longer segments than the key says | cut back at start, then replayed |
//! | state file flushed | a file that no key names | removed at start |
//! | key written, old state file there | two files | removed at the next checkpoint or start |

pub mod batch;
pub mod checkpoint;
pub mod partition;
pub mod pin;
pub mod producers;
pub mod segment;
pub mod staging;
pub mod view;

use std::{
    io,
    path::{Path, PathBuf},
};

/// State encoding of partitions.
pub const SEGMENTS_CODEC: &str = "refbroker-segments/1";
/// State encoding of `__meta`.
pub const META_CODEC: &str = "refbroker-meta/1";
/// Name of the small part that both encodings have.
pub const STATE_PART: &str = "state";

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk failed.
    #[error("state at {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Bytes on the disk are not what was written.
    #[error("state at {path} is damaged: {what}")]
    Corrupt {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

impl StateError {
    /// Adds the path to an I/O error.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Names damage.
    pub fn corrupt(path: &Path, what: &'static str) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            what,
        }
    }
}

/// Directory of one generation of a group's state. A snapshot that replaces the state makes a new generation.
pub fn generation_dir(group_dir: &Path, generation: u64) -> PathBuf {
    group_dir.join(format!("gen-{generation:010}"))
}
