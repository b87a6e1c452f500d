//! Linking a terminal, and ending the link. Called by the hub, which forwards what the terminal sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use warifu_core::decide::{Command, Link, Unlink};
use warifu_core::limits::Limits;
use warifu_core::place::{id_in, partition_of};
use warifu_proto::id::CredentialId;
use warifu_proto::limits::{ISSUED_SKEW_MAX_MS, LIFETIME_MAX_S};
use warifu_proto::link::unlink_message;
use warifu_proto::message::{
    AccountAbout, IssuerAbout, LimitsAbout, LinkAnswer, LinkRequest, LinkedAccount, UnlinkAnswer,
    UnlinkRequest,
};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::time::Timestamp;
use warifu_server::edge::Caller;
use warifu_server::json::Strict;
use warifu_server::problem::{ApiProblem, ApiResult};
use warifu_server::{chance, clock};

use crate::app::{App, PATIENCE};
use crate::engine::{Answer, CredentialState};

/// Binds a terminal's key to the account of an invitation.
///
/// Repeat: the same key and proof get the same answer until the invitation would have expired.
#[utoipa::path(post, path = "/v1/links", tag = "terminals", request_body = LinkRequest, responses(
    (status = 201, description = "linked", body = LinkAnswer), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, description = "proof_invalid", body = Problem), (status = 404, description = "invitation_unknown", body = Problem),
    (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    _hub: Caller,
    Strict(request): Strict<LinkRequest>,
) -> ApiResult<(StatusCode, Json<LinkAnswer>)> {
    request.check()?;
    if request.prefix != app.prefix() {
        return Err(ApiProblem::new(ProblemCode::Misdirected, "this issuer has another prefix"));
    }
    let partition = partition_of(request.invitation_id).ok_or_else(unknown_invitation)?;
    let credential: CredentialId = id_in(partition, clock::now(), chance::bytes());
    // The label is an erasable text: it is there before the link is.
    app.texts
        .put_credential_label(credential, &request.label)
        .await
        .map_err(ApiProblem::internal)?;
    let command = Command::Link(Link {
        prefix: request.prefix,
        invitation: request.invitation_id,
        key: request.key.clone(),
        proof: request.proof,
        credential,
    });
    match app.decide(partition, command, PATIENCE).await? {
        Answer::Credential(state) => Ok((StatusCode::CREATED, Json(answer(&app, &state).await?))),
        _ => Err(ApiProblem::internal(anyhow::anyhow!("the lane answered something else"))),
    }
}

fn unknown_invitation() -> ApiProblem {
    ApiProblem::new(ProblemCode::InvitationUnknown, "ask the issuer for a new invitation")
}

async fn answer(app: &App, state: &CredentialState) -> ApiResult<LinkAnswer> {
    let name = app.texts.account_name(state.account.id).await.map_err(ApiProblem::internal)?;
    let about = LinkedAccount {
        credential_id: state.id,
        partition: state.partition,
        account: AccountAbout {
            name: name.unwrap_or_default(),
            kind: state.account.kind,
            currency: state.account.currency.code,
            exponent: state.account.currency.exponent,
        },
        limits: limits_about(&state.limits.unwrap_or_else(|| app.config.limits.into())),
        issuer: IssuerAbout {
            id: app.config.id,
            name: app.config.name.clone(),
            prefix: app.prefix(),
            key: app.key.thumbprint(),
        },
    };
    let answer = serde_json::to_vec(&about)
        .map_err(|error| ApiProblem::internal(anyhow::Error::new(error)))?;
    let confirmation = state.keys.confirmation(state.id, &answer);
    Ok(LinkAnswer { credential_id: state.id, answer, confirmation })
}

/// Limits as the terminal shows them.
pub(crate) fn limits_about(limits: &Limits) -> LimitsAbout {
    LimitsAbout {
        lifetime_max_s: LIFETIME_MAX_S,
        payment_max_minor: limits.payment_max_minor,
        day_max_minor: limits.day_max_minor,
        day_count_max: limits.day_count_max,
        confirm_above_minor: limits.confirm_above_minor,
        confirm_above_count: limits.confirm_above_count,
        offline_max_minor: limits.offline_max_minor,
        offline_count_max: limits.offline_count_max,
    }
}

/// Ends a link. The terminal's own signature decides, whoever brings it.
///
/// Repeat: gets the same answer.
#[utoipa::path(delete, path = "/v1/links/{credential_id}", tag = "terminals", params(("credential_id" = String, Path,)), request_body = UnlinkRequest, responses(
    (status = 200, description = "unlinked", body = UnlinkAnswer), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 404, description = "credential_unknown", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn unlink(
    State(app): State<Arc<App>>,
    _hub: Caller,
    Path(credential): Path<String>,
    Strict(request): Strict<UnlinkRequest>,
) -> ApiResult<Json<UnlinkAnswer>> {
    let credential = CredentialId::parse(&credential)?;
    let key = app.credential_key(credential).await?;
    let at = Timestamp::from_ms(request.at_ms);
    if !key.key.verifies(&unlink_message(credential, at), &request.signature) {
        return Err(ApiProblem::new(
            ProblemCode::SignatureInvalid,
            "the wish to unlink is not signed by the terminal's key",
        ));
    }
    let now = clock::now();
    if now.since_ms(at).max(at.since_ms(now)) > ISSUED_SKEW_MAX_MS {
        // Not `clock_skew`: without an acknowledgement the terminal could not believe our time.
        let detail = "at_ms is more than two minutes off: set the terminal's clock";
        return Err(ApiProblem::new(ProblemCode::Unprocessable, detail));
    }
    let partition = partition_of(credential).unwrap_or_default();
    app.decide(
        partition,
        Command::Unlink(Unlink { credential, signed_by: Some(key.xy) }),
        PATIENCE,
    )
    .await?;
    Ok(Json(UnlinkAnswer { credential_id: credential, status: "unlinked".to_owned() }))
}
