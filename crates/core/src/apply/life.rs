//! What happens to a payment after it was decided.

use super::Fit;
use crate::entry::{Changed, Holder, Leg, Side};
use crate::life::Change;
use crate::partition::{Answered, Partition};
use crate::payment::Payment;
use crate::undo::{Old, UndoLog};

impl Partition {
    pub(super) fn changed(&mut self, it: &Changed, undo: &mut UndoLog) -> Fit {
        let after = &it.payment;
        if after.last_sequence != self.sequence || after.first_sequence >= self.sequence {
            return Err("its payment was changed by another entry");
        }
        let before = self.payment(after.first_sequence).cloned();
        let allowed = before.as_ref().map(|before| {
            before.after(it.change, it.amount_minor, after.expires_at, self.sequence)
        });
        let fits = match (&before, &allowed) {
            (Some(before), Some(allowed)) => {
                allowed.as_ref() == Ok(after) && it.amount_minor == moved_minor(before, after)
            }
            // Older than memory. What is open never leaves it, so only a payment that was approved can change.
            (None, _) | (_, None) => {
                matches!(it.change, Change::Refunded | Change::Reversed) && !after.is_open()
            }
        };
        if !fits {
            return Err("a change that its payment does not allow");
        }
        let credential_number = after.credential_number.ok_or("a change of nobody's payment")?;
        let credential = self.credential(credential_number).ok_or("its credential is missing")?;
        let account_number = credential.account_number;
        let mut usage = credential.usage;
        self.uncount(it, before.as_ref(), account_number, undo)?;
        if it.legs != legs_of(it.change, it.amount_minor, account_number)? {
            return Err("a change with other money than its own");
        }
        if !it.legs.is_empty() {
            self.post(&it.legs, Some(after.merchant), undo)?;
        }
        if self
            .account(account_number)
            .is_none_or(|account| account.balance_minor != it.balance_minor)
        {
            return Err("the balance afterwards is another");
        }
        if it.notice_number != 0 {
            if Some(it.notice_number) != usage.notice_number.checked_add(1) {
                return Err("its notice is not the next one");
            }
            usage.notice_number = it.notice_number;
            self.set_usage(credential_number, usage, undo)?;
        }
        let old = self.payments.change(after.clone());
        undo.keep(Old::PaymentChanged(after.first_sequence, old.map(Box::new)));
        match &it.request {
            Some((request, digest)) => {
                let answered = Answered::Change { first_sequence: after.first_sequence };
                self.remember(after.merchant, request, *digest, answered, undo)
            }
            None => Ok(()),
        }
    }

    /// Sets free what was reserved, and takes what no longer counts off the day it counted on.
    fn uncount(
        &mut self,
        it: &Changed,
        before: Option<&Payment>,
        account_number: u32,
        undo: &mut UndoLog,
    ) -> Fit {
        let after = &it.payment;
        let freed = before
            .map_or(0, Payment::reserved_minor)
            .checked_sub(after.reserved_minor())
            .ok_or("more reserved than before")?;
        let counted = match (before, it.change) {
            (Some(before), _) => before.counted_minor(),
            (None, Change::Reversed) => it.amount_minor.saturating_add(after.refunded_minor),
            (None, _) => after.counted_minor(),
        };
        let uncounted = counted.saturating_sub(after.counted_minor());
        let is_undone = counted > 0 && after.counted_minor() == 0;
        if freed == 0 && uncounted == 0 {
            return Ok(());
        }
        let mut fits = true;
        self.change_account(account_number, undo, |account| {
            fits = account.reserved_minor >= freed;
            account.reserved_minor = account.reserved_minor.saturating_sub(freed);
            if account.day.day == after.business_day {
                account.day.spent_minor = account.day.spent_minor.saturating_sub(uncounted);
                account.day.count = account.day.count.saturating_sub(u32::from(is_undone));
            }
        })?;
        if fits { Ok(()) } else { Err("more set free than was reserved") }
    }
}

/// What a change moves: from the payer to the merchant, or back.
pub(crate) fn legs_of(
    change: Change,
    amount_minor: u64,
    account_number: u32,
) -> Result<Vec<Leg>, &'static str> {
    if amount_minor == 0 {
        return Ok(Vec::new());
    }
    let account = Holder::Account(account_number);
    let (from, to) = match change {
        Change::Confirmed | Change::Captured => (account, Holder::Merchant),
        Change::Refunded | Change::Reversed => (Holder::Merchant, account),
        Change::Stopped(_)
        | Change::Refused
        | Change::TimedOut
        | Change::Released
        | Change::Expired => return Err("a change that moves no money has an amount"),
    };
    Ok(vec![
        Leg { holder: from, side: Side::Debit, amount_minor },
        Leg { holder: to, side: Side::Credit, amount_minor },
    ])
}

/// What a change moves of a payment.
pub(crate) fn moved_minor(before: &Payment, after: &Payment) -> u64 {
    before.net_minor().abs_diff(after.net_minor())
}
