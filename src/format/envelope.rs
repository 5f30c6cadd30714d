//! The two lines of every JSON object: the content, then its checksum and length.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{FORMAT_VERSION, FormatError, rules::Object};

/// `value` as one JSON line and the checksum line over it (without its newline).
pub(super) fn seal<T: Serialize>(value: &T) -> Bytes {
    #[expect(
        clippy::expect_used,
        reason = "the types of this module have string keys only and no fallible fields"
    )]
    let mut object = serde_json::to_vec(value).expect("plain data serialises");
    let last_line = checksum_line(&object);
    object.push(b'\n');
    object.extend_from_slice(last_line.as_bytes());
    Bytes::from(object)
}

fn checksum_line(content: &[u8]) -> String {
    let crc32 = crc32fast::hash(content);
    let len_bytes = content.len();
    format!("{{\"crc32\":\"{crc32:08x}\",\"len_bytes\":{len_bytes}}}\n")
}

/// Reads what [`seal`] wrote, byte for byte: length, checksum, version, shape, canonical form.
pub(super) fn open<T: Serialize + DeserializeOwned>(
    object: Object,
    bytes: &[u8],
    max_bytes: u64,
) -> Result<T, FormatError> {
    let len_bytes = bytes.len() as u64;
    if len_bytes > max_bytes {
        return Err(FormatError::TooLarge {
            object,
            len_bytes,
            max_bytes,
        });
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(FormatError::NotTwoLines { object })?;
    let (content, last_line) = (&bytes[..end], &bytes[end + 1..]);
    if last_line.last() != Some(&b'\n') {
        return Err(FormatError::NotTwoLines { object });
    }
    if last_line != checksum_line(content).as_bytes() {
        return Err(FormatError::ChecksumLine { object });
    }
    let json = |source| FormatError::Json { object, source };
    let Version { format_version } = serde_json::from_slice(content).map_err(json)?;
    if format_version != u64::from(FORMAT_VERSION) {
        return Err(FormatError::UnknownVersion {
            object,
            found: format_version,
        });
    }
    let value: T = serde_json::from_slice(content).map_err(json)?;
    if seal(&value) != bytes {
        return Err(FormatError::NotCanonical { object });
    }
    Ok(value)
}

/// The one field that is read before the shape is known.
#[derive(serde::Deserialize)]
struct Version {
    format_version: u64,
}
