//! What entries do to balances and payments.

use warifu_proto::id::MerchantId;
use warifu_proto::message::PaymentStatus;
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use super::Fit;
use crate::account::Account;
use crate::credential::CodeRef;
use crate::entry::{Decided, Holder, Leg, Matched, Registered, Side, ToppedUp};
use crate::partition::{Answered, OPERATOR, Partition};
use crate::payment::Payment;
use crate::undo::{Old, UndoLog};

impl Partition {
    pub(super) fn top_up(&mut self, it: &ToppedUp, undo: &mut UndoLog) -> Fit {
        let account = Holder::Account(it.account_number);
        if !it.legs.iter().any(|leg| leg.holder == account && leg.side == Side::Credit) {
            return Err("its account gets nothing");
        }
        self.post(&it.legs, None, undo)?;
        self.remember(OPERATOR, &it.request, it.digest, Answered::Operator, undo)
    }

    pub(super) fn decided(&mut self, it: &Decided, at: Timestamp, undo: &mut UndoLog) -> Fit {
        if it.business_day < self.business_day {
            return Err("its business day goes back");
        }
        self.business_day = it.business_day;
        if it.rejection.is_some() != (it.status == PaymentStatus::Declined) {
            return Err("declined without a reason, or with one and not");
        }
        if it.status != PaymentStatus::Approved && !it.legs.is_empty() {
            return Err("money moved by a payment that is not approved");
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
        self.payments.begin(Payment::of(it, self.sequence, at));
        undo.keep(Old::PaymentBegun);
        self.remember(it.merchant, &it.request, it.digest, Answered::Payment, undo)
    }

    /// Moves or reserves the money of a payment and ends the code of one that consumes it.
    fn settle(
        &mut self,
        it: &Decided,
        matched: &Matched,
        at: Timestamp,
        undo: &mut UndoLog,
    ) -> Fit {
        if let Some(offline) = &it.offline {
            let registered = Registered {
                credential_number: matched.credential_number,
                locator: it.locator,
                code_sequence: matched.code_sequence,
                tag: offline.tag,
                digest: offline.digest,
                expires_at: offline.expires_at,
                cap_minor: offline.cap_minor,
            };
            self.book(&registered, at, undo)?;
        }
        let credential =
            self.credential(matched.credential_number).ok_or("its credential is missing")?;
        let account_number = credential.account_number;
        if it.rejection.is_none() {
            if self
                .account(account_number)
                .is_some_and(|account| account.currency.code != it.currency)
            {
                return Err("paid in another currency");
            }
            if it.status == PaymentStatus::Approved {
                self.take(it, account_number, undo)?;
            }
            self.count(it, account_number, undo)?;
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

    fn take(&mut self, it: &Decided, account_number: u32, undo: &mut UndoLog) -> Fit {
        let paid = Leg {
            holder: Holder::Account(account_number),
            side: Side::Debit,
            amount_minor: it.amount_minor,
        };
        let mut payers = it.legs.iter().filter(|leg| matches!(leg.holder, Holder::Account(_)));
        if payers.next() != Some(&paid) || payers.next().is_some() {
            return Err("approved without the payer's money");
        }
        self.post(&it.legs, Some(it.merchant), undo)
    }

    /// Counts a payment on its day, and reserves what is not taken at once.
    fn count(&mut self, it: &Decided, account_number: u32, undo: &mut UndoLog) -> Fit {
        let amount_minor = it.amount_minor;
        let is_reserved = it.status != PaymentStatus::Approved;
        let mut fits = true;
        self.change_account(account_number, undo, |account| {
            account.day = account.day.on(it.business_day);
            account.day.spent_minor = account.day.spent_minor.saturating_add(amount_minor);
            account.day.count = account.day.count.saturating_add(1);
            if is_reserved {
                fits = account.covers(amount_minor);
                account.reserved_minor = account.reserved_minor.saturating_add(amount_minor);
            }
        })?;
        if fits { Ok(()) } else { Err("more reserved than there is") }
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
        if it.status != PaymentStatus::Declined && it.status != PaymentStatus::AwaitingPayer {
            usage.unasked_count = usage.unasked_on(it.business_day).saturating_add(1);
            usage.unasked_day = it.business_day;
        }
        if it.offline.is_some() && it.rejection.is_none() {
            usage.offline_minor = usage.offline_minor.saturating_add(it.amount_minor);
            usage.offline_count = usage.offline_count.saturating_add(1);
        }
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
    pub(super) fn post(
        &mut self,
        legs: &[Leg],
        merchant: Option<MerchantId>,
        undo: &mut UndoLog,
    ) -> Fit {
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
        let account = self.account(number).ok_or("a leg's account is missing")?;
        if account.currency.number != currency {
            return Err("legs in two currencies");
        }
        let balance = account.balance_minor.checked_add(change).ok_or("a balance above 2^63")?;
        let is_covered = balance
            .checked_sub_unsigned(account.reserved_minor)
            .is_some_and(|left| left >= account.floor_minor);
        if change < 0 && !is_covered {
            return Err("a balance below its floor");
        }
        self.change_account(number, undo, |account| account.balance_minor = balance)
    }

    pub(super) fn change_account(
        &mut self,
        number: u32,
        undo: &mut UndoLog,
        change: impl FnOnce(&mut Account),
    ) -> Fit {
        let account = usize::try_from(number).ok().and_then(|at| self.accounts.get_mut(at));
        let account = account.ok_or("its account is missing")?;
        undo.keep(Old::Account(number, *account));
        change(account);
        Ok(())
    }
}

fn plus(old: Option<i128>, change: i64) -> Result<i128, &'static str> {
    old.unwrap_or_default().checked_add(i128::from(change)).ok_or("a sum above 2^127")
}
