//! The one signature of a received message that has our tag: read, held against the profile, verified.

use base64::Engine as _;

use super::base::{self, push_bytes, push_number, push_query};
use super::fields::{self, Component, Input, Span, Value};
use super::profile::{self, Message, Part, Side, part_of};
use super::{
    BASE64, RequestSignature, RequestTarget, SIGNATURE_INPUT_MAX_BYTES, SIGNATURE_MAX_BYTES,
    SignatureBytes, SignatureError, TAG, check_length,
};
use crate::id::SessionId;
use crate::key::{PublicKey, Thumbprint};
use crate::{limits, mac};

/// Length of a thumbprint as text: 32 bytes of base64url. A session's id has 30, so the length tells them apart, which
/// the beginning does not: a thumbprint may begin with `ses_` as well.
const THUMBPRINT_CHARACTERS: usize = 43;

/// Whose key a signature names, and by that its algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyId {
    /// An identity key: `ecdsa-p256-sha256`.
    Thumbprint(Thumbprint),
    /// A session, `ses_…`: `hmac-sha256`. The text is of a session's id for certain.
    Session(String),
}

impl KeyId {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Thumbprint(_) => "ecdsa-p256-sha256",
            Self::Session(_) => "hmac-sha256",
        }
    }
}

/// The signature of a message that has our tag, as it was received. What it says is not yet true.
#[derive(Debug, Clone)]
pub struct ReceivedSignature {
    /// All of `signature-input`.
    text: String,
    input: Input,
    key_id: KeyId,
    has_alg: bool,
    created_s: u64,
    expires_s: Option<u64>,
    nonce: Option<Span>,
    bytes: SignatureBytes,
}

impl ReceivedSignature {
    /// Reads the two headers; several lines of one name are joined by `, ` first.
    ///
    /// Order: checks run in the order of [`SignatureError`], from `TooLong` to `Nonce`.
    ///
    /// # Errors
    /// When a header is no structured field, not exactly one signature has our tag, or one of its parameters is
    /// missing or not of this profile. That a request needs a nonce is for [`Self::check_request`].
    pub fn parse(signature_input: &str, signature: &str) -> Result<Self, SignatureError> {
        check_length("signature-input", signature_input, SIGNATURE_INPUT_MAX_BYTES)?;
        check_length("signature", signature, SIGNATURE_MAX_BYTES)?;
        if signature_input.is_empty() {
            return Err(SignatureError::MalformedInput);
        }
        if signature.is_empty() {
            return Err(SignatureError::MalformedSignature);
        }
        let mut ours: Option<Input> = None;
        let mut has_several = false;
        fields::inputs(signature_input, |input| {
            let Some(Value::Text(tag)) = input.parameters.tag else { return };
            if tag.of(signature_input) == TAG {
                has_several = ours.is_some();
                ours = Some(input);
            }
        })
        .map_err(SignatureError::InputSyntax)?;
        let label = ours.as_ref().map(|it| it.label.of(signature_input));
        let mut encoded = None;
        fields::items(signature, |key, value| {
            let Value::Bytes(base64) = value else { return Err("it must be a byte sequence") };
            if Some(key) == label {
                encoded = Some(base64.of(signature));
            }
            Ok(())
        })
        .map_err(SignatureError::SignatureSyntax)?;
        let input = ours.ok_or(SignatureError::NoneTagged)?;
        if has_several {
            return Err(SignatureError::SeveralTagged);
        }
        let encoded = encoded.ok_or(SignatureError::NoSignature)?;
        Self::read(signature_input, input, encoded)
    }

    fn read(text: &str, input: Input, encoded: &str) -> Result<Self, SignatureError> {
        let it = input.parameters;
        let key_id = read_text(it.keyid, SignatureError::KeyId)?;
        let key_id = read_key_id(key_id.ok_or(SignatureError::KeyId)?.of(text))?;
        let alg = read_text(it.alg, SignatureError::Algorithm)?;
        if alg.is_some_and(|alg| alg.of(text) != key_id.algorithm()) {
            return Err(SignatureError::Algorithm);
        }
        let created_s = read_seconds(it.created, SignatureError::Created)?;
        let created_s = created_s.ok_or(SignatureError::Created)?;
        let expires_s = read_seconds(it.expires, SignatureError::Expires)?;
        let bytes = match key_id {
            KeyId::Thumbprint(_) => SignatureBytes::Ecdsa(decode(encoded)?),
            KeyId::Session(_) => SignatureBytes::Hmac(decode(encoded)?),
        };
        let nonce = read_text(it.nonce, SignatureError::Nonce)?;
        if nonce.is_some_and(|nonce| nonce.of(text).is_empty()) {
            return Err(SignatureError::Nonce);
        }
        let (text, has_alg) = (text.to_owned(), alg.is_some());
        Ok(Self { text, input, key_id, has_alg, created_s, expires_s, nonce, bytes })
    }

