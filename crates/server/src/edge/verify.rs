//! Who signed a request, and by what its answer is signed.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use serde::Deserialize;
use warifu_proto::id::SessionId;
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::problem::ProblemCode;
use warifu_proto::session::SessionKeys;
use warifu_proto::signature::{
    KeyId, ReceivedSignature, RequestTarget, SignatureError, SigningKey, content_digest_matches,
};

use super::{Edge, Signer, target};
use crate::problem::ApiProblem;
use crate::{clock, session};

/// What is kept of a request until its answer is signed. The clones are reference counts.
pub(super) struct Exchange<'e> {
    method: Method,
    uri: Uri,
    authority: Authority<'e>,
    claim: Claim,
    /// Whether the answer is bound to the request's signature.
    is_bound: AtomicBool,
}

enum Authority<'e> {
    Ours(&'e str),
    Other(String),
}

/// What a request says about its signature.
#[expect(
    clippy::large_enum_variant,
    reason = "one a request, on its stack: a box would be one allocation more"
)]
enum Claim {
    Unsigned,
    Unreadable(SignatureError),
    Signed { signature: ReceivedSignature, session: Option<InSession> },
}

struct InSession {
    id: SessionId,
    caller: Thumbprint,
    keys: Arc<SessionKeys>,
}

impl<'e> Exchange<'e> {
    /// Notes what the answer needs. The signature is read, and not yet verified.
    pub(super) fn begin(edge: &'e Edge, request: &Request) -> Self {
        let headers = request.headers();
        let claim = match (joined(headers, "signature-input"), joined(headers, "signature")) {
            (None, None) => Claim::Unsigned,
            (Some(input), Some(signature)) => match ReceivedSignature::parse(&input, &signature) {
                Ok(signature) => {
                    let session = in_session(edge, &signature);
                    Claim::Signed { signature, session }
                }
                // Signatures of others, such as a proxy's own, are none of our business.
                Err(SignatureError::NoneTagged) => Claim::Unsigned,
                Err(error) => Claim::Unreadable(error),
            },
            (Some(_), None) => Claim::Unreadable(SignatureError::MalformedSignature),
            (None, Some(_)) => Claim::Unreadable(SignatureError::MalformedInput),
        };
        let sent = target::sent(request).unwrap_or_default();
        let authority = match edge.authority(sent) {
            Some(ours) => Authority::Ours(ours),
            None => Authority::Other(target::normal(sent)),
        };
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { method, uri, authority, claim, is_bound: AtomicBool::new(false) }
    }

    /// The request as it is signed.
    pub(super) fn target(&self) -> RequestTarget<'_> {
        let authority = match &self.authority {
            Authority::Ours(ours) => ours,
            Authority::Other(other) => other.as_str(),
        };
        let (path, query) = (self.uri.path(), self.uri.query());
        RequestTarget { method: self.method.as_str(), authority, path, query }
    }

    /// Label and bytes of the request's signature, to which the answer is bound.
    ///
    /// Whoever carries a message may send a copy of it with another body under the same signature, and show the caller
    /// the refusal of the copy in place of the answer to the message. So a refusal that came before the signature was
    /// verified is bound to nothing, and proves nothing to the caller.
    pub(super) fn signature(&self) -> Option<(&str, &[u8])> {
        match &self.claim {
            Claim::Signed { signature, .. } if self.is_bound.load(Ordering::Relaxed) => {
                Some((signature.label(), signature.bytes()))
            }
            Claim::Signed { .. } | Claim::Unsigned | Claim::Unreadable(_) => None,
        }
    }

    fn bind(&self) {
        self.is_bound.store(true, Ordering::Relaxed);
    }

    /// What signs the answer: the session if the request names one that is open, else the server's identity.
    pub(super) fn answer_key<'a>(&'a self, edge: &'a Edge) -> SigningKey<'a> {
        match &self.claim {
            Claim::Signed { signature, session: Some(session) } => match signature.key_id() {
                KeyId::Session(keyid) => {
                    SigningKey::Session { keyid, secret: &session.keys.server_to_caller }
                }
                KeyId::Thumbprint(_) => SigningKey::Identity(&edge.key),
            },
            Claim::Signed { session: None, .. } | Claim::Unsigned | Claim::Unreadable(_) => {
                SigningKey::Identity(&edge.key)
            }
        }
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }
}

impl Edge {
    /// The configured authority that was meant.
    fn authority(&self, sent: &str) -> Option<&str> {
        let is = |wanted: &str| {
            self.authorities.iter().find(|it| it.eq_ignore_ascii_case(wanted)).map(String::as_str)
        };
        is(sent).or_else(|| is(target::without_default_port(sent)))
    }
}

fn in_session(edge: &Edge, signature: &ReceivedSignature) -> Option<InSession> {
    let KeyId::Session(text) = signature.key_id() else { return None };
    let id = SessionId::parse(text).ok()?;
    let (caller, keys) = edge.sessions.lookup(&id, clock::now())?;
    Some(InSession { id, caller, keys })
}

