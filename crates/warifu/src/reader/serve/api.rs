//! The agent's paths. Who may call is whoever runs on this machine; a web page from elsewhere may not, even in a browser
//! on this machine: requests must be addressed to a loopback name, and come from one if they say where from.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use warifu_proto::limits::BODY_MAX_BYTES;
use warifu_proto::time::Timestamp;
use warifu_server::{clock, json};

use super::agent::Agent;
use super::errors::{Answer, Fault};
use super::wire::{self, CaptureBody, PayBody, RefundBody, ReleaseBody};

type Shared = State<Arc<Agent>>;

pub(super) fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/pay", post(pay))
        .route("/orders/{order_id}", get(order))
        .route("/orders/{order_id}/cancel", post(cancel))
        .route("/refund", post(refund))
        .route("/capture", post(capture))
        .route("/release", post(release))
        .route("/recent", get(recent))
        .route("/health", get(async |State(agent): Shared| agent.health().map(Json)))
        .route("/metrics", get(async |State(agent): Shared| agent.metrics()))
        .fallback(async || no_path(StatusCode::NOT_FOUND, "not_found", "There is no such path."))
        .method_not_allowed_fallback(async || {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            no_path(status, "method_not_allowed", "This path has no such method.")
        })
        .layer(from_fn(local_only))
        .with_state(agent)
}

fn no_path(status: StatusCode, error: &str, message: &str) -> Fault {
    Fault::new(status, error, message, "the paths are in docs/reader.md")
}

async fn pay(State(agent): Shared, Strict(body): Strict<PayBody>) -> Answer<Json<Value>> {
    agent.pay(body).await.map(Json)
}

async fn order(State(agent): Shared, Path(order_id): Path<String>) -> Answer<Json<Value>> {
    let journal = &agent.till.journal;
    let attempts = journal.of_order(&order_id)?;
    let mut changes = Vec::new();
    for attempt in &attempts {
        changes.extend(journal.changes_of(&attempt.request_id)?);
    }
    wire::order(&order_id, &attempts, &changes).map(Json)
}

async fn cancel(State(agent): Shared, Path(order_id): Path<String>) -> Answer<Json<Value>> {
    agent.cancel(&order_id).await.map(Json)
}

async fn refund(State(agent): Shared, Strict(body): Strict<RefundBody>) -> Answer<Response> {
    agent.refund(body).await.map(|answer| settled(answer, "refunded"))
}

async fn capture(State(agent): Shared, Strict(body): Strict<CaptureBody>) -> Answer<Response> {
    agent.capture(body).await.map(|answer| settled(answer, "done"))
}

async fn release(State(agent): Shared, Strict(body): Strict<ReleaseBody>) -> Answer<Response> {
    agent.release(body).await.map(|answer| settled(answer, "done"))
}

/// `202` while it is still being repeated.
fn settled(answer: Value, done: &str) -> Response {
    let is_done = answer.get(done).and_then(Value::as_bool) == Some(true);
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(answer)).into_response()
}

async fn recent(State(agent): Shared) -> Answer<Json<Value>> {
    let since_ms = clock::now().as_ms().saturating_sub(agent.recent_ms);
    let records = agent.till.journal.since(Timestamp::from_ms(since_ms))?;
    let sales: Vec<Value> = records.iter().map(wire::recent).collect();
    Ok(Json(json!({ "minutes": agent.recent_ms / 60_000, "sales": sales })))
}

/// A body of JSON without unknown fields.
struct Strict<T>(T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Strict<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _state: &S) -> Answer<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if !content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/json")) {
            return Err(Fault::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be JSON.",
                "send the header `content-type: application/json`",
            ));
        }
        let raw: Bytes = to_bytes(request.into_body(), BODY_MAX_BYTES).await.map_err(|_| {
            Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The body is too large or broke off.",
                "send less than 64 KiB",
            )
        })?;
        Ok(Self(json::parse(&raw)?))
    }
}

/// Keeps web pages out: neither a page of another site nor a foreign name for this address gets through.
async fn local_only(request: Request<Body>, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    Fault::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "Only programs of this machine may call, by a loopback address.",
        "call http://127.0.0.1 and the agent's port",
    )
    .into_response()
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|it| it.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    let origin = text(header::ORIGIN);
    is_loopback(host) && origin.is_none_or(|it| it.strip_prefix("http://").is_some_and(is_loopback))
}

/// Whether a `host` or `host:port` names this machine.
fn is_loopback(authority: &str) -> bool {
    let is_port = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_pages_from_elsewhere_are_kept_out() {
        let check = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_local(&headers)
        };
        for host in ["127.0.0.1:7300", "localhost", "LOCALHOST:80", "[::1]:7300", "127.0.0.9"] {
            assert!(check(host, None), "{host}");
        }
        for host in ["shop.example", "127.0.0.1.example:7300", "", "10.0.0.1:7300", "[::2]:1"] {
            assert!(!check(host, None), "{host}");
        }
        assert!(check("127.0.0.1:7300", Some("http://localhost:3000")));
        for origin in ["https://shop.example", "null", "http://127.0.0.1.example", "file://"] {
            assert!(!check("127.0.0.1:7300", Some(origin)), "{origin}");
        }
    }
}
