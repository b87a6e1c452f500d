//! What the commands that change a payment have in common: finding it, and making the entry.

use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::{Decision, Refusal};
use crate::apply::{legs_of, moved_minor};
use crate::entry::{Changed, Digest, Fact, Side};
use crate::life::{Change, Impossible};
use crate::partition::{Partition, WINDOW};
use crate::payment::Payment;

/// A payment that was read from the journal because memory did not have it.
#[derive(Debug, Clone)]
pub struct OldPayment {
    /// As it was.
    pub payment: Payment,
    /// Every change up to this sequence of the partition is in it.
    pub as_of: u64,
}

/// A payment as it stands, or that it must be read from the journal first.
pub(super) enum Found<'a> {
    Here(&'a Payment),
    NotInMemory,
}

/// What is to happen to a payment.
pub(super) struct Wish<'a> {
    pub(super) change: Change,
    /// What is captured or refunded.
    pub(super) amount_minor: u64,
    /// When a confirmed hold runs out.
    pub(super) hold_until: Option<Timestamp>,
    pub(super) reader: Option<ReaderId>,
    pub(super) request: Option<(&'a RequestId, Digest)>,
}

impl<'a> Wish<'a> {
    /// A change that has neither amount nor request.
    pub(super) fn plain(change: Change, reader: Option<ReaderId>) -> Self {
        Self { change, amount_minor: 0, hold_until: None, reader, request: None }
    }
}

impl Partition {
    /// Whether no change of a payment that was read can have come and left memory since.
    pub fn can_use(&self, old: &OldPayment) -> bool {
        self.sequence().saturating_sub(old.as_of) < WINDOW
    }

    /// The payment that an entry of this partition began. What was read counts only when no change can have come and
    /// been forgotten since.
    ///
    /// # Errors
    /// When there is none, or another merchant's.
    pub(super) fn find_payment<'a>(
        &'a self,
        first_sequence: u64,
        merchant: Option<MerchantId>,
        old: Option<&'a OldPayment>,
    ) -> Result<Found<'a>, Refusal> {
        if first_sequence == 0 || first_sequence > self.sequence() {
            return Err(Refusal::PaymentUnknown);
        }
        let found = match (self.payment(first_sequence), old.filter(|it| self.can_use(it))) {
            (Some(payment), _) => payment,
            (None, Some(old)) => &old.payment,
            (None, None) => return Ok(Found::NotInMemory),
        };
        if found.first_sequence == first_sequence && merchant.is_none_or(|it| it == found.merchant)
        {
            Ok(Found::Here(found))
        } else {
            Err(Refusal::PaymentUnknown)
        }
    }

    /// Makes the entry of a change.
    ///
    /// # Errors
    /// [`Refusal::PaymentState`] and [`Refusal::AmountTooLarge`].
    pub(super) fn change_payment(
        &self,
        payment: &Payment,
        wish: Wish<'_>,
    ) -> Result<Decision, Refusal> {
        let sequence = self.sequence().saturating_add(1);
        let after = payment
            .after(wish.change, wish.amount_minor, wish.hold_until, sequence)
            .map_err(|impossible| match impossible {
                Impossible::Status => Refusal::PaymentState,
                Impossible::Amount => Refusal::AmountTooLarge,
            })?;
        let credential = payment.credential_number.and_then(|it| self.credential(it));
        let credential = credential.ok_or(Refusal::PaymentState)?;
        let account = self.account(credential.account_number).ok_or(Refusal::AccountUnknown)?;
        let amount_minor = moved_minor(payment, &after);
        let legs = legs_of(wish.change, amount_minor, credential.account_number)
            .map_err(|_| Refusal::PaymentState)?;
        let moved = i64::try_from(amount_minor).unwrap_or(i64::MAX);
        let balance_minor = match legs.first().map(|it| it.side) {
            None => account.balance_minor,
            Some(_) if wish.change == Change::Refunded || wish.change == Change::Reversed => {
                account.balance_minor.saturating_add(moved)
            }
            Some(Side::Debit | Side::Credit) => account.balance_minor.saturating_sub(moved),
        };
        // A terminal that was unlinked is told nothing any more.
        let notice_number = if credential.usage.is_unlinked {
            0
        } else {
            credential.usage.notice_number.saturating_add(1)
        };
        Ok(Decision::commit(Fact::Changed(Box::new(Changed {
            change: wish.change,
            reader: wish.reader,
            request: wish.request.map(|(request, digest)| (request.clone(), digest)),
            amount_minor,
            payment: after,
            legs,
            notice_number,
            balance_minor,
        }))))
    }
}
