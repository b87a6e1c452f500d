//! Signed calls to a peer whose key is known.
//!
//! Law: what comes back is the peer's answer to this very request, or it is no answer. Only
//! [`CallError::Unreachable`] means that nothing was sent; after any other error the peer may have acted. A call is
//! never repeated, but for one that the peer refused, signed, as `session_unknown`.
//!
//! Limits: one deadline over everything a call does; answers up to [`ANSWER_MAX_BYTES`]; plain HTTP to loopback only.
//! The time in an answer's signature is not judged: a signed request's nonce binds the answer to it, and a caller whose
//! clock is wrong must be able to read `clock_skew`.

mod exchange;
mod http;
mod line;
mod sse;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use warifu_proto::key::{PrivateKey, PublicKey};
use warifu_proto::problem::{Problem, ProblemCode};

pub(crate) use exchange::{Outgoing, SignBy, Unverified, send};
pub use http::{HttpClientError, http_client};
use line::{Line, SignedBy};
pub use sse::{Event, Events};

/// Largest answer that is taken, in bytes: a full page of the directory is under 3 MB.
pub const ANSWER_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Whom to call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its base URL, such as `https://hub.example`.
    pub url: String,
    /// Its identity key.
    pub key: PublicKey,
}

/// An answer whose signature holds: the peer gave it to this very request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection was made: certainly nothing was sent.
    #[error("cannot connect to {url}: {why}")]
    Unreachable {
        /// To whom.
        url: String,
        /// What the network said, or what is wrong with the address.
        why: String,
    },
    /// The deadline passed. The peer may have acted.
    #[error("no answer from {url} in time")]
    TimedOut {
        /// By whom.
        url: String,
    },
    /// The connection broke, or what came was no HTTP. The peer may have acted.
    #[error("the exchange with {url} broke off: {why}")]
    Broken {
        /// With whom.
        url: String,
        /// What the network said.
        why: String,
    },
    /// Something answered, but not the peer, or not to this request: no answer. The peer may have acted.
    #[error("the answer of {url} is not signed by its key: {why}")]
    Unverified {
        /// Who should have signed.
        url: String,
        /// What is wrong with the signature.
        why: String,
    },
}

impl CallError {
    /// Whether certainly nothing was sent.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_ok(&self) -> bool {
        self.status.is_success()
    }

    /// The body as JSON. Unknown fields are ignored.
    ///
    /// # Errors
    /// What serde says; it may quote the body, so don't log it.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }

    /// The problem, if this is an error with one.
    pub fn problem(&self) -> Option<Problem> {
        if self.is_ok() { None } else { self.json().ok() }
    }

    /// The problem's code, if this is an error with one that this version knows.
    pub fn problem_code(&self) -> Option<ProblemCode> {
        self.problem().and_then(|it| ProblemCode::from_name(&it.code))
    }
}

/// Whether the peer must know the caller's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Perhaps not: the call may carry its key, and tells what the peer says.
    Open,
    Known,
}

/// Makes signed calls.
pub struct Client {
    identity: Arc<PrivateKey>,
    http: reqwest::Client,
    /// By the peer's URL: servers that share a key don't share sessions.
    lines: RwLock<HashMap<String, Arc<Line>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that signs with this key.
    pub fn new(identity: Arc<PrivateKey>, http: reqwest::Client) -> Self {
        Self { identity, http, lines: RwLock::default() }
    }

    /// Who calls.
    pub fn identity(&self) -> &Arc<PrivateKey> {
        &self.identity
    }

    /// The HTTP client beneath.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Calls in a session with the peer, opening one where there is none; by the identity key where that fails. A body
    /// is sent as JSON unless `headers` say otherwise.
    ///
    /// # Errors
    /// When there is no answer; only [`CallError::Unreachable`] means that nothing was sent.
    pub async fn call(
        &self,
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Vec<u8>>,
        deadline: Duration,
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        let outgoing = Outgoing::new(peer, method, path_and_query, body, headers)?;
        self.call_as(Standing::Open, peer, &outgoing, deadline).await
    }

