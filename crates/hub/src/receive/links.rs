//! `POST /v1/links` and `DELETE /v1/links/{crd}`: a terminal is bound to an account, and unbound.
//!
//! Law: the issuer decides and answers; the hub carries both ways and notes which key, prefix and partition belong
//! to the credential. The note is on disk before the answer leaves. Should it be lost later, nothing but
//! convenience is: the terminal is told `credential_unknown`, repeats its linking within 15 minutes, and links again
//! with a new invitation after that.
//!
//! What the store and memory note is noted by both, even if the caller hangs up in between.
//!
//! An issuer can't take another's credential: the first prefix that a credential came with stays.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use warifu_proto::id::CredentialId;
use warifu_proto::key::Thumbprint;
use warifu_proto::limits::PARTITIONS;
use warifu_proto::link::unlink_message;
use warifu_proto::message::{LinkAnswer, LinkRequest, UnlinkAnswer, UnlinkRequest};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::time::Timestamp;
use warifu_server::client::Answer;
use warifu_server::clock;
use warifu_server::edge::{Caller, RawBody};
use warifu_server::json::Strict;
use warifu_server::problem::ApiProblem;

use super::credential_unknown;
use crate::app::App;
use crate::forward::{self, Errand};
use crate::identify::{self, Place};
use crate::store::{Link, LinkStored, StoreError};

