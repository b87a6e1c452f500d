//! The issuer's HTTP calls, one file a noun. Every handler is the same steps: parse, hand a command to the lane, render
//! its answer. Signatures were checked by the edge before, and answers are signed by it after.

pub(crate) mod admin;
pub(crate) mod changes;
pub(crate) mod codes;
pub(crate) mod confirmations;
pub(crate) mod events;
pub(crate) mod links;
pub(crate) mod operator;
pub(crate) mod payments;
mod render;
pub(crate) mod verify;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};

use crate::app::App;

/// All routes of the issuer.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/links", post(links::link))
        .route("/v1/links/{credential_id}", delete(links::unlink))
        .route("/v1/codes", post(codes::register))
        .route("/v1/payments", post(payments::pay).get(payments::find))
        .route("/v1/payments/{payment_id}", get(payments::show))
        .route("/v1/payments/{payment_id}/captures", post(changes::capture))
        .route("/v1/payments/{payment_id}/release", post(changes::release))
        .route("/v1/payments/{payment_id}/refunds", post(changes::refund))
        .route("/v1/reversals", post(changes::reverse))
        .route("/v1/confirmations", post(confirmations::confirm))
        .route("/v1/events", get(events::read))
        .route("/admin/v1/accounts/{account_id}", get(operator::account))
        .route("/admin/v1/accounts/{account_id}/standing", put(operator::stand))
        .route("/admin/v1/accounts/{account_id}/limits", put(operator::limit))
        .route("/admin/v1/credentials/{credential_id}/standing", put(operator::stand_credential))
        .route("/admin/v1/verify", post(verify::run))
        .route("/admin/v1/credentials", get(operator::credentials))
        .route("/admin/v1/credentials/{credential_id}", delete(operator::unlink))
        .route("/admin/v1/accounts", post(admin::open_account).get(admin::accounts))
        .route("/admin/v1/accounts/{account_id}/top-ups", post(admin::top_up))
        .route("/admin/v1/invitations", post(admin::invite))
        .route("/admin/v1/payments", get(admin::payments))
        .route("/openapi.json", get(crate::openapi::show))
        .with_state(app)
}
