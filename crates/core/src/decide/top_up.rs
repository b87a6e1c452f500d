//! Puts money into an account: a prepayment, or the settling of what was bought on credit.

use warifu_proto::id::AccountId;
use warifu_proto::limits::MINOR_MAX;
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;

use super::{Decision, Refusal};
use crate::account::AccountStanding;
use crate::entry::{Digest, Fact, Holder, Leg, Side, ToppedUp};
use crate::partition::{OPERATOR, Partition};

/// Word of the operator that money came in.
#[derive(Debug, Clone)]
pub struct TopUp {
    /// The operator's id of it.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// For which account.
    pub account: AccountId,
    /// How much.
    pub amount: Money,
}

impl Partition {
    pub(super) fn decide_top_up(&self, it: &TopUp, is_new: bool) -> Result<Decision, Refusal> {
        if let Some(repeat) = self.repeat_of(OPERATOR, &it.request, &it.digest, is_new)? {
            return Ok(repeat);
        }
        let (account_number, account) =
            self.account_by_id(it.account).ok_or(Refusal::AccountUnknown)?;
        if account.standing == AccountStanding::Closed {
            return Err(Refusal::AccountClosed);
        }
        if account.currency.code != it.amount.currency() {
            return Err(Refusal::CurrencyMismatch);
        }
        let amount_minor = it.amount.minor();
        let after = account.balance_minor.checked_add_unsigned(amount_minor);
        if after.is_none_or(|after| after > i64::try_from(MINOR_MAX).unwrap_or(i64::MAX)) {
            return Err(Refusal::BalanceTooLarge);
        }
        Ok(Decision::commit(Fact::ToppedUp(ToppedUp {
            request: it.request.clone(),
            digest: it.digest,
            account_number,
            legs: vec![
                Leg { holder: Holder::World, side: Side::Debit, amount_minor },
                Leg { holder: Holder::Account(account_number), side: Side::Credit, amount_minor },
            ],
        })))
    }
}
