//! Registering a code. Signatures are checked here, before the payer reaches the till, and never on the lane.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use warifu_core::decide::{Command, Register};
use warifu_core::place::partition_of;
use warifu_proto::message::{CodeAnswer, CodeRequest};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::registration::{Registration, registered_ack};
use warifu_server::edge::MaybeCaller;
use warifu_server::json::Strict;
use warifu_server::problem::{ApiProblem, ApiResult};

use crate::app::{App, PATIENCE, problem, registration_problem};
use crate::engine::{Answer, Ask};

/// Stores the authentication information of a code, or withdraws all codes of the credential.
///
/// No caller's signature is needed: the registration carries its own. Repeat: the same statement gets the same answer.
#[utoipa::path(post, path = "/v1/codes", tag = "terminals", request_body = CodeRequest, responses(
    (status = 201, description = "registered", body = CodeAnswer), (status = 400, body = Problem), (status = 401, description = "signature_invalid or clock_skew", body = Problem),
    (status = 404, description = "credential_unknown", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, description = "misdirected", body = Problem),
    (status = 422, description = "registration_mismatch, sequence_used, lifetime_too_long", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    _caller: MaybeCaller,
    Strict(request): Strict<CodeRequest>,
) -> ApiResult<(StatusCode, Json<CodeAnswer>)> {
    let registration = Registration::decode(&request.registration)
        .map_err(|error| ApiProblem::new(ProblemCode::RegistrationMalformed, error.to_string()))?;
    let statement = &registration.statement;
    if statement.prefix != app.prefix() {
        return Err(ApiProblem::new(
            ProblemCode::Misdirected,
            "the registration is for another issuer",
        ));
    }
    let partition = statement.locator.partition();
    if partition_of(statement.credential) != Some(partition) {
        return Err(ApiProblem::new(
            ProblemCode::RegistrationMismatch,
            "the locator does not begin with the credential's partition",
        ));
    }
    let key = app.credential_key(statement.credential).await?;
    if !registration.is_signed_by(&key.key) {
        return Err(ApiProblem::new(
            ProblemCode::SignatureInvalid,
            "the registration is not signed by the credential's key",
        ));
    }
    let digest = statement.digest();
    let command = Command::Register(Register {
        statement: registration.statement,
        digest,
        signed_by: key.xy,
    });
    let answer = app.engine.ask(partition, Ask::Decide(Box::new(command)), PATIENCE).await;
    match answer.map_err(|refused| registration_problem(refused, &digest))? {
        Answer::Registered { registered_at, expires_at, link_key } => {
            let ack = registered_ack(&link_key, &digest, expires_at, registered_at);
            Ok((
                StatusCode::CREATED,
                Json(CodeAnswer {
                    expires_ms: expires_at.as_ms(),
                    now_ms: registered_at.as_ms(),
                    ack,
                }),
            ))
        }
        _ => Err(problem(crate::engine::Refused::Unknown)),
    }
}
