//! HTTP message signatures (RFC 9421) and content digests (RFC 9530), in the profile of the protocol's section 7.
//!
//! ```text
//! request   "@method" "@authority" "@path" "@query" ["content-digest"];  created keyid nonce tag="warifu"
//! answer    "@status" ["content-digest"] "@method";req "@authority";req "@path";req "@query";req
//!           ["signature";req;key="<label>"];                             created keyid tag="warifu"
//! ```
//!
//! Law: the algorithm follows from the form of the key id, never from the message; components and parameters stand in
//! the base as they were received; exactly one signature has our tag. Nothing here reads a clock or draws a nonce.

mod fields;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::{PrivateKey, PublicKey, Thumbprint};
use crate::{limits, mac};
use fields::{Component, Input, Value, find};

/// The tag that marks our signatures among others.
pub const TAG: &str = "warifu";
/// The label under which we sign.
pub const LABEL: &str = "sig";

/// Why a signature is not taken. In order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// `signature-input` can't be read.
    #[error("signature-input is malformed")]
    MalformedInput,
    /// `signature` can't be read.
    #[error("signature is malformed")]
    MalformedSignature,
    /// No signature has our tag.
    #[error("no signature has the tag \"warifu\"")]
    NoneTagged,
    /// Two or more have it.
    #[error("more than one signature has the tag \"warifu\"")]
    SeveralTagged,
    /// `signature` has no member with the label of `signature-input`.
    #[error("there is no signature under the label of its input")]
    NoSignature,
    /// No `keyid`, or of neither form.
    #[error("keyid must be a 43-character thumbprint or a session id")]
    KeyId,
    /// `alg` says something else than the key id.
    #[error("alg does not agree with the kind of key")]
    Algorithm,
    /// No `created`.
    #[error("created is missing or malformed")]
    Created,
    /// No `nonce`.
    #[error("nonce is missing or malformed")]
    Nonce,
    /// The signature has another length than its algorithm's.
    #[error("the signature has the wrong length")]
    Length,
    /// A component that must be covered is not.
    #[error(
        "a required component is not covered: @method @authority @path @query, and content-digest exactly when there is a body; of an answer @status and the request's too"
    )]
    NotCovered,
    /// A component stands there twice.
    #[error("a component is covered twice")]
    CoveredTwice,
    /// A component that we do not know, or with parameters that we do not know.
    #[error("a covered component is not known here")]
    UnknownComponent,
    /// A covered field is not in the message.
    #[error("a covered field is not in the message")]
    MissingField,
    /// `created` is too far from now.
    #[error("created is more than 60 seconds off")]
    ClockSkew,
    /// `expires` has passed.
    #[error("the signature has expired")]
    Expired,
    /// It does not verify.
    #[error("the signature does not hold for this message and key")]
    Wrong,
}

/// The value of `content-digest` for a body.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(mac::sha256(&[body])))
}

/// Whether a received `content-digest` is this body's: sha-256 must be there and right, others are ignored.
pub fn content_digest_matches(header: &str, body: &[u8]) -> bool {
    let members = fields::byte_sequences(header).unwrap_or_default();
    members
        .iter()
        .any(|(name, digest)| name == "sha-256" && digest.as_slice() == mac::sha256(&[body]))
}

/// What signs.
#[derive(Debug, Clone, Copy)]
pub enum SigningKey<'a> {
    /// An identity key: ECDSA.
    Identity(&'a PrivateKey),
    /// A session: HMAC.
    Session {
        /// `ses_…`
        keyid: &'a str,
        /// The secret of this direction.
        secret: &'a [u8; 32],
    },
}

impl SigningKey<'_> {
    fn keyid(&self) -> String {
        match self {
            Self::Identity(key) => key.thumbprint().to_string(),
            Self::Session { keyid, .. } => (*keyid).to_owned(),
        }
    }

    fn sign(&self, base: &str) -> String {
        match self {
            Self::Identity(key) => STANDARD.encode(key.sign(base.as_bytes())),
            Self::Session { secret, .. } => {
                STANDARD.encode(mac::hmac_sha256(secret.as_slice(), &[base.as_bytes()]))
            }
        }
    }
}

/// Where a request goes, as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// `POST`
    pub method: &'a str,
    /// Lower case, without a default port.
    pub authority: &'a str,
    /// Undecoded.
    pub path: &'a str,
    /// Without the question mark; nothing and empty are the same.
    pub query: Option<&'a str>,
}

