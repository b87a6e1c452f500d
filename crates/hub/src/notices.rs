//! `POST /v1/notices`: an issuer leaves a sealed notice for a terminal.
//!
//! Law: only the active issuer of the credential's prefix may; what was answered `stored` is on disk and stays until
//! the terminal acknowledges it (or a thousand newer ones have come); the same again is answered the same. An
//! issuer sends the notices of one credential one after another, in the order of their numbers: one that comes after a
//! later number was acknowledged counts as delivered. The hub sees a credential, a number and a size.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use warifu_proto::message::NoticeRequest;
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
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Strict(request): Strict<NoticeRequest>,
) -> Result<Json<NoticeAnswer>, ApiProblem> {
    let malformed = |why| ApiProblem::new(ProblemCode::Malformed, why);
    if !(1..=NUMBER_MAX).contains(&request.number) {
        return Err(malformed("number: counts from 1"));
    }
    if !(SEALED_MIN_BYTES..=SEALED_MAX_BYTES).contains(&request.sealed.len()) {
        return Err(malformed("sealed: must have 28 to 4096 bytes"));
    }
    let published = app.feed.now();
    let prefixes: Vec<_> =
        identify::prefixes_of(&published.directory, caller, clock::now()).collect();
    if prefixes.is_empty() {
        let detail = "only an issuer that is active in the directory may leave notices";
        return Err(ApiProblem::new(ProblemCode::Forbidden, detail));
    }
    let credential = request.credential_id;
    app.terminals
        .link(credential)
        .filter(|it| prefixes.contains(&it.prefix))
        .ok_or_else(credential_unknown)?;
    match app.store.put_notice(request).await? {
        NoticeStored::Stored { dropped } => {
            metrics::counter!("warifu_hub_notices_stored_total").increment(1);
            let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
            metrics::counter!("warifu_hub_notices_dropped_total").increment(dropped);
            app.streams.wake(credential);
        }
        NoticeStored::Same => {}
        NoticeStored::Conflict => {
            let detail = "another notice of this credential has this number";
            return Err(ApiProblem::new(ProblemCode::Conflict, detail));
        }
        NoticeStored::Unlinked => return Err(credential_unknown()),
    }
    Ok(Json(NoticeAnswer { status: "stored" }))
}
