//! Accounts of payers, and the sub-accounts that merchants and the outside world have in each partition, so that
//! every partition balances alone.

use warifu_proto::currency::Currency;
use warifu_proto::id::AccountId;
use warifu_proto::message::AccountKind;

use crate::entry::{account_kind_number, read_account_kind, read_currency, write_currency};
use crate::layout::{LayoutError, Reader, Writer};

/// Whether an account can pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountStanding {
    /// Yes.
    #[default]
    Active,
    /// Not now, by the operator's word.
    Frozen,
    /// Never again.
    Closed,
}

impl AccountStanding {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Active => 1,
            Self::Frozen => 2,
            Self::Closed => 3,
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        match from.u8()? {
            1 => Ok(Self::Active),
            2 => Ok(Self::Frozen),
            3 => Ok(Self::Closed),
            _ => Err(LayoutError("an unknown standing")),
        }
    }
}

/// What was spent on one business day: reserved or taken, and not undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Day {
    /// Counted from 1970-01-01.
    pub day: u32,
    /// How much.
    pub spent_minor: u64,
    /// In how many payments.
    pub count: u32,
}

impl Day {
    /// The same on a day: nothing, when it is another.
    #[must_use]
    pub fn on(self, day: u32) -> Self {
        if self.day == day { self } else { Self { day, ..Self::default() } }
    }
}

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
    /// What it holds, in minor units, with what is reserved.
    pub balance_minor: i64,
    /// What is reserved by payments that are held or wait for their payer.
    pub reserved_minor: u64,
    /// Whether it can pay.
    pub standing: AccountStanding,
    /// What it spent on its last day with a payment.
    pub day: Day,
}

impl Account {
    /// Whether so much can be taken or reserved.
    pub fn covers(&self, amount_minor: u64) -> bool {
        self.free_minor()
            .checked_sub_unsigned(amount_minor)
            .is_some_and(|left| left >= self.floor_minor)
    }

    /// What it holds without what is reserved.
    pub fn free_minor(&self) -> i64 {
        self.balance_minor.saturating_sub_unsigned(self.reserved_minor)
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        to.raw(&self.id.raw());
        to.u8(account_kind_number(self.kind));
        write_currency(to, &self.currency);
        to.i64(self.floor_minor);
        to.i64(self.balance_minor);
        to.u64(self.reserved_minor);
        to.u8(self.standing.number());
        to.u32(self.day.day);
        to.u64(self.day.spent_minor);
        to.u32(self.day.count);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            id: AccountId::from_raw(from.array()?),
            kind: read_account_kind(from)?,
            currency: read_currency(from)?,
            floor_minor: from.i64()?,
            balance_minor: from.i64()?,
            reserved_minor: from.u64()?,
            standing: AccountStanding::read(from)?,
            day: Day { day: from.u32()?, spent_minor: from.u64()?, count: from.u32()? },
        })
    }
}
