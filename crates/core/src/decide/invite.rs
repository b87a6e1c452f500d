//! Invites a terminal to link itself to an account.

use warifu_proto::id::{AccountId, InvitationId};
use warifu_proto::limits::INVITATION_LIFETIME_MS;
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

use super::{Decision, Refusal};
use crate::account::AccountStanding;
use crate::entry::{Fact, Invited, SealedSecret};
use crate::partition::Partition;
use crate::vault::Vault;

/// Wish of the operator for an invitation. Repeating it makes another one, which harms nobody.
#[derive(Clone)]
pub struct Invite {
    /// To which account.
    pub account: AccountId,
    /// The id it gets.
    pub invitation: InvitationId,
    /// Its secret: random.
    pub secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invite").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Partition {
    pub(super) fn decide_invite(
        &self,
        it: &Invite,
        now: Timestamp,
        vault: &Vault,
    ) -> Result<Decision, Refusal> {
        let (account_number, account) =
            self.account_by_id(it.account).ok_or(Refusal::AccountUnknown)?;
        if account.standing == AccountStanding::Closed {
            return Err(Refusal::AccountClosed);
        }
        if self.invitation(it.invitation).is_some() {
            // An id never gets a second secret: see the vault.
            return Err(Refusal::InvitationUnknown);
        }
        let sealed = vault.seal(it.invitation, it.secret.as_slice());
        Ok(Decision::commit(Fact::Invited(Invited {
            invitation: it.invitation,
            account_number,
            secret: SealedSecret::try_from(sealed).expect("32 bytes seal to 48"),
            expires_at: now.plus_ms(INVITATION_LIFETIME_MS),
        })))
    }
}
