//! One keep-alive connection that signs what it sends and checks who answered.
//!
//! The library's client under `warifu_server::client` is made for safety in few calls; this one is made to cost the load
//! generator little: no pool, no URL, digests made ahead. What is signed and what is checked is the same.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER};
use hyper::http::uri::{Authority, InvalidUri};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use warifu_proto::base64url;
use warifu_proto::key::{PrivateKey, PublicKey};
use warifu_proto::message::{SessionAnswer, SessionRequest};
use warifu_proto::problem::ProblemCode;
use warifu_proto::session::{SessionKeys, SessionParties};
use warifu_proto::signature::{
    KeyId, LABEL, ReceivedSignature, RequestTarget, SigningKey, content_digest,
    content_digest_matches, sign_request,
};
use warifu_server::client::Peer;
use warifu_server::edge::authority_of;
use warifu_server::{chance, clock, session};

use super::args::is_plain;
use crate::calls;
use crate::fail::Failure;

/// How long an answer may take before the bench calls it none.
const PATIENCE: Duration = Duration::from_secs(15);

/// What was wrong, in words that are counted.
pub(super) type Fault = String;

/// A body that is ready to be sent, with its digest.
#[derive(Debug, Clone)]
pub(super) struct Body {
    bytes: Bytes,
    digest: String,
}

impl Body {
    pub(super) fn of(object: &impl Serialize) -> Self {
        let bytes = calls::body(object);
        Self { digest: content_digest(&bytes), bytes: bytes.into() }
    }
}

/// What signs requests.
pub(super) enum Signer {
    Nobody,
    Key(Arc<PrivateKey>),
    Session { id: String, keys: SessionKeys },
}

impl Signer {
    fn key(&self) -> Option<SigningKey<'_>> {
        match self {
            Self::Nobody => None,
            Self::Key(key) => Some(SigningKey::Identity(key)),
            Self::Session { id, keys } => {
                Some(SigningKey::Session { keyid: id, secret: &keys.caller_to_server })
            }
        }
    }
}

/// Whom to call, and how.
pub(super) struct Target {
    authority: String,
    key: PublicKey,
    signer: Signer,
    is_checked: bool,
}

impl Target {
    pub(super) fn new(peer: &Peer, signer: Signer, is_checked: bool) -> Result<Self, Failure> {
        is_plain(&peer.url)?;
        let authority = authority_of(&peer.url).ok_or_else(|| {
            Failure::usage(format_args!("{} is no address of a server", peer.url))
        })?;
        Ok(Self { authority, key: peer.key.clone(), signer, is_checked })
    }

    /// The same in a session, opened by this key.
    pub(super) async fn in_session(
        peer: &Peer,
        key: Arc<PrivateKey>,
        is_checked: bool,
    ) -> Result<Self, Failure> {
        let (caller, ephemeral) = (key.thumbprint(), chance::key());
        let by_key = Self::new(peer, Signer::Key(key), true)?;
        let mut line = Line::default();
        let body = Body::of(&SessionRequest { key: ephemeral.public().clone() });
        let cannot = |why: NotDone| Failure::unreachable(format_args!("no session: {why}"));
        let opened: SessionAnswer =
            line.ask(&by_key, session::PATH, &body).await.map_err(cannot)?;
        let server = peer.key.thumbprint();
        let parties = SessionParties { session: opened.session_id, caller, server };
        let keys = SessionKeys::for_caller(parties, &ephemeral, &opened.key)?;
        let id = opened.session_id.to_string();
        Self::new(peer, Signer::Session { id, keys }, is_checked)
    }
}

/// Why a call did not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotDone {
    /// The server has too much to do, and says when to come again: nothing was changed.
    Refused(Duration),
    /// Anything else, which the bench counts as an error.
    Fault(Fault),
}

