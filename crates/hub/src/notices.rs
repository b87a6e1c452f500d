//! `POST /v1/notices` and `/v1/notices/batch`: an issuer leaves sealed notices for terminals.
//!
//! Law: only the active issuer of the credential's prefix may; what was answered `stored` is on disk and stays until
//! the terminal acknowledges it (or a thousand newer ones have come); the same again is answered the same. An
//! issuer sends the notices of one credential one after another, in the order of their numbers: one that comes after a
//! later number was acknowledged counts as delivered. What one issuer's notices take is bounded, so that it fills
//! its own share and not the disk. The hub sees a credential, a number and a size.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use warifu_proto::key::Thumbprint;
use warifu_proto::limits::NOTICES_MAX;
use warifu_proto::message::{NoticeRequest, NoticeResult, NoticesAnswer, NoticesRequest};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::clock;
use warifu_server::edge::Caller;
use warifu_server::json::Strict;
use warifu_server::problem::ApiProblem;

use crate::app::App;
use crate::identify;
use crate::receive::credential_unknown;
use crate::store::NoticeStored;

/// Longest sealed notice: the texts of ours are under 1 KiB.
pub(crate) const SEALED_MAX_BYTES: usize = 4096;
/// Shortest: a nonce and the tag of an empty text.
const SEALED_MIN_BYTES: usize = 12 + 16;
/// Largest number: SQLite's integers end there. Counting from 1, nobody gets near it.
const NUMBER_MAX: u64 = i64::MAX.cast_unsigned();

/// What became of a notice.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct NoticeAnswer {
    /// Always `stored`.
    status: &'static str,
}

/// Leaves a notice for a terminal.
#[utoipa::path(post, path = "/v1/notices", tag = "issuers", request_body = NoticeRequest,
    description = "Signed by the issuer at whose prefix the credential is linked. Send the notices of one credential \
                   one after another. At most 1 000 unacknowledged ones are kept of a credential: the oldest go.",
    responses(
        (status = 200, description = "Stored until the terminal acknowledges it, or delivered already.", body = NoticeAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not by an active issuer", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`credential_unknown`: nobody is linked at the caller's prefix; repeating does not help", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: another notice has the number", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`, with Retry-After: the issuer's notices fill its share of this hub", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Strict(request): Strict<NoticeRequest>,
) -> Result<Json<NoticeAnswer>, ApiProblem> {
    match store(&app, caller, vec![request]).await?.first() {
        Some(NoticeResult::Stored) => Ok(Json(NoticeAnswer { status: "stored" })),
        Some(NoticeResult::Conflict) => {
            let detail = "another notice of this credential has this number";
            Err(ApiProblem::new(ProblemCode::Conflict, detail))
        }
        Some(NoticeResult::CredentialUnknown) | None => Err(credential_unknown()),
    }
}

/// Leaves many notices at once.
#[utoipa::path(post, path = "/v1/notices/batch", tag = "issuers", request_body = NoticesRequest,
    description = "As `POST /v1/notices` for 1 to 64 notices, in one write: those of one credential in the order of \
                   their numbers. What became of each is in the answer; a refusal of the call is one of all of them.",
    responses(
        (status = 200, description = "What became of each.", body = NoticesAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not by an active issuer", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`, with Retry-After: the issuer's notices fill its share of this hub", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn leave_batch(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Strict(request): Strict<NoticesRequest>,
) -> Result<Json<NoticesAnswer>, ApiProblem> {
    if !(1..=NOTICES_MAX).contains(&request.notices.len()) {
        return Err(ApiProblem::new(ProblemCode::Malformed, "notices: must be 1 to 64"));
    }
    Ok(Json(NoticesAnswer { results: store(&app, caller, request.notices).await? }))
}

/// What became of each notice, in order.
async fn store(
    app: &App,
    caller: Thumbprint,
    notices: Vec<NoticeRequest>,
) -> Result<Vec<NoticeResult>, ApiProblem> {
    let malformed = |why| ApiProblem::new(ProblemCode::Malformed, why);
    if notices.iter().any(|it| !(1..=NUMBER_MAX).contains(&it.number)) {
        return Err(malformed("number: counts from 1"));
    }
    if notices.iter().any(|it| !(SEALED_MIN_BYTES..=SEALED_MAX_BYTES).contains(&it.sealed.len())) {
        return Err(malformed("sealed: must have 28 to 4096 bytes"));
    }
    let published = app.feed.now();
    let prefixes: Vec<_> =
        identify::prefixes_of(&published.directory, caller, clock::now()).collect();
    if prefixes.is_empty() {
        let detail = "only an issuer that is active in the directory may leave notices";
        return Err(ApiProblem::new(ProblemCode::Forbidden, detail));
    }
    let is_linked =
        |credential| app.terminals.link(credential).is_some_and(|it| prefixes.contains(&it.prefix));
    let mut results = vec![NoticeResult::CredentialUnknown; notices.len()];
    let (places, linked): (Vec<_>, Vec<_>) =
        results.iter_mut().zip(notices).filter(|(_, it)| is_linked(it.credential_id)).unzip();
    let credentials: Vec<_> = linked.iter().map(|it| it.credential_id).collect();
    let share = app.share.notice_bytes;
    let Some(stored) = app.store.put_notices(prefixes, share, linked).await? else {
        tracing::warn!(key = %caller, "an issuer's notices fill notice_bytes_max");
        let detail = "as many bytes of this issuer's notices as this hub keeps wait for their terminals: repeat it later";
        return Err(ApiProblem::new(ProblemCode::TooManyRequests, detail).retry_after_s(10));
    };
    for ((place, credential), stored) in places.into_iter().zip(credentials).zip(stored) {
        *place = match stored {
            NoticeStored::Stored { dropped } => {
                metrics::counter!("warifu_hub_notices_stored_total").increment(1);
                let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
                metrics::counter!("warifu_hub_notices_dropped_total").increment(dropped);
                app.streams.wake(credential);
                NoticeResult::Stored
            }
            NoticeStored::Same => NoticeResult::Stored,
            NoticeStored::Conflict => NoticeResult::Conflict,
            NoticeStored::Unlinked => NoticeResult::CredentialUnknown,
        };
    }
    Ok(results)
}