    /// Under which label it stands.
    pub fn label(&self) -> &str {
        self.input.label.of(&self.text)
    }

    /// Whose key it names.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Its `alg`, if it has one: always the algorithm that follows from the key id.
    pub fn alg(&self) -> Option<&'static str> {
        self.has_alg.then(|| self.key_id.algorithm())
    }

    /// When it was made, in Unix seconds, by its own word.
    pub fn created_s(&self) -> u64 {
        self.created_s
    }

    /// When it ends, in Unix seconds, if it says so.
    pub fn expires_s(&self) -> Option<u64> {
        self.expires_s
    }

    /// Its nonce as it stands between the quotes, escapes included. Nonces are not stored.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.map(|it| it.of(&self.text))
    }

    /// What it covers, in the order received.
    pub fn components(&self) -> impl Iterator<Item = Component<'_>> + Clone {
        self.input.components(&self.text)
    }

    /// The value of `@signature-params`, exactly as received.
    pub fn signature_params(&self) -> &str {
        self.input.raw.of(&self.text)
    }

    /// The signature itself: 64 bytes by a key, 32 in a session.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The label and bytes: what the answer to this request refers to, in [`super::sign_answer`].
    pub fn label_and_bytes(&self) -> RequestSignature<'_> {
        (self.label(), self.bytes())
    }

    /// Checks that it was made about now.
    ///
    /// Units: `now_s` is Unix seconds. [`limits::SIGNATURE_SKEW_MAX_S`] off is still taken; `expires` itself is too
    /// late.
    ///
    /// # Errors
    /// [`SignatureError::ClockSkew`], then [`SignatureError::Expired`].
    pub fn check_created(&self, now_s: u64) -> Result<(), SignatureError> {
        if self.created_s.abs_diff(now_s) > limits::SIGNATURE_SKEW_MAX_S {
            return Err(SignatureError::ClockSkew);
        }
        if self.expires_s.is_some_and(|expires_s| expires_s <= now_s) {
            return Err(SignatureError::Expired);
        }
        Ok(())
    }

    /// Checks what a request's signature covers, and builds its base.
    ///
    /// Shape: `content_digest` is the header as received, exactly when there is a body; a body without one must be
    /// refused before, and that it is the body's is for [`super::check_content_digest`]. `header` gives the lines of
    /// a further field by its lower-case name, none when it is not in the request: a header map's `get_all`, or an
    /// `Option` of the joined value.
    /// Order: checks run in the order of [`SignatureError`], from `Nonce` to `FieldValue`.
    ///
    /// # Errors
    /// When there is no nonce; when it covers what is not known here, covers something twice, or leaves out the
    /// method, the authority, the path, the query, or with a body the digest; when it covers the digest without
    /// a body, or a value that is not there or can't be signed.
    pub fn check_request<L>(
        &self,
        target: &RequestTarget<'_>,
        content_digest: Option<&str>,
        header: impl Fn(&str) -> L,
    ) -> Result<String, SignatureError>
    where
        L: IntoIterator<Item: AsRef<[u8]>>,
    {
        if self.nonce.is_none() {
            return Err(SignatureError::Nonce);
        }
        let message = Message {
            side: Side::Request,
            status: 0,
            content_digest,
            target,
            request_signature: None,
        };
        let covered = profile::check(self.components(), &message)?;
        if content_digest.is_none() && covered.has(Part::ContentDigest) {
            return Err(SignatureError::DigestWithoutBody);
        }
        self.base(&message, header)
    }

    /// Checks what an answer's signature covers, and that it is bound to the request, and builds its base, to be
    /// verified with the server's key or the session's secret.
    ///
    /// Shape: `status`, `content_digest` and `header` are the answer's, as in [`Self::check_request`]. Without
    /// a `content_digest` nothing vouches for the content: leave it out only for a stream that was asked for, and for
    /// an answer without content. `request` and `request_signature` ([`super::Signed::label_and_bytes`]; none when
    /// it was not signed) are what this caller itself sent, never what an answer says about it.
    /// Order: checks run in the order of [`SignatureError`], from `UnknownComponent` to `FieldValue`.
    ///
    /// # Errors
    /// When it covers what is not known here, covers something twice, or leaves out the status, one of the four
    /// parts of the request, the digest if there is one, or the signature of a signed request; when it covers
    /// a value that is not there or can't be signed.
    pub fn check_answer<L>(
        &self,
        status: u16,
        content_digest: Option<&str>,
        request: &RequestTarget<'_>,
        request_signature: Option<RequestSignature<'_>>,
        header: impl Fn(&str) -> L,
    ) -> Result<String, SignatureError>
    where
        L: IntoIterator<Item: AsRef<[u8]>>,
    {
        let message = Message {
            side: Side::Answer,
            status,
            content_digest,
            target: request,
            request_signature,
        };
        profile::check(self.components(), &message)?;
        self.base(&message, header)
    }

    /// Verifies by an identity key.
    ///
    /// # Errors
    /// [`SignatureError::OtherKey`] when this key is not the one that it names; [`SignatureError::Wrong`].
    pub fn verify_with_key(&self, base: &str, key: &PublicKey) -> Result<(), SignatureError> {
        match &self.bytes {
            SignatureBytes::Ecdsa(_) if self.key_id != KeyId::Thumbprint(key.thumbprint()) => {
                Err(SignatureError::OtherKey)
            }
            SignatureBytes::Ecdsa(bytes) if key.verifies(base.as_bytes(), bytes) => Ok(()),
            SignatureBytes::Ecdsa(_) => Err(SignatureError::Wrong),
            SignatureBytes::Hmac(_) => Err(SignatureError::OtherKey),
        }
    }

    /// Verifies by the secret of the session that it names, in constant time. That the secret is that session's, and of
    /// the right direction, is for the caller.
    ///
    /// # Errors
    /// [`SignatureError::OtherKey`] when it names no session; [`SignatureError::Wrong`].
    pub fn verify_with_secret(&self, base: &str, secret: &[u8; 32]) -> Result<(), SignatureError> {
        match &self.bytes {
            SignatureBytes::Hmac(bytes) => {
                let expected = mac::hmac_sha256(secret, &[base.as_bytes()]);
                if mac::equal_in_constant_time(&expected, bytes) {
                    Ok(())
                } else {
                    Err(SignatureError::Wrong)
                }
            }
            SignatureBytes::Ecdsa(_) => Err(SignatureError::OtherKey),
        }
    }

    fn base<L>(
        &self,
        message: &Message<'_>,
        header: impl Fn(&str) -> L,
    ) -> Result<String, SignatureError>
    where
        L: IntoIterator<Item: AsRef<[u8]>>,
    {
        let parameters = self.signature_params();
        let capacity = base::capacity_bytes(message.target, message.content_digest)
            .saturating_add(parameters.len());
        base::build(self.components(), parameters, capacity, |component, base| {
            match part_of(message.side, component)? {
                Part::Method => base.push_str(message.target.method),
                Part::Authority => base.push_str(message.target.authority),
                Part::Path => base.push_str(message.target.path),
                Part::Query => push_query(base, message.target.query),
                Part::Status => push_number(base, message.status.into()),
                Part::ContentDigest => push_lines(base, message.content_digest)?,
                Part::RequestSignature => match message.request_signature {
                    Some((label, bytes)) if component.key() == Some(label) => {
                        push_bytes(base, bytes);
                    }
                    Some(_) | None => return Err(SignatureError::MissingField),
                },
                Part::Field => push_lines(base, header(component.name()))?,
            }
            Ok(())
        })
    }
}

