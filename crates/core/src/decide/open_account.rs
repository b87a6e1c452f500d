//! Opens an account.

use warifu_proto::currency::Currency;
use warifu_proto::id::AccountId;
use warifu_proto::limits::MINOR_MAX;
use warifu_proto::message::AccountKind;
use warifu_proto::request_id::RequestId;

use super::{Decision, Refusal};
use crate::entry::{AccountOpened, Digest, Fact};
use crate::partition::{OPERATOR, Partition};

/// Wish of the operator for a new account.
#[derive(Debug, Clone)]
pub struct OpenAccount {
    /// The operator's id of this wish.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// The id it gets.
    pub account: AccountId,
    /// What kind.
    pub kind: AccountKind,
    /// In which currency.
    pub currency: Currency,
    /// For pay-later: how far below zero it may go, in minor units; at most 10^15 − 1. Of no meaning for prepaid.
    pub credit_limit_minor: u64,
}

impl Partition {
    pub(super) fn decide_open_account(
        &self,
        it: &OpenAccount,
        is_new: bool,
    ) -> Result<Decision, Refusal> {
        if let Some(repeat) = self.repeat_of(OPERATOR, &it.request, &it.digest, is_new)? {
            return Ok(repeat);
        }
        if self.account_by_id(it.account).is_some() {
            // The caller draws ids; a drawn one that exists is taken for a mistake, not for damage.
            return Err(Refusal::RequestIdConflict);
        }
        let floor_minor = match it.kind {
            AccountKind::Prepaid => 0,
            AccountKind::Credit if it.credit_limit_minor > MINOR_MAX => {
                return Err(Refusal::BalanceTooLarge);
            }
            AccountKind::Credit => 0_i64.saturating_sub_unsigned(it.credit_limit_minor),
        };
        Ok(Decision::commit(Fact::AccountOpened(AccountOpened {
            request: it.request.clone(),
            digest: it.digest,
            account: it.account,
            kind: it.kind,
            currency: it.currency,
            floor_minor,
        })))
    }
}
