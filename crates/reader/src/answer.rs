//! Reads what came back for a call, and says what it proves. Only an answer whose signature was checked gets here as
//! [`Reply::Signed`]; everything else proves nothing, whatever it says.

use serde_json::Value;
use warifu_proto::id::PaymentId;
use warifu_proto::message::{Capture, Payment, PaymentStatus, ReversalAnswer};
use warifu_proto::problem::{Problem, ProblemCode};

use crate::record::Record;

/// What came back for a call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An answer whose signature is the issuer's for this very request.
    Signed {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: Vec<u8>,
        /// From `Retry-After`, in seconds.
        retry_after_s: Option<u32>,
    },
    /// The request may have arrived, and nothing that can be believed came back in time.
    Nothing,
    /// The request certainly never left: nobody could be connected to.
    NotSent,
}

/// What a reply proves.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The payment has ended in this.
    Final(Box<Payment>),
    /// It is there and may still change.
    Pending(Box<Payment>),
    /// Nothing remains moved, and nothing ever will be.
    Reversed { payment_id: Option<PaymentId> },
    /// This message certainly never left.
    NotSent,
    /// It was not accepted. A copy of it, which a network may make, can have been.
    NotAccepted { retry_after_ms: u64 },
    /// The request was refused.
    Refused(Box<Problem>),
    /// Nothing.
    None,
}

/// Reads a reply to a payment request or a question, in the light of what was asked for.
pub(crate) fn about_payment(reply: Reply, record: &Record) -> Proof {
    read(reply, |body| {
        let payment = payment(body).filter(|it| fits(it, record))?;
        let is_final = is_final(&payment, record.capture);
        let payment = Box::new(payment);
        Some(if is_final { Proof::Final(payment) } else { Proof::Pending(payment) })
    })
}

/// Reads a reply to a reversal.
pub(crate) fn about_reversal(reply: Reply, record: &Record) -> Proof {
    read(reply, |body| {
        let answer: ReversalAnswer = serde_json::from_slice(body).ok()?;
        let fits = answer.request_id == record.request_id && answer.status == "reversed";
        fits.then_some(Proof::Reversed { payment_id: answer.payment_id })
    })
}

/// What every reply has in common; `good` reads the body of a 2xx.
fn read(reply: Reply, good: impl FnOnce(&[u8]) -> Option<Proof>) -> Proof {
    let (status, body, retry_after_s) = match reply {
        Reply::Signed { status, body, retry_after_s } => (status, body, retry_after_s),
        Reply::Nothing => return Proof::None,
        Reply::NotSent => return Proof::NotSent,
    };
    match status {
        200..=299 => good(&body).unwrap_or(Proof::None),
        400..=499 => Proof::Refused(Box::new(problem(status, &body))),
        503 if problem(status, &body).code == ProblemCode::NotAccepted.name() => {
            let retry_after_ms = u64::from(retry_after_s.unwrap_or(0)).saturating_mul(1000);
            Proof::NotAccepted { retry_after_ms }
        }
        _ => Proof::None,
    }
}

/// Reads a payment. A retry advice of a later version becomes `never`: an unknown rejection is a declined payment
/// that is not tried again.
fn payment(body: &[u8]) -> Option<Payment> {
    serde_json::from_slice(body).ok().or_else(|| {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        let retry = value.get_mut("rejection")?.get_mut("retry")?;
        *retry = Value::from("never");
        serde_json::from_value(value).ok()
    })
}

/// Whether it is the payment that was asked for: a true answer to another question is none to this.
fn fits(payment: &Payment, record: &Record) -> bool {
    let is_whole = payment.captured.currency == record.amount.currency()
        && u64::try_from(payment.captured.minor) == Ok(record.amount.minor());
    payment.request_id == record.request_id
        && payment.amount == record.amount
        && (payment.status != PaymentStatus::Approved
            || record.capture == Capture::Later
            || is_whole)
}

/// Whether the till has its answer.
fn is_final(payment: &Payment, capture: Capture) -> bool {
    match payment.status {
        PaymentStatus::Approved
        | PaymentStatus::Declined
        | PaymentStatus::Reversed
        | PaymentStatus::Released
        | PaymentStatus::Expired => true,
        PaymentStatus::Held => capture == Capture::Later,
        PaymentStatus::AwaitingPayer | PaymentStatus::Unknown => false,
    }
}

/// Reads a problem; of one that can't be read the status is left.
pub(crate) fn problem(status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        kind: "about:blank".to_owned(),
        title: format!("The issuer refused with status {status} and did not say why."),
        status,
        detail: String::new(),
        code: String::new(),
        instance: String::new(),
        now_ms: None,
        ack: None,
    })
}