/// Appends the lines of a field: each without the white space around it, joined by `, `.
fn push_lines<L>(base: &mut String, lines: L) -> Result<(), SignatureError>
where
    L: IntoIterator<Item: AsRef<[u8]>>,
{
    let mut is_there = false;
    for line in lines {
        if is_there {
            base.push_str(", ");
        }
        // What is no UTF-8 is no ASCII either, and refused with the whole value.
        let text = std::str::from_utf8(line.as_ref()).unwrap_or("\u{fffd}");
        base.push_str(text.trim_matches([' ', '\t']));
        is_there = true;
    }
    if is_there { Ok(()) } else { Err(SignatureError::MissingField) }
}

fn read_key_id(keyid: &str) -> Result<KeyId, SignatureError> {
    let bad = |_| SignatureError::KeyId;
    if keyid.len() == THUMBPRINT_CHARACTERS {
        Thumbprint::parse(keyid).map(KeyId::Thumbprint).map_err(bad)
    } else {
        SessionId::parse(keyid).map(|_| KeyId::Session(keyid.to_owned())).map_err(bad)
    }
}

fn read_text(value: Option<Value>, error: SignatureError) -> Result<Option<Span>, SignatureError> {
    match value {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::Integer(_) | Value::Bytes(_) | Value::Boolean(_) | Value::Other) => Err(error),
    }
}

fn read_seconds(
    value: Option<Value>,
    error: SignatureError,
) -> Result<Option<u64>, SignatureError> {
    match value {
        None => Ok(None),
        Some(Value::Integer(seconds)) => u64::try_from(seconds).map(Some).map_err(|_| error),
        Some(Value::Text(_) | Value::Bytes(_) | Value::Boolean(_) | Value::Other) => Err(error),
    }
}

fn decode<const N: usize>(encoded: &str) -> Result<[u8; N], SignatureError> {
    let mut bytes = [0; N];
    let count = BASE64.decode_slice(encoded, &mut bytes).map_err(|_| SignatureError::Length)?;
    if count == N { Ok(bytes) } else { Err(SignatureError::Length) }
}
