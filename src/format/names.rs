//! Names of the objects inside one partition's folder, and the folder's own name.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{FormatError, SNAPSHOT_ID_LEN_BYTES, SnapshotId};

/// A `.snap` file: stored blocks of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapName {
    /// The snapshot that wrote it.
    pub id: SnapshotId,
    /// 0 = `{id}.snap`; n = `{id}.{n}.snap`, for a snapshot that one file cannot hold.
    pub number: u32,
}

impl fmt::Display for SnapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "{}.snap", self.id),
            number => write!(f, "{}.{number}.snap", self.id),
        }
    }
}

impl FromStr for SnapName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text.parse()? {
            FileName::Snap(name) => Ok(name),
            _ => Err(illegal(text)),
        }
    }
}

/// An object in a partition's folder, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// Stored blocks.
    Snap(SnapName),
    /// The commit.
    Manifest(SnapshotId),
    /// The proof that the snapshot was read back.
    Proof(SnapshotId),
    /// The announcement that a `.snap` is about to be deleted.
    Deleting {
        /// What is to be deleted.
        snap: SnapName,
        /// The deleter's own flag.
        flag: Uuid,
    },
    /// The mark of a snapshot that must not be used.
    Quarantine(SnapshotId),
    /// The mark of a snapshot that retention must keep.
    Pin(SnapshotId),
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snap(name) => name.fmt(f),
            Self::Manifest(id) => write!(f, "{id}.manifest.json"),
            Self::Proof(id) => write!(f, "{id}.verified.json"),
            Self::Deleting { snap, flag } => write!(f, "{snap}.deleting-{flag}"),
            Self::Quarantine(id) => write!(f, "{id}.quarantined.json"),
            Self::Pin(id) => write!(f, "{id}.pinned"),
        }
    }
}

impl FromStr for FileName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        parse(text)
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| illegal(text))
    }
}

fn parse(text: &str) -> Option<FileName> {
    let (id, rest) = text.split_at_checked(SNAPSHOT_ID_LEN_BYTES)?;
    let id: SnapshotId = id.parse().ok()?;
    match rest {
        ".manifest.json" => return Some(FileName::Manifest(id)),
        ".verified.json" => return Some(FileName::Proof(id)),
        ".quarantined.json" => return Some(FileName::Quarantine(id)),
        ".pinned" => return Some(FileName::Pin(id)),
        _ => {}
    }
    let (stem, flag) = match rest.split_once(".deleting-") {
        Some((stem, flag)) => (stem, Some(Uuid::try_parse(flag).ok()?)),
        None => (rest, None),
    };
    let number = match stem.strip_suffix(".snap")? {
        "" => 0,
        number => number.strip_prefix('.')?.parse().ok()?,
    };
    let snap = SnapName { id, number };
    Some(
        flag.map_or(FileName::Snap(snap), |flag| FileName::Deleting {
            snap,
            flag,
        }),
    )
}

pub(super) fn illegal(name: &str) -> FormatError {
    FormatError::Name {
        name: name.chars().take(200).collect(),
    }
}

/// The folder name of a topic: every byte but `[A-Za-z0-9._-]` as `%XX`, and `.` and `..` as `%2E` and `%2E%2E`.
///
/// A topic therefore never collides with `@cluster`, never contains a `/`, and is never a relative path segment.
pub fn encode_topic(topic: &str) -> String {
    let all_dots = matches!(topic, "." | "..");
    let mut folder = String::with_capacity(topic.len());
    for byte in topic.bytes() {
        let literal = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if literal && !(all_dots && byte == b'.') {
            folder.push(char::from(byte));
        } else {
            folder.push('%');
            folder.push(nibble(byte >> 4));
            folder.push(nibble(byte & 0xf));
        }
    }
    folder
}

fn nibble(value: u8) -> char {
    char::from_digit(u32::from(value), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// The topic of a folder name; refuses what [`encode_topic`] would not have written.
pub fn decode_topic(folder: &str) -> Result<String, FormatError> {
    unescape(folder.as_bytes())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|topic| encode_topic(topic) == folder)
        .ok_or_else(|| illegal(folder))
}

fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        if first != b'%' {
            bytes.push(first);
            text = rest;
            continue;
        }
        let (digits, rest) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        text = rest;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str =
        "00000000000000010000-00000000000000000003-0badcafe-01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn every_kind_of_name_round_trips() {
        let flag = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let names = [
            format!("{ID}.snap"),
            format!("{ID}.1.snap"),
            format!("{ID}.4294967295.snap"),
            format!("{ID}.manifest.json"),
            format!("{ID}.verified.json"),
            format!("{ID}.quarantined.json"),
            format!("{ID}.pinned"),
            format!("{ID}.snap.deleting-{flag}"),
            format!("{ID}.12.snap.deleting-{flag}"),
        ];
        for name in names {
            assert_eq!(name.parse::<FileName>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn strangers_in_the_folder_are_told_apart() {
        let names = [
            format!("{ID}.0.snap"),
            format!("{ID}.01.snap"),
            format!("{ID}.-1.snap"),
            format!("{ID}.4294967296.snap"),
            format!("{ID}.manifest.json.bak"),
            format!("{ID}.pinned.json"),
            format!("{ID}.1.pinned"),
            format!("{ID}.snap.deleting-"),
            format!("{ID}.snap.deleting-67E55044-10B1-426F-9247-BB680E5FE0C8"),
            format!("x{ID}.snap"),
            format!("é{}", &ID[2..]),
            "README".to_owned(),
        ];
        for name in names {
            assert!(name.parse::<FileName>().is_err(), "{name}");
        }
    }

    #[test]
    fn odd_topics_become_harmless_folders() {
        assert_eq!(encode_topic("orders.v1_x-y"), "orders.v1_x-y");
        assert_eq!(encode_topic("."), "%2E");
        assert_eq!(encode_topic(".."), "%2E%2E");
        assert_eq!(encode_topic("..."), "...");
        assert_eq!(encode_topic("@cluster"), "%40cluster");
        assert_eq!(encode_topic("a/b %é#1"), "a%2Fb%20%25%C3%A9%231");
        assert!(decode_topic("a%2fb").is_err());
        assert!(decode_topic("%41").is_err());
        assert!(decode_topic("a%2").is_err());
        assert!(decode_topic("%FF").is_err());
        assert!(decode_topic("%+1").is_err());
    }

    proptest! {
        #[test]
        fn topics_round_trip(topic in "\\PC{1,60}") {
            prop_assert_eq!(decode_topic(&encode_topic(&topic)).unwrap(), topic);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,120}") {
            if let Ok(name) = text.parse::<FileName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
