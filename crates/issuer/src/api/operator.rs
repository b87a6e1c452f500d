//! The operator's word on accounts and terminals: look, freeze, close, limit, suspend, unlink. Repeating any of them does
//! nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use warifu_core::account::AccountStanding;
use warifu_core::decide::{Command, Limit, StandAccount, StandCredential, Unlink};
use warifu_core::place::partition_of;
use warifu_proto::id::{AccountId, CredentialId};
use warifu_proto::limits::PARTITIONS;
use warifu_proto::message::{AccountKind, LimitsAbout};
use warifu_proto::money::Sum;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::edge::Caller;
use warifu_server::json::{Query, Strict};
use warifu_server::problem::{ApiProblem, ApiResult};

use super::admin::{Page, no_account};
use super::links::limits_about;
use crate::app::{App, PATIENCE, problem};
use crate::config::LimitsConfig;
use crate::engine::{AccountState, Answer, Ask, Refused};

/// Whether an account can pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StandingWord {
    /// Yes.
    Active,
    /// Not now.
    Frozen,
    /// Never again. What it holds is paid out to the outside world.
    Closed,
}

impl From<AccountStanding> for StandingWord {
    fn from(it: AccountStanding) -> Self {
        match it {
            AccountStanding::Active => Self::Active,
            AccountStanding::Frozen => Self::Frozen,
            AccountStanding::Closed => Self::Closed,
        }
    }
}

impl From<StandingWord> for AccountStanding {
    fn from(it: StandingWord) -> Self {
        match it {
            StandingWord::Active => Self::Active,
            StandingWord::Frozen => Self::Frozen,
            StandingWord::Closed => Self::Closed,
        }
    }
}

/// An account as it stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AccountNow {
    #[schema(value_type = String)]
    account_id: AccountId,
    partition: u8,
    kind: AccountKind,
    standing: StandingWord,
    /// What it holds, with what is reserved.
    balance: Sum,
    /// What is reserved by payments that are held or wait for their payer.
    reserved: Sum,
    /// What its balance may go down to.
    floor: Sum,
    /// What holds for it.
    limits: LimitsAbout,
    /// Whether these limits are its own.
    has_own_limits: bool,
}

fn show(app: &App, state: &AccountState) -> Json<AccountNow> {
    let account = &state.account;
    let sum = |minor| Sum { minor, currency: account.currency.code };
    Json(AccountNow {
        account_id: account.id,
        partition: state.partition,
        kind: account.kind,
        standing: account.standing.into(),
        balance: sum(account.balance_minor),
        reserved: sum(i64::try_from(account.reserved_minor).unwrap_or(i64::MAX)),
        floor: sum(account.floor_minor),
        limits: limits_about(&state.limits.unwrap_or_else(|| app.config.limits.into())),
        has_own_limits: state.limits.is_some(),
    })
}

fn account_place(text: &str) -> ApiResult<(AccountId, u8)> {
    let account = AccountId::parse(text)?;
    let partition = partition_of(account).filter(|it| *it < PARTITIONS).ok_or_else(no_account)?;
    Ok((account, partition))
}

async fn decide(app: &App, partition: u8, command: Command) -> ApiResult<Json<AccountNow>> {
    match app.decide(partition, command, PATIENCE).await? {
        Answer::Account(state) => Ok(show(app, &state)),
        _ => Err(problem(Refused::NotFound)),
    }
}

/// Shows an account as it stands now.
#[utoipa::path(get, path = "/admin/v1/accounts/{account_id}", tag = "operator", params(("account_id" = String, Path,)), responses(
    (status = 200, description = "as it stands", body = AccountNow), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn account(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
) -> ApiResult<Json<AccountNow>> {
    app.check_operator(&caller)?;
    let (account, partition) = account_place(&account)?;
    match app.ask(partition, Ask::Account(account)).await? {
        Answer::Account(state) => Ok(show(&app, &state)),
        _ => Err(no_account()),
    }
}

/// How an account shall stand.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StandingWish {
    standing: StandingWord,
}

/// Freezes, unfreezes or closes an account. Closing needs that nothing is reserved and no debt is left, and is final.
#[utoipa::path(put, path = "/admin/v1/accounts/{account_id}/standing", tag = "operator", params(("account_id" = String, Path,)), request_body = StandingWish, responses(
    (status = 200, description = "so it stands now", body = AccountNow), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "conflict: money is reserved, or owed", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem),
    (status = 422, description = "account_closed", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn stand(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
    Strict(wish): Strict<StandingWish>,
) -> ApiResult<Json<AccountNow>> {
    app.check_operator(&caller)?;
    let (account, partition) = account_place(&account)?;
    let standing = wish.standing.into();
    decide(&app, partition, Command::StandAccount(StandAccount { account, standing })).await
}

/// An account's own limits, all of them; null for the issuer's.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsWish {
    limits: Option<LimitsConfig>,
}