impl NotDone {
    /// What an answer without success means. Only these two codes say that nothing was changed for want of room, so that
    /// the same may be sent again; every other is an error: after `issuer_unavailable` nobody knows the outcome, and
    /// `too_many_misses` says that the bench showed codes that are unknown.
    fn told(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Named {
            code: String,
        }
        let problem = serde_json::from_slice::<Named>(body).ok();
        let code = problem.as_ref().map_or("without a problem", |it| &it.code);
        let refusals = [ProblemCode::NotAccepted, ProblemCode::TooManyRequests];
        let is_refusal =
            refusals.iter().any(|it| it.name() == code && it.status() == status.as_u16());
        match retry_after {
            Some(after) if is_refusal => Self::Refused(after),
            _ => Self::Fault(format!("{} {code}", status.as_u16())),
        }
    }
}

impl From<Fault> for NotDone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Display for NotDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(after) => write!(f, "refused, again in {} ms", after.as_millis()),
            Self::Fault(fault) => f.write_str(fault),
        }
    }
}

/// A connection, made at its first call and after each failure. Whoever calls by it may sign as several.
#[derive(Default)]
pub(super) struct Line(Option<SendRequest<Full<Bytes>>>);

/// An answer as it came.
struct Answered {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Line {
    /// Posts a body and reads the answer, whose signature holds if it is checked at all.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        path: &str,
        body: &Body,
    ) -> Result<T, NotDone> {
        self.call(target, path, Some(body)).await
    }

    /// Gets, likewise.
    pub(super) async fn look<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        path: &str,
    ) -> Result<T, NotDone> {
        self.call(target, path, None).await
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        path: &str,
        body: Option<&Body>,
    ) -> Result<T, NotDone> {
        let sent = tokio::time::timeout(PATIENCE, self.send(target, path, body)).await;
        let answered = match sent.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(answered) => answered,
            Err(fault) => {
                self.0 = None;
                return Err(fault.into());
            }
        };
        let status = answered.status;
        if status.is_success() {
            let read = serde_json::from_slice(&answered.body);
            return Ok(read.map_err(|_| "unreadable answer".to_owned())?);
        }
        Err(NotDone::told(status, answered.retry_after, &answered.body))
    }

    async fn send(
        &mut self,
        target: &Target,
        path: &str,
        body: Option<&Body>,
    ) -> Result<Answered, Fault> {
        let method = if body.is_some() { "POST" } else { "GET" };
        let about = RequestTarget { method, authority: &target.authority, path, query: None };
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, &target.authority);
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .header("content-digest", &body.digest);
        }
        let digest = body.map(|it| it.digest.as_str());
        let mut signature = None;
        if let Some(key) = target.signer.key() {
            let nonce = base64url::encode(chance::bytes::<16>());
            let created_s = clock::now().as_ms() / 1000;
            let signed = sign_request(&about, digest, key, created_s, &nonce);
            request = request
                .header("signature-input", signed.signature_input)
                .header("signature", &signed.signature);
            signature = Some(signed.signature);
        }
        let bytes = body.map_or_else(Bytes::new, |it| it.bytes.clone());
        let request = request.body(Full::new(bytes)).map_err(broke)?;
        let answer =
            self.sender(&target.authority).await?.send_request(request).await.map_err(broke)?;
        let (parts, answer) = answer.into_parts();
        let answer = answer.collect().await.map_err(broke)?.to_bytes();
        if target.is_checked {
            let signature = signature.as_deref().and_then(bytes_of);
            target
                .check(&about, signature.as_deref(), parts.status, &parts.headers, &answer)
                .map_err(|why| format!("answer not verified: {why}"))?;
        }
        let retry_after = parts.headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
        let retry_after = retry_after.and_then(|it| it.parse().ok()).map(Duration::from_secs);
        Ok(Answered { status: parts.status, retry_after, body: answer })
    }

    async fn sender(&mut self, authority: &str) -> Result<&mut SendRequest<Full<Bytes>>, Fault> {
        let usable = self.0.take().filter(|it| !it.is_closed());
        let mut sender = match usable {
            Some(sender) => sender,
            None => connect(authority).await?,
        };
        sender.ready().await.map_err(broke)?;
        Ok(self.0.insert(sender))
    }
}

