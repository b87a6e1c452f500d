//! The way back: problems get their log id and their one line in the log, every answer gets its digest and signature.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use warifu_proto::problem::ProblemCode;
use warifu_proto::signature::{content_digest, sign_answer};

use super::verify::Exchange;
use super::{Edge, LogId};
use crate::clock;
use crate::problem::{ApiProblem, Carried};

/// What a log line names a request by.
pub(super) struct About<'a> {
    pub(super) log_id: LogId,
    pub(super) route: &'a str,
    pub(super) started: Instant,
}

/// Makes a handler's answer one that may leave.
pub(super) async fn finish(
    edge: &Edge,
    exchange: &Exchange<'_>,
    about: &About<'_>,
    response: Response,
) -> Response {
    let response = settle(exchange, about, response);
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().starts_with(b"text/event-stream"));
    if is_stream {
        let (mut parts, body) = response.into_parts();
        sign(edge, exchange, parts.status, &mut parts.headers, None);
        return Response::from_parts(parts, body);
    }
    let (mut parts, body) = response.into_parts();
    let body = match body.collect().await {
        // A body of one frame, which almost all are, is not copied.
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            let response = render(exchange, about, &ApiProblem::internal(error));
            let (instead, body) = response.into_parts();
            parts = instead;
            body.collect().await.map(|it| it.to_bytes()).unwrap_or_default()
        }
    };
    let digest = content_digest(&body);
    sign(edge, exchange, parts.status, &mut parts.headers, Some(&digest));
    Response::from_parts(parts, Body::from(body))
}

fn sign(
    edge: &Edge,
    exchange: &Exchange<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
    digest: Option<&str>,
) {
    let signed = sign_answer(
        status.as_u16(),
        digest,
        &exchange.target(),
        exchange.signature(),
        exchange.answer_key(edge),
        clock::now().as_ms() / 1000,
    );
    let digest = digest.map(|it| ("content-digest", it.to_owned()));
    let signed = [("signature-input", signed.signature_input), ("signature", signed.signature)];
    for (name, value) in digest.into_iter().chain(signed) {
        match HeaderValue::try_from(value) {
            Ok(value) => drop(headers.insert(name, value)),
            // Only a request target outside of ASCII could do this, and none arrives.
            Err(_) => drop(headers.remove(name)),
        }
    }
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
}

/// Gives problems their log id, and turns what the framework refuses by itself into problems.
fn settle(exchange: &Exchange<'_>, about: &About<'_>, mut response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = match response.extensions_mut().remove::<Carried>() {
        Some(Carried(problem)) => problem,
        None => match foreign(&response) {
            Some(problem) => Arc::new(problem),
            None => {
                log(exchange, about, status, None);
                return response;
            }
        },
    };
    let mut rendered = render(exchange, about, &problem);
    for name in [header::CONNECTION, header::ALLOW] {
        if let Some(value) = response.headers_mut().remove(&name) {
            rendered.headers_mut().insert(name, value);
        }
    }
    rendered
}

fn render(exchange: &Exchange<'_>, about: &About<'_>, problem: &ApiProblem) -> Response {
    log(exchange, about, problem.status(), Some(problem));
    problem.render(about.log_id.to_string())
}

/// The problem that stands for an error of the framework: those are plain text.
fn foreign(response: &Response) -> Option<ApiProblem> {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|it| !it.as_bytes().starts_with(b"text/plain")) {
        return None;
    }
    let (code, detail) = match response.status() {
        StatusCode::NOT_FOUND => (ProblemCode::NotFound, "There is no such thing."),
        StatusCode::METHOD_NOT_ALLOWED => {
            (ProblemCode::MethodNotAllowed, "The header `allow` lists its methods.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (ProblemCode::TooLarge, "Send less."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            (ProblemCode::UnsupportedMediaType, "Send `content-type: application/json`.")
        }
        status if status.is_client_error() => {
            (ProblemCode::Malformed, "A part of the path, the query or the body can't be read.")
        }
        _ => (ProblemCode::Internal, "Repeat the same request."),
    };
    Some(ApiProblem::new(code, detail))
}

/// The one line of a failure. The route's pattern is logged, never the path: paths hold ids.
fn log(
    exchange: &Exchange<'_>,
    about: &About<'_>,
    status: StatusCode,
    problem: Option<&ApiProblem>,
) {
    let code = problem.map_or("none", |it| it.code.name());
    let cause = problem.and_then(|it| it.source.as_ref()).map(|it| format!("{it:#}"));
    let cause = cause.as_deref();
    let took_us = u64::try_from(about.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (request, method, route) = (about.log_id, exchange.method().as_str(), about.route);
    let number = status.as_u16();
    match status {
        // Overload and stopping: nothing happened, the metrics count them, and there may be thousands a second. What an
        // operator has to mend comes with its cause.
        StatusCode::SERVICE_UNAVAILABLE if cause.is_none() => {
            tracing::debug!(%request, method, route, status = number, code, took_us, "request refused");
        }
        status if status.is_server_error() => {
            tracing::error!(%request, method, route, status = number, code, cause, took_us, "request failed");
        }
        _ => {
            tracing::info!(%request, method, route, status = number, code, cause, took_us, "request refused");
        }
    }
}
