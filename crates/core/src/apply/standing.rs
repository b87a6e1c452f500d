//! What entries do to the standing of accounts and credentials.

use super::Fit;
use crate::account::AccountStanding;
use crate::entry::{AccountStood, CredentialStood, Limited};
use crate::partition::Partition;
use crate::undo::{Old, UndoLog};

impl Partition {
    pub(super) fn account_stood(&mut self, it: &AccountStood, undo: &mut UndoLog) -> Fit {
        let account = *self.account(it.account_number).ok_or("its account is missing")?;
        let pays_out = it.standing == AccountStanding::Closed && !it.legs.is_empty();
        if account.standing == AccountStanding::Closed && !pays_out {
            return Err("its account was closed before");
        }
        if it.standing == AccountStanding::Closed {
            if account.reserved_minor != 0 {
                return Err("closed with money reserved");
            }
            if !it.legs.is_empty() {
                self.post(&it.legs, None, undo)?;
            }
            if self.account(it.account_number).is_none_or(|it| it.balance_minor != 0) {
                return Err("closed with money or a debt");
            }
        } else if !it.legs.is_empty() {
            return Err("money moved without a reason");
        }
        self.change_account(it.account_number, undo, |account| account.standing = it.standing)
    }

    pub(super) fn credential_stood(&mut self, it: &CredentialStood, undo: &mut UndoLog) -> Fit {
        let mut usage = self.usage(it.credential_number)?;
        usage.is_suspended = it.is_suspended;
        self.set_usage(it.credential_number, usage, undo)
    }

    pub(super) fn limited(&mut self, it: &Limited, undo: &mut UndoLog) -> Fit {
        self.account(it.account_number).ok_or("its account is missing")?;
        let old = match it.limits {
            Some(limits) => self.limits.insert(it.account_number, limits),
            None => self.limits.remove(&it.account_number),
        };
        undo.keep(Old::Limits(it.account_number, old));
        Ok(())
    }
}
