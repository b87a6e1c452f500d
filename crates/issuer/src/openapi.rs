//! `/openapi.json`: made from the handlers themselves.

use axum::Json;
use utoipa::OpenApi;

use crate::api::{admin, changes, codes, confirmations, events, links, operator, payments, verify};

#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Warifu issuer",
        description = "The second settlement server: links, codes, payments. Calls are signed by RFC 9421; see docs/protocol.md."
    ),
    paths(
        links::link,
        links::unlink,
        codes::register,
        payments::pay,
        payments::show,
        payments::find,
        changes::capture,
        changes::release,
        changes::refund,
        changes::reverse,
        confirmations::confirm,
        events::read,
        admin::open_account,
        admin::accounts,
        admin::top_up,
        admin::invite,
        admin::payments,
        operator::account,
        operator::stand,
        operator::limit,
        operator::credentials,
        operator::stand_credential,
        operator::unlink,
        verify::run
    )
)]
struct Api;

/// Shows the description of all calls.
pub(crate) async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}