/// Links a terminal to an account.
#[utoipa::path(post, path = "/v1/links", tag = "terminals", request_body = LinkRequest,
    description = "Signed by the key that it carries. The same request again gets the same answer until the \
                   invitation would have expired. Make a new key for every link.",
    responses(
        (status = 200, description = "Linked; its `confirmation` proves that the issuer said so.", body = LinkAnswer),
        (status = 201, description = "Linked; its `confirmation` proves that the issuer said so.", body = LinkAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`proof_invalid`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`issuer_unknown`, `invitation_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: the key is linked already", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "`internal`: repeat the same request", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`issuer_unavailable`, `not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    RawBody(body): RawBody,
    Strict(request): Strict<LinkRequest>,
) -> Result<Response, ApiProblem> {
    request.check()?;
    signed_by_carried(caller, request.key.thumbprint())?;
    if let Some(known) = app.terminals.link_of_key(caller)
        && (known.prefix, known.invitation) != (request.prefix, request.invitation_id)
    {
        return Err(one_key_one_link());
    }
    let published = app.feed.now();
    let route = identify::route(&published.directory, request.prefix, Place::Any, clock::now())?;
    // Before the issuer acts. What is under way meanwhile may pass it by a few.
    if !app.terminals.knows(caller) && app.terminals.count_of(request.prefix) >= app.share.links {
        tracing::warn!(issuer.prefix = %request.prefix, "an issuer has as many links as links_max");
        let detail = "this issuer has as many links as this hub keeps of one: tell the issuer";
        return Err(ApiProblem::new(ProblemCode::NotAccepted, detail).retry_after_s(60));
    }
    let answer = app.forwarder.carry(Errand::Link, route, Method::POST, "/v1/links", body).await?;
    if answer.is_ok() {
        keep(app, &request, &answer).await?;
    }
    Ok(forward::hand_on(answer))
}

/// Ends a link.
#[utoipa::path(delete, path = "/v1/links/{crd}", tag = "terminals", request_body = UnlinkRequest,
    params(("crd" = String, Path, description = "The credential, `crd_…`.")),
    description = "Signed by the terminal's key, twice: the call for the hub, the body for the issuer. Drops the \
                   credential's notices. Can be repeated for a day. Four calls of a credential are under way to its issuer \
                   at a time.",
    responses(
        (status = 200, description = "Unlinked.", body = UnlinkAnswer),
        (status = 400, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`credential_unknown`, `issuer_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_requests`, with Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`issuer_unavailable`, `not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn unlink(
    State(app): State<Arc<App>>,
    Path(credential): Path<String>,
    Caller(caller): Caller,
    RawBody(body): RawBody,
    Strict(request): Strict<UnlinkRequest>,
) -> Result<Response, ApiProblem> {
    let credential = CredentialId::parse(&credential)?;
    let link = app
        .terminals
        .link_or_ended(credential)
        .filter(|it| it.key.thumbprint() == caller)
        .ok_or_else(credential_unknown)?;
    let signed = unlink_message(credential, Timestamp::from_ms(request.at_ms));
    if !link.key.parse().verifies(&signed, &request.signature) {
        return Err(ApiProblem::new(
            ProblemCode::SignatureInvalid,
            "the signature in the body is not the linked key's over this credential and at_ms",
        ));
    }
    if link.ended_at.is_some() {
        let answer = UnlinkAnswer { credential_id: credential, status: "unlinked".to_owned() };
        return Ok(axum::Json(answer).into_response());
    }
    let published = app.feed.now();
    let place = Place::Partition(link.partition);
    let route = identify::route(&published.directory, link.prefix, place, clock::now())?;
    let path = format!("/v1/links/{credential}");
    let passing = app.under_way.begin(Errand::Unlink, credential)?;
    let answer = app.forwarder.carry(Errand::Unlink, route, Method::DELETE, &path, body).await?;
    drop(passing);
    let gone = ProblemCode::CredentialUnknown.name();
    if answer.is_ok() || answer.problem().is_some_and(|it| it.code == gone) {
        let now = clock::now();
        to_its_end(async move {
            app.store.end_link(credential, now).await?;
            app.terminals.end(credential, now);
            app.streams.end(credential);
            Ok(())
        })
        .await?;
    }
    Ok(forward::hand_on(answer))
}

/// A call that carries a key must be signed by it, even if its signer is known by another.
pub(crate) fn signed_by_carried(caller: Thumbprint, carried: Thumbprint) -> Result<(), ApiProblem> {
    if caller == carried {
        return Ok(());
    }
    let detail = "sign this call with the key that it carries";
    Err(ApiProblem::new(ProblemCode::SignatureInvalid, detail))
}

/// What the hub needs of the answer; the rest is between issuer and terminal.
#[derive(Deserialize)]
struct Linked {
    credential_id: CredentialId,
    partition: u8,
}

async fn keep(app: Arc<App>, request: &LinkRequest, answer: &Answer) -> Result<(), ApiProblem> {
    let unreadable = |why: &'static str| {
        let detail = "the issuer's answer can't be read";
        ApiProblem::new(ProblemCode::Internal, detail).caused_by(anyhow::anyhow!(why))
    };
    let outer: LinkAnswer =
        answer.json().map_err(|_| unreadable("a link's answer is not of its shape"))?;
    let inner: Linked = serde_json::from_slice(&outer.answer)
        .map_err(|_| unreadable("the inner part of a link's answer is not of its shape"))?;
    if inner.credential_id != outer.credential_id || inner.partition >= PARTITIONS {
        return Err(unreadable("the parts of a link's answer do not fit each other"));
    }
    let link = Link {
        credential: inner.credential_id,
        key: (&request.key).into(),
        prefix: request.prefix,
        partition: inner.partition,
        invitation: request.invitation_id,
        linked_at: clock::now(),
        ended_at: None,
    };
    let stored = to_its_end(async move {
        let stored = app.store.put_link(link.clone()).await?;
        if stored == LinkStored::Stored {
            app.terminals.put(link);
        }
        Ok(stored)
    });
    match stored.await? {
        LinkStored::Stored => Ok(()),
        LinkStored::Taken => Err(one_key_one_link()),
    }
}

/// Store and memory stay together: a handler is dropped when its caller hangs up, this is not.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, ApiProblem> {
    let done = tokio::spawn(work).await.unwrap_or(Err(StoreError::Lost));
    // Not `not_accepted`, whatever the store says: the issuer has acted.
    done.map_err(ApiProblem::internal)
}

fn one_key_one_link() -> ApiProblem {
    ApiProblem::new(
        ProblemCode::Conflict,
        "this key or credential belongs to another link: make a new key for every link",
    )
}
