//! The operator's calls: open an account, top up, invite, list. Only the operator's key may call them.
//!
//! Writing goes through the lane like everything else; listing reads the views, which may lag by a moment.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use warifu_core::decide::{Command, Invite, OpenAccount, TopUp};
use warifu_core::place::{id_in, partition_of};
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{AccountId, InvitationId};
use warifu_proto::limits::{MINOR_MAX, NAME_MAX};
use warifu_proto::link::InvitationLink;
use warifu_proto::mac;
use warifu_proto::message::{AccountKind, check_text};
use warifu_proto::money::{Money, Sum};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::request_id::RequestId;
use warifu_server::edge::Caller;
use warifu_server::json::{Query, Strict};
use warifu_server::problem::{ApiProblem, ApiResult};
use warifu_server::{chance, clock};
use zeroize::Zeroizing;

use crate::app::{App, PATIENCE};
use crate::engine::{AccountState, Answer};

/// Wish for an account.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountWish {
    /// The operator's own id of this wish: repeating it is safe.
    #[schema(value_type = String)]
    request_id: RequestId,
    /// For people: kept outside of the journal, erasable.
    name: String,
    /// The issuer's own when missing.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    currency: Option<CurrencyCode>,
    /// The issuer's own when missing.
    #[serde(default)]
    kind: Option<AccountKind>,
    /// For pay-later, in minor units.
    #[serde(default)]
    credit_limit_minor: Option<u64>,
}

/// An account that was opened.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AccountOpened {
    #[schema(value_type = String)]
    account_id: AccountId,
    partition: u8,
    kind: AccountKind,
    #[schema(value_type = String)]
    currency: CurrencyCode,
    name: String,
}

/// Opens an account. Repeat: the same request gets the same account.
#[utoipa::path(post, path = "/admin/v1/accounts", tag = "operator", request_body = AccountWish, responses(
    (status = 201, description = "opened", body = AccountOpened), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 409, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn open_account(
    State(app): State<Arc<App>>,
    caller: Caller,
    Strict(wish): Strict<AccountWish>,
) -> ApiResult<(StatusCode, Json<AccountOpened>)> {
    app.check_operator(&caller)?;
    check_text("name", &wish.name, NAME_MAX)?;
    let kind = wish.kind.unwrap_or(app.config.kind);
    let code = wish.currency.unwrap_or(app.config.currency);
    let unknown = || {
        ApiProblem::new(
            ProblemCode::Unprocessable,
            "no such currency: give an ISO 4217 code, or let the registrar add it to the directory",
        )
    };
    let currency = app.directory().currency(code).ok_or_else(unknown)?;
    let credit_limit_minor = wish.credit_limit_minor.unwrap_or_default();
    if credit_limit_minor > MINOR_MAX || (kind == AccountKind::Prepaid && credit_limit_minor != 0) {
        let detail =
            "credit_limit_minor lies in 0 to 999999999999999 and goes with kind credit only";
        return Err(ApiProblem::new(ProblemCode::Unprocessable, detail));
    }
    // A repeat must find the partition of the first wish, so the request id chooses it.
    let [chosen, ..] = mac::sha256(&[wish.request_id.as_str().as_bytes()]);
    let partition = chosen % app.config.partitions;
    let account: AccountId = id_in(partition, clock::now(), chance::bytes());
    let digest = app.digest(&[
        "account",
        &wish.name,
        code.as_str(),
        &format!("{kind:?}"),
        &credit_limit_minor.to_string(),
    ]);
    app.texts.put_account_name(account, &wish.name).await.map_err(ApiProblem::internal)?;
    let request = wish.request_id;
    let command = Command::OpenAccount(OpenAccount {
        request,
        digest,
        account,
        kind,
        currency,
        credit_limit_minor,
    });
    let state = account_state(app.decide(partition, command, PATIENCE).await?)?;
    let opened = AccountOpened {
        account_id: state.account.id,
        partition: state.partition,
        kind,
        currency: code,
        name: wish.name,
    };
    Ok((StatusCode::CREATED, Json(opened)))
}

fn account_state(answer: Answer) -> ApiResult<AccountState> {
    match answer {
        Answer::Account(state) => Ok(state),
        _ => Err(ApiProblem::internal(anyhow::anyhow!("the lane answered something else"))),
    }
}

/// Word that money came in.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopUpWish {
    /// The operator's own id of this top-up: repeating it is safe.
    #[schema(value_type = String)]
    request_id: RequestId,
    /// How much.
    amount: Money,
}

/// An account after a top-up.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ToppedUp {
    #[schema(value_type = String)]
    account_id: AccountId,
    /// As it stands now.
    balance: Sum,
}

/// Puts money into an account. Repeat: moves nothing, shows the balance as it stands.
#[utoipa::path(post, path = "/admin/v1/accounts/{account_id}/top-ups", tag = "operator", params(("account_id" = String, Path,)), request_body = TopUpWish, responses(
    (status = 201, description = "topped up", body = ToppedUp), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn top_up(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
    Strict(wish): Strict<TopUpWish>,
) -> ApiResult<(StatusCode, Json<ToppedUp>)> {
    app.check_operator(&caller)?;
    let account = AccountId::parse(&account)?;
    let partition = partition_of(account).ok_or_else(no_account)?;
    let amount = wish.amount;
    let digest = app.digest(&[
        "top-up",
        &account.to_string(),
        &amount.minor().to_string(),
        amount.currency().as_str(),
    ]);
    let command = Command::TopUp(TopUp { request: wish.request_id, digest, account, amount });
    let state = account_state(app.decide(partition, command, PATIENCE).await?)?;
    let balance = Sum { minor: state.account.balance_minor, currency: state.account.currency.code };
    Ok((StatusCode::CREATED, Json(ToppedUp { account_id: state.account.id, balance })))
}

