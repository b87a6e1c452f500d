//! `GET /openapi.json`: every route with its problems, made of the code.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi as spec;
use warifu_proto::message::{
    CodeRequest, LinkedAccount, SealedNotice, SessionAnswer, SessionRequest,
};
use warifu_proto::problem::Problem;

use crate::{directory, events, notices, pages, pairing, receive};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Warifu hub",
        description = "The first settlement server: directory, routing of registrations, sealed notices. Requests are \
                       signed by RFC 9421 where an operation says so, every answer is; see docs/protocol.md, section 7."
    ),
    paths(
        directory::read,
        directory::publish,
        receive::codes::register,
        receive::confirmations::confirm,
        receive::links::link,
        receive::links::unlink,
        notices::leave,
        notices::leave_batch,
        events::events,
        pairing::open,
        pairing::ask,
        pairing::look,
        pairing::answer,
        pairing::refuse,
        sessions,
        pages::root,
        pages::wallet,
        pages::till,
        document,
        healthz,
        readyz,
        metrics
    ),
    components(schemas(Problem, CodeRequest, LinkedAccount, SealedNotice)),
    tags(
        (name = "terminals", description = "What the payer's device calls."),
        (name = "issuers", description = "What second settlement servers call."),
        (name = "readers", description = "What reading devices call."),
        (name = "merchants", description = "What the merchant's side calls."),
        (name = "directory", description = "Who belongs to the network."),
        (name = "operation", description = "Sessions, health, metrics, this document."),
        (name = "pages", description = "For people.")
    )
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json", body = Object)))]
pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

/// The document as text. Beside the problems that it lists, every call can get those that any call can: a bad
/// signature where none was needed, overload, a fault of ours.
pub(crate) fn text() -> String {
    let mut document = Document::openapi();
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/v1/") {
            operations(item).for_each(|it| {
                it.responses.responses.insert("default".to_owned(), any_problem().into());
            });
        }
    }
    // Made of strings and numbers that the compiler has seen: it can't fail.
    document.to_json().unwrap_or_default()
}

fn operations(item: &mut spec::PathItem) -> impl Iterator<Item = &mut spec::path::Operation> {
    let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
    all.into_iter().flatten()
}

fn any_problem() -> spec::Response {
    let schema = spec::Ref::from_schema_name("Problem");
    spec::ResponseBuilder::new()
        .description("Any other problem: `code` says which.")
        .content("application/problem+json", spec::Content::new(Some(schema)))
        .build()
}

/// Opens a session.
#[utoipa::path(post, path = "/v1/sessions", tag = "operation", request_body = SessionRequest,
    description = "Signed by the caller's key. Calls that follow are signed by HMAC with what both derive of the two \
                   ephemeral keys.",
    responses(
        (status = 200, description = "Open.", body = SessionAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "the route is the edge's; this describes it")]
fn sessions() {}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "It does.", content_type = "text/plain", body = String)))]
#[expect(dead_code, reason = "the route is the shell's; this describes it")]
fn healthz() {}

/// Whether it can take calls.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses(
        (status = 200, description = "It can.", content_type = "text/plain", body = String),
        (status = 503, description = "It can't: the store takes no writes.", content_type = "text/plain", body = String),
    ))]
#[expect(dead_code, reason = "the route is the shell's; this describes it")]
fn readyz() {}

/// What it counts, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text.", content_type = "text/plain", body = String)))]
#[expect(dead_code, reason = "the route is the shell's; this describes it")]
fn metrics() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_with_its_problems() {
        let document: serde_json::Value = serde_json::from_str(&text()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for (path, method) in crate::app::ROUTES {
            let operation = &paths[*path][*method];
            assert!(operation.is_object(), "{method} {path} is not described");
            let responses = operation["responses"].as_object().unwrap();
            if path.starts_with("/v1") {
                assert!(responses.keys().any(|it| it.starts_with('4')), "{method} {path}");
                let any = &responses["default"]["content"]["application/problem+json"]["schema"];
                assert_eq!(any["$ref"], "#/components/schemas/Problem", "{method} {path}");
            }
        }
        let described: usize = paths.values().map(|it| it.as_object().unwrap().len()).sum();
        assert_eq!(described, crate::app::ROUTES.len(), "described but not served");
    }
}
