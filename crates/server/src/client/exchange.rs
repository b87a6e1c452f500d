//! One request and its answer: signing the one, checking the other.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use reqwest::Url;
use url::Host;
use warifu_proto::base64url;
use warifu_proto::key::{PrivateKey, PublicKey};
use warifu_proto::problem::ProblemCode;
use warifu_proto::signature::{
    KeyId, LABEL, ReceivedSignature, RequestTarget, SignatureError, SigningKey, content_digest,
    content_digest_matches, sign_request,
};

use super::line::OpenSession;
use super::{ANSWER_MAX_BYTES, Answer, CallError, Peer};
use crate::edge::authority_of;
use crate::{chance, clock};

/// A request that is ready to be signed and sent, more than once if need be.
#[derive(Debug)]
pub(crate) struct Outgoing {
    peer_url: String,
    method: Method,
    url: Url,
    authority: String,
    body: Option<Bytes>,
    digest: Option<String>,
    headers: HeaderMap,
}

/// What signs a request.
pub(crate) enum SignBy<'a> {
    Nobody,
    Key(&'a PrivateKey),
    Session(&'a OpenSession),
}

impl Outgoing {
    pub(crate) fn new(
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Vec<u8>>,
        headers: HeaderMap,
    ) -> Result<Self, CallError> {
        Self::to_url(&peer.url, method, path_and_query, body, headers)
    }

    pub(crate) fn to_url(
        peer_url: &str,
        method: Method,
        path_and_query: &str,
        body: Option<Vec<u8>>,
        mut headers: HeaderMap,
    ) -> Result<Self, CallError> {
        let refused =
            |why: &str| CallError::Unreachable { url: peer_url.to_owned(), why: why.to_owned() };
        let url = format!("{}{path_and_query}", peer_url.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| refused("it is no URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => {
                return Err(refused("plain http:// is for loopback addresses only, use https://"));
            }
            _ => return Err(refused("the URL must begin with https://")),
        }
        let authority = authority_of(url.as_str()).ok_or_else(|| refused("it has no host"))?;
        // An empty body is no body: that is how it looks on the wire.
        let body = body.filter(|it| !it.is_empty()).map(Bytes::from);
        let digest = body.as_deref().map(content_digest);
        if body.is_some() {
            let json = HeaderValue::from_static("application/json");
            headers.entry(header::CONTENT_TYPE).or_insert(json);
        }
        Ok(Self { peer_url: peer_url.to_owned(), method, url, authority, body, digest, headers })
    }

    pub(crate) fn peer_url(&self) -> &str {
        &self.peer_url
    }

    fn target(&self) -> RequestTarget<'_> {
        RequestTarget {
            method: self.method.as_str(),
            authority: &self.authority,
            path: self.url.path(),
            query: self.url.query(),
        }
    }

    fn broken(&self, why: impl Into<String>) -> CallError {
        CallError::Broken { url: self.peer_url.clone(), why: why.into() }
    }

    pub(crate) fn unverified(&self, why: impl Into<String>) -> CallError {
        CallError::Unverified { url: self.peer_url.clone(), why: why.into() }
    }

    /// Which error of ours it is. A connection that was never made is the only one after which nothing was sent: the
    /// library reports a request on a reused connection that had closed as sent, unless it knows that it was not and
    /// then tries a new connection itself.
    fn failed(&self, error: &reqwest::Error) -> CallError {
        let url = self.peer_url.clone();
        if error.is_connect() || error.is_builder() {
            CallError::Unreachable { url, why: innermost(error) }
        } else if error.is_timeout() {
            CallError::TimedOut { url }
        } else {
            CallError::Broken { url, why: innermost(error) }
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// The last cause, which says what happened; those before it repeat the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A request that was sent, with the head of what came back, not yet believed.
pub(crate) struct Sent<'a> {
    outgoing: &'a Outgoing,
    /// The request's own signature.
    signature: Option<Vec<u8>>,
    response: reqwest::Response,
}

/// Signs and sends.
pub(crate) async fn send<'a>(
    http: &reqwest::Client,
    outgoing: &'a Outgoing,
    sign_by: SignBy<'_>,
) -> Result<Sent<'a>, CallError> {
    let mut headers = outgoing.headers.clone();
    let value = |text: &str| {
        // Base64, digits and our own words.
        HeaderValue::from_str(text).map_err(|_| outgoing.broken("a header can't be sent"))
    };
    if let Some(digest) = &outgoing.digest {
        headers.insert("content-digest", value(digest)?);
    }
    let key = match &sign_by {
        SignBy::Nobody => None,
        SignBy::Key(key) => Some(SigningKey::Identity(key)),
        SignBy::Session(it) => {
            Some(SigningKey::Session { keyid: it.id(), secret: &it.keys().caller_to_server })
        }
    };
    let mut signature = None;
    if let Some(key) = key {
        let nonce = base64url::encode(chance::bytes::<16>());
        let digest = outgoing.digest.as_deref();
        let created_s = clock::now().as_ms() / 1000;
        let signed = sign_request(&outgoing.target(), digest, key, created_s, &nonce);
        headers.insert("signature-input", value(&signed.signature_input)?);
        headers.insert("signature", value(&signed.signature)?);
        signature = Some(bytes_of(&signed.signature).ok_or_else(|| outgoing.broken("unsigned"))?);
    }
    let mut request = http.request(outgoing.method.clone(), outgoing.url.clone()).headers(headers);
    if let Some(body) = &outgoing.body {
        request = request.body(body.clone());
    }
    let response = request.send().await.map_err(|error| outgoing.failed(&error))?;
    Ok(Sent { outgoing, signature, response })
}

