//! The edge: what happens to every request before its handler and to every answer after it.
//!
//! In this order: a log id; overload (`503 not_accepted`, before body and signature are touched); method and target;
//! the body, once, up to [`BODY_MAX_BYTES`](warifu_proto::limits::BODY_MAX_BYTES); a place among the calls in flight;
//! the signature, if there is one; the handler, a panic in it caught; the answer's digest and signature, by the same
//! kind of key that the request was signed with; one log line for a failure; metrics.
//!
//! Law: what a handler sees has arrived unaltered from the [`Caller`] it names, or has no caller. Every answer is
//! signed, refusals included. When a caller hangs up, its handler is dropped at its next await: what must be finished
//! is handed to somebody else before awaiting it.

mod answer;
mod body;
mod count;
mod target;
mod verify;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, OptionalFromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::FutureExt;
use tracing::Instrument;
use warifu_proto::id::SessionId;
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::message::{SessionAnswer, SessionRequest};
use warifu_proto::problem::ProblemCode;

use crate::json::Strict;
use crate::problem::ApiProblem;
use crate::serve::{self, Stopping};
use crate::session::{self, Sessions};
use crate::{chance, clock};

pub use target::authority_of;

/// Whose keys this server takes.
pub trait KeyRing: Send + Sync {
    /// The key of that name, if its owner may call here at all.
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey>;

    /// Whether the key is still taken: asked of every call in a session, which dies with its key. Override it where
    /// that is cheaper than fetching the key.
    fn knows(&self, thumbprint: &Thumbprint) -> bool {
        self.key(thumbprint).is_some()
    }

    /// Whether this call may be signed by the key in its own body's top-level member `key`.
    fn takes_carried_key(&self, _method: &str, _path: &str) -> bool {
        false
    }
}

/// What an [`Edge`] is made of.
pub struct EdgeParts {
    /// The server's identity: signs answers outside of sessions.
    pub key: Arc<PrivateKey>,
    /// The public authorities, `host` or `host:port`, that callers sign for.
    pub authorities: Vec<String>,
    /// Whose signatures are taken.
    pub ring: Arc<dyn KeyRing>,
    /// Open sessions.
    pub sessions: Arc<Sessions>,
    /// Calls at the same time before overload is answered. `GET`s that ask to wait (`wait_ms`) are counted apart, with
    /// [`WAITING_FACTOR`] times as many allowed: they cost memory, not work.
    pub max_in_flight: usize,
}

/// How many waiting calls are allowed for each working one.
pub const WAITING_FACTOR: usize = 8;

/// The state of the edge: one per server, shared by all calls.
pub struct Edge {
    key: Arc<PrivateKey>,
    authorities: Vec<String>,
    ring: Arc<dyn KeyRing>,
    sessions: Arc<Sessions>,
    working: count::Slots,
    waiting: count::Slots,
    counts: count::Counts,
    next_log_id: AtomicU64,
}

impl fmt::Debug for EdgeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeParts").field("authorities", &self.authorities).finish_non_exhaustive()
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("authorities", &self.authorities).finish_non_exhaustive()
    }
}

impl Edge {
    /// Puts the parts together, and installs the metrics recorder if nobody has.
    pub fn new(parts: EdgeParts) -> Self {
        crate::telemetry::metrics_handle();
        let EdgeParts { key, authorities, ring, sessions, max_in_flight } = parts;
        Self {
            key,
            authorities: authorities.iter().map(|it| target::normal(it)).collect(),
            ring,
            sessions,
            working: count::Slots::new(max_in_flight),
            waiting: count::Slots::new(max_in_flight.saturating_mul(WAITING_FACTOR)),
            counts: count::Counts::default(),
            next_log_id: AtomicU64::new(u64::from_be_bytes(chance::bytes())),
        }
    }

    /// The server's identity.
    pub fn key(&self) -> &Arc<PrivateKey> {
        &self.key
    }

    /// Open sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    fn slots(&self, request: &Request) -> &count::Slots {
        let waits = serve::asks_to_wait(request.method(), request.uri());
        if waits { &self.waiting } else { &self.working }
    }
}

/// Puts the edge around a router: the `404` and `405` problems, `POST /v1/sessions`, and the middleware around all of
/// it. Routes for probes are merged afterwards, so that they answer under overload too.
pub fn apply(router: axum::Router, edge: Arc<Edge>) -> axum::Router {
    router
        .route(session::PATH, post(open_session).with_state(Arc::clone(&edge)))
        .fallback(async || ApiProblem::new(ProblemCode::NotFound, "There is no such path."))
        .method_not_allowed_fallback(async || {
            ApiProblem::new(ProblemCode::MethodNotAllowed, "The header `allow` lists its methods.")
        })
        .layer(axum::middleware::from_fn_with_state(edge, pass))
}

