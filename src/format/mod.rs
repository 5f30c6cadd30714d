//! Bytes of the objects in the store: blocks, digests, manifests, proofs, identities. See docs/FORMAT.md.
//!
//! Pure and synchronous. Everything that is decoded is bounded first, checked second, believed last: size limit,
//! checksum, version, shape, canonical form, rules. A decoded [`Manifest`] keeps every rule of the format.

mod codec;
mod decode;
mod digest;
mod envelope;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hex;
mod id;
mod identity;
mod manifest;
mod names;
mod plan;
mod proof;
mod rules;
mod splitter;
#[cfg(test)]
mod tests;
mod validate;

pub use codec::{BlockEncoder, Codec, Compression, EncodedBlock};
pub use decode::{BlockDecoder, Decoded, check_stored};
pub use digest::{ManifestDigest, PartDigest, PartHasher};
pub use error::FormatError;
pub use id::{SNAPSHOT_ID_LEN_BYTES, SnapshotId};
pub use identity::{IDENTITY_FOLDER, Identity};
pub use manifest::{BlockRef, CreatedBy, FileExtent, Manifest, Part};
pub use names::{FileName, SnapName, decode_topic, encode_topic};
pub use plan::{PLAN_FOLDER, PlannedPartition, RestorePlan, RestoreToken};
pub use proof::{CheckedObject, Proof, Quarantine};
pub use rules::{Object, Rule};
pub use splitter::{BlockSplitter, ExpectedPart, RawBlock};
pub use validate::{check_conf_state, is_label};

/// The version that this program writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Most raw bytes of one block.
pub const BLOCK_MAX_BYTES: u32 = 4 << 20;

/// Most stored bytes of one block: incompressible bytes grow by less than 64 KiB in every codec.
pub const BLOCK_STORED_MAX_BYTES: u32 = BLOCK_MAX_BYTES + (64 << 10);

/// Most parts of one snapshot.
pub const PARTS_MAX: usize = 4096;

/// Most `.snap` files that one manifest points into.
pub const REFERENCES_MAX: usize = 8192;

/// Most members of one role in a configuration.
pub const CONF_MEMBERS_MAX: usize = 256;

/// Most bytes of a manifest object: about 2 TiB of raw state.
pub const MANIFEST_MAX_BYTES: u64 = 64 << 20;

/// Most bytes of a proof object.
pub const PROOF_MAX_BYTES: u64 = 4 << 20;

/// Most bytes of an identity object.
pub const IDENTITY_MAX_BYTES: u64 = 64 << 10;

/// Most bytes of a quarantine mark.
pub const QUARANTINE_MAX_BYTES: u64 = 64 << 10;

/// Most bytes of a restore plan.
pub const PLAN_MAX_BYTES: u64 = 64 << 20;

/// Most partitions of a restore plan.
pub const PLAN_PARTITIONS_MAX: usize = 100_000;

/// Most bytes of the reason in a quarantine mark.
pub const REASON_MAX_BYTES: usize = 1024;

/// Most stored bytes of one `.snap` file; a larger snapshot goes on in `{id}.1.snap` and so on.
///
/// 10,000 upload parts of 16 MiB, what S3 allows, are 156.25 GiB.
pub const SNAP_FILE_MAX_BYTES: u64 = 156 << 30;