/// A header's value; several lines are joined by commas. What is no visible ASCII reads as empty, which no parser takes.
fn joined<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, str>> {
    let mut lines = headers.get_all(name).iter().map(|it| it.to_str().unwrap_or_default());
    let first = lines.next()?;
    Some(match lines.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let all: Vec<&str> = [first, second].into_iter().chain(lines).collect();
            Cow::Owned(all.join(", "))
        }
    })
}

/// Checks the signature, if there is one: authority, digest, what it covers, key, signature, time, in this order.
///
/// # Errors
/// `misdirected`, `signature_invalid`, `session_unknown`, `key_unknown`, `clock_skew`.
pub(super) fn check(
    edge: &Edge,
    exchange: &Exchange<'_>,
    parts: &Parts,
    raw: &[u8],
) -> Result<Option<Signer>, ApiProblem> {
    if matches!(exchange.claim, Claim::Unsigned) {
        return Ok(None);
    }
    if matches!(exchange.authority, Authority::Other(_)) {
        let detail = "Send it to the authority that the directory names for this server.";
        return Err(ApiProblem::new(ProblemCode::Misdirected, detail));
    }
    let (signature, session) = match &exchange.claim {
        Claim::Signed { signature, session } => (signature, session.as_ref()),
        Claim::Unreadable(error) => return Err(invalid(*error)),
        Claim::Unsigned => return Ok(None),
    };
    let digest = joined(&parts.headers, "content-digest").filter(|_| !raw.is_empty());
    let fits = match &digest {
        Some(digest) => content_digest_matches(digest, raw),
        None => raw.is_empty(),
    };
    if !fits {
        let detail = "A body needs a content-digest with its own sha-256.";
        return Err(ApiProblem::new(ProblemCode::SignatureInvalid, detail));
    }
    let field = |name: &str| joined(&parts.headers, name).map(Cow::into_owned);
    let base =
        signature.check_request(&exchange.target(), digest.as_deref(), field).map_err(invalid)?;
    let signer = match signature.key_id() {
        KeyId::Session(_) => by_session(edge, exchange, signature, session, &base)?,
        KeyId::Thumbprint(name) => {
            let known = edge.ring.key(name).or_else(|| carried(edge, parts, raw, name));
            // Not verified, and bound all the same: a caller has to hear that it is not known. It concludes nothing about
            // what it sent before.
            let key = known.ok_or_else(|| {
                exchange.bind();
                key_unknown()
            })?;
            signature.verify_with_key(&base, &key).map_err(invalid)?;
            exchange.bind();
            Signer { caller: *name, session: None }
        }
    };
    let now = clock::now();
    match signature.check_created(now.as_ms() / 1000) {
        Ok(()) => Ok(Some(signer)),
        Err(SignatureError::ClockSkew) => {
            let detail =
                "The signature's `created` is more than 60 seconds off: `now_ms` is the time here.";
            Err(ApiProblem::new(ProblemCode::ClockSkew, detail).now_ms(now.as_ms()))
        }
        Err(error) => Err(invalid(error)),
    }
}

fn by_session(
    edge: &Edge,
    exchange: &Exchange<'_>,
    signature: &ReceivedSignature,
    session: Option<&InSession>,
    base: &str,
) -> Result<Signer, ApiProblem> {
    let session = session.ok_or_else(|| {
        // As with an unknown key: the caller signs anew, and concludes nothing.
        exchange.bind();
        ApiProblem::new(ProblemCode::SessionUnknown, "Sign with your key and open another session.")
    })?;
    signature.verify_with_secret(base, &session.keys.caller_to_server).map_err(invalid)?;
    exchange.bind();
    if !edge.ring.knows(&session.caller) {
        edge.sessions.forget_key(&session.caller);
        return Err(key_unknown());
    }
    Ok(Signer { caller: session.caller, session: Some(session.id) })
}

/// The key in the body, if this call may carry its own and it is the one that the signature names.
fn carried(edge: &Edge, parts: &Parts, raw: &[u8], name: &Thumbprint) -> Option<PublicKey> {
    #[derive(Deserialize)]
    struct Carries {
        key: PublicKey,
    }
    let path = parts.uri.path();
    // The key in a request for a session is ephemeral: it is nobody's identity, whatever the ring says.
    if path == session::PATH || !edge.ring.takes_carried_key(parts.method.as_str(), path) {
        return None;
    }
    let body: Carries = serde_json::from_slice(raw).ok()?;
    (body.key.thumbprint() == *name).then_some(body.key)
}

fn invalid(error: SignatureError) -> ApiProblem {
    ApiProblem::new(ProblemCode::SignatureInvalid, format!("Refused: {error}."))
}

fn key_unknown() -> ApiProblem {
    let detail =
        "This server takes signatures of keys in the network's directory, and of linked terminals.";
    ApiProblem::new(ProblemCode::KeyUnknown, detail)
}
