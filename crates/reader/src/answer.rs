//! Reads what came back for a call, and says what it proves. Only an answer whose signature was checked gets here as
//! [`Reply::Signed`]; everything else proves nothing, whatever it says.

use serde_json::Value;
use warifu_proto::message::{Capture, Payment, PaymentStatus};
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

/// What a reply to a payment request or a question proves.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The payment has ended in this.
    Final(Box<Payment>),
    /// It is there and may still change.
    Pending(Box<Payment>),
    /// This message changed nothing and never will.
    NothingDone { retry_after_ms: u64 },
    /// The request was refused.
    Refused(Box<Problem>),
    /// Nothing.
    None,
}

/// Reads a reply in the light of what was asked for.
pub(crate) fn read(reply: Reply, record: &Record) -> Proof {
    let (status, body, retry_after_s) = match reply {
        Reply::Signed { status, body, retry_after_s } => (status, body, retry_after_s),
        Reply::Nothing => return Proof::None,
        Reply::NotSent => return Proof::NothingDone { retry_after_ms: 0 },
    };
    match status {
        200..=299 => payment(&body).filter(|it| fits(it, record)).map_or(Proof::None, |it| {
            if is_final(&it, record.capture) {
                Proof::Final(Box::new(it))
            } else {
                Proof::Pending(Box::new(it))
            }
        }),
        400..=499 => Proof::Refused(Box::new(problem(status, &body))),
        503 if problem(status, &body).code == ProblemCode::NotAccepted.name() => {
            let retry_after_ms = u64::from(retry_after_s.unwrap_or(0)).saturating_mul(1000);
            Proof::NothingDone { retry_after_ms }
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
fn problem(status: u16, body: &[u8]) -> Problem {
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
