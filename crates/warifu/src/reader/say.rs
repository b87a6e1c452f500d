//! How attempts and outcomes read for people and for programs. The code is never among it.

use serde_json::{Value, json};
use warifu_proto::directory::Directory;
use warifu_proto::message::{Payment, PaymentStatus};
use warifu_proto::money::Money;
use warifu_reader::{Outcome, Record, Standing, Why};

use crate::terminal::amount;

/// An amount as people write it.
pub(super) fn money(money: Money, directory: Option<&Directory>) -> String {
    let code = money.currency();
    amount(i128::from(money.minor()), code, directory.and_then(|it| it.currency(code)))
}

/// A status as it stands on the wire.
pub(super) fn word(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Approved => "approved",
        PaymentStatus::Held => "held",
        PaymentStatus::AwaitingPayer => "awaiting_payer",
        PaymentStatus::Declined => "declined",
        PaymentStatus::Reversed => "reversed",
        PaymentStatus::Released => "released",
        PaymentStatus::Expired => "expired",
        PaymentStatus::Unknown => "unknown",
    }
}

/// Whether the goods may be handed over.
pub(super) fn is_good(payment: &Payment) -> bool {
    matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Held)
}

/// A decided payment in a line or two for the cashier.
pub(super) fn decided(payment: &Payment, amount: &str) -> String {
    let status = word(payment.status);
    let mut text = match &payment.rejection {
        Some(rejection) => format!("{status}: {}", rejection.cashier),
        None if is_good(payment) => format!("{status}: {amount}"),
        None => format!("{status}: nothing was paid"),
    };
    if is_good(payment) && !payment.account_hint.is_empty() {
        text.push_str(&format!(" from {}", payment.account_hint));
    }
    if is_good(payment) && payment.refunded.minor != 0 {
        text.push_str(", refunds were made since");
    }
    text.push_str(&format!("\npayment {}, request {}", payment.payment_id, payment.request_id));
    text
}

/// Where an attempt stands, in a word.
pub(super) fn standing(record: &Record) -> &'static str {
    match &record.standing {
        Standing::Open | Standing::Unknown => "unknown",
        Standing::Decided { payment } => word(payment.status),
        Standing::Refused { .. } => "refused",
        Standing::NotTaken => "not_taken",
    }
}

/// Why nobody knows, for the cashier.
pub(super) fn why(why: &Why) -> String {
    match why {
        Why::NoAnswer => "no answer that can be believed".to_owned(),
        Why::NotKnown => "the issuer does not know it, but it may still be on its way".to_owned(),
        Why::NotFinal(PaymentStatus::AwaitingPayer) => "the payer has not answered yet".to_owned(),
        Why::NotFinal(status) => format!("the issuer says {}, which is not final", word(*status)),
        Why::NotAnswered(problem) => format!("the issuer answers: {}", problem.title),
    }
}

/// An attempt for a program.
pub(super) fn object(record: &Record) -> Value {
    let (payment, problem) = match &record.standing {
        Standing::Decided { payment } => (Some(payment), None),
        Standing::Refused { problem } => (None, Some(problem)),
        Standing::Open | Standing::Unknown | Standing::NotTaken => (None, None),
    };
    json!({
        "request_id": record.request_id,
        "outcome": standing(record),
        "amount": record.amount,
        "route": record.route.to_string(),
        "issuer_id": record.issuer,
        "order_id": record.order_id,
        "description": record.description,
        "created_at": record.created_at,
        "payment": payment,
        "problem": problem,
    })
}

/// The same for one that has just ended.
pub(super) fn ended(record: &Record, outcome: &Outcome) -> Value {
    let mut object = object(record);
    if let (Outcome::Unknown(reason), Some(fields)) = (outcome, object.as_object_mut()) {
        fields.insert("why".to_owned(), Value::from(why(reason)));
    }
    object
}
