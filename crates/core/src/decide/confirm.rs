//! The payer's word on a payment that waits for it. The first one stands.

use warifu_proto::id::CredentialId;
use warifu_proto::message::PaymentStatus;
use warifu_proto::notice::Verdict;
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use super::change::{Found, Wish};
use super::{Decision, Refusal};
use crate::account::{Account, AccountStanding};
use crate::credential::Usage;
use crate::life::Change;
use crate::partition::Partition;
use crate::payment::Question;

/// A payer's word whose signature holds. Repeating it does nothing.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// Whose word.
    pub credential: CredentialId,
    /// The payment, by the entry that began it.
    pub first_sequence: u64,
    /// Yes or no.
    pub verdict: Verdict,
    /// When a hold that begins now runs out.
    pub hold_until: Timestamp,
}

impl Partition {
    pub(super) fn decide_confirm(&self, it: &Confirm, now: Timestamp) -> Result<Decision, Refusal> {
        let Found::Here(payment) = self.find_payment(it.first_sequence, None, None)? else {
            // What waits for its payer never leaves memory, so this one has ended.
            return Err(Refusal::PaymentState);
        };
        let credential = payment.credential_number.and_then(|number| self.credential(number));
        let Some(credential) = credential.filter(|found| found.id == it.credential) else {
            return Err(Refusal::PaymentUnknown);
        };
        let said = match payment.question {
            Question::Confirmed => Some(Verdict::Confirm),
            Question::Refused => Some(Verdict::Refuse),
            Question::Asked | Question::None => None,
        };
        if said == Some(it.verdict) {
            return Ok(Decision::Unchanged { payment: Box::new(payment.clone()) });
        }
        // Whoever lost the terminal had it unlinked: it has no say any more.
        if credential.usage.is_unlinked {
            return Err(Refusal::CredentialUnknown);
        }
        // The time is over whether or not the entry that says so has been written.
        let is_over = payment.expires_at.is_some_and(|at| at <= now);
        if payment.status != PaymentStatus::AwaitingPayer || is_over {
            return Err(Refusal::PaymentState);
        }
        let account = self.account(credential.account_number).ok_or(Refusal::AccountUnknown)?;
        let change = match (it.verdict, stopped(&credential.usage, account)) {
            (Verdict::Refuse, _) => Change::Refused,
            (Verdict::Confirm, Some(rejection)) => Change::Stopped(rejection),
            (Verdict::Confirm, None) => Change::Confirmed,
        };
        let wish = Wish { hold_until: Some(it.hold_until), ..Wish::plain(change, None) };
        self.change_payment(payment, wish)
    }
}

/// Why a credential and its account can't pay at all; in order of precedence.
pub(super) fn stopped(usage: &Usage, account: &Account) -> Option<Rejection> {
    if usage.is_suspended {
        return Some(Rejection::CredentialSuspended);
    }
    match account.standing {
        AccountStanding::Active => None,
        AccountStanding::Frozen => Some(Rejection::AccountFrozen),
        AccountStanding::Closed => Some(Rejection::AccountClosed),
    }
}