/// The bytes in `sig=:…:`.
fn bytes_of(signature: &str) -> Option<Vec<u8>> {
    let text = signature.strip_prefix(LABEL)?.strip_prefix("=:")?.strip_suffix(':')?;
    STANDARD.decode(text).ok()
}

impl Sent<'_> {
    /// Whether the answer says that it is a stream of events.
    pub(crate) fn is_events(&self) -> bool {
        let content_type = self.response.headers().get(header::CONTENT_TYPE);
        self.response.status().is_success()
            && content_type.is_some_and(|it| it.as_bytes().starts_with(b"text/event-stream"))
    }

    /// Reads all of the answer without believing it.
    pub(crate) async fn unverified(mut self) -> Result<Unverified, CallError> {
        let outgoing = self.outgoing;
        let announced = self.response.content_length().unwrap_or_default();
        let too_large = || outgoing.broken("the answer is too large");
        if usize::try_from(announced).map_or(true, |it| it > ANSWER_MAX_BYTES) {
            return Err(too_large());
        }
        let mut next = async || self.response.chunk().await.map_err(|it| outgoing.failed(&it));
        let mut body = next().await?.unwrap_or_default();
        // Most answers are one piece, which is taken as it is.
        if let Some(second) = next().await? {
            let mut all = BytesMut::from(body);
            all.extend_from_slice(&second);
            while let Some(more) = next().await? {
                if all.len().saturating_add(more.len()) > ANSWER_MAX_BYTES {
                    return Err(too_large());
                }
                all.extend_from_slice(&more);
            }
            body = all.freeze();
        }
        let status = self.response.status();
        let headers = std::mem::take(self.response.headers_mut());
        let answer = Answer { status, headers, body };
        Ok(Unverified { answer, signature: self.signature })
    }

    /// Reads all of the answer and checks its signature: by the session if the answer names it, else by the key.
    pub(crate) async fn verified(
        self,
        peer: &PublicKey,
        session: Option<&OpenSession>,
    ) -> Result<Answer, CallError> {
        let outgoing = self.outgoing;
        let unverified = self.unverified().await?;
        unverified.check(outgoing, peer, session)?;
        Ok(unverified.answer)
    }

    /// Checks the signature of a stream's head. Its body has no digest.
    pub(crate) fn verified_head(self, peer: &PublicKey) -> Result<reqwest::Response, CallError> {
        let check = Check {
            outgoing: self.outgoing,
            signature: self.signature.as_deref(),
            status: self.response.status().as_u16(),
            headers: self.response.headers(),
            digest: None,
            is_session_unknown: false,
        };
        check.run(peer, None).map_err(|why| self.outgoing.unverified(why))?;
        Ok(self.response)
    }
}

/// A whole answer that nobody vouches for yet.
pub(crate) struct Unverified {
    pub(crate) answer: Answer,
    signature: Option<Vec<u8>>,
}

impl Unverified {
    /// Whether the peer gave this answer to that request.
    pub(crate) fn check(
        &self,
        outgoing: &Outgoing,
        peer: &PublicKey,
        session: Option<&OpenSession>,
    ) -> Result<(), CallError> {
        let digest = joined(&self.answer.headers, "content-digest");
        match &digest {
            Some(digest) if content_digest_matches(digest, &self.answer.body) => {}
            Some(_) => return Err(outgoing.unverified("its body is not the one that was signed")),
            None => return Err(outgoing.unverified("it has no content-digest")),
        }
        let check = Check {
            outgoing,
            signature: self.signature.as_deref(),
            status: self.answer.status.as_u16(),
            headers: &self.answer.headers,
            digest: digest.as_deref(),
            is_session_unknown: self.answer.problem_code() == Some(ProblemCode::SessionUnknown),
        };
        check.run(peer, session).map_err(|why| {
            // What it says proves nothing, and helps whoever looks for the reason.
            let says = self.answer.problem_code().map_or("nothing known", ProblemCode::name);
            outgoing.unverified(format!("{why} (it says {} {says})", self.answer.status.as_u16()))
        })
    }
}

struct Check<'a> {
    outgoing: &'a Outgoing,
    signature: Option<&'a [u8]>,
    status: u16,
    headers: &'a HeaderMap,
    digest: Option<&'a str>,
    is_session_unknown: bool,
}

impl Check<'_> {
    fn run(&self, peer: &PublicKey, session: Option<&OpenSession>) -> Result<(), String> {
        let field = |name: &str| joined(self.headers, name);
        let (Some(input), Some(signature)) = (field("signature-input"), field("signature")) else {
            return Err("it is not signed".to_owned());
        };
        let told = |error: SignatureError| error.to_string();
        let received = ReceivedSignature::parse(&input, &signature).map_err(told)?;
        let bound = self.signature.map(|it| (LABEL, it));
        let base = received
            .check_answer(self.status, self.digest, &self.outgoing.target(), bound, field)
            .map_err(told)?;
        match (received.key_id(), session) {
            (KeyId::Session(id), Some(session)) if id == session.id() => {
                received.verify_with_secret(&base, &session.keys().server_to_caller).map_err(told)
            }
            (KeyId::Session(_), _) => Err("it is signed in another session".to_owned()),
            // A peer that was asked in a session answers in it, or does not know it. Another answer is one to a copy of the
            // request that names another key.
            (KeyId::Thumbprint(_), Some(_)) if !self.is_session_unknown => {
                Err("it is not signed in the session".to_owned())
            }
            (KeyId::Thumbprint(_), _) => received.verify_with_key(&base, peer).map_err(told),
        }
    }
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut lines = headers.get_all(name).iter().map(|it| it.to_str().unwrap_or_default());
    let mut all = lines.next()?.to_owned();
    for line in lines {
        all.push_str(", ");
        all.push_str(line);
    }
    Some(all)
}
