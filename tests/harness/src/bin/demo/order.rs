//! The records: orders whose content follows from their number, so that they can be checked without being kept.

use std::fmt::Write as _;

use bytes::Bytes;
use chronik_harness::client::Record;

/// Size of a value in bytes.
const VALUE_BYTES: usize = 1024;

/// The key of the order with this number.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("order-{number}"))
}

/// Its number, if the key is one of ours.
pub(crate) fn number(key: &[u8]) -> Option<u64> {
    let key = std::str::from_utf8(key).ok()?;
    key.strip_prefix("order-")?.parse().ok()
}

/// Its value: text that compresses about as well as real orders do.
pub(crate) fn value(number: u64) -> Bytes {
    let mut text = format!(r#"{{"order":{number},"currency":"EUR","lines":["#);
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() < VALUE_BYTES - 64 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let _ = write!(
            text,
            r#"{{"sku":"{:016x}","quantity":{}}},"#,
            state,
            state % 10
        );
    }
    text.push_str("null]}");
    while text.len() < VALUE_BYTES {
        text.push(' ');
    }
    Bytes::from(text)
}

/// The whole record.
pub(crate) fn record(number: u64, timestamp_ms: i64) -> Record {
    Record {
        key: key(number),
        value: value(number),
        timestamp_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_from_numbers_and_have_the_size() {
        assert_eq!(value(7), value(7));
        assert_ne!(value(7), value(8));
        assert!((0..100).all(|number| value(number).len() == VALUE_BYTES));
        assert_eq!(number(&key(42)), Some(42));
        assert_eq!(number(b"other"), None);
    }
}