/// The two headers of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `signature-input`
    pub signature_input: String,
    /// `signature`
    pub signature: String,
}

struct Base(String);

impl Base {
    fn new() -> Self {
        Self(String::with_capacity(512))
    }

    fn line(&mut self, component: &str, value: &str) {
        self.0.extend([component, ": ", value, "\n"]);
    }

    fn query_line(&mut self, component: &str, query: Option<&str>) {
        self.0.extend([component, ": ?", query.unwrap_or_default(), "\n"]);
    }

    fn target(&mut self, target: &RequestTarget<'_>, suffix: &str) {
        for (name, value) in
            [("@method", target.method), ("@authority", target.authority), ("@path", target.path)]
        {
            self.0.extend(["\"", name, "\"", suffix, ": ", value, "\n"]);
        }
        self.0.extend(["\"@query\"", suffix, ": ?", target.query.unwrap_or_default(), "\n"]);
    }

    /// The last line has no line feed.
    fn end(mut self, parameters: &str) -> String {
        self.0.extend(["\"@signature-params\": ", parameters]);
        self.0
    }
}

fn signed(base: Base, parameters: &str, key: SigningKey<'_>) -> Signed {
    let signature = key.sign(&base.end(parameters));
    Signed {
        signature_input: format!("{LABEL}={parameters}"),
        signature: format!("{LABEL}=:{signature}:"),
    }
}

