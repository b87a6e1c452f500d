//! `POST /v1/codes`: a registration arrives.
//!
//! Law: the hub judges version, length, prefix, partition and the signature against the key it knows, nothing else;
//! the very same body goes to the issuer, and the issuer's answer comes back as it is. The code's secret digits
//! are only inside the tag, so nothing here could learn them.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use warifu_proto::message::{CodeAnswer, CodeRequest};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::registration::Registration;
use warifu_server::clock;
use warifu_server::edge::RawBody;
use warifu_server::json::Strict;
use warifu_server::problem::ApiProblem;

use super::credential_unknown;
use crate::app::App;
use crate::forward::{self, Errand};
use crate::identify::{self, Place};

/// Registers a code with its issuer.
#[utoipa::path(post, path = "/v1/codes", tag = "terminals", request_body = CodeRequest,
    description = "Needs no request signature: the registration carries its own. One statement in 2 s per \
                   credential, bursts of 5; the very same statement again does not count. Four calls of a \
                   credential are under way to its issuer at a time.",
    responses(
        (status = 201, description = "The issuer stored it; its `ack` proves that.", body = CodeAnswer),
        (status = 400, description = "`malformed`, `registration_malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`signature_invalid`: not by the credential's key. `clock_skew`: the issuer's, with its `ack`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`issuer_unknown`, `credential_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`registration_mismatch`, `sequence_used`, `lifetime_too_long`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`, with Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`issuer_unavailable`, `not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    RawBody(body): RawBody,
    Strict(request): Strict<CodeRequest>,
) -> Result<Response, ApiProblem> {
    let registration = Registration::decode(&request.registration)
        .map_err(|err| ApiProblem::new(ProblemCode::RegistrationMalformed, err.to_string()))?;
    let statement = &registration.statement;
    let partition = statement.locator.partition();
    let route = identify::route(
        &app.feed.now().directory,
        statement.prefix,
        Place::Partition(partition),
        clock::now(),
    )?;
    let link = app.terminals.link(statement.credential).ok_or_else(credential_unknown)?;
    if (link.prefix, link.partition) != (statement.prefix, partition) {
        return Err(ApiProblem::new(
            ProblemCode::RegistrationMismatch,
            "the statement's prefix and partition are not those of its credential",
        ));
    }
    if !registration.is_signed_by(&link.key.parse()) {
        return Err(ApiProblem::new(
            ProblemCode::SignatureInvalid,
            "the statement is not signed by the key that was linked",
        ));
    }
    let _passing = app.under_way.begin(Errand::Code, statement.credential)?;
    app.rates
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(statement.credential, &statement.digest(), Instant::now())
        .map_err(|wait| {
            let detail = "one registration in 2 s, bursts of 5: show the code longer";
            ApiProblem::new(ProblemCode::TooManyRequests, detail)
                .retry_after_s(forward::whole_seconds(wait))
        })?;
    let answer = app.forwarder.carry(Errand::Code, route, Method::POST, "/v1/codes", body).await?;
    Ok(forward::hand_on(answer))
}
