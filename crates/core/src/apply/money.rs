//! What entries do to balances and payments.

use warifu_proto::id::MerchantId;
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use super::Fit;
use crate::credential::CodeRef;
use crate::entry::{Decided, Holder, Leg, Matched, Side, ToppedUp};
use crate::partition::{OPERATOR, Partition};
use crate::payment::Payment;
use crate::undo::{Old, UndoLog};

impl Partition {
    pub(super) fn top_up(&mut self, it: &ToppedUp, undo: &mut UndoLog) -> Fit {
        let account = Holder::Account(it.account_number);
        if !it.legs.iter().any(|leg| leg.holder == account && leg.side == Side::Credit) {
            return Err("its account gets nothing");
        }
        self.post(&it.legs, None, undo)?;
        self.remember(OPERATOR, &it.request, it.digest, undo)
    }

    pub(super) fn decided(&mut self, it: &Decided, at: Timestamp, undo: &mut UndoLog) -> Fit {
        if it.business_day < self.business_day {
            return Err("its business day goes back");
        }
        self.business_day = it.business_day;
        if it.rejection.is_some() && !it.legs.is_empty() {
            return Err("declined with money");
        }
        match &it.matched {
            Some(matched) => self.settle(it, matched, at, undo)?,
            None if it.rejection.is_none_or(Rejection::consumes_code) => {
                return Err("decided without a code");
            }
            None if it.rejection == Some(Rejection::CodeUnknown) => {
                self.count_wrong_secret(it.locator, at, undo);
            }
            None => {}
        }
        self.payments.push_back(Payment::of(it, self.sequence, at));
        undo.keep(Old::PaymentBegun);
        self.remember(it.merchant, &it.request, it.digest, undo)
    }

    /// Moves the money of an approved payment and ends the code of one that consumes it.
    fn settle(
        &mut self,
        it: &Decided,
        matched: &Matched,
        at: Timestamp,
        undo: &mut UndoLog,
    ) -> Fit {
        let credential =
            self.credential(matched.credential_number).ok_or("its credential is missing")?;
        let account_number = credential.account_number;
        if it.rejection.is_none() {
            let paid = Leg {
                holder: Holder::Account(account_number),
                side: Side::Debit,
                amount_minor: it.amount_minor,
            };
            let mut payers = it.legs.iter().filter(|leg| matches!(leg.holder, Holder::Account(_)));
            if payers.next() != Some(&paid) || payers.next().is_some() {
                return Err("approved without the payer's money");
            }
            if self
                .account(account_number)
                .is_some_and(|account| account.currency.code != it.currency)
            {
                return Err("approved in another currency");
            }
            self.post(&it.legs, Some(it.merchant), undo)?;
        }
        let account = self.account(account_number).ok_or("its account is missing")?;
        if account.balance_minor != matched.balance_minor {
            return Err("the balance afterwards is another");
        }
        if it.rejection.is_none_or(Rejection::consumes_code) {
            self.consume(it, matched, at, undo)
        } else if matched.notice_number == 0 {
            Ok(())
        } else {
            Err("a notice about a spent code")
        }
    }

    fn consume(
        &mut self,
        it: &Decided,
        matched: &Matched,
        at: Timestamp,
        undo: &mut UndoLog,
    ) -> Fit {
        let mut usage = self.usage(matched.credential_number)?;
        if Some(matched.notice_number) != usage.notice_number.checked_add(1) {
            return Err("its notice is not the next one");
        }
        usage.notice_number = matched.notice_number;
        let code =
            CodeRef { slot: self.slot_of(it.locator)?, code_sequence: matched.code_sequence };
        // Law 2 is checked here, expiry and retirement are not: rules about these may be mended, and what was decided
        // under the old ones stays a fact.
        let mut was_used = false;
        let used = self.change_code(code, matched.credential_number, undo, |code| {
            was_used = code.is_used;
            code.is_used = true;
        });
        if used.is_none() || was_used {
            return Err("its code is missing or was used before");
        }
        // Its siblings end with it, also those whose registration is still on its way.
        let highest = usage.sequence_highest;
        self.end_codes(matched.credential_number, &mut usage, highest, at, undo);
        self.set_usage(matched.credential_number, usage, undo)
    }

    /// Moves money: the legs of an entry sum to nothing, and no account that pays goes below its floor.
    fn post(&mut self, legs: &[Leg], merchant: Option<MerchantId>, undo: &mut UndoLog) -> Fit {
        let first = legs.iter().find_map(|leg| match leg.holder {
            Holder::Account(number) => Some(number),
            Holder::Merchant | Holder::World => None,
        });
        let first = first.ok_or("legs without an account")?;
        let currency = self.account(first).ok_or("a leg's account is missing")?.currency.number;
        let mut sum = 0_i128;
        for leg in legs {
            let amount = i64::try_from(leg.amount_minor).map_err(|_| "an amount above 2^63")?;
            let change = match leg.side {
                Side::Debit => amount.checked_neg().ok_or("an amount above 2^63")?,
                Side::Credit => amount,
            };
            if change == 0 {
                return Err("a leg of nothing");
            }
            sum = sum.checked_add(i128::from(change)).ok_or("a sum above 2^127")?;
            match leg.holder {
                Holder::Account(number) => self.post_account(number, currency, change, undo)?,
                Holder::Merchant => {
                    let key = (merchant.ok_or("a merchant's leg without a merchant")?, currency);
                    let old = self.merchants.get(&key).copied();
                    let new = plus(old, change)?;
                    undo.keep(Old::Merchant(key, old));
                    self.merchants.insert(key, new);
                }
                Holder::World => {
                    let old = self.world.get(&currency).copied();
                    let new = plus(old, change)?;
                    undo.keep(Old::World(currency, old));
                    self.world.insert(currency, new);
                }
            }
        }
        if sum == 0 { Ok(()) } else { Err("debits and credits differ") }
    }

    fn post_account(&mut self, number: u32, currency: u16, change: i64, undo: &mut UndoLog) -> Fit {
        let account = usize::try_from(number).ok().and_then(|at| self.accounts.get_mut(at));
        let account = account.ok_or("a leg's account is missing")?;
        if account.currency.number != currency {
            return Err("legs in two currencies");
        }
        let balance = account.balance_minor.checked_add(change).ok_or("a balance above 2^63")?;
        if change < 0 && balance < account.floor_minor {
            return Err("a balance below its floor");
        }
        undo.keep(Old::Account(number, *account));
        account.balance_minor = balance;
        Ok(())
    }
}

fn plus(old: Option<i128>, change: i64) -> Result<i128, &'static str> {
    old.unwrap_or_default().checked_add(i128::from(change)).ok_or("a sum above 2^127")
}
