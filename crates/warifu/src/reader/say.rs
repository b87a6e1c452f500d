//! How attempts and outcomes read for people and for programs. The code is never among it.

use serde_json::{Value, json};
use warifu_proto::directory::Directory;
use warifu_proto::message::{Payment, PaymentStatus};
use warifu_proto::money::Money;
use warifu_reader::change::{Change, Deed, Settled};
use warifu_reader::{Record, Standing, Why};

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

/// A reversed one for the cashier.
pub(super) fn reversed(record: &Record) -> String {
    format!("reversed: nothing was paid\nrequest {}", record.request_id)
}

/// Where an attempt stands, in a word.
pub(super) fn standing(record: &Record) -> &'static str {
    match &record.standing {
        Standing::Open | Standing::Unknown => "open",
        Standing::Reversing { .. } => "reversing",
        Standing::Reversed { .. } => "reversed",
        Standing::Decided { payment } => word(payment.status),
        Standing::Refused { .. } => "refused",
        Standing::NotTaken => "not_taken",
    }
}

/// Why a reversal is not acknowledged, for the cashier.
pub(super) fn why(why: &Why) -> String {
    match why {
        Why::NoAnswer => "no answer that can be believed".to_owned(),
        Why::Refused(problem) => format!("the issuer refuses the reversal: {}", problem.title),
    }
}

/// An attempt for a program.
pub(super) fn object(record: &Record) -> Value {
    let (payment, problem) = match &record.standing {
        Standing::Decided { payment } => (Some(payment), None),
        Standing::Refused { problem } => (None, Some(problem)),
        Standing::Open
        | Standing::Unknown
        | Standing::NotTaken
        | Standing::Reversing { .. }
        | Standing::Reversed { .. } => (None, None),
    };
    json!({
        "request_id": record.request_id,
        "outcome": standing(record),
        "paid": record.standing.is_paid(),
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

/// What a change does, in a word.
pub(super) fn deed(deed: &Deed) -> &'static str {
    match deed {
        Deed::Refund { .. } => "refund",
        Deed::Capture { .. } => "capture",
        Deed::Release => "release",
    }
}

/// How much a change is about.
pub(super) fn deed_amount(deed: &Deed) -> Option<Money> {
    match deed {
        Deed::Refund { amount, .. } | Deed::Capture { amount } => Some(*amount),
        Deed::Release => None,
    }
}

/// Where a change stands, in a word.
pub(super) fn settled(standing: &Settled) -> &'static str {
    match standing {
        Settled::Open => "open",
        Settled::Done { .. } => "done",
        Settled::Refused { .. } => "refused",
    }
}

/// A refund, capture or release for a program.
pub(super) fn change(change: &Change) -> Value {
    let (id, problem) = match &change.standing {
        Settled::Done { id, .. } => (id.as_deref(), None),
        Settled::Refused { problem } => (None, Some(problem)),
        Settled::Open => (None, None),
    };
    json!({
        "request_id": change.request_id,
        "what": deed(&change.deed),
        "outcome": settled(&change.standing),
        "amount": deed_amount(&change.deed),
        "till_id": change.till_id,
        "of_request_id": change.attempt,
        "payment_id": change.payment_id,
        "created_at": change.created_at,
        "id": id,
        "problem": problem,
    })
}