async fn pass(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let log_id = LogId(edge.next_log_id.fetch_add(1, Ordering::Relaxed));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    // Most requests log nothing, and a span costs as much as a signature: a failure's line names its request itself.
    let span = tracing::debug_span!("request", request = %log_id);
    let response = async {
        let exchange = verify::Exchange::begin(&edge, &request);
        let response = match receive(&edge, &exchange, log_id, request).await {
            Ok((request, _slot)) => run(request, next).await,
            Err(refused) => refused,
        };
        let about = answer::About { log_id, route, started };
        answer::finish(&edge, &exchange, &about, response).await
    }
    .instrument(span)
    .await;
    edge.counts.count(route, response.status(), started.elapsed());
    response
}

fn overloaded() -> ApiProblem {
    ApiProblem::new(ProblemCode::NotAccepted, "The server is busy. Repeat the same request later.")
        .retry_after_s(1)
}

/// Everything between the wire and the handler, with the place that the call takes.
///
/// It is taken when there is something to do: bodies that strangers never finish would hold the places of payments.
async fn receive<'a>(
    edge: &'a Edge,
    exchange: &verify::Exchange<'_>,
    log_id: LogId,
    request: Request,
) -> Result<(Request, count::Slot<'a>), Response> {
    let slots = edge.slots(&request);
    if !slots.has_room() {
        return Err(body::closing(&request, overloaded()));
    }
    if let Err(problem) = target::check(&request) {
        return Err(body::closing(&request, problem));
    }
    let (mut parts, body) = request.into_parts();
    let raw = body::read(&parts.headers, body).await?;
    let slot = slots.take().ok_or_else(|| overloaded().into_response())?;
    let signer = verify::check(edge, exchange, &parts, &raw).map_err(|it| it.into_response())?;
    parts.extensions.insert(Received { signer, raw: raw.clone(), log_id });
    Ok((Request::from_parts(parts, raw.into()), slot))
}

async fn run(mut request: Request, next: Next) -> Response {
    let stopping = request.extensions_mut().remove::<Stopping>();
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    let handled = match stopping {
        None => handler.await,
        Some(stopping) => tokio::select! {
            handled = handler => handled,
            () = stopping.stopped() => {
                let detail = "The server stops. Repeat the request.";
                return ApiProblem::new(ProblemCode::NotAccepted, detail).into_response();
            }
        },
    };
    match handled {
        Ok(response) => response,
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let cause = anyhow::anyhow!("the handler panicked: {}", text.unwrap_or("no text"));
            ApiProblem::internal(cause).into_response()
        }
    }
}

/// What the edge learned of a request, for the extractors.
#[derive(Clone)]
struct Received {
    signer: Option<Signer>,
    raw: Bytes,
    log_id: LogId,
}

#[derive(Clone, Copy)]
struct Signer {
    caller: Thumbprint,
    session: Option<SessionId>,
}

/// Names a request in the log and in a problem's `instance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogId(u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The identity key of who signed the request. Extracting it from an unsigned one is `401 unsigned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub Thumbprint);

/// The identity key of who signed the request, if anybody did. (`Option<Caller>` works as well.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeCaller(pub Option<Thumbprint>);

/// The body as it arrived, checked against the signature's digest.
#[derive(Debug, Clone)]
pub struct RawBody(pub Bytes);

fn received(parts: &Parts) -> Result<&Received, ApiProblem> {
    let missing = || ApiProblem::internal(anyhow::anyhow!("the route is not behind the edge"));
    parts.extensions.get().ok_or_else(missing)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiProblem> {
        let signer = received(parts)?.signer.as_ref();
        signer.map(|it| Self(it.caller)).ok_or_else(|| {
            ApiProblem::new(ProblemCode::Unsigned, "Sign the request as RFC 9421 says.")
        })
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, ApiProblem> {
        Ok(received(parts)?.signer.map(|it| Self(it.caller)))
    }
}

impl<S: Sync> FromRequestParts<S> for MaybeCaller {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiProblem> {
        Ok(Self(received(parts)?.signer.map(|it| it.caller)))
    }
}

impl<S: Sync> FromRequestParts<S> for RawBody {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiProblem> {
        Ok(Self(received(parts)?.raw.clone()))
    }
}

impl<S: Sync> FromRequestParts<S> for LogId {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiProblem> {
        Ok(received(parts)?.log_id)
    }
}

/// A caller that signed with its key and not in a session: what opening a session needs.
struct ByKey(Thumbprint);

impl<S: Sync> FromRequestParts<S> for ByKey {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiProblem> {
        match received(parts)?.signer {
            Some(Signer { caller, session: None }) => Ok(Self(caller)),
            Some(Signer { session: Some(_), .. }) | None => Err(ApiProblem::new(
                ProblemCode::Unsigned,
                "Sign this request with your key, not in a session.",
            )),
        }
    }
}

async fn open_session(
    State(edge): State<Arc<Edge>>,
    ByKey(caller): ByKey,
    Strict(request): Strict<SessionRequest>,
) -> Result<axum::Json<SessionAnswer>, ApiProblem> {
    let answer = edge.sessions.open(&edge.key, caller, &request, clock::now())?;
    Ok(axum::Json(answer))
}
