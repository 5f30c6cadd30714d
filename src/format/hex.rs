//! Digests as lower-case hex strings in JSON: a `u128` is no JSON number, and people compare hex.

/// `serde(with)` for a `u32` as eight hex digits.
pub(super) mod u32_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub fn serialize<S: Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:08x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        super::parse(&text, 8)
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| D::Error::custom("expected 8 lower-case hex digits"))
    }
}

/// `serde(with)` for a `u128` as 32 hex digits.
pub(super) mod u128_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        super::parse(&text, 32).ok_or_else(|| D::Error::custom("expected 32 lower-case hex digits"))
    }
}

/// Exactly `digits` lower-case hex digits.
pub(super) fn parse(text: &str, digits: usize) -> Option<u128> {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != digits || !text.bytes().all(lower_hex) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}