/// Gives an account limits of its own, or the issuer's again.
#[utoipa::path(put, path = "/admin/v1/accounts/{account_id}/limits", tag = "operator", params(("account_id" = String, Path,)), request_body = LimitsWish, responses(
    (status = 200, description = "so it stands now", body = AccountNow), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn limit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
    Strict(wish): Strict<LimitsWish>,
) -> ApiResult<Json<AccountNow>> {
    app.check_operator(&caller)?;
    let (account, partition) = account_place(&account)?;
    let limits = wish.limits.map(Into::into);
    decide(&app, partition, Command::Limit(Limit { account, limits })).await
}

/// A terminal's link as it stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CredentialNow {
    #[schema(value_type = String)]
    credential_id: CredentialId,
    #[schema(value_type = String)]
    account_id: AccountId,
    suspended: bool,
}

/// Whether a terminal shall not pay.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialWish {
    suspended: bool,
}

fn credential_place(text: &str) -> ApiResult<(CredentialId, u8)> {
    let credential = CredentialId::parse(text)?;
    let unknown = || ApiProblem::new(ProblemCode::CredentialUnknown, "no terminal has this id");
    let partition = partition_of(credential).filter(|it| *it < PARTITIONS).ok_or_else(unknown)?;
    Ok((credential, partition))
}

/// Suspends one terminal of an account, or lets it pay again.
#[utoipa::path(put, path = "/admin/v1/credentials/{credential_id}/standing", tag = "operator", params(("credential_id" = String, Path,)), request_body = CredentialWish, responses(
    (status = 200, description = "so it stands now", body = CredentialNow), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn stand_credential(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(credential): Path<String>,
    Strict(wish): Strict<CredentialWish>,
) -> ApiResult<Json<CredentialNow>> {
    app.check_operator(&caller)?;
    let (credential, partition) = credential_place(&credential)?;
    let is_suspended = wish.suspended;
    let command = Command::StandCredential(StandCredential { credential, is_suspended });
    match app.decide(partition, command, PATIENCE).await? {
        Answer::Credential(state) => Ok(Json(CredentialNow {
            credential_id: credential,
            account_id: state.account.id,
            suspended: state.is_suspended,
        })),
        _ => Err(problem(Refused::NotFound)),
    }
}

/// A part of a list, of one account or of all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    account_id: Option<AccountId>,
    after: Option<String>,
    limit: Option<usize>,
}

/// Lists terminals, by partition, with what their payers call them.
#[utoipa::path(get, path = "/admin/v1/credentials", tag = "operator", params(("account_id" = Option<String>, Query,), ("after" = Option<String>, Query,), ("limit" = Option<usize>, Query,)), responses(
    (status = 200, description = "some terminals, and where to go on"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 421, body = Problem)))]
pub(crate) async fn credentials(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<serde_json::Value>> {
    app.check_operator(&caller)?;
    let page = Page { after: wanted.after, limit: wanted.limit };
    let listed = app
        .views
        .credentials(page.after()?, page.limit(), wanted.account_id)
        .await
        .map_err(ApiProblem::internal)?;
    let mut credentials = Vec::with_capacity(listed.rows.len());
    for row in listed.rows {
        let id = CredentialId::parse(&row.credential_id)?;
        let label = app.texts.credential_label(id).await.map_err(ApiProblem::internal)?;
        credentials.push(serde_json::json!({
            "credential_id": id, "account_id": row.account_id, "label": label, "standing": row.standing,
        }));
    }
    Ok(Json(serde_json::json!({ "credentials": credentials, "next": listed.next })))
}

/// What was unlinked.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct UnlinkedByOperator {
    #[schema(value_type = String)]
    credential_id: CredentialId,
    status: String,
}

/// Ends the link of a terminal for good: a lost phone. Its codes end at once.
#[utoipa::path(delete, path = "/admin/v1/credentials/{credential_id}", tag = "operator", params(("credential_id" = String, Path,)), responses(
    (status = 200, description = "unlinked", body = UnlinkedByOperator), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn unlink(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(credential): Path<String>,
) -> ApiResult<Json<UnlinkedByOperator>> {
    app.check_operator(&caller)?;
    let (credential, partition) = credential_place(&credential)?;
    let command = Command::Unlink(Unlink { credential, signed_by: None });
    app.decide(partition, command, PATIENCE).await?;
    Ok(Json(UnlinkedByOperator { credential_id: credential, status: "unlinked".to_owned() }))
}
