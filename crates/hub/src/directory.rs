//! `GET /v1/directory` and `POST /v1/directory/entries`: the hub hands out signed entries and takes new ones.
//!
//! Law: nobody has to believe the hub: entries prove themselves, so anybody may hand them in and anybody may read
//! them. What is wrongly signed, older or unchanged is not stored. Few unsigned calls wait at a time, the others
//! are told so. See `feed` for the log behind it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use warifu_proto::directory::Entry;
use warifu_proto::limits::WAIT_MAX_MS;
use warifu_proto::message::DirectoryPage;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::clock;
use warifu_server::json::{Query, Strict};
use warifu_server::problem::ApiProblem;

use crate::app::App;

pub(crate) mod feed;

/// Most entries in one `POST /v1/directory/entries`: about what fits a body, and 10 ms of checking signatures.
pub const ENTRIES_MAX: usize = 100;

/// Which entries a follower wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ViewName {
    /// Hubs, issuers and currencies: what terminals and readers need.
    Issuers,
    /// All of them: what issuers need.
    All,
}

/// `GET /v1/directory`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryQuery {
    /// Which entries; `all` if it is missing.
    #[param(inline)]
    view: Option<ViewName>,
    /// The `version` of the page before; 0 at first.
    after: Option<u64>,
    /// How long to wait for news, 0 if it is missing; more than 60 000 counts as 60 000.
    wait_ms: Option<u64>,
}

/// `POST /v1/directory/entries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntriesRequest {
    /// At most 100, merchants before their readers.
    pub entries: Vec<Entry>,
}

/// The answer to [`EntriesRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EntriesAnswer {
    /// How many were news, and are in the log now.
    pub taken: usize,
    /// How many were there already.
    pub known: usize,
    /// The others.
    pub refused: Vec<RefusedEntry>,
}

/// An entry that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefusedEntry {
    /// Its place in the request, from 0.
    pub index: usize,
    /// What is the matter with it.
    pub why: String,
}

/// Reads the directory.
#[utoipa::path(get, path = "/v1/directory", tag = "directory", params(DirectoryQuery),
    description = "Public. Entries in the order of the feed, at most 500 a page; waits for news when there are none. \
                   `version` is the position up to which the feed was looked through: the next `after`. One below \
                   `after` says that this hub's log is shorter than yours: begin again at 0.",
    responses(
        (status = 200, description = "A page, maybe empty.", body = DirectoryPage),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Query(query): Query<DirectoryQuery>,
) -> Result<Json<DirectoryPage>, ApiProblem> {
    let view = match query.view {
        Some(ViewName::Issuers) => feed::View::Issuers,
        Some(ViewName::All) | None => feed::View::All,
    };
    let wait = wait(query.wait_ms, 0);
    let page = app.feed.page(view, query.after.unwrap_or_default(), wait).await?;
    let published = app.feed.now();
    Ok(Json(DirectoryPage {
        network_id: published.directory.network(),
        registrar: published.directory.registrar().clone(),
        version: page.version,
        head: page.head,
        as_of_ms: clock::now().as_ms(),
        entries: page.entries,
    }))
}

/// Hands in entries.
#[utoipa::path(post, path = "/v1/directory/entries", tag = "directory", request_body = EntriesRequest,
    description = "Needs no request signature: entries prove themselves. The registrar signs hubs, issuers, merchants \
                   and currencies, a merchant its readers. At most 100 a call. What comes after a wrongly signed \
                   entry is refused unread: send it again without that one.",
    responses(
        (status = 200, description = "What became of each.", body = EntriesAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    Strict(request): Strict<EntriesRequest>,
) -> Result<Json<EntriesAnswer>, ApiProblem> {
    if request.entries.len() > ENTRIES_MAX {
        let detail = format!("entries: at most {ENTRIES_MAX} a call, send the rest in another");
        return Err(ApiProblem::new(ProblemCode::Malformed, detail));
    }
    let turn = app.feed.turn().ok_or_else(|| {
        let detail = "many are handing in entries at the moment: repeat the same request";
        ApiProblem::new(ProblemCode::NotAccepted, detail).retry_after_s(1)
    })?;
    let report = app.feed.take_within(turn, request.entries).await?;
    let refused =
        report.refused.into_iter().map(|(index, why)| RefusedEntry { index, why }).collect();
    Ok(Json(EntriesAnswer { taken: report.taken, known: report.known, refused }))
}

/// How long a call that may wait is to wait. More than [`WAIT_MAX_MS`] counts as that, here as at the issuers: who
/// would wait longer asks again anyway.
pub(crate) fn wait(wait_ms: Option<u64>, default_ms: u64) -> Duration {
    Duration::from_millis(wait_ms.unwrap_or(default_ms).min(WAIT_MAX_MS))
}