async fn connect(authority: &str) -> Result<SendRequest<Full<Bytes>>, Fault> {
    let (host, port) = address_of(authority).map_err(broke)?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(broke)?;
    stream.set_nodelay(true).map_err(broke)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broke)?;
    // What ends the connection reaches the call that used it.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    Ok(sender)
}

/// Where an authority is reached. It goes without the port that its scheme has anyway.
fn address_of(authority: &str) -> Result<(String, u16), InvalidUri> {
    let authority: Authority = authority.parse()?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    Ok((host, authority.port_u16().unwrap_or(80)))
}

fn broke(error: impl Display) -> Fault {
    format!("connection: {error}")
}

/// The bytes in `sig=:…:`.
fn bytes_of(signature: &str) -> Option<Vec<u8>> {
    let text = signature.strip_prefix(LABEL)?.strip_prefix("=:")?.strip_suffix(':')?;
    STANDARD.decode(text).ok()
}

impl Target {
    fn check(
        &self,
        about: &RequestTarget<'_>,
        bound: Option<&[u8]>,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), String> {
        let field = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let digest = field("content-digest").filter(|it| content_digest_matches(it, body));
        let digest = digest.ok_or("its digest is missing or wrong")?;
        let (input, signature) =
            field("signature-input").zip(field("signature")).ok_or("it is not signed")?;
        let told = |error: warifu_proto::signature::SignatureError| error.to_string();
        let received = ReceivedSignature::parse(input, signature).map_err(told)?;
        let bound = bound.map(|it| (LABEL, it));
        let owned = |name: &str| field(name).map(str::to_owned);
        let base = received
            .check_answer(status.as_u16(), Some(digest), about, bound, owned)
            .map_err(told)?;
        match (received.key_id(), &self.signer) {
            (KeyId::Session(named), Signer::Session { id, keys }) if named == id => {
                received.verify_with_secret(&base, &keys.server_to_caller).map_err(told)
            }
            (KeyId::Session(_), _) => Err("it is signed in another session".to_owned()),
            (KeyId::Thumbprint(_), _) => received.verify_with_key(&base, &self.key).map_err(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, retry_after_s: Option<u64>, body: &str, want: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let after = retry_after_s.map(Duration::from_secs);
        assert_eq!(NotDone::told(status, after, body.as_bytes()).to_string(), want);
    }

    #[test]
    fn an_address_has_the_port_of_its_scheme() {
        for (authority, host, port) in [
            ("10.0.0.1:7001", "10.0.0.1", 7001),
            ("pay.example", "pay.example", 80),
            ("[::1]:7001", "::1", 7001),
            ("[::1]", "::1", 80),
        ] {
            assert_eq!(address_of(authority).unwrap(), (host.to_owned(), port));
        }
        assert!(address_of("a b").is_err());
    }

    #[test]
    fn only_a_server_without_room_refuses() {
        let refused = "refused, again in 2000 ms";
        check(503, Some(2), r#"{"code":"not_accepted"}"#, refused);
        check(429, Some(2), r#"{"code":"too_many_requests"}"#, refused);
        check(503, Some(2), r#"{"code":"issuer_unavailable"}"#, "503 issuer_unavailable");
        check(429, Some(2), r#"{"code":"too_many_misses"}"#, "429 too_many_misses");
        check(503, Some(2), "<html>", "503 without a problem");
        check(503, None, r#"{"code":"not_accepted"}"#, "503 not_accepted");
        check(429, Some(2), r#"{"code":"not_accepted"}"#, "429 not_accepted");
        check(500, Some(2), r#"{"code":"internal"}"#, "500 internal");
    }
}
