//! `apply(state, entry)`: the one function that changes state. It only does arithmetic; what it can't make fit is
//! damage, never a decision.
//!
//! It checks again what no healthy lane could have written (a second use of a code, a balance below its floor), because
//! the laws shall hold of every journal that can be replayed. A check here may be dropped later, never added: it would
//! refuse journals that were fine.

mod codes;
mod life;
mod money;
mod standing;

pub(crate) use life::{legs_of, moved_minor};

use warifu_proto::id::MerchantId;
use warifu_proto::message::AccountKind;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::Corrupt;
use crate::account::{Account, AccountStanding, Day};
use crate::credential::{Credential, Invitation, InvitationState, Usage};
use crate::entry::{AccountOpened, Digest, Entry, Fact, Invited, Linked};
use crate::partition::{Answered, OPERATOR, Partition, Remembered, credential_id};
use crate::requests::Line;
use crate::undo::{Old, UndoLog};
use crate::vault::Vault;

/// Whether an entry follows on this state, and if not, why.
type Fit = Result<(), &'static str>;

/// Invitations that one new invitation may sweep out.
const INVITATIONS_SWEPT: usize = 4;

impl Partition {
    /// Applies the next entry; the log gets what is needed to take it back.
    ///
    /// # Errors
    /// When the entry does not follow on this state. The state is then as before.
    pub fn apply(
        &mut self,
        entry: &Entry,
        vault: &Vault,
        undo: &mut UndoLog,
    ) -> Result<(), Corrupt> {
        let mark = undo.len();
        self.apply_fact(entry, vault, undo).map_err(|why| {
            undo.undo(self, mark);
            Corrupt { partition: self.number, sequence: entry.sequence, why }
        })
    }

    fn apply_fact(&mut self, entry: &Entry, vault: &Vault, undo: &mut UndoLog) -> Fit {
        if entry.partition != self.number {
            return Err("it is of another partition");
        }
        if Some(entry.sequence) != self.sequence.checked_add(1) {
            return Err("it is not the next one");
        }
        if entry.at < self.time {
            return Err("its time goes back");
        }
        undo.keep(Old::Head(self.sequence, self.time, self.business_day));
        (self.sequence, self.time) = (entry.sequence, entry.at);
        self.requests.take_secret(vault.table_secret());
        self.tidy_in_turn(undo);
        match &entry.fact {
            Fact::AccountOpened(it) => self.open_account(it, undo),
            Fact::ToppedUp(it) => self.top_up(it, undo),
            Fact::Invited(it) => self.invite(it, vault, undo),
            Fact::Linked(it) => self.link(it, vault, undo),
            Fact::Unlinked(it) => self.unlink(it.credential_number, entry.at, undo),
            Fact::Registered(it) => self.register(it, entry.at, undo),
            Fact::Withdrawn(it) => self.withdraw(it, entry.at, undo),
            Fact::Decided(it) => self.decided(it, entry.at, undo),
            Fact::Changed(it) => self.changed(it, undo),
            Fact::Tombstone(it) => self.remember(
                it.merchant,
                &it.request,
                Digest::default(),
                Answered::Tombstone,
                undo,
            ),
            Fact::AccountStood(it) => self.account_stood(it, undo),
            Fact::CredentialStood(it) => self.credential_stood(it, undo),
            Fact::Limited(it) => self.limited(it, undo),
        }
    }

    fn open_account(&mut self, it: &AccountOpened, undo: &mut UndoLog) -> Fit {
        if self.account_by_id(it.account).is_some() {
            return Err("the account exists");
        }
        if it.floor_minor > 0 || (it.floor_minor != 0 && it.kind == AccountKind::Prepaid) {
            return Err("a floor that its kind can't have");
        }
        let number = u32::try_from(self.accounts.len()).map_err(|_| "too many accounts")?;
        self.accounts.push(Account {
            id: it.account,
            kind: it.kind,
            currency: it.currency,
            floor_minor: it.floor_minor,
            balance_minor: 0,
            reserved_minor: 0,
            standing: AccountStanding::Active,
            day: Day::default(),
        });
        let accounts = &self.accounts;
        let id_of = |it| accounts.get(usize::try_from(it).ok()?).map(|it| it.id);
        self.account_numbers.insert(number, &it.account, id_of);
        undo.keep(Old::AccountOpened);
        self.remember(OPERATOR, &it.request, it.digest, Answered::Operator, undo)
    }

