//! The operator's word on accounts and credentials: freeze, close, suspend, limit. Repeating any of them does nothing.

use warifu_proto::id::{AccountId, CredentialId};

use super::{Decision, Refusal};
use crate::account::AccountStanding;
use crate::entry::{AccountStood, CredentialStood, Fact, Holder, Leg, Limited, Side};
use crate::limits::Limits;
use crate::partition::Partition;

/// How an account stands from now on. What a closed one still holds is paid out to the outside world.
#[derive(Debug, Clone)]
pub struct StandAccount {
    /// Which.
    pub account: AccountId,
    /// How. A closed one stays closed.
    pub standing: AccountStanding,
}

/// Whether a credential can pay from now on.
#[derive(Debug, Clone)]
pub struct StandCredential {
    /// Which.
    pub credential: CredentialId,
    /// Whether not.
    pub is_suspended: bool,
}

/// An account's own limits.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Whose.
    pub account: AccountId,
    /// Which; nothing for the issuer's.
    pub limits: Option<Limits>,
}

impl Partition {
    pub(super) fn decide_stand_account(&self, it: &StandAccount) -> Result<Decision, Refusal> {
        let (account_number, account) =
            self.account_by_id(it.account).ok_or(Refusal::AccountUnknown)?;
        // A reversal may bring money to a closed account: closing it again pays that out.
        let has_residue = account.standing == AccountStanding::Closed && account.balance_minor > 0;
        if account.standing == it.standing && !has_residue {
            return Ok(Decision::AccountUnchanged { account_number });
        }
        if account.standing == AccountStanding::Closed && it.standing != AccountStanding::Closed {
            return Err(Refusal::AccountClosed);
        }
        let mut legs = Vec::new();
        if it.standing == AccountStanding::Closed {
            if account.reserved_minor != 0 || account.balance_minor < 0 {
                return Err(Refusal::AccountInUse);
            }
            if account.balance_minor > 0 {
                let amount_minor = account.balance_minor.unsigned_abs();
                let holder = Holder::Account(account_number);
                legs.push(Leg { holder, side: Side::Debit, amount_minor });
                legs.push(Leg { holder: Holder::World, side: Side::Credit, amount_minor });
            }
        }
        let standing = it.standing;
        Ok(Decision::commit(Fact::AccountStood(AccountStood { account_number, standing, legs })))
    }

    pub(super) fn decide_stand_credential(
        &self,
        it: &StandCredential,
    ) -> Result<Decision, Refusal> {
        let (credential_number, credential) = self
            .credential_by_id(it.credential)
            .filter(|(_, it)| !it.usage.is_unlinked)
            .ok_or(Refusal::CredentialUnknown)?;
        let is_suspended = it.is_suspended;
        if credential.usage.is_suspended == is_suspended {
            return Ok(Decision::CredentialUnchanged { credential_number });
        }
        Ok(Decision::commit(Fact::CredentialStood(CredentialStood {
            credential_number,
            is_suspended,
        })))
    }

    pub(super) fn decide_limit(&self, it: &Limit) -> Result<Decision, Refusal> {
        let (account_number, _) = self.account_by_id(it.account).ok_or(Refusal::AccountUnknown)?;
        let limits = it.limits;
        if self.limits_of(account_number) == limits {
            return Ok(Decision::AccountUnchanged { account_number });
        }
        Ok(Decision::commit(Fact::Limited(Limited { account_number, limits })))
    }
}
