//! What the till sends and what it gets, as JSON. Requests refuse unknown fields.

use serde::Deserialize;
use serde_json::{Value, json};
use warifu_proto::Malformed;
use warifu_proto::limits::{DESCRIPTION_MAX, ORDER_ID_MAX};
use warifu_proto::message::{Capture, PaymentStatus, check_text};
use warifu_proto::money::Money;
use warifu_reader::change::{Change, Settled};
use warifu_reader::{Record, Standing};

use super::errors::{Answer, Fault};
use crate::reader::later::rest;
use crate::reader::say;

/// `POST /pay`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PayBody {
    pub(super) order_id: String,
    pub(super) amount: Money,
    pub(super) code: String,
    pub(super) description: Option<String>,
    pub(super) deadline_ms: Option<u64>,
    pub(super) capture: Option<Capture>,
}

/// `POST /refund`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundBody {
    pub(super) order_id: String,
    pub(super) refund_id: String,
    pub(super) amount: Option<Money>,
    pub(super) reason: Option<String>,
}

impl RefundBody {
    pub(super) fn check(&self) -> Result<(), Malformed> {
        check_id("refund_id", &self.refund_id)?;
        self.reason.as_deref().map_or(Ok(()), |it| check_text("reason", it, DESCRIPTION_MAX))
    }
}

/// `POST /capture`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaptureBody {
    pub(super) order_id: String,
    pub(super) amount: Option<Money>,
}

/// `POST /release`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseBody {
    pub(super) order_id: String,
}

/// The till's ids have the limits of the protocol's order ids.
pub(super) fn check_id(what: &'static str, id: &str) -> Result<(), Malformed> {
    let is_good =
        (1..=ORDER_ID_MAX).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_graphic());
    if is_good {
        Ok(())
    } else {
        Err(Malformed::new(what, "must be 1 to 64 visible ASCII characters"))
    }
}

/// How an attempt ended: the answer to `POST /pay` and to a cancellation.
pub(super) fn outcome(record: &Record, attempts: usize) -> Value {
    let mut answer = attempt(record);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("order_id".to_owned(), json!(record.order_id));
        fields.insert("attempts".to_owned(), json!(attempts));
        fields.insert("cashier".to_owned(), json!(cashier(record)));
    }
    answer
}

/// One attempt of an order.
pub(super) fn attempt(record: &Record) -> Value {
    let (payment, problem) = match &record.standing {
        Standing::Decided { payment } => (Some(payment), None),
        Standing::Reversing { told, .. } => (told.as_ref(), None),
        Standing::Refused { problem } => (None, Some(problem)),
        Standing::Open | Standing::Unknown | Standing::Reversed { .. } | Standing::NotTaken => {
            (None, None)
        }
    };
    let mut answer = json!({
        "request_id": record.request_id,
        "result": say::standing(record),
        "paid": is_paid(record),
        "amount": record.amount,
        "time": record.created_at,
    });
    if let Some(fields) = answer.as_object_mut() {
        let mut put = |name: &str, it: Option<Value>| {
            it.map(|it| fields.insert(name.to_owned(), it));
        };
        put("payment", payment.map(|it| json!(it)));
        put("problem", problem.map(|it| json!(it)));
    }
    answer
}

/// An order with all that was tried for it.
pub(super) fn order(order_id: &str, attempts: &[Record], changes: &[Change]) -> Answer<Value> {
    let last = attempts.iter().rev().find(|it| it.standing.claims_order()).or(attempts.last());
    let last = last.ok_or_else(Fault::no_order)?;
    Ok(json!({
        "order_id": order_id,
        "result": say::standing(last),
        "paid": is_paid(last),
        "amount": last.amount,
        "cashier": cashier(last),
        "attempts": attempts.iter().map(attempt).collect::<Vec<_>>(),
        "changes": changes.iter().map(say::change).collect::<Vec<_>>(),
    }))
}

/// One line of the cashier's history.
pub(super) fn recent(record: &Record) -> Value {
    json!({
        "time": record.created_at,
        "order_id": record.order_id,
        "amount": record.amount,
        "result": say::standing(record),
        "paid": is_paid(record),
        "request_id": record.request_id,
    })
}

/// A refund, capture or release that was answered or is still being repeated.
pub(super) fn change(order_id: &str, change: &Change) -> Answer<Value> {
    let (is_done, payment) = match &change.standing {
        Settled::Done { payment, .. } => (true, Some(payment)),
        Settled::Open => (false, None),
        Settled::Refused { problem } => return Err(Fault::of_issuer(problem)),
    };
    let cashier = if is_done {
        "Done."
    } else {
        "Not confirmed yet. It is being repeated and never done twice."
    };
    Ok(json!({
        "order_id": order_id,
        "done": is_done,
        "amount": say::deed_amount(&change.deed),
        "request_id": change.request_id,
        "payment": payment,
        "cashier": cashier,
    }))
}

/// Whether the merchant has money of it, or has it reserved: not when all of it was given back.
fn is_paid(record: &Record) -> bool {
    let is_given_back = match &record.standing {
        Standing::Decided { payment } => {
            payment.status == PaymentStatus::Approved && rest(payment).is_none()
        }
        _ => false,
    };
    record.standing.is_paid() && !is_given_back
}

/// What to tell the cashier, in a sentence.
fn cashier(record: &Record) -> &str {
    match &record.standing {
        Standing::Decided { payment } => match (payment.status, &payment.rejection) {
            (PaymentStatus::Approved, _) if !is_paid(record) => {
                "Paid, and all of it was given back. Sell it again as a new order."
            }
            (PaymentStatus::Approved, _) => "Paid. Hand over the goods.",
            (PaymentStatus::Held, _) => "Reserved. It is taken when you capture it.",
            (_, Some(rejection)) => &rejection.cashier,
            (_, None) => "Nothing is paid.",
        },
        Standing::Reversed { .. } => {
            "Nothing is paid. Scan a new code, or take another way to pay."
        }
        Standing::Reversing { .. } => {
            "Not paid. It is being cancelled by itself. Scan a new code, or take another way to pay."
        }
        Standing::Refused { .. } => "The payment was refused. Nothing is paid.",
        Standing::NotTaken => "The issuer could not be reached. Nothing is paid. Scan again.",
        Standing::Open | Standing::Unknown => "The payment is under way. Wait.",
    }
}