    fn invite(&mut self, it: &Invited, vault: &Vault, undo: &mut UndoLog) -> Fit {
        if self.invitations.contains_key(&it.invitation) {
            return Err("the invitation exists");
        }
        self.account(it.account_number).ok_or("its account is missing")?;
        let secret = vault
            .open(it.invitation, &it.secret)
            .ok_or("its secret was sealed by another vault key")?;
        self.forget_invitations(undo);
        let state = InvitationState::Open(secret);
        let (account_number, expires_at) = (it.account_number, it.expires_at);
        undo.keep(Old::Invitation(it.invitation, None));
        self.invitations.insert(it.invitation, Invitation { account_number, expires_at, state });
        Ok(())
    }

    /// Invitations that ran out are of no use: with every new one the oldest few go, so they are never many more than
    /// were made in one lifetime. Their ids are time-ordered, so the first are the oldest.
    fn forget_invitations(&mut self, undo: &mut UndoLog) {
        let now = self.time;
        for _ in 0..INVITATIONS_SWEPT {
            let Some(oldest) =
                self.invitations.first_entry().filter(|it| it.get().expires_at <= now)
            else {
                break;
            };
            let (id, old) = oldest.remove_entry();
            undo.keep(Old::Invitation(id, Some(old)));
        }
    }

    fn link(&mut self, it: &Linked, vault: &Vault, undo: &mut UndoLog) -> Fit {
        if self.credential_by_id(it.credential).is_some() {
            return Err("the credential exists");
        }
        let number = u32::try_from(self.credentials.len()).map_err(|_| "too many credentials")?;
        let now = self.time;
        let invitation =
            self.invitations.get_mut(&it.invitation).ok_or("its invitation is missing")?;
        if now >= invitation.expires_at || !matches!(invitation.state, InvitationState::Open(_)) {
            return Err("its invitation was used or has expired");
        }
        let keys = vault
            .open_link_keys(it.credential, &it.keys)
            .map_err(|_| "its keys were sealed by another vault key")?;
        if keys.is_none() {
            self.sealed_keys.push(it.keys);
        }
        undo.keep(Old::Invitation(it.invitation, Some(invitation.clone())));
        invitation.state = InvitationState::Used { credential_number: number };
        self.credentials.push(Credential {
            id: it.credential,
            account_number: invitation.account_number,
            key: it.key,
            keys,
            usage: Usage::new(),
        });
        let id_of = |it| credential_id(&self.credentials, it);
        self.credential_numbers.insert(number, it.credential.raw(), id_of);
        undo.keep(Old::CredentialLinked);
        Ok(())
    }

    fn unlink(&mut self, number: u32, at: Timestamp, undo: &mut UndoLog) -> Fit {
        let mut usage = self.usage(number)?;
        self.end_codes(number, &mut usage, u32::MAX, at, undo);
        usage.is_unlinked = true;
        self.set_usage(number, usage, undo)
    }

    fn remember(
        &mut self,
        caller: MerchantId,
        request: &RequestId,
        digest: Digest,
        answered: Answered,
        undo: &mut UndoLog,
    ) -> Fit {
        let before = self.requests.get(caller, request);
        let was_reversed = before.is_some_and(|it| it.answered == Answered::Tombstone);
        // A payment that comes after its reversal is declined, and from then on is what the id stands for.
        if before.is_some() && !(was_reversed && answered == Answered::Payment) {
            return Err("its request id was used before");
        }
        let sequence = self.sequence;
        let remembered = Remembered { sequence, answered, digest };
        let line = Line { caller, request: request.clone(), remembered };
        let before = self.requests.add(line);
        undo.keep(Old::RequestAdded(before));
        Ok(())
    }

    /// How a credential that is still linked has been used.
    fn usage(&self, number: u32) -> Result<Usage, &'static str> {
        let usage = self.credential(number).ok_or("its credential is missing")?.usage;
        if usage.is_unlinked { Err("its credential was unlinked") } else { Ok(usage) }
    }

    fn set_usage(&mut self, number: u32, usage: Usage, undo: &mut UndoLog) -> Fit {
        let credential = usize::try_from(number).ok().and_then(|at| self.credentials.get_mut(at));
        let credential = credential.ok_or("its credential is missing")?;
        undo.keep(Old::Usage(number, credential.usage));
        credential.usage = usage;
        Ok(())
    }
}
