//! The life of a payment: which status can follow on which, by what. `docs/payment-life.md` is its picture, and a test
//! compares the two.
//!
//! Law: what a merchant has by a payment is always `captured − refunded`; what is reserved is the whole amount while the
//! payment is held or waits for its payer, and nothing otherwise.

use warifu_proto::message::{Capture, PaymentStatus};
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use crate::payment::{Payment, Question};

/// What can happen to a payment after it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The payer said yes.
    Confirmed,
    /// The payer said yes, but the account or credential has been stopped meanwhile.
    Stopped(Rejection),
    /// The payer said no.
    Refused,
    /// The payer said nothing in time.
    TimedOut,
    /// Part or all of a hold was taken; the rest is free again.
    Captured,
    /// A hold was given back.
    Released,
    /// A hold ran out.
    Expired,
    /// Part or all of what was taken was given back.
    Refunded,
    /// It was made not to have happened.
    Reversed,
}

/// One arrow of the picture: from, by, to.
pub type Transition = (PaymentStatus, &'static str, PaymentStatus);

/// Every change of status that is possible. A payment begins as approved, held, awaiting its payer or declined.
pub const TRANSITIONS: &[Transition] = {
    use PaymentStatus::{Approved, AwaitingPayer, Declined, Expired, Held, Released, Reversed};
    &[
        (AwaitingPayer, "confirmed", Approved),
        (AwaitingPayer, "confirmed", Held),
        (AwaitingPayer, "stopped", Declined),
        (AwaitingPayer, "refused", Declined),
        (AwaitingPayer, "timed_out", Declined),
        (AwaitingPayer, "reversed", Reversed),
        (Held, "captured", Approved),
        (Held, "released", Released),
        (Held, "expired", Expired),
        (Held, "reversed", Reversed),
        (Approved, "refunded", Approved),
        (Approved, "reversed", Reversed),
    ]
};

impl Change {
    /// Its name, in the merchant's feed and the picture.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Stopped(_) => "stopped",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Captured => "captured",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Refunded => "refunded",
            Self::Reversed => "reversed",
        }
    }
}

/// The payment is not in a status that allows the change, or not with this amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impossible {
    /// Not from this status.
    Status,
    /// More than what is reserved, or than what is left of what was taken.
    Amount,
}

impl Payment {
    /// What is reserved of the payer's money.
    pub fn reserved_minor(&self) -> u64 {
        match self.status {
            PaymentStatus::Held | PaymentStatus::AwaitingPayer => self.amount_minor,
            PaymentStatus::Approved
            | PaymentStatus::Declined
            | PaymentStatus::Reversed
            | PaymentStatus::Released
            | PaymentStatus::Expired
            | PaymentStatus::Unknown => 0,
        }
    }

    /// What the merchant has by it: taken and not given back.
    pub fn net_minor(&self) -> u64 {
        self.captured_minor.saturating_sub(self.refunded_minor)
    }

    /// What counts against the payer's limits of its day: what is reserved or was taken. A refund gives no limit back.
    pub fn counted_minor(&self) -> u64 {
        match self.status {
            PaymentStatus::Approved => self.captured_minor,
            PaymentStatus::Held | PaymentStatus::AwaitingPayer => self.amount_minor,
            PaymentStatus::Declined
            | PaymentStatus::Reversed
            | PaymentStatus::Released
            | PaymentStatus::Expired
            | PaymentStatus::Unknown => 0,
        }
    }

    /// Whether time alone can change it.
    pub fn is_open(&self) -> bool {
        self.reserved_minor() > 0
    }

    /// The payment after a change made by the entry of this sequence. `amount_minor` is what is captured or refunded;
    /// `hold_until` is when a confirmed hold runs out.
    ///
    /// # Errors
    /// When the change is not possible.
    pub fn after(
        &self,
        change: Change,
        amount_minor: u64,
        hold_until: Option<Timestamp>,
        sequence: u64,
    ) -> Result<Self, Impossible> {
        use PaymentStatus::{Approved, AwaitingPayer, Declined, Expired, Held, Released, Reversed};
        let mut after = Self { last_sequence: sequence, ..self.clone() };
        let declined = |after: &mut Self, rejection| {
            (after.status, after.rejection) = (Declined, Some(rejection));
        };
        match (self.status, change) {
            (AwaitingPayer, Change::Confirmed) => {
                after.question = Question::Confirmed;
                match self.capture {
                    Capture::Now => {
                        (after.status, after.captured_minor) = (Approved, self.amount_minor);
                    }
                    Capture::Later => after.status = Held,
                }
            }
            (AwaitingPayer, Change::Stopped(rejection)) => {
                after.question = Question::Confirmed;
                declined(&mut after, rejection);
            }
            (AwaitingPayer, Change::Refused) => {
                after.question = Question::Refused;
                declined(&mut after, Rejection::PayerRefused);
            }
            (AwaitingPayer, Change::TimedOut) => declined(&mut after, Rejection::PayerTimeout),
            (Held, Change::Captured) => {
                if amount_minor == 0 || amount_minor > self.amount_minor {
                    return Err(Impossible::Amount);
                }
                (after.status, after.captured_minor) = (Approved, amount_minor);
            }
            (Held, Change::Released) => after.status = Released,
            (Held, Change::Expired) => after.status = Expired,
            (Approved, Change::Refunded) => {
                if amount_minor == 0 || amount_minor > self.net_minor() {
                    return Err(Impossible::Amount);
                }
                after.refunded_minor = self.refunded_minor.saturating_add(amount_minor);
            }
            (AwaitingPayer | Held | Approved, Change::Reversed) => {
                // What was refunded before stays in the account of both; the rest has never been taken.
                (after.status, after.captured_minor) = (Reversed, self.refunded_minor);
            }
            (
                AwaitingPayer
                | Held
                | Approved
                | Declined
                | Reversed
                | Released
                | Expired
                | PaymentStatus::Unknown,
                _,
            ) => return Err(Impossible::Status),
        }
        after.expires_at = if after.status == Held {
            if self.status == AwaitingPayer { hold_until } else { self.expires_at }
        } else {
            None
        };
        Ok(after)
    }
}
