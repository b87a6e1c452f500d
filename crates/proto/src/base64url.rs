//! Base64url without padding: how binary crosses JSON. Decoding is strict: no padding, no white space, no
//! stray bits in the last character.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serializer};

use crate::Malformed;

/// Encodes bytes.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes text of any length.
///
/// # Errors
/// When the text is not strict base64url.
pub fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Malformed::new("base64url", "must be base64url without padding"))
}

/// Decodes text of exactly `N` bytes.
///
/// # Errors
/// When the text is not strict base64url or has another length.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], Malformed> {
    decode(text)?.try_into().map_err(|_| Malformed::new("base64url", "has the wrong length"))
}

/// For `#[serde(with = "base64url")]` on a byte array.
///
/// # Errors
/// What the serializer says.
pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&encode(bytes))
}

/// For `#[serde(with = "base64url")]` on a byte array.
///
/// # Errors
/// As [`decode_array`].
pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
    from: D,
) -> Result<[u8; N], D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
    decode_array(&text).map_err(serde::de::Error::custom)
}

/// The same for bytes of any length: `#[serde(with = "base64url::bytes")]`.
pub mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes base64url text.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::encode(bytes))
    }

    /// Reads base64url text.
    ///
    /// # Errors
    /// As [`super::decode`].
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        super::decode(&text).map_err(serde::de::Error::custom)
    }
}
