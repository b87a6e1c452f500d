//! The pairing mailbox: `POST /v1/pairings` (the merchant opens it), `POST /v1/pairings/{par}` (a reader asks and
//! waits), `GET`, `PUT`, `DELETE /v1/pairings/{par}` (the merchant looks, answers, refuses).
//!
//! Law: the hub can't judge a proof; it carries. The entry that the merchant signs is in the directory's log before
//! the reader hears of it. The mailbox itself is in memory: after a restart both sides begin again with a new
//! link, unless the entry had been signed, which is in the directory.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use warifu_proto::directory::{Entry, Merchant, Record};
use warifu_proto::id::PairingId;
use warifu_proto::key::Thumbprint;
use warifu_proto::limits::NAME_MAX;
use warifu_proto::message::{MerchantAbout, PairingAnswer, PairingRequest, check_text};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::time::Timestamp;
use warifu_server::clock;
use warifu_server::edge::Caller;
use warifu_server::json::{Query, Strict};
use warifu_server::problem::ApiProblem;

use crate::app::App;
use crate::directory;
use crate::receive::links::signed_by_carried;

pub(crate) mod mailbox;

use mailbox::{Mailbox, MailboxError, Submitted};

/// How long a reader's call waits if it does not say: shorter than proxies and clients commonly allow.
const WAIT_DEFAULT_MS: u64 = 25_000;

/// `POST /v1/pairings`, merchant to hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenPairing {
    /// The id in the pairing link.
    #[schema(value_type = String)]
    pub pairing_id: PairingId,
    /// Until when; at most ten minutes from now count.
    pub expires_ms: u64,
}

/// The answer to `GET /v1/pairings/{par}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PendingPairing {
    /// The oldest request that has no answer.
    pub request: Option<PairingRequest>,
}

/// `PUT /v1/pairings/{par}`, merchant to hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerPairing {
    /// The reader's entry, signed by the merchant; its key is that of a request.
    pub entry: Entry,
}

/// The answer while the merchant has said nothing, and of what has no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PairingStatus {
    /// `waiting` (repeat the call), `refused`, `cancelled`.
    pub status: String,
}

/// How long to wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// More than 60 000 counts as 60 000.
    wait_ms: Option<u64>,
}

/// Whom to refuse.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefuseQuery {
    /// The thumbprint of the one reader to refuse, whose proof does not hold; without it the whole pairing is
    /// cancelled.
    key: Option<String>,
}

