//! Content digests (RFC 9530): the header that stands for a body in a signature.
//!
//! Law: sha-256 must be there and right; other algorithms are neither trusted nor a reason to refuse. The digest is
//! of the content as sent, and there is no content-encoding.

use base64::Engine as _;

use super::fields::{self, Value};
use super::{BASE64, SignatureError, check_length};
use crate::mac;

/// Longest `content-digest` that is read, in bytes. Ours has 54; with sha-512 beside it a field has some 150.
pub const CONTENT_DIGEST_MAX_BYTES: usize = 512;

const NAME: &str = "sha-256";

/// Makes the value of `content-digest` for a body.
pub fn content_digest(body: &[u8]) -> String {
    // The name, "=:" and ":" around 44 characters of base64.
    let mut value = String::with_capacity(54);
    value.push_str(NAME);
    value.push_str("=:");
    BASE64.encode_string(mac::sha256(&[body]), &mut value);
    value.push(':');
    value
}

/// Checks a received `content-digest` (its lines joined by `, `) against the body that came with it.
///
/// # Errors
/// [`SignatureError::TooLong`], then [`SignatureError::DigestMalformed`],
/// [`SignatureError::DigestMissing`] without sha-256, and [`SignatureError::DigestWrong`].
pub fn check_content_digest(header: &str, body: &[u8]) -> Result<(), SignatureError> {
    check_length("content-digest", header, CONTENT_DIGEST_MAX_BYTES)?;
    let mut received = None;
    fields::items(header, |name, value| {
        if name == NAME {
            let Value::Bytes(text) = value else { return Err("sha-256 must be a byte sequence") };
            received = Some(text.of(header));
        }
        Ok(())
    })
    .map_err(SignatureError::DigestMalformed)?;
    let text = received.ok_or(SignatureError::DigestMissing)?;
    let mut digest = [0; 32];
    let count = BASE64.decode_slice(text, &mut digest).map_err(|_| SignatureError::DigestWrong)?;
    // What is compared is no secret: whoever sent the body can compute it.
    if count == digest.len() && digest == mac::sha256(&[body]) {
        Ok(())
    } else {
        Err(SignatureError::DigestWrong)
    }
}

/// Says whether a received `content-digest` is this body's, where the reason does not matter.
pub fn content_digest_matches(header: &str, body: &[u8]) -> bool {
    check_content_digest(header, body).is_ok()
}
