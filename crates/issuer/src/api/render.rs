//! Payments as they cross the wire.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;
use warifu_core::payment::{Payment as Known, PaymentPlace, payment_id};
use warifu_core::place::id_in;
use warifu_proto::code::Prefix;
use warifu_proto::id::{AccountId, Id, Kind, PaymentId};
use warifu_proto::message::{Payment, RejectionAbout};
use warifu_proto::money::{Money, Sum};
use warifu_proto::rejection::Language;
use warifu_server::problem::ApiResult;

use crate::engine::PaymentState;

/// The language that the caller asks for.
pub(crate) fn language(headers: &HeaderMap) -> Language {
    Language::accept(headers.get(ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok()))
}

/// The id of a payment.
pub(crate) fn id_of(prefix: Prefix, partition: u8, payment: &Known) -> PaymentId {
    let place = PaymentPlace { partition, first_sequence: payment.first_sequence };
    payment_id(prefix, place, payment.decided_at)
}

/// The id of a capture or refund: made of what never changes, so that a repeat gets the same one.
pub(crate) fn change_id<K: Kind>(partition: u8, payment: &Known, sequence: u64) -> Id<K> {
    id_in(partition, payment.decided_at, sequence.to_be_bytes())
}

/// A payment as it stands.
pub(crate) fn render(
    prefix: Prefix,
    state: &PaymentState,
    language: Language,
) -> ApiResult<Payment> {
    let payment = &state.payment;
    let sum = |minor: u64| Sum {
        minor: i64::try_from(minor).unwrap_or(i64::MAX),
        currency: payment.currency,
    };
    Ok(Payment {
        payment_id: id_of(prefix, state.partition, payment),
        request_id: payment.request.clone(),
        status: payment.status,
        amount: Money::new(payment.amount_minor, payment.currency)?,
        captured: sum(payment.captured_minor),
        refunded: sum(payment.refunded_minor),
        rejection: payment.rejection.map(|it| RejectionAbout::new(it, language)),
        expires_at: payment.expires_at,
        account_hint: state.account.map_or_else(String::new, hint),
        decided_at: payment.decided_at,
        sequence: format!("{:02}.{:016}", state.partition, payment.last_sequence),
    })
}

/// The last four characters of the account's id: tells two payers apart, names nobody.
fn hint(account: AccountId) -> String {
    let text = account.to_string();
    text.get(text.len().saturating_sub(4)..).unwrap_or_default().to_owned()
}
