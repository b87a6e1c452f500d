//! What goes into the machine of an attempt, what comes out of it, and how it may end.

use warifu_proto::Malformed;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::PaymentId;
use warifu_proto::message::{Payment, PaymentStatus};
use warifu_proto::problem::Problem;
use warifu_proto::time::Timestamp;

use crate::answer::Reply;
use crate::call::Send;
use crate::record::{Record, Standing};
use crate::route::RouteError;

/// How to go on with a record of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The till repeats the same request, and waits again: it may be approved now. Not for a record that is being
    /// reversed: that one only ends.
    Repeat,
    /// Nobody waits for it any more: ask once, then reverse. It is never asked for again.
    End,
}

/// What the driver tells the machine.
#[derive(Debug)]
pub enum Input {
    /// The record of the last [`Output::Store`] is on disk.
    Stored,
    /// What came back for a call.
    Answered {
        /// As in [`Send::number`].
        number: u32,
        /// What it was.
        reply: Reply,
    },
    /// The cashier takes the sale back.
    Cancel,
    /// Time passed.
    Tick,
}

/// What the machine wants done, in this order, each before the next: what can't be stored may not be followed.
#[derive(Debug)]
pub enum Output {
    /// Put this into the journal under its request id, then give [`Input::Stored`].
    Store(Box<Record>),
    /// Make this call.
    Send(Box<Send>),
    /// Something for the cashier's screen.
    Progress(Progress),
    /// The end. It has been given to [`Output::Store`] just before.
    Outcome(Box<Outcome>),
    /// Give [`Input::Tick`] then, if nothing else happens before.
    WakeAt(Timestamp),
}

/// What the cashier may see meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No answer that can be believed; it is tried again.
    Repeating,
    /// The payer is asked on the phone.
    AwaitingPayer,
    /// It is made sure that nothing is paid.
    Reversing,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The issuer decided: `approved`, `held`, `declined`, `reversed`, `released` or `expired`.
    Decided(Payment),
    /// The issuer acknowledged the reversal: nothing remains moved, and nothing ever will be.
    Reversed {
        /// The payment, if it had arrived before its reversal.
        payment_id: Option<PaymentId>,
    },
    /// The issuer refused the request itself. Nothing happened, nothing is bound.
    Refused(Problem),
    /// No message arrived, or the issuer promised that those that did changed nothing. Nothing happened.
    NotTaken,
    /// The sale is not paid and never will be by this attempt; the reversal is not acknowledged yet. The record stays
    /// in the journal as `reversing`, and somebody has to go on with it.
    Reversing(Why),
    /// Only when a payment that had been told as paid was taken back: the issuer's day has closed, the payment stands.
    /// Refund it.
    Stands(Payment),
}

/// Why a reversal is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No answer that can be believed.
    NoAnswer,
    /// The issuer refuses the reversal.
    Refused(Problem),
}

impl Outcome {
    /// Whether the goods may be handed over.
    pub fn is_paid(&self) -> bool {
        match self {
            Self::Decided(payment) => is_paid(payment.status),
            Self::Stands(_) => true,
            Self::Reversed { .. } | Self::Refused(_) | Self::NotTaken | Self::Reversing(_) => false,
        }
    }

    /// How a record that has ended did so; nothing for one that has not.
    pub(crate) fn of(standing: &Standing) -> Option<Self> {
        match standing {
            Standing::Open | Standing::Unknown | Standing::Reversing { .. } => None,
            Standing::Decided { payment } => Some(Self::Decided((**payment).clone())),
            Standing::Reversed { payment_id } => Some(Self::Reversed { payment_id: *payment_id }),
            Standing::Refused { problem } => Some(Self::Refused((**problem).clone())),
            Standing::NotTaken => Some(Self::NotTaken),
        }
    }
}

/// Whether money moved or is reserved, as far as this version knows the status.
pub(crate) fn is_paid(status: PaymentStatus) -> bool {
    match status {
        PaymentStatus::Approved | PaymentStatus::Held => true,
        PaymentStatus::AwaitingPayer
        | PaymentStatus::Declined
        | PaymentStatus::Reversed
        | PaymentStatus::Released
        | PaymentStatus::Expired
        | PaymentStatus::Unknown => false,
    }
}

/// Why an attempt can't begin. Nobody was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// The order is wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nobody answers for the code.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The issuer has no accounts in the order's currency.
    #[error("the issuer {name} has no accounts in {currency}")]
    CurrencyUnknown {
        /// The issuer's name.
        name: String,
        /// The order's currency.
        currency: CurrencyCode,
    },
}

/// Why a payment can't be taken back. Nobody was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    /// There is nothing to take back.
    #[error("the payment is not approved or held")]
    NotPaid,
    /// Nobody answers for the code.
    #[error(transparent)]
    Route(#[from] RouteError),
}
