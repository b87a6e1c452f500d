//! Takes part or all of a hold, once; the rest is free again.

use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::message::PaymentStatus;
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::change::{Found, OldPayment, Wish};
use super::{Decision, Refusal};
use crate::entry::Digest;
use crate::life::Change;
use crate::partition::Partition;

/// Wish of a reader to take what is held.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Whose payment.
    pub merchant: MerchantId,
    /// By which reader.
    pub reader: ReaderId,
    /// The reader's id of this capture.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// The payment, by the entry that began it.
    pub first_sequence: u64,
    /// How much.
    pub amount: Money,
    /// The payment, if it was read from the journal.
    pub old: Option<Box<OldPayment>>,
}

impl Partition {
    pub(super) fn decide_capture(
        &self,
        it: &Capture,
        is_new: bool,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        if let Some(repeat) = self.repeat_of(it.merchant, &it.request, &it.digest, is_new)? {
            return Ok(repeat);
        }
        let found = self.find_payment(it.first_sequence, Some(it.merchant), it.old.as_deref())?;
        let Found::Here(payment) = found else { return Ok(Decision::NotInMemory) };
        // A hold whose time is over is gone, whether or not the entry that says so has been written.
        let is_over = payment.expires_at.is_some_and(|at| at <= now);
        if payment.status != PaymentStatus::Held || is_over {
            return Err(Refusal::PaymentState);
        }
        if payment.currency != it.amount.currency() {
            return Err(Refusal::CurrencyMismatch);
        }
        self.change_payment(
            payment,
            Wish {
                change: Change::Captured,
                amount_minor: it.amount.minor(),
                hold_until: None,
                reader: Some(it.reader),
                request: Some((&it.request, it.digest)),
            },
        )
    }
}
