//! Why a signature is not taken, in the words that the one who made it needs.

use super::fields::Syntax;
use crate::limits::SIGNATURE_SKEW_MAX_S;

/// Why a signature or digest is not taken. In order of precedence within each function that gives them: the first
/// that applies is the answer.
///
/// [`Self::ClockSkew`] has a problem code of its own on the wire; all the others are `signature_invalid`, with the
/// sentence as its detail. No sentence repeats anything that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SignatureError {
    /// A header is too long to be read.
    #[error("{field} is longer than {max_bytes} bytes")]
    TooLong {
        /// Which header.
        field: &'static str,
        /// Its bound.
        max_bytes: usize,
    },
    /// There is no `signature-input` that could be read, beside a `signature`.
    #[error("signature-input is missing, empty or not ASCII: a signature needs both headers")]
    MalformedInput,
    /// There is no `signature` that could be read, beside a `signature-input`.
    #[error("signature is missing, empty or not ASCII: a signature needs both headers")]
    MalformedSignature,
    /// `signature-input` is no dictionary of lists of strings.
    #[error("signature-input is malformed: {0}")]
    InputSyntax(Syntax),
    /// `signature` is no dictionary of byte sequences.
    #[error("signature is malformed: {0}")]
    SignatureSyntax(Syntax),
    /// No signature has our tag.
    #[error("no signature has the parameter tag=\"warifu\", a string in quotes")]
    NoneTagged,
    /// Two or more have it.
    #[error("more than one signature has tag=\"warifu\"")]
    SeveralTagged,
    /// `signature` has no member with the label of the tagged one in `signature-input`.
    #[error("signature has no member under the label that has tag=\"warifu\" in signature-input")]
    NoSignature,
    /// No `keyid`, or of neither form.
    #[error("keyid must be a key's 43-character thumbprint or a session's id, a string in quotes")]
    KeyId,
    /// `alg` says something else than the key id.
    #[error(
        "alg must be left out or fit keyid: ecdsa-p256-sha256 for a thumbprint, hmac-sha256 for a session"
    )]
    Algorithm,
    /// No `created`, or no time.
    #[error("created must be the time of signing in whole Unix seconds")]
    Created,
    /// `expires` is no time.
    #[error("expires must be a time in whole Unix seconds")]
    Expires,
    /// The signature has another length than its algorithm's.
    #[error(
        "the signature must have 64 bytes (r and s, not DER) by a key and 32 bytes in a session"
    )]
    Length,
    /// `nonce` is no text, or a request has none.
    #[error("nonce must be a string in quotes, and not empty; a request must have one")]
    Nonce,
    /// A component that is not known in this kind of message.
    #[error(
        "a covered component is not known here: use @method, @authority, @path, @query (of an answer \
         @status, and these with ;req) and header fields by their lower-case names"
    )]
    UnknownComponent,
    /// A known component with a parameter that has no meaning here.
    #[error("a covered component has a parameter that is not supported here")]
    ComponentParameter,
    /// A component stands there twice.
    #[error("a component is covered twice")]
    CoveredTwice,
    /// A component that must be covered is not.
    #[error("the signature must cover {0}")]
    NotCovered(&'static str),
    /// A request without a body covers `content-digest`.
    #[error("the signature covers content-digest, but the request has no content")]
    DigestWithoutBody,
    /// A covered field, or the request's signature, is not there.
    #[error("a covered header field is not in the message")]
    MissingField,
    /// A value that would blur the lines of the base.
    #[error("a covered value has a line break or another character that cannot be signed")]
    FieldValue,
    /// `content-digest` is no dictionary of byte sequences.
    #[error("content-digest is malformed: {0}")]
    DigestMalformed(Syntax),
    /// `content-digest` has other algorithms only.
    #[error("content-digest must have sha-256")]
    DigestMissing,
    /// `content-digest` is of something else.
    #[error("content-digest is not the SHA-256 of the content as it arrived")]
    DigestWrong,
    /// `created` is too far from now, in either direction.
    #[error("created is more than {SIGNATURE_SKEW_MAX_S} seconds off")]
    ClockSkew,
    /// `expires` has been reached.
    #[error("the signature has expired")]
    Expired,
    /// The key id names another key than the one it is to be verified by.
    #[error("the signature is by another key than the one expected")]
    OtherKey,
    /// It does not verify.
    #[error("the signature does not hold for this message and key")]
    Wrong,
}
