//! What readers do to payments that were decided: capture, release, refund, reverse.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use warifu_core::decide::{Capture, Command, Refund, Release, Reverse};
use warifu_proto::directory::Right;
use warifu_proto::message::{
    CaptureAnswer, CaptureRequest, Payment, RefundAnswer, RefundRequest, ReleaseRequest,
    ReversalAnswer, ReversalRequest,
};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::clock;
use warifu_server::edge::Caller;
use warifu_server::json::Strict;
use warifu_server::problem::{ApiProblem, ApiResult};

use super::render::{change_id, id_of, language, render};
use crate::app::{App, problem};
use crate::engine::{Answer, PaymentState, Refused};

/// Takes part or all of a hold, once; the rest is free again. Needs the right `capture`.
///
/// Repeat: the same request gets the same capture, with the payment as it now stands.
#[utoipa::path(post, path = "/v1/payments/{payment_id}/captures", tag = "readers", params(("payment_id" = String, Path,)), request_body = CaptureRequest, responses(
    (status = 200, description = "captured", body = CaptureAnswer), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "request_id_conflict, payment_state", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem),
    (status = 422, description = "amount_too_large, unprocessable", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn capture(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(payment): Path<String>,
    Strict(wish): Strict<CaptureRequest>,
) -> ApiResult<Json<CaptureAnswer>> {
    let reader = app.reader_with(&caller, Right::Capture)?;
    let (id, place) = app.place_of(&payment)?;
    let (minor, currency) = (wish.amount.minor().to_string(), wish.amount.currency());
    let digest = app.digest(&["capture", &id.to_string(), &minor, currency.as_str()]);
    let command = Command::Capture(Capture {
        merchant: reader.merchant.common.id,
        reader: reader.reader.common.id,
        request: wish.request_id,
        digest,
        first_sequence: place.first_sequence,
        amount: wish.amount,
        old: None,
    });
    let (state, sequence) = changed(app.decide_about(place.partition, command).await?)?;
    let capture_id = change_id(state.partition, &state.payment, sequence);
    let payment = render(app.prefix(), &state, language(&headers))?;
    Ok(Json(CaptureAnswer { capture_id, status: "captured".to_owned(), payment }))
}

/// Gives a hold back. Needs the right `capture`.
///
/// Repeat: gets the payment as it now stands; so does releasing what has run out.
#[utoipa::path(post, path = "/v1/payments/{payment_id}/release", tag = "readers", params(("payment_id" = String, Path,)), request_body = ReleaseRequest, responses(
    (status = 200, description = "released, or run out before", body = Payment), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "payment_state", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn release(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(payment): Path<String>,
    Strict(ReleaseRequest {}): Strict<ReleaseRequest>,
) -> ApiResult<Json<Payment>> {
    let reader = app.reader_with(&caller, Right::Capture)?;
    let (_, place) = app.place_of(&payment)?;
    let command = Command::Release(Release {
        merchant: reader.merchant.common.id,
        reader: reader.reader.common.id,
        first_sequence: place.first_sequence,
        old: None,
    });
    match app.decide_about(place.partition, command).await? {
        Answer::Payment(state) => render(app.prefix(), &state, language(&headers)).map(Json),
        _ => Err(problem(Refused::NotFound)),
    }
}

/// Gives back part or all of what was taken. Needs the right `refund`.
///
/// Repeat: the same request gets the same refund, with the payment as it now stands. Refunds of one payment, however
/// concurrent, never exceed what was captured.
#[utoipa::path(post, path = "/v1/payments/{payment_id}/refunds", tag = "readers", params(("payment_id" = String, Path,)), request_body = RefundRequest, responses(
    (status = 200, description = "refunded", body = RefundAnswer), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "request_id_conflict, payment_state", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem),
    (status = 422, description = "amount_too_large, account_closed, unprocessable", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn refund(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(payment): Path<String>,
    Strict(wish): Strict<RefundRequest>,
) -> ApiResult<Json<RefundAnswer>> {
    wish.check()?;
    let reader = app.reader_with(&caller, Right::Refund)?;
    let (id, place) = app.place_of(&payment)?;
    let merchant = reader.merchant.common.id;
    let (minor, currency) = (wish.amount.minor().to_string(), wish.amount.currency());
    let reason = wish.reason.as_deref().unwrap_or_default();
    let digest = app.digest(&["refund", &id.to_string(), &minor, currency.as_str(), reason]);
    if let Some(reason) = &wish.reason {
        // Texts are erasable and stay out of the journal: they are there before the refund is.
        app.texts
            .put_payment_texts(merchant, &wish.request_id, None, Some(reason))
            .await
            .map_err(ApiProblem::internal)?;
    }
    let command = Command::Refund(Refund {
        merchant,
        reader: reader.reader.common.id,
        request: wish.request_id,
        digest,
        first_sequence: place.first_sequence,
        amount: wish.amount,
        old: None,
    });
    let (state, sequence) = changed(app.decide_about(place.partition, command).await?)?;
    let refund_id = change_id(state.partition, &state.payment, sequence);
    let payment = render(app.prefix(), &state, language(&headers))?;
    Ok(Json(RefundAnswer { refund_id, status: "refunded".to_owned(), payment }))
}

/// Makes sure that a payment did not happen: legal before, during and after it. A reader may reverse what it paid
/// itself, and with the right `reverse_any` what other readers of its merchant paid.
///
/// Repeat: gets the same answer.
#[utoipa::path(post, path = "/v1/reversals", tag = "readers", request_body = ReversalRequest, responses(
    (status = 200, description = "the payment has no effect and never will", body = ReversalAnswer), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 409, description = "use_refund, request_id_conflict", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem),
    (status = 421, description = "the route is another issuer's", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn reverse(
    State(app): State<Arc<App>>,
    caller: Caller,
    Strict(wish): Strict<ReversalRequest>,
) -> ApiResult<Json<ReversalAnswer>> {
    // Suspended or not: whoever asked for a payment may make it not to have happened.
    let reader = app.reader(&caller)?;
    if wish.route.prefix != app.prefix() {
        return Err(ApiProblem::new(ProblemCode::Misdirected, "the route is another issuer's"));
    }
    let command = Command::Reverse(Reverse {
        merchant: reader.merchant.common.id,
        reader: reader.reader.common.id,
        may_reverse_any: reader.reader.rights.contains(&Right::ReverseAny),
        request: wish.request_id.clone(),
        first_sequence: None,
        reason: wish.reason,
        business_day: app.business_day(clock::now()),
        old: None,
    });
    match app.decide_about(wish.route.partition, command).await? {
        Answer::Reversed(state) => Ok(Json(ReversalAnswer {
            request_id: wish.request_id,
            status: "reversed".to_owned(),
            payment_id: state.map(|it| id_of(app.prefix(), it.partition, &it.payment)),
        })),
        _ => Err(problem(Refused::NotFound)),
    }
}

fn changed(answer: Answer) -> ApiResult<(PaymentState, u64)> {
    match answer {
        Answer::Changed { payment, sequence } => Ok((payment, sequence)),
        _ => Err(problem(Refused::NotFound)),
    }
}
