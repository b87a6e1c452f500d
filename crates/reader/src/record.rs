//! What is asked for, and what the journal remembers of it: enough to repeat the very same request and to ask what
//! became of it, written before the request leaves.

use std::fmt;

use serde::{Deserialize, Serialize};
use warifu_proto::code::{Route, Scanned};
use warifu_proto::id::{Id, IssuerId, PaymentId, PaymentKind};
use warifu_proto::limits::DEADLINE_DEFAULT_MS;
use warifu_proto::message::{Capture, PayRequest, Payment, ReversalReason};
use warifu_proto::money::Money;
use warifu_proto::problem::Problem;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::outcome::is_paid;

/// Makes a request id of a time and ten random bytes: 26 characters that sort by time.
pub fn request_id(now: Timestamp, random: [u8; 10]) -> RequestId {
    let id = Id::<PaymentKind>::new(now, random).to_string();
    let text = id.rsplit('_').next().unwrap_or(&id);
    RequestId::parse(text).expect("26 characters of base32 are a request id")
}

/// What the cashier wants.
#[derive(Debug, Clone)]
pub struct Order {
    /// The name of this attempt, for ever.
    pub request_id: RequestId,
    /// What was scanned.
    pub scanned: Scanned,
    /// How much.
    pub amount: Money,
    /// At once or later.
    pub capture: Capture,
    /// The till's own id of the sale.
    pub order_id: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// How long the cashier waits for an answer; `DEADLINE_DEFAULT_MS` if none.
    pub deadline_ms: Option<u64>,
}

/// One attempt in the journal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name of this attempt, for ever.
    pub request_id: RequestId,
    /// Prefix and partition: where to ask.
    pub route: Route,
    /// Whom the code belonged to when it was scanned.
    pub issuer: IssuerId,
    /// What was scanned. Gone as soon as the request is never sent again.
    pub code: Option<String>,
    /// How much.
    pub amount: Money,
    /// At once or later.
    pub capture: Capture,
    /// The till's own id of the sale.
    pub order_id: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// How long the cashier waited.
    pub deadline_ms: u64,
    /// When it was scanned.
    pub created_at: Timestamp,
    /// Where it stands.
    pub standing: Standing,
}

/// Where an attempt stands in the reader's eyes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Standing {
    /// Begun: the request may have left.
    Open,
    /// As [`Standing::Open`]; only in journals of versions that could not reverse.
    Unknown,
    /// Given up: a reversal may have left, so that no answer makes it a paid one any more. Somebody repeats the
    /// reversal until it is acknowledged.
    Reversing {
        /// Why.
        reason: ReversalReason,
        /// The payment as it had been told, when the cashier takes back a paid one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        told: Option<Box<Payment>>,
    },
    /// The reversal was acknowledged: nothing remains moved, and nothing ever will be.
    Reversed {
        /// The payment, if it had arrived before its reversal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment_id: Option<PaymentId>,
    },
    /// The issuer decided.
    Decided {
        /// As it was told.
        payment: Box<Payment>,
    },
    /// The request was refused, nothing is bound.
    Refused {
        /// Why.
        problem: Box<Problem>,
    },
    /// Nothing arrived anywhere, or the issuer promised that nothing was done.
    NotTaken,
}

impl Standing {
    /// Whether somebody still has to bring it to its end.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Open | Self::Unknown | Self::Reversing { .. } => true,
            Self::Reversed { .. }
            | Self::Decided { .. }
            | Self::Refused { .. }
            | Self::NotTaken => false,
        }
    }

    /// Whether it is not decided and may still become a paid one.
    pub fn may_be_paid(&self) -> bool {
        matches!(self, Self::Open | Self::Unknown)
    }

    /// Whether no other attempt of its order may begin: it is paid, or may turn out to be.
    pub fn claims_order(&self) -> bool {
        let is_taken_back = matches!(self, Self::Reversing { told: Some(_), .. });
        self.may_be_paid() || self.is_paid() || is_taken_back
    }

    /// Whether the goods may be handed over.
    pub fn is_paid(&self) -> bool {
        matches!(self, Self::Decided { payment } if is_paid(payment.status))
    }
}

impl Record {
    pub(crate) fn new(order: &Order, route: Route, issuer: IssuerId, now: Timestamp) -> Self {
        Self {
            request_id: order.request_id.clone(),
            route,
            issuer,
            code: Some(order.scanned.to_digits()),
            amount: order.amount,
            capture: order.capture,
            order_id: order.order_id.clone(),
            description: order.description.clone(),
            deadline_ms: order.deadline_ms.unwrap_or(DEADLINE_DEFAULT_MS),
            created_at: now,
            standing: Standing::Open,
        }
    }

    /// The request, the same for ever but for how long the issuer may take; nothing when the code is gone.
    pub fn request(&self, deadline_ms: u64) -> Option<PayRequest> {
        Some(PayRequest {
            request_id: self.request_id.clone(),
            code: self.code.clone()?,
            amount: self.amount,
            capture: self.capture,
            order_id: self.order_id.clone(),
            description: self.description.clone(),
            deadline_ms: Some(deadline_ms),
        })
    }

    /// Whether an order under the same id asks for the same.
    pub fn is_same_as(&self, order: &Order) -> bool {
        let code = self.code.as_deref().and_then(|it| Scanned::parse(it).ok());
        code.is_none_or(|it| it.code == order.scanned.code)
            && self.amount == order.amount
            && self.capture == order.capture
            && self.order_id == order.order_id
            && self.description == order.description
    }

    /// Moves it on. Its code is kept only as long as the request may be sent again.
    pub(crate) fn now_is(&mut self, standing: Standing) {
        if !standing.may_be_paid() {
            self.code = None;
        }
        self.standing = standing;
    }
}

// The code is a secret until it is spent.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("request_id", &self.request_id)
            .field("amount", &self.amount)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}