pub(crate) fn no_account() -> ApiProblem {
    ApiProblem::new(ProblemCode::NotFound, "no such account: list them with warifu issuer accounts")
}

/// Wish for an invitation.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationWish {
    /// To which account.
    #[schema(value_type = String)]
    account_id: AccountId,
}

/// An invitation, to be handed to the payer out of band.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Invitation {
    #[schema(value_type = String)]
    invitation_id: InvitationId,
    #[schema(value_type = String)]
    account_id: AccountId,
    /// A secret: whoever has it first can link a terminal to the account.
    link: String,
    expires_ms: u64,
}

/// Invites one terminal to link itself to an account, within 15 minutes. Repeat: makes another invitation.
#[utoipa::path(post, path = "/admin/v1/invitations", tag = "operator", request_body = InvitationWish, responses(
    (status = 201, description = "invited", body = Invitation), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn invite(
    State(app): State<Arc<App>>,
    caller: Caller,
    Strict(wish): Strict<InvitationWish>,
) -> ApiResult<(StatusCode, Json<Invitation>)> {
    app.check_operator(&caller)?;
    let account = wish.account_id;
    let partition = partition_of(account).ok_or_else(no_account)?;
    let invitation: InvitationId = id_in(partition, clock::now(), chance::bytes());
    let secret = Zeroizing::new(chance::bytes::<32>());
    let command = Command::Invite(Invite { account, invitation, secret: secret.clone() });
    let Answer::Invited { invitation, expires_at } =
        app.decide(partition, command, PATIENCE).await?
    else {
        return Err(ApiProblem::internal(anyhow::anyhow!("the lane answered something else")));
    };
    let page = format!("{}/wallet", app.config.hub.trim_end_matches('/'));
    let link =
        InvitationLink { page, prefix: app.prefix(), invitation, secret, registrar: app.registrar };
    let invitation = Invitation {
        invitation_id: invitation,
        account_id: account,
        link: link.to_string(),
        expires_ms: expires_at.as_ms(),
    };
    Ok((StatusCode::CREATED, Json(invitation)))
}

/// A part of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    pub(crate) after: Option<String>,
    pub(crate) limit: Option<usize>,
}

impl Page {
    /// The place that a former answer named.
    pub(crate) fn after(&self) -> ApiResult<Option<i64>> {
        let bad =
            |_| ApiProblem::new(ProblemCode::Malformed, "after must be `next` of a former answer");
        self.after.as_deref().map(|text| text.parse().map_err(bad)).transpose()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, warifu_proto::limits::PAGE_MAX)
    }
}

/// Lists accounts, by partition.
#[utoipa::path(get, path = "/admin/v1/accounts", tag = "operator", params(("after" = Option<String>, Query,), ("limit" = Option<usize>, Query,)), responses(
    (status = 200, description = "some accounts, and where to go on"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 421, body = Problem)))]
pub(crate) async fn accounts(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(page): Query<Page>,
) -> ApiResult<Json<serde_json::Value>> {
    app.check_operator(&caller)?;
    let listed =
        app.views.accounts(page.after()?, page.limit()).await.map_err(ApiProblem::internal)?;
    let mut accounts = Vec::with_capacity(listed.rows.len());
    for row in listed.rows {
        let name = app.texts.account_name(row.account_id).await.map_err(ApiProblem::internal)?;
        accounts.push(serde_json::json!({
            "account_id": row.account_id, "name": name, "partition": row.partition, "kind": row.kind,
            "currency": row.currency, "exponent": row.exponent, "balance_minor": row.balance_minor,
            "reserved_minor": row.reserved_minor, "standing": row.standing,
            "credit_limit_minor": row.floor_minor.unsigned_abs(), "credentials": row.credentials,
        }));
    }
    Ok(Json(serde_json::json!({ "accounts": accounts, "next": listed.next })))
}

/// Lists payments, newest first.
#[utoipa::path(get, path = "/admin/v1/payments", tag = "operator", params(("after" = Option<String>, Query,), ("limit" = Option<usize>, Query,)), responses(
    (status = 200, description = "some payments, and where to go on"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 421, body = Problem)))]
pub(crate) async fn payments(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(page): Query<Page>,
) -> ApiResult<Json<serde_json::Value>> {
    app.check_operator(&caller)?;
    let listed = app
        .views
        .payments(page.after()?, page.limit(), None)
        .await
        .map_err(ApiProblem::internal)?;
    let directory = app.directory();
    let mut payments = Vec::with_capacity(listed.rows.len());
    for row in listed.rows {
        let merchant = directory.merchant(row.merchant_id).map(|it| it.name.clone());
        let request = RequestId::parse(&row.request_id)?;
        let texts = app
            .texts
            .payment_texts(row.merchant_id, &request)
            .await
            .map_err(ApiProblem::internal)?;
        payments.push(serde_json::json!({
                "payment_id": row.payment_id, "request_id": row.request_id, "status": row.status,
            "amount": { "minor": row.amount_minor, "currency": row.currency },
            "captured_minor": row.captured_minor, "refunded_minor": row.refunded_minor, "order_id": texts.order_id,
            "merchant_id": row.merchant_id, "merchant": merchant, "account_id": row.account_id,
            "decided_at": row.decided_at, "rejection": row.rejection,
        }));
    }
    Ok(Json(serde_json::json!({ "payments": payments, "next": listed.next })))
}
