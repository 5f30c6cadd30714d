//! The proof that a snapshot was read back, the mark of one that must not be used.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    CreatedBy, FORMAT_VERSION, FormatError, ManifestDigest, PROOF_MAX_BYTES, QUARANTINE_MAX_BYTES,
    REASON_MAX_BYTES, SnapName, SnapshotId, envelope,
    rules::{Object, Rule},
    validate::{is_label, require},
};
use crate::policy::VerifyLevel;

/// What was read back of a committed snapshot. Counts only while `manifest_digest` is that of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The id in the object's name.
    pub snapshot_id: SnapshotId,
    /// The manifest that was checked.
    pub manifest_digest: ManifestDigest,
    /// How much was read back.
    #[serde(with = "verify_level")]
    pub verify: VerifyLevel,
    /// When, for people.
    pub verified_at_unix_ms: i64,
    /// Who.
    pub verified_by: CreatedBy,
    /// The `.snap` files that the manifest references, with the sizes that the store reported.
    pub objects: Vec<CheckedObject>,
}

/// A `.snap` that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedObject {
    /// Its name in the partition's folder.
    pub name: String,
    /// Its size in the store.
    pub size_bytes: u64,
}

impl Proof {
    /// The object's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(self)
    }

    /// Reads a proof object; strict like [`super::Manifest::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let proof: Self = envelope::open(Object::Proof, bytes, PROOF_MAX_BYTES)?;
        proof.validate()?;
        Ok(proof)
    }

    /// True when this proof is about exactly this manifest object.
    pub fn covers(&self, snapshot_id: SnapshotId, manifest_digest: ManifestDigest) -> bool {
        self.snapshot_id == snapshot_id && self.manifest_digest == manifest_digest
    }

    /// Checks the rules that the proof's bytes can show.
    pub fn validate(&self) -> Result<(), FormatError> {
        check_version(Object::Proof, self.format_version)?;
        self.check().map_err(|rule| FormatError::Rule {
            object: Object::Proof,
            rule,
        })
    }

    fn check(&self) -> Result<(), Rule> {
        require(is_label(&self.verified_by.version), Rule::Version)?;
        require(self.verified_at_unix_ms >= 0, Rule::NegativeTime)?;
        let mut seen = HashSet::new();
        let named = |object: &CheckedObject| object.name.parse::<SnapName>().is_ok();
        let legal = self.objects.iter().all(named)
            && self.objects.iter().all(|object| seen.insert(&object.name));
        require(legal && !self.objects.is_empty(), Rule::CheckedObjects)
    }
}

/// The mark of a snapshot that failed a check after its commit: it is no base and no candidate any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The id in the object's name.
    pub snapshot_id: SnapshotId,
    /// The manifest that was looked at.
    pub manifest_digest: ManifestDigest,
    /// What was found, for people; 1 to 1024 bytes without control characters.
    pub reason: String,
    /// When, for people.
    pub at_unix_ms: i64,
    /// Who.
    pub by: CreatedBy,
}

impl Quarantine {
    /// A mark; `reason` is cut to its limit and cleaned of control characters.
    pub fn new(
        snapshot_id: SnapshotId,
        manifest_digest: ManifestDigest,
        reason: &str,
        at_unix_ms: i64,
        by: CreatedBy,
    ) -> Self {
        let mut text = String::new();
        for c in reason.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if text.len() + c.len_utf8() > REASON_MAX_BYTES {
                break;
            }
            text.push(c);
        }
        if text.is_empty() {
            text.push('?');
        }
        Self {
            format_version: FORMAT_VERSION,
            snapshot_id,
            manifest_digest,
            reason: text,
            at_unix_ms,
            by,
        }
    }

    /// The object's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(self)
    }

    /// Reads a mark; strict like [`super::Manifest::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let object = Object::Quarantine;
        let mark: Self = envelope::open(object, bytes, QUARANTINE_MAX_BYTES)?;
        check_version(object, mark.format_version)?;
        mark.check()
            .map_err(|rule| FormatError::Rule { object, rule })?;
        Ok(mark)
    }

    fn check(&self) -> Result<(), Rule> {
        let fits = (1..=REASON_MAX_BYTES).contains(&self.reason.len());
        let clean = !self.reason.chars().any(char::is_control);
        require(fits && clean, Rule::Reason)?;
        require(is_label(&self.by.version), Rule::Version)?;
        require(self.at_unix_ms >= 0, Rule::NegativeTime)
    }
}

pub(super) fn check_version(object: Object, found: u32) -> Result<(), FormatError> {
    if found == FORMAT_VERSION {
        return Ok(());
    }
    Err(FormatError::UnknownVersion {
        object,
        found: u64::from(found),
    })
}

mod verify_level {
    use super::{Deserialize, Deserializer, Serializer, VerifyLevel};

    #[derive(serde::Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Stored,
        Full,
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(super) fn serialize<S: Serializer>(level: &VerifyLevel, to: S) -> Result<S::Ok, S::Error> {
        let word = match level {
            VerifyLevel::Stored => Word::Stored,
            VerifyLevel::Full => Word::Full,
        };
        serde::Serialize::serialize(&word, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VerifyLevel, D::Error> {
        Ok(match Word::deserialize(from)? {
            Word::Stored => VerifyLevel::Stored,
            Word::Full => VerifyLevel::Full,
        })
    }
}
