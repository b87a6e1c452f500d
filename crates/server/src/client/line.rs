//! The session with one peer: opened by the first call, renewed before its end, forgotten when the peer forgot it.
//!
//! Opening is never a reason for a call to fail or to wait for another one: while one call opens a session the others
//! sign with the key, and after a failure nobody tries for [`PAUSE`].

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method};
use tokio::time::timeout;
use warifu_proto::key::{PrivateKey, Thumbprint};
use warifu_proto::message::{SessionAnswer, SessionRequest};
use warifu_proto::problem::ProblemCode;
use warifu_proto::session::{SessionKeys, SessionParties};
use warifu_proto::time::Timestamp;

use super::{Answer, CallError, Outgoing, Peer, SignBy, send};
use crate::{chance, clock, session};

/// How long to sign with the key after opening a session failed.
const PAUSE: Duration = Duration::from_secs(30);
/// How long before its end a session is no longer used, in milliseconds: a call in it may last a minute.
const RENEW_BEFORE_MS: u64 = 5 * 60_000;
/// Longest wait for a session; the call's own deadline goes on meanwhile.
const OPENING_MAX: Duration = Duration::from_secs(2);

/// An open session.
pub(crate) struct OpenSession {
    id: String,
    keys: SessionKeys,
    until: Timestamp,
}

impl OpenSession {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn keys(&self) -> &SessionKeys {
        &self.keys
    }
}

impl fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// What is known about sessions with one peer.
#[derive(Debug)]
pub(crate) struct Line {
    peer: Thumbprint,
    state: Mutex<State>,
    opening: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Arc<OpenSession>>,
    not_before: Option<Instant>,
}

/// Held by the one call that opens the session; gives the place back also when that call is dropped.
struct Opening<'a>(&'a AtomicBool);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Line {
    pub(super) fn new(peer: Thumbprint) -> Self {
        Self { peer, state: Mutex::default(), opening: AtomicBool::new(false) }
    }

    pub(super) fn peer(&self) -> Thumbprint {
        self.peer
    }

    // Held for a copy at a time, never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to sign by.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] only: then the call itself need not be tried.
    pub(super) async fn session(
        &self,
        identity: &PrivateKey,
        http: &reqwest::Client,
        peer: &Peer,
        deadline: Duration,
    ) -> Result<SignedBy, CallError> {
        {
            let state = self.state();
            if let Some(open) = &state.open
                && clock::now().plus_ms(RENEW_BEFORE_MS) < open.until
            {
                return Ok(SignedBy::Session(Arc::clone(open)));
            }
            if state.not_before.is_some_and(|at| Instant::now() < at) {
                return Ok(SignedBy::Key);
            }
        }
        if self.opening.swap(true, Ordering::Acquire) {
            return Ok(SignedBy::Key);
        }
        let _opening = Opening(&self.opening);
        // A third of the deadline, so that enough is left for the call itself.
        let wait = OPENING_MAX.min(deadline / 3);
        let opened = timeout(wait, open(identity, http, peer)).await;
        let mut state = self.state();
        match opened {
            Ok(Ok(session)) => {
                let session = Arc::new(session);
                *state = State { open: Some(Arc::clone(&session)), not_before: None };
                Ok(SignedBy::Session(session))
            }
            Ok(Err(NotOpened::Unreachable(error))) => Err(error),
            Ok(Err(NotOpened::KeyUnknown(refusal))) => Ok(SignedBy::Nobody(Box::new(refusal))),
            Ok(Err(NotOpened::Otherwise)) | Err(_) => {
                *state = State { open: None, not_before: Some(Instant::now() + PAUSE) };
                Ok(SignedBy::Key)
            }
        }
    }

    /// The peer does not know the session any more.
    pub(super) fn forget(&self, session: &Arc<OpenSession>) {
        let mut state = self.state();
        // Another call may have opened a new one meanwhile.
        if state.open.as_ref().is_some_and(|it| Arc::ptr_eq(it, session)) {
            state.open = None;
        }
    }
}

/// What a call is signed by.
pub(super) enum SignedBy {
    Session(Arc<OpenSession>),
    Key,
    /// The key, which the peer does not know: its words.
    Nobody(Box<Answer>),
}

enum NotOpened {
    Unreachable(CallError),
    KeyUnknown(Answer),
    Otherwise,
}

async fn open(
    identity: &PrivateKey,
    http: &reqwest::Client,
    peer: &Peer,
) -> Result<OpenSession, NotOpened> {
    let told = |error: CallError| match error {
        CallError::Unreachable { .. } => NotOpened::Unreachable(error),
        CallError::TimedOut { .. } | CallError::Broken { .. } | CallError::Unverified { .. } => {
            NotOpened::Otherwise
        }
    };
    let ephemeral = chance::key();
    let request = SessionRequest { key: ephemeral.public().clone() };
    let body = serde_json::to_vec(&request).map_err(|_| NotOpened::Otherwise)?;
    let outgoing = Outgoing::new(peer, Method::POST, session::PATH, Some(body), HeaderMap::new())
        .map_err(told)?;
    let sent = send(http, &outgoing, SignBy::Key(identity)).await.map_err(told)?;
    let answer = sent.verified(&peer.key, None).await.map_err(told)?;
    if answer.problem_code() == Some(ProblemCode::KeyUnknown) {
        return Err(NotOpened::KeyUnknown(answer));
    }
    if !answer.is_ok() {
        tracing::debug!(status = answer.status.as_u16(), "the peer opens no session");
        return Err(NotOpened::Otherwise);
    }
    let answer: SessionAnswer = answer.json().map_err(|_| NotOpened::Otherwise)?;
    let parties = SessionParties {
        session: answer.session_id,
        caller: identity.thumbprint(),
        server: peer.key.thumbprint(),
    };
    let keys = SessionKeys::for_caller(parties, &ephemeral, &answer.key)
        .map_err(|_| NotOpened::Otherwise)?;
    let until = Timestamp::from_ms(answer.expires_ms);
    Ok(OpenSession { id: answer.session_id.to_string(), keys, until })
}
