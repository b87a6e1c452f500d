//! `POST /v1/confirmations`: the payer's word on a payment that waits for it.
//!
//! Law: only the linked terminal itself is heard, and its very words go to the issuer, whose answer comes back as it
//! is. The signature inside is over merchant, amount and notice, none of which the hub can see: the issuer judges it.
//! The hub learns that a credential said yes or no to a payment, nothing of how much to whom.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use warifu_proto::mac;
use warifu_proto::message::{ConfirmationAnswer, ConfirmationRequest};
use warifu_proto::notice::Verdict;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::clock;
use warifu_server::edge::{Caller, RawBody};
use warifu_server::json::Strict;
use warifu_server::problem::ApiProblem;

use super::credential_unknown;
use crate::app::App;
use crate::forward::{self, Errand};
use crate::identify::{self, Place};

/// Carries the payer's yes or no to the issuer.
#[utoipa::path(post, path = "/v1/confirmations", tag = "terminals", request_body = ConfirmationRequest,
    description = "Signed by the terminal's key, twice: the call for the hub, the body for the issuer. The first verdict \
                   stands, and a repeat answers with it. One word in 2 s per credential, bursts of 5; the same \
                   verdict on the same payment again does not count. Four calls of a credential are under way to its \
                   issuer at a time.",
    responses(
        (status = 200, description = "The issuer heard it; `verdict` is the one that stands.", body = ConfirmationAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `key_unknown`, `session_unknown`, `clock_skew`; `signature_invalid`: of the call, or by the issuer's word of the body", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`credential_unknown`: not linked, or by another key than the caller's. `issuer_unknown`. `not_found`: the issuer knows no such payment of this credential", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`payment_state`: the payment does not wait for the payer", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`, with Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`issuer_unavailable`, `not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    RawBody(body): RawBody,
    Strict(request): Strict<ConfirmationRequest>,
) -> Result<Response, ApiProblem> {
    let link = app
        .terminals
        .link(request.credential_id)
        .filter(|it| it.key.thumbprint() == caller)
        .ok_or_else(credential_unknown)?;
    let published = app.feed.now();
    let place = Place::Partition(link.partition);
    let route = identify::route(&published.directory, link.prefix, place, clock::now())?;
    let errand = Errand::Confirmation;
    let _passing = app.under_way.begin(errand, request.credential_id)?;
    app.confirmation_rates
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(request.credential_id, &word(&request), Instant::now())
        .map_err(|wait| {
            let detail = "one answer to a question in 2 s, bursts of 5: repeat it a little later";
            ApiProblem::new(ProblemCode::TooManyRequests, detail)
                .retry_after_s(forward::whole_seconds(wait))
        })?;
    let answer =
        app.forwarder.carry(errand, route, Method::POST, "/v1/confirmations", body).await?;
    Ok(forward::hand_on(answer))
}

/// What makes two requests the same word: the payment and the verdict. Signatures differ from repeat to repeat.
fn word(request: &ConfirmationRequest) -> [u8; 32] {
    let verdict: &[u8] = match request.verdict {
        Verdict::Confirm => b"confirm",
        Verdict::Refuse => b"refuse",
    };
    mac::sha256(&[&request.payment_id.raw(), verdict])
}
