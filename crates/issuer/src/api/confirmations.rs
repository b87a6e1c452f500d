//! The payer's word on a payment that waits for it, brought by a hub that can't make one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use warifu_core::decide::{Command, Confirm};
use warifu_proto::message::{ConfirmationAnswer, ConfirmationRequest};
use warifu_proto::notice::confirm_message;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::clock;
use warifu_server::edge::MaybeCaller;
use warifu_server::json::Strict;
use warifu_server::problem::{ApiProblem, ApiResult};

use super::render::id_of;
use crate::app::{App, PATIENCE, problem};
use crate::engine::{Answer, Refused};

/// Takes the payer's word. No caller's signature is needed: the word carries its own, which binds it to the merchant,
/// the amount and the very text that the payer saw.
///
/// Repeat: the same word gets the same answer. The first word stands; another, or one that comes too late, is
/// `409 payment_state`.
#[utoipa::path(post, path = "/v1/confirmations", tag = "terminals", request_body = ConfirmationRequest, responses(
    (status = 200, description = "heard; what became of the payment comes as a notice", body = ConfirmationAnswer), (status = 400, body = Problem),
    (status = 401, description = "signature_invalid", body = Problem), (status = 404, description = "no such question to this credential", body = Problem),
    (status = 409, description = "payment_state: another word stands, or it is too late", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem),
    (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    _caller: MaybeCaller,
    Strict(word): Strict<ConfirmationRequest>,
) -> ApiResult<Json<ConfirmationAnswer>> {
    let (id, place) = app.place_of(&word.payment_id.to_string())?;
    // First: anybody may call, and only a payment whose payer was asked is worth a look into the journal.
    let question = app.questions.text(id).await.map_err(ApiProblem::internal)?;
    let question = question.ok_or_else(|| problem(Refused::NotFound))?;
    let state = app.engine.payment(place, PATIENCE).await.map_err(problem)?;
    let payment = &state.payment;
    let credential = app.credential(word.credential_id).await?;
    let is_asked = id_of(app.prefix(), state.partition, payment) == id
        && state.account == Some(credential.account.id)
        && credential.partition == state.partition;
    if !is_asked {
        return Err(problem(Refused::NotFound));
    }
    let message = confirm_message(
        word.verdict,
        id,
        payment.merchant,
        payment.amount_minor,
        credential.account.currency.number,
        &question,
    );
    let key = app.credential_key(word.credential_id).await?;
    if !key.key.verifies(&message, &word.signature) {
        return Err(ApiProblem::new(
            ProblemCode::SignatureInvalid,
            "the word is not signed by the payer's terminal for this question",
        ));
    }
    let command = Command::Confirm(Confirm {
        credential: word.credential_id,
        first_sequence: place.first_sequence,
        verdict: word.verdict,
        hold_until: clock::now().plus_ms(app.config.holds.lifetime_ms(payment.merchant)),
    });
    match app.decide(place.partition, command, PATIENCE).await? {
        Answer::Payment(_) => {
            Ok(Json(ConfirmationAnswer { payment_id: id, verdict: word.verdict }))
        }
        _ => Err(problem(Refused::NotFound)),
    }
}