    /// As [`Client::call`], for a caller who concludes from `key_unknown` that nothing was done: here it is said of opening a
    /// session, before the call is sent, and never of the call itself.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_by_known_key(
        &self,
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Vec<u8>>,
        deadline: Duration,
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        let outgoing = Outgoing::new(peer, method, path_and_query, body, headers)?;
        self.call_as(Standing::Known, peer, &outgoing, deadline).await
    }

    async fn call_as(
        &self,
        standing: Standing,
        peer: &Peer,
        outgoing: &Outgoing,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let line = self.line(peer);
        within(outgoing, deadline, async {
            let session = match line.session(&self.identity, &self.http, peer, deadline).await? {
                SignedBy::Session(session) => session,
                // It would refuse the call as well, which was not sent.
                SignedBy::Nobody(refusal) if standing == Standing::Known => return Ok(*refusal),
                SignedBy::Key | SignedBy::Nobody(_) => {
                    return self.by_key_of(standing, outgoing, &peer.key).await;
                }
            };
            let sent = send(&self.http, outgoing, SignBy::Session(&session)).await?;
            let answer = sent.verified(&peer.key, Some(&session)).await?;
            if answer.status == StatusCode::UNAUTHORIZED
                && answer.problem_code() == Some(ProblemCode::SessionUnknown)
            {
                // The peer has not looked at the request further than this: it may be sent again.
                line.forget(&session);
                return self.by_key_of(standing, outgoing, &peer.key).await;
            }
            Ok(answer)
        })
        .await
    }

    /// Calls signed by the identity key, outside of any session: for calls that carry their key in the body.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_signed_by_key(
        &self,
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Vec<u8>>,
        deadline: Duration,
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        let outgoing = Outgoing::new(peer, method, path_and_query, body, headers)?;
        within(&outgoing, deadline, self.by_key(&outgoing, &peer.key)).await
    }

    /// Calls without a signature; the answer's is checked all the same.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_unsigned(
        &self,
        peer: &Peer,
        method: Method,
        path_and_query: &str,
        body: Option<Vec<u8>>,
        deadline: Duration,
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        let outgoing = Outgoing::new(peer, method, path_and_query, body, headers)?;
        within(&outgoing, deadline, async {
            let sent = send(&self.http, &outgoing, SignBy::Nobody).await?;
            sent.verified(&peer.key, None).await
        })
        .await
    }

    /// Opens a stream of server-sent events, signed by the identity key. `deadline` bounds the wait for the head of the
    /// answer, `silence` the wait for anything afterwards (heartbeats count).
    ///
    /// # Errors
    /// As [`Client::call`]; an answer that is no stream is [`EventsError::Refused`].
    pub async fn events(
        &self,
        peer: &Peer,
        path_and_query: &str,
        last_event_id: Option<&str>,
        deadline: Duration,
        silence: Duration,
    ) -> Result<Events, EventsError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_event_id {
            // An id with control characters was never received: SSE lines have none.
            let id = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""));
            headers.insert("last-event-id", id);
        }
        let outgoing = Outgoing::new(peer, Method::GET, path_and_query, None, headers)?;
        let answered = within(&outgoing, deadline, async {
            let sent = send(&self.http, &outgoing, SignBy::Key(&self.identity)).await?;
            if sent.is_events() {
                return sent.verified_head(&peer.key).map(Ok);
            }
            sent.verified(&peer.key, None).await.map(Err)
        });
        match answered.await? {
            Ok(response) => Ok(sse::events(response, outgoing.peer_url().to_owned(), silence)),
            Err(answer) => Err(EventsError::Refused(answer)),
        }
    }

    async fn by_key_of(
        &self,
        standing: Standing,
        outgoing: &Outgoing,
        peer: &PublicKey,
    ) -> Result<Answer, CallError> {
        let answer = self.by_key(outgoing, peer).await?;
        // It may be said of a copy that names another key, while the answer to the request was withheld.
        let is_of_key = answer.problem_code() == Some(ProblemCode::KeyUnknown);
        if is_of_key && standing == Standing::Known {
            return Err(outgoing.unverified("it may be of a copy with another key"));
        }
        Ok(answer)
    }

    async fn by_key(&self, outgoing: &Outgoing, peer: &PublicKey) -> Result<Answer, CallError> {
        let sent = send(&self.http, outgoing, SignBy::Key(&self.identity)).await?;
        sent.verified(peer, None).await
    }

    fn line(&self, peer: &Peer) -> Arc<Line> {
        let known =
            self.lines.read().unwrap_or_else(PoisonError::into_inner).get(&peer.url).cloned();
        let name = peer.key.thumbprint();
        match known.filter(|it| it.peer() == name) {
            Some(known) => known,
            None => {
                let new = Arc::new(Line::new(name));
                let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
                let line = lines.entry(peer.url.clone()).or_insert_with(|| Arc::clone(&new));
                // Another call may have made it meanwhile; a line to the peer's former key is of no use.
                if line.peer() != name {
                    *line = new;
                }
                Arc::clone(line)
            }
        }
    }
}

/// One deadline over everything that a call does.
async fn within<T>(
    outgoing: &Outgoing,
    deadline: Duration,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match timeout(deadline, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(CallError::TimedOut { url: outgoing.peer_url().to_owned() }),
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The peer answered something else.
    #[error("the peer gave no stream but status {}", .0.status)]
    Refused(Answer),
}
