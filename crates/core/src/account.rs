//! Accounts of payers, and the sub-accounts that merchants and the outside world have in each partition, so that
//! every partition balances alone.

use warifu_proto::currency::Currency;
use warifu_proto::id::AccountId;
use warifu_proto::message::AccountKind;

use crate::entry::{account_kind_number, read_account_kind, read_currency, write_currency};
use crate::layout::{LayoutError, Reader, Writer};

/// A payer's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its id for others.
    pub id: AccountId,
    /// What kind.
    pub kind: AccountKind,
    /// Its currency.
    pub currency: Currency,
    /// What its balance never goes below: 0 for prepaid, minus the credit limit for pay-later.
    pub floor_minor: i64,
    /// What it holds, in minor units.
    pub balance_minor: i64,
}

impl Account {
    /// Whether so much can be taken.
    pub fn covers(&self, amount_minor: u64) -> bool {
        i64::try_from(amount_minor)
            .ok()
            .and_then(|amount| self.balance_minor.checked_sub(amount))
            .is_some_and(|left| left >= self.floor_minor)
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        to.raw(&self.id.raw());
        to.u8(account_kind_number(self.kind));
        write_currency(to, &self.currency);
        to.i64(self.floor_minor);
        to.i64(self.balance_minor);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            id: AccountId::from_raw(from.array()?),
            kind: read_account_kind(from)?,
            currency: read_currency(from)?,
            floor_minor: from.i64()?,
            balance_minor: from.i64()?,
        })
    }
}
