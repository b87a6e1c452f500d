//! `/openapi.json`: made from the handlers themselves.

use axum::Json;
use utoipa::OpenApi;

use crate::api::{admin, codes, links, payments};

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
        admin::open_account,
        admin::accounts,
        admin::top_up,
        admin::invite,
        admin::payments
    )
)]
struct Api;

/// Shows the description of all calls.
pub(crate) async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}
