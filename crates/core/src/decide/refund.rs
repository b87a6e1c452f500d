//! Gives back part or all of what was taken. Refunds of one payment, however concurrent, never exceed it: they are
//! decided one after another, each on what the others left.

use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;

use super::change::{Found, OldPayment, Wish};
use super::{Decision, Refusal};
use crate::account::AccountStanding;
use crate::entry::Digest;
use crate::life::Change;
use crate::partition::Partition;

/// Wish of a reader to give money back.
#[derive(Debug, Clone)]
pub struct Refund {
    /// Whose payment.
    pub merchant: MerchantId,
    /// By which reader.
    pub reader: ReaderId,
    /// The reader's id of this refund.
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
    pub(super) fn decide_refund(&self, it: &Refund, is_new: bool) -> Result<Decision, Refusal> {
        if let Some(repeat) = self.repeat_of(it.merchant, &it.request, &it.digest, is_new)? {
            return Ok(repeat);
        }
        let found = self.find_payment(it.first_sequence, Some(it.merchant), it.old.as_deref())?;
        let Found::Here(payment) = found else { return Ok(Decision::NotInMemory) };
        let refund = self.change_payment(
            payment,
            Wish {
                change: Change::Refunded,
                amount_minor: it.amount.minor(),
                hold_until: None,
                reader: Some(it.reader),
                request: Some((&it.request, it.digest)),
            },
        );
        if payment.currency != it.amount.currency() {
            // Of a payment that can't be refunded at all, that is the reason.
            return Err(match refund {
                Err(Refusal::PaymentState) => Refusal::PaymentState,
                Ok(_) | Err(_) => Refusal::CurrencyMismatch,
            });
        }
        let account = payment
            .credential_number
            .and_then(|it| self.credential(it))
            .and_then(|it| self.account(it.account_number));
        if refund.is_ok() && account.is_none_or(|it| it.standing == AccountStanding::Closed) {
            return Err(Refusal::AccountClosed);
        }
        refund
    }
}