/// Signs a request. `content_digest` is the header's value, exactly when there is a body; the nonce is random text
/// without quotes.
pub fn sign_request(
    target: &RequestTarget<'_>,
    content_digest: Option<&str>,
    key: SigningKey<'_>,
    created_s: u64,
    nonce: &str,
) -> Signed {
    let mut base = Base::new();
    base.target(target, "");
    let mut covered = r#"("@method" "@authority" "@path" "@query""#.to_owned();
    if let Some(digest) = content_digest {
        base.line(r#""content-digest""#, digest);
        covered.push_str(r#" "content-digest""#);
    }
    let parameters = format!(
        r#"{covered});created={created_s};keyid="{}";nonce="{nonce}";tag="{TAG}""#,
        key.keyid()
    );
    signed(base, &parameters, key)
}

/// Signs an answer. A stream has no digest; an unsigned request has no signature to bind to.
pub fn sign_answer(
    status: u16,
    content_digest: Option<&str>,
    request: &RequestTarget<'_>,
    request_signature: Option<(&str, &[u8])>,
    key: SigningKey<'_>,
    created_s: u64,
) -> Signed {
    let mut base = Base::new();
    base.line(r#""@status""#, &status.to_string());
    let mut covered = r#"("@status""#.to_owned();
    if let Some(digest) = content_digest {
        base.line(r#""content-digest""#, digest);
        covered.push_str(r#" "content-digest""#);
    }
    base.target(request, ";req");
    covered.push_str(r#" "@method";req "@authority";req "@path";req "@query";req"#);
    if let Some((label, signature)) = request_signature {
        let component = format!(r#""signature";req;key="{label}""#);
        base.line(&component, &format!(":{}:", STANDARD.encode(signature)));
        covered.push(' ');
        covered.push_str(&component);
    }
    let parameters =
        format!(r#"{covered});created={created_s};keyid="{}";tag="{TAG}""#, key.keyid());
    signed(base, &parameters, key)
}

/// Whose key a signature names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyId {
    /// An identity key.
    Thumbprint(Thumbprint),
    /// A session, `ses_…`, not parsed further.
    Session(String),
}

/// The one signature of a message that has our tag.
#[derive(Debug, Clone)]
pub struct ReceivedSignature {
    input: Input,
    key_id: KeyId,
    created_s: u64,
    expires_s: Option<u64>,
    bytes: Vec<u8>,
}

impl ReceivedSignature {
    /// Reads the two headers (several of one name joined by commas).
    ///
    /// # Errors
    /// In the order of [`SignatureError`], up to `Length`. A nonce is asked for by [`Self::check_request`].
    pub fn parse(signature_input: &str, signature: &str) -> Result<Self, SignatureError> {
        let inputs = fields::inputs(signature_input)?;
        let signatures =
            fields::byte_sequences(signature).ok_or(SignatureError::MalformedSignature)?;
        let is_ours = |it: &Input| matches!(find(&it.parameters, "tag"), Some(Value::Text(tag)) if tag == TAG);
        let mut ours = inputs.into_iter().filter(is_ours);
        let input = ours.next().ok_or(SignatureError::NoneTagged)?;
        if ours.next().is_some() {
            return Err(SignatureError::SeveralTagged);
        }
        let bytes = signatures
            .into_iter()
            .find(|(label, _)| *label == input.label)
            .ok_or(SignatureError::NoSignature)?
            .1;
        let Some(Value::Text(keyid)) = find(&input.parameters, "keyid") else {
            return Err(SignatureError::KeyId);
        };
        let (key_id, algorithm, length) = if keyid.starts_with("ses_") {
            (KeyId::Session(keyid.clone()), "hmac-sha256", 32)
        } else {
            let thumbprint = Thumbprint::parse(keyid).map_err(|_| SignatureError::KeyId)?;
            (KeyId::Thumbprint(thumbprint), "ecdsa-p256-sha256", 64)
        };
        match find(&input.parameters, "alg") {
            None => {}
            Some(Value::Text(alg)) if alg == algorithm => {}
            Some(_) => return Err(SignatureError::Algorithm),
        }
        let seconds = |name| match find(&input.parameters, name) {
            Some(Value::Integer(at)) => {
                u64::try_from(*at).map(Some).map_err(|_| SignatureError::Created)
            }
            None => Ok(None),
            Some(_) => Err(SignatureError::Created),
        };
        let created_s = seconds("created")?.ok_or(SignatureError::Created)?;
        let expires_s = seconds("expires")?;
        if bytes.len() != length {
            return Err(SignatureError::Length);
        }
        Ok(Self { input, key_id, created_s, expires_s, bytes })
    }

    /// Under which label it stands.
    pub fn label(&self) -> &str {
        &self.input.label
    }

    /// Whose key it names.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// When it was made, in Unix seconds, by its own word.
    pub fn created_s(&self) -> u64 {
        self.created_s
    }

    /// The signature itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is of now.
    ///
    /// # Errors
    /// [`SignatureError::ClockSkew`], [`SignatureError::Expired`].
    pub fn check_created(&self, now_s: u64) -> Result<(), SignatureError> {
        if self.created_s.abs_diff(now_s) > limits::SIGNATURE_SKEW_MAX_S {
            return Err(SignatureError::ClockSkew);
        }
        if self.expires_s.is_some_and(|at| at <= now_s) {
            return Err(SignatureError::Expired);
        }
        Ok(())
    }

    /// Whether it verifies by an identity key.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`], also for a signature of the other kind.
    pub fn verify_with_key(&self, base: &str, key: &PublicKey) -> Result<(), SignatureError> {
        let signature = self.bytes.as_slice().try_into().map_err(|_| SignatureError::Wrong)?;
        let is_named = self.key_id == KeyId::Thumbprint(key.thumbprint());
        if is_named && key.verifies(base.as_bytes(), signature) {
            Ok(())
        } else {
            Err(SignatureError::Wrong)
        }
    }

    /// Whether it verifies by a session's secret, in constant time.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`], also for a signature of the other kind.
    pub fn verify_with_secret(&self, base: &str, secret: &[u8; 32]) -> Result<(), SignatureError> {
        let expected = mac::hmac_sha256(secret, &[base.as_bytes()]);
        let is_session = matches!(self.key_id, KeyId::Session(_));
        if is_session && mac::equal_in_constant_time(&expected, &self.bytes) {
            Ok(())
        } else {
            Err(SignatureError::Wrong)
        }
    }

    /// The base of a request's signature, after checking what it covers. `content_digest` is the header's value, exactly
    /// when there is a body; `header` gives other fields by their lower-case name, their lines joined by `, `.
    ///
    /// # Errors
    /// In the order of [`SignatureError`], from `Nonce` on.
    pub fn check_request(
        &self,
        target: &RequestTarget<'_>,
        content_digest: Option<&str>,
        header: impl Fn(&str) -> Option<String>,
    ) -> Result<String, SignatureError> {
        match find(&self.input.parameters, "nonce") {
            Some(Value::Text(nonce)) if !nonce.is_empty() => {}
            Some(_) | None => return Err(SignatureError::Nonce),
        }
        self.require(&[r#""@method""#, r#""@authority""#, r#""@path""#, r#""@query""#])?;
        self.require_digest(content_digest)?;
        let mut base = Base::new();
        for it in &self.input.components {
            if !it.parameters.is_empty() {
                return Err(SignatureError::UnknownComponent);
            }
            match it.name.as_str() {
                "@method" => base.line(&it.raw, target.method),
                "@authority" => base.line(&it.raw, target.authority),
                "@path" => base.line(&it.raw, target.path),
                "@query" => base.query_line(&it.raw, target.query),
                "content-digest" => {
                    base.line(&it.raw, content_digest.ok_or(SignatureError::MissingField)?)
                }
                name => base.line(&it.raw, &field(name, &header)?),
            }
        }
        Ok(base.end(&self.input.raw))
    }

    /// The base of an answer's signature, after checking that it covers the answer and is bound to the request.
    /// `content_digest` is the answer's header, missing for a stream; `request_signature` is the request's own.
    ///
    /// # Errors
    /// In the order of [`SignatureError`], from `NotCovered` on.
    pub fn check_answer(
        &self,
        status: u16,
        content_digest: Option<&str>,
        request: &RequestTarget<'_>,
        request_signature: Option<(&str, &[u8])>,
        header: impl Fn(&str) -> Option<String>,
    ) -> Result<String, SignatureError> {
        self.require(&[
            r#""@status""#,
            r#""@method";req"#,
            r#""@authority";req"#,
            r#""@path";req"#,
            r#""@query";req"#,
        ])?;
        self.require_digest(content_digest)?;
        let bound = request_signature.map(|(label, _)| format!(r#""signature";req;key="{label}""#));
        if let Some(bound) = &bound {
            self.require(&[bound.as_str()])?;
        }
        let mut base = Base::new();
        for it in &self.input.components {
            match (it.name.as_str(), it.raw.as_str()) {
                ("@status", r#""@status""#) => base.line(&it.raw, &status.to_string()),
                ("@method", r#""@method";req"#) => base.line(&it.raw, request.method),
                ("@authority", r#""@authority";req"#) => base.line(&it.raw, request.authority),
                ("@path", r#""@path";req"#) => base.line(&it.raw, request.path),
                ("@query", r#""@query";req"#) => base.query_line(&it.raw, request.query),
                ("signature", raw) if bound.as_deref() == Some(raw) => {
                    let (_, bytes) = request_signature.ok_or(SignatureError::MissingField)?;
                    base.line(raw, &format!(":{}:", STANDARD.encode(bytes)));
                }
                ("content-digest", r#""content-digest""#) => {
                    base.line(&it.raw, content_digest.ok_or(SignatureError::MissingField)?)
                }
                (name, _) if it.parameters.is_empty() => base.line(&it.raw, &field(name, &header)?),
                _ => return Err(SignatureError::UnknownComponent),
            }
        }
        Ok(base.end(&self.input.raw))
    }

    fn covers(&self, raw: &str) -> bool {
        self.input.components.iter().any(|it| it.raw == raw)
    }

    fn require(&self, components: &[&str]) -> Result<(), SignatureError> {
        if !components.iter().all(|it| self.covers(it)) {
            return Err(SignatureError::NotCovered);
        }
        let is_twice = |(at, it): (usize, &Component)| {
            self.input.components.iter().take(at).any(|other| other.raw == it.raw)
        };
        if self.input.components.iter().enumerate().any(is_twice) {
            Err(SignatureError::CoveredTwice)
        } else {
            Ok(())
        }
    }

    fn require_digest(&self, content_digest: Option<&str>) -> Result<(), SignatureError> {
        if self.covers(r#""content-digest""#) == content_digest.is_some() {
            Ok(())
        } else {
            Err(SignatureError::NotCovered)
        }
    }
}

/// A plain field's value: outer white space trimmed, no line folds.
fn field(name: &str, header: &impl Fn(&str) -> Option<String>) -> Result<String, SignatureError> {
    if name.starts_with('@') {
        return Err(SignatureError::UnknownComponent);
    }
    let value = header(name).ok_or(SignatureError::MissingField)?;
    if value.contains(['\r', '\n']) {
        Err(SignatureError::MissingField)
    } else {
        Ok(value.trim().to_owned())
    }
}

#[cfg(test)]
mod tests;
