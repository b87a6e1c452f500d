//! Makes sure that a payment did not happen: legal before, during and after it.

use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::message::{PaymentStatus, ReversalReason};
use warifu_proto::request_id::RequestId;

use super::change::{Found, OldPayment, Wish};
use super::{Decision, Refusal};
use crate::entry::{Fact, Tombstone};
use crate::life::Change;
use crate::partition::{Answered, Partition};
use crate::payment::Payment;

/// Wish of a reader that a payment has no effect. Repeating it does nothing.
#[derive(Debug, Clone)]
pub struct Reverse {
    /// Whose payment.
    pub merchant: MerchantId,
    /// By which reader.
    pub reader: ReaderId,
    /// Whether it may reverse what other readers of the merchant paid.
    pub may_reverse_any: bool,
    /// The payment's request id.
    pub request: RequestId,
    /// The entry that began the payment, if the index knows one that memory does not.
    pub first_sequence: Option<u64>,
    /// Why.
    pub reason: ReversalReason,
    /// Today in the issuer's time zone, counted from 1970-01-01.
    pub business_day: u32,
    /// The payment, if it was read from the journal.
    pub old: Option<Box<OldPayment>>,
}

impl Partition {
    pub(super) fn decide_reverse(&self, it: &Reverse, is_new: bool) -> Result<Decision, Refusal> {
        let remembered = self.remembered(it.merchant, &it.request);
        let first_sequence = match remembered.map(|before| (before.answered, before.sequence)) {
            Some((Answered::Payment, sequence)) => Some(sequence),
            Some((Answered::Tombstone, _)) => return Ok(Decision::ReversedBefore),
            Some((Answered::Operator | Answered::Change { .. }, _)) => {
                return Err(Refusal::RequestIdConflict);
            }
            None => it.first_sequence,
        };
        let Some(first_sequence) = first_sequence else {
            if !is_new && self.may_be_forgotten(it.merchant, &it.request) {
                return Ok(Decision::LookUp);
            }
            return Ok(Decision::commit(Fact::Tombstone(Tombstone {
                merchant: it.merchant,
                reader: it.reader,
                request: it.request.clone(),
            })));
        };
        let found = self.find_payment(first_sequence, Some(it.merchant), it.old.as_deref())?;
        let Found::Here(payment) = found else { return Ok(Decision::NotInMemory) };
        if payment.reader != it.reader && !it.may_reverse_any {
            return Err(Refusal::NotYours);
        }
        if !has_effect(payment) {
            return Ok(Decision::Unchanged { payment: Box::new(payment.clone()) });
        }
        let today = it.business_day.max(self.business_day());
        if it.reason == ReversalReason::Cashier && payment.business_day != today {
            return Err(Refusal::UseRefund);
        }
        self.change_payment(payment, Wish::plain(Change::Reversed, Some(it.reader)))
    }
}

/// Whether there is anything left to reverse.
fn has_effect(payment: &Payment) -> bool {
    match payment.status {
        PaymentStatus::Approved | PaymentStatus::Held | PaymentStatus::AwaitingPayer => true,
        PaymentStatus::Declined
        | PaymentStatus::Reversed
        | PaymentStatus::Released
        | PaymentStatus::Expired
        | PaymentStatus::Unknown => false,
    }
}