/// Opens a pairing.
#[utoipa::path(post, path = "/v1/pairings", tag = "merchants", request_body = OpenPairing,
    description = "Signed by the merchant's key. Repeating it changes nothing.",
    responses(
        (status = 201, description = "Open.", body = OpenPairing),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not by an active merchant", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: another merchant has the id", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`unprocessable`: its time is over already", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`: 50 are open of this merchant", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Strict(request): Strict<OpenPairing>,
) -> Result<Response, ApiProblem> {
    let merchant = merchant(&app, caller)?;
    let until = Timestamp::from_ms(request.expires_ms);
    let until =
        lock(&app).open(request.pairing_id, merchant.common.id, until, clock::now())?.as_ms();
    let answer = OpenPairing { pairing_id: request.pairing_id, expires_ms: until };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// A reader asks to be paired, and waits.
#[utoipa::path(post, path = "/v1/pairings/{par}", tag = "readers", request_body = PairingRequest,
    params(("par" = String, Path, description = "The pairing, `par_…`."), WaitQuery),
    description = "Signed by the key that it carries. Waits for the merchant's side, 25 s by default; 202 says to \
                   repeat the same call. A repeat gets the same answer while the pairing lasts.",
    responses(
        (status = 200, description = "Paired.", body = PairingAnswer),
        (status = 202, description = "No answer yet: repeat the call.", body = PairingStatus),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`proof_invalid`: the merchant's side refused it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`pairing_unknown`: used, expired, cancelled, or never was", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`: ten others wait, or thirty calls", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    Path(pairing): Path<String>,
    Query(query): Query<WaitQuery>,
    Caller(caller): Caller,
    Strict(request): Strict<PairingRequest>,
) -> Result<Response, ApiProblem> {
    let pairing = PairingId::parse(&pairing)?;
    check_text("name", &request.name, NAME_MAX)?;
    signed_by_carried(caller, request.key.thumbprint())?;
    let deadline = Instant::now() + directory::wait(query.wait_ms, WAIT_DEFAULT_MS);
    loop {
        let submitted = lock(&app).submit(pairing, &request, clock::now())?;
        let news = match submitted {
            Submitted::Answered(answer) => return Ok(Json(*answer).into_response()),
            Submitted::Waiting(news) => news,
        };
        if !changed(&app, pairing, news, deadline).await {
            return Ok((StatusCode::ACCEPTED, status("waiting")).into_response());
        }
    }
}

/// The merchant's side looks for a request.
#[utoipa::path(get, path = "/v1/pairings/{par}", tag = "merchants",
    params(("par" = String, Path, description = "The pairing, `par_…`."), WaitQuery),
    description = "Signed by the merchant's key. The oldest request that has no answer; refuse one whose proof does not \
                   hold to see the next. Waits if asked to.",
    responses(
        (status = 200, description = "A request, or null.", body = PendingPairing),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not by an active merchant", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`pairing_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn look(
    State(app): State<Arc<App>>,
    Path(pairing): Path<String>,
    Query(query): Query<WaitQuery>,
    Caller(caller): Caller,
) -> Result<Json<PendingPairing>, ApiProblem> {
    let pairing = PairingId::parse(&pairing)?;
    let merchant = merchant(&app, caller)?.common.id;
    let deadline = Instant::now() + directory::wait(query.wait_ms, 0);
    loop {
        let (request, news) = lock(&app).oldest(pairing, merchant, clock::now())?;
        if request.is_some() || !changed(&app, pairing, news, deadline).await {
            return Ok(Json(PendingPairing { request }));
        }
    }
}

/// The merchant's side answers with the reader's signed entry.
#[utoipa::path(put, path = "/v1/pairings/{par}", tag = "merchants", request_body = AnswerPairing,
    params(("par" = String, Path, description = "The pairing, `par_…`.")),
    description = "Signed by the merchant's key. The entry goes into the directory, then the reader with its key gets its \
                   answer. Repeating it changes nothing.",
    responses(
        (status = 200, description = "What the reader gets.", body = PairingAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not by an active merchant", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`pairing_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: the pairing was used for another reader", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`unprocessable`: not a reader of this merchant that asked, or refused by the directory", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    Path(pairing): Path<String>,
    Caller(caller): Caller,
    Strict(request): Strict<AnswerPairing>,
) -> Result<Json<PairingAnswer>, ApiProblem> {
    let unprocessable = |why: String| ApiProblem::new(ProblemCode::Unprocessable, why);
    let pairing = PairingId::parse(&pairing)?;
    let merchant = merchant(&app, caller)?;
    let Record::Reader(reader) = request.entry.read()? else {
        return Err(unprocessable("entry: must be a reader's".to_owned()));
    };
    if reader.merchant_id != merchant.common.id {
        return Err(unprocessable("entry: the reader is another merchant's".to_owned()));
    }
    let key = reader.key.thumbprint();
    lock(&app).can_answer(pairing, merchant.common.id, key, clock::now())?;
    let report = app.feed.take(vec![request.entry.clone()]).await?;
    if let Some((_, why)) = report.refused.into_iter().next() {
        return Err(unprocessable(format!("entry: {why}")));
    }
    let answer = PairingAnswer {
        reader_id: reader.common.id,
        merchant: MerchantAbout { id: merchant.common.id, name: merchant.name },
        entry: request.entry,
    };
    lock(&app).answer(pairing, merchant.common.id, key, answer.clone(), clock::now())?;
    Ok(Json(answer))
}

/// The merchant's side refuses a request, or cancels the pairing.
#[utoipa::path(delete, path = "/v1/pairings/{par}", tag = "merchants",
    params(("par" = String, Path, description = "The pairing, `par_…`."), RefuseQuery),
    description = "Signed by the merchant's key.",
    responses(
        (status = 200, description = "Done.", body = PairingStatus),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not by an active merchant", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`pairing_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn refuse(
    State(app): State<Arc<App>>,
    Path(pairing): Path<String>,
    Query(query): Query<RefuseQuery>,
    Caller(caller): Caller,
) -> Result<Json<PairingStatus>, ApiProblem> {
    let pairing = PairingId::parse(&pairing)?;
    let merchant = merchant(&app, caller)?.common.id;
    let now = clock::now();
    match query.key {
        Some(key) => {
            lock(&app).refuse(pairing, merchant, Thumbprint::parse(&key)?, now)?;
            Ok(status("refused"))
        }
        None => {
            lock(&app).cancel(pairing, merchant, now)?;
            Ok(status("cancelled"))
        }
    }
}

/// The active merchant who signed the call.
fn merchant(app: &App, caller: Thumbprint) -> Result<Merchant, ApiProblem> {
    let published = app.feed.now();
    let merchant = published.directory.merchant_by_key(caller);
    merchant.filter(|it| it.common.is_active(clock::now())).cloned().ok_or_else(|| {
        let detail = "only a merchant that is active in the directory may pair readers";
        ApiProblem::new(ProblemCode::Forbidden, detail)
    })
}

/// Waits for a change in the pairing, its end included; false when the time for waiting is over first.
async fn changed(
    app: &App,
    pairing: PairingId,
    mut news: watch::Receiver<()>,
    deadline: Instant,
) -> bool {
    let left = lock(app).expires_at(pairing).map_or(0, |at| at.since_ms(clock::now()));
    let end = Instant::now() + Duration::from_millis(left);
    tokio::select! {
        _ = news.changed() => true,
        () = tokio::time::sleep_until(end) => true,
        () = tokio::time::sleep_until(deadline) => false,
        () = app.stopping() => false,
    }
}

fn status(word: &str) -> Json<PairingStatus> {
    Json(PairingStatus { status: word.to_owned() })
}

fn lock(app: &App) -> MutexGuard<'_, Mailbox> {
    app.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<MailboxError> for ApiProblem {
    fn from(err: MailboxError) -> Self {
        let (code, detail) = match err {
            MailboxError::Unknown => (
                ProblemCode::PairingUnknown,
                "it was used, has expired, was cancelled, or the hub was restarted: make a new pairing link",
            ),
            MailboxError::Taken => {
                (ProblemCode::Conflict, "this pairing id is taken: make a new one")
            }
            MailboxError::Expired => (ProblemCode::Unprocessable, "expires_ms: is over already"),
            MailboxError::TooManyOpen => {
                (ProblemCode::TooManyRequests, "50 pairings of this merchant are open: cancel some")
            }
            MailboxError::Full => {
                (ProblemCode::NotAccepted, "too many pairings are open here: come back in a minute")
            }
            MailboxError::TooManyRequests => (
                ProblemCode::TooManyRequests,
                "ten readers, or thirty calls, wait in this pairing already",
            ),
            MailboxError::Refused => (
                ProblemCode::ProofInvalid,
                "the merchant's side refused the proof: was the pairing link copied whole?",
            ),
            MailboxError::Used => {
                (ProblemCode::Conflict, "the pairing was used for another reader: make a new link")
            }
            MailboxError::NobodyAsked => {
                (ProblemCode::Unprocessable, "entry: no reader with this key asked in this pairing")
            }
        };
        let problem = Self::new(code, detail);
        match code {
            ProblemCode::TooManyRequests => problem.retry_after_s(5),
            ProblemCode::NotAccepted => problem.retry_after_s(60),
            _ => problem,
        }
    }
}
