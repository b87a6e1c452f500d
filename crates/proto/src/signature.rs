//! HTTP message signatures (RFC 9421) and content digests (RFC 9530), in the profile of the protocol's section 7.
//!
//! ```text
//! request  "@method" "@authority" "@path" "@query" ["content-digest"];  created keyid nonce tag="warifu"
//! answer   "@status" ["content-digest"] "@method";req "@authority";req "@path";req "@query";req
//!          ["signature";req;key="<label>"];                             created keyid tag="warifu"
//! ```
//!
//! A server reads a request by [`ReceivedSignature::parse`], `check_created`, [`check_content_digest`],
//! `check_request` and `verify_…`, and answers by [`sign_answer`]; a caller uses [`sign_request`], and
//! `check_answer` in place of `check_request`. Reading is not verifying: nothing that a signature says is true
//! before `verify_…` has said so.
//!
//! Law: the algorithm follows from the form of the key id, never from the message. Components and parameters stand
//! in the base exactly as they were received. Exactly one signature of a message has our tag. Nothing here reads
//! a clock or draws a nonce. On the hot path there is one HMAC, one text for the base and one list of components.

mod base;
mod digest;
mod error;
mod fields;
mod profile;
mod received;

use std::fmt;

use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::key::{self, PrivateKey};
use crate::mac;

pub use base::signature_base;
pub use digest::{
    CONTENT_DIGEST_MAX_BYTES, check_content_digest, content_digest, content_digest_matches,
};
pub use error::SignatureError;
pub use fields::{Component, Syntax};
pub use received::{KeyId, ReceivedSignature};

/// The tag that marks our signatures among others.
pub const TAG: &str = "warifu";

/// The label under which we sign. Others may use any.
pub const LABEL: &str = "sig";

/// Longest `signature-input` that is read, in bytes. Ours has some 270 for a request and 330 for an answer; the rest
/// is room for signatures that others add. It bounds the work that an unknown caller can cause.
pub const SIGNATURE_INPUT_MAX_BYTES: usize = 4096;

/// Longest `signature` that is read, in bytes. Ours has at most 94; an RSA-4096 signature of somebody else has 700.
pub const SIGNATURE_MAX_BYTES: usize = 4096;

/// Standard base64. Reading forgives missing padding and spare bits, as RFC 9651 (section 4.2.7) asks; signature
/// bytes identify nothing, so that two texts mean one signature does no harm.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A request's signature as an answer refers to it: its label and its bytes.
pub type RequestSignature<'a> = (&'a str, &'a [u8]);

/// What signs. Decides the key id and the algorithm.
#[derive(Clone, Copy)]
pub enum SigningKey<'a> {
    /// An identity key: `ecdsa-p256-sha256`, named by its thumbprint.
    Identity(&'a PrivateKey),
    /// A session: `hmac-sha256`.
    Session {
        /// The session's id as text, `ses_…`.
        keyid: &'a str,
        /// The secret of the direction in which the message goes.
        secret: &'a [u8; 32],
    },
}

impl SigningKey<'_> {
    fn sign(&self, base: &str) -> SignatureBytes {
        match self {
            Self::Identity(key) => SignatureBytes::Ecdsa(key.sign(base.as_bytes())),
            Self::Session { secret, .. } => {
                SignatureBytes::Hmac(mac::hmac_sha256(secret.as_slice(), &[base.as_bytes()]))
            }
        }
    }
}

impl fmt::Debug for SigningKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(key) => write!(f, "SigningKey(Identity {})", key.thumbprint()),
            Self::Session { keyid, .. } => write!(f, "SigningKey(Session {keyid})"),
        }
    }
}

/// The bytes of a signature, by algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignatureBytes {
    Ecdsa(key::Signature),
    Hmac([u8; 32]),
}

impl SignatureBytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Ecdsa(bytes) => bytes,
            Self::Hmac(bytes) => bytes,
        }
    }
}

/// Where a request goes, every part as it stands on the wire and never decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// Host and port: lower case, a default port left out. On a server one of its configured public authorities.
    pub authority: &'a str,
    /// Such as `/v1/payments`.
    pub path: &'a str,
    /// Without the question mark. None and empty are signed alike, as `?`.
    pub query: Option<&'a str>,
}

/// The two headers of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `signature-input`
    pub signature_input: String,
    /// `signature`
    pub signature: String,
    bytes: SignatureBytes,
}

impl Signed {
    /// The label and bytes: what the answer to this request must refer to.
    pub fn label_and_bytes(&self) -> RequestSignature<'_> {
        (LABEL, self.bytes.as_slice())
    }
}

/// Signs a request.
///
/// Shape: `content_digest` is the header's value, exactly when there is a body. The nonce is random text, not empty;
/// in it and in the key id only printable ASCII can be sent, so anything else is left out.
/// Units: `created_s` is Unix seconds.
pub fn sign_request(
    target: &RequestTarget<'_>,
    content_digest: Option<&str>,
    key: SigningKey<'_>,
    created_s: u64,
    nonce: &str,
) -> Signed {
    let mut base = base::Writer::new(target, content_digest, nonce.len());
    base.target(target, "");
    base.digest(content_digest);
    base.begin_parameters(r#""@method" "@authority" "@path" "@query""#);
    base.cover_digest(content_digest);
    base.end_parameters(created_s, key, Some(nonce));
    base.sign(key)
}

/// Signs an answer, bound to its request.
///
/// Shape: `content_digest` is the header's value; none for a stream and for an answer without content.
/// `request_signature` is that of the request, by [`ReceivedSignature::label_and_bytes`]; none when it was not signed.
/// Units: `created_s` is Unix seconds.
pub fn sign_answer(
    status: u16,
    content_digest: Option<&str>,
    request: &RequestTarget<'_>,
    request_signature: Option<RequestSignature<'_>>,
    key: SigningKey<'_>,
    created_s: u64,
) -> Signed {
    let label_bytes = request_signature.map_or(0, |(label, _)| label.len());
    let mut base = base::Writer::new(request, content_digest, label_bytes);
    base.status(status);
    base.digest(content_digest);
    base.target(request, ";req");
    base.request_signature(request_signature);
    base.begin_parameters(r#""@status""#);
    base.cover_digest(content_digest);
    base.cover(r#" "@method";req "@authority";req "@path";req "@query";req"#);
    base.cover_request_signature(request_signature);
    base.end_parameters(created_s, key, None);
    base.sign(key)
}

fn check_length(field: &'static str, value: &str, max_bytes: usize) -> Result<(), SignatureError> {
    if value.len() <= max_bytes {
        Ok(())
    } else {
        Err(SignatureError::TooLong { field, max_bytes })
    }
}

#[cfg(test)]
mod tests;
