//! Gives a hold back.

use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::message::PaymentStatus;

use super::change::{Found, OldPayment, Wish};
use super::{Decision, Refusal};
use crate::life::Change;
use crate::partition::Partition;

/// Wish of a reader to give back what is held. Repeating it, or asking it of a hold that has run out, does nothing and
/// gets the payment as it stands.
#[derive(Debug, Clone)]
pub struct Release {
    /// Whose payment.
    pub merchant: MerchantId,
    /// By which reader.
    pub reader: ReaderId,
    /// The payment, by the entry that began it.
    pub first_sequence: u64,
    /// The payment, if it was read from the journal.
    pub old: Option<Box<OldPayment>>,
}

impl Partition {
    pub(super) fn decide_release(&self, it: &Release) -> Result<Decision, Refusal> {
        let found = self.find_payment(it.first_sequence, Some(it.merchant), it.old.as_deref())?;
        let Found::Here(payment) = found else { return Ok(Decision::NotInMemory) };
        if matches!(payment.status, PaymentStatus::Released | PaymentStatus::Expired) {
            return Ok(Decision::Unchanged { payment: Box::new(payment.clone()) });
        }
        self.change_payment(payment, Wish::plain(Change::Released, Some(it.reader)))
    }
}
