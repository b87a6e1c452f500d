//! The state of one partition: everything that decisions need, as a fold of its entries.
//!
//! Law: equal entries give equal state. Nothing here depends on when a program was started, on what it was asked, or
//! on how far an index has got: what is remembered of past requests is a fixed window of sequences ([`WINDOW`]).

use std::collections::BTreeMap;

use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId};
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::account::Account;
use crate::by_id::ById;
use crate::code_book::{BookedCode, CodeBook};
use crate::credential::{Credential, Invitation};
use crate::entry::{Digest, SealedKeys};
use crate::id_table::IdTable;
use crate::limits::Limits;
use crate::payment::Payment;
use crate::payment_book::PaymentBook;
use crate::requests::Requests;

/// How many of its last entries a partition remembers payments and request ids of. Older ones are found by the index,
/// which must therefore never lag further than this. At 6 000 payments/s in one partition it is five seconds.
pub const WINDOW: u64 = 32_768;

/// Whose request ids: a merchant's, or the operator's own.
pub const OPERATOR: MerchantId = MerchantId::from_raw([0; 16]);

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The operator's own.
    Operator,
    /// A payment.
    Payment,
    /// A capture or refund.
    Change {
        /// Of the payment that this entry began.
        first_sequence: u64,
    },
    /// A payment that was reversed before it arrived.
    Tombstone,
}

/// What is remembered of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// The entry that answered it.
    pub sequence: u64,
    /// What it was for.
    pub answered: Answered,
    /// What is compared when it is repeated.
    pub digest: Digest,
}

/// What a caller's sub-account keeps beyond money.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// The greatest request id that has left memory: above it nothing need be looked up.
    pub(crate) greatest_forgotten: Option<RequestId>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct Partition {
    pub(crate) number: u8,
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) business_day: u32,
    pub(crate) accounts: Vec<Account>,
    pub(crate) account_numbers: ById,
    pub(crate) credentials: Vec<Credential>,
    /// The link keys of each, in a state that was folded with a vault that leaves them sealed.
    pub(crate) sealed_keys: Vec<SealedKeys>,
    pub(crate) credential_numbers: IdTable,
    pub(crate) invitations: BTreeMap<InvitationId, Invitation>,
    pub(crate) codes: CodeBook,
    /// By merchant and currency number, in minor units. They have no floor.
    pub(crate) merchants: BTreeMap<(MerchantId, u16), i128>,
    /// By currency number, in minor units.
    pub(crate) world: BTreeMap<u16, i128>,
    pub(crate) requests: Requests,
    pub(crate) pasts: BTreeMap<MerchantId, Past>,
    /// Of accounts that have their own.
    pub(crate) limits: BTreeMap<u32, Limits>,
    pub(crate) payments: PaymentBook,
}

impl Partition {
    /// An empty one, 0–99.
    pub fn new(number: u8) -> Self {
        Self {
            number,
            sequence: 0,
            time: Timestamp::default(),
            business_day: 0,
            accounts: Vec::new(),
            account_numbers: ById::default(),
            credentials: Vec::new(),
            sealed_keys: Vec::new(),
            credential_numbers: IdTable::default(),
            invitations: BTreeMap::new(),
            codes: CodeBook::default(),
            merchants: BTreeMap::new(),
            world: BTreeMap::new(),
            requests: Requests::default(),
            pasts: BTreeMap::new(),
            limits: BTreeMap::new(),
            payments: PaymentBook::default(),
        }
    }

    /// Which one, 0–99.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Sequence of the last entry; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Time of the last entry.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Business day of the last payment, counted from 1970-01-01. It never goes back, so that a day is a range of
    /// sequences.
    pub fn business_day(&self) -> u32 {
        self.business_day
    }

    /// An account by its number.
    pub fn account(&self, number: u32) -> Option<&Account> {
        self.accounts.get(usize::try_from(number).ok()?)
    }

    /// An account by its id, with its number.
    pub fn account_by_id(&self, id: AccountId) -> Option<(u32, &Account)> {
        let number = self.account_numbers.find(&id, |it| self.account(it).map(|it| it.id))?;
        Some((number, self.account(number)?))
    }

    /// All accounts, in order of opening.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// A credential by its number.
    pub fn credential(&self, number: u32) -> Option<&Credential> {
        self.credentials.get(usize::try_from(number).ok()?)
    }

    /// A credential by its id, with its number.
    pub fn credential_by_id(&self, id: CredentialId) -> Option<(u32, &Credential)> {
        let number =
            self.credential_numbers.find(id.raw(), |it| credential_id(&self.credentials, it))?;
        Some((number, self.credential(number)?))
    }

    /// All credentials, in order of linking.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    /// An invitation.
    pub fn invitation(&self, id: InvitationId) -> Option<&Invitation> {
        self.invitations.get(&id)
    }

    /// The codes that lie in a slot (0–9 999), in order of arrival.
    pub fn codes_at(&self, slot: u16) -> &[BookedCode] {
        self.codes.slot(usize::from(slot))
    }

    /// What a merchant is owed here, by currency number.
    pub fn merchant_balances(&self) -> impl Iterator<Item = (MerchantId, u16, i128)> {
        self.merchants.iter().map(|((merchant, currency), minor)| (*merchant, *currency, *minor))
    }

    /// What the outside world has put in (below zero) or is owed, by currency number.
    pub fn world_balances(&self) -> impl Iterator<Item = (u16, i128)> {
        self.world.iter().map(|(currency, minor)| (*currency, *minor))
    }

    /// Law 1: debits equal credits. The sum of all balances of each currency; every one must be 0.
    pub fn imbalance(&self) -> BTreeMap<u16, i128> {
        let mut sums = BTreeMap::<u16, i128>::new();
        let accounts =
            self.accounts.iter().map(|it| (it.currency.number, i128::from(it.balance_minor)));
        let merchants = self.merchant_balances().map(|(_, currency, minor)| (currency, minor));
        for (currency, minor) in accounts.chain(merchants).chain(self.world_balances()) {
            let sum = sums.entry(currency).or_default();
            *sum = sum.saturating_add(minor);
        }
        sums
    }

    /// A payment that memory still has, by the sequence of its first entry.
    pub fn payment(&self, first_sequence: u64) -> Option<&Payment> {
        self.payments.get(first_sequence)
    }

    /// Payments that hold money back: held, or waiting for their payer.
    pub fn open_payments(&self) -> impl Iterator<Item = &Payment> {
        self.payments.open()
    }

    /// When the next of them runs out.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.payments.next_due()
    }

    /// Since when somebody waits for what this partition has to end: a payer's answer, or the end of a hold that is
    /// overdue.
    pub fn unresolved_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.payments.unresolved_since(now)
    }

    /// The limits that an account has of its own.
    pub fn limits_of(&self, account_number: u32) -> Option<Limits> {
        self.limits.get(&account_number).copied()
    }

    /// How many payments memory has.
    pub fn payments_in_memory(&self) -> usize {
        self.payments.len()
    }

    /// How many invitations memory has, used and expired ones included.
    pub fn invitations_in_memory(&self) -> usize {
        self.invitations.len()
    }

    /// What memory has of a request.
    pub fn remembered(&self, caller: MerchantId, request: &RequestId) -> Option<Remembered> {
        self.requests.get(caller, request)
    }

    /// All request ids in memory, with their callers, in order of sequence.
    pub fn requests(&self) -> impl Iterator<Item = (MerchantId, &RequestId)> {
        self.requests.iter().map(|(it, _)| (it.caller, &it.request))
    }

    /// Per caller, the greatest request id that has left memory.
    pub fn greatest_forgotten(&self) -> impl Iterator<Item = (MerchantId, &RequestId)> {
        self.pasts
            .iter()
            .filter_map(|(caller, past)| Some((*caller, past.greatest_forgotten.as_ref()?)))
    }

    /// Whether a request that memory does not have may have been answered long ago.
    pub fn may_be_forgotten(&self, caller: MerchantId, request: &RequestId) -> bool {
        self.pasts
            .get(&caller)
            .and_then(|past| past.greatest_forgotten.as_ref())
            .is_some_and(|greatest| request <= greatest)
    }

    /// The time that an entry made now gets: time in entries never goes back.
    pub fn time_of_entry(&self, now: Timestamp) -> Timestamp {
        now.max(self.time)
    }

    /// Forgets what lies outside of the window. The shell calls it after a commit, recovery after each entry: what is
    /// forgotten depends on the sequence alone.
    pub fn forget(&mut self) {
        self.forget_with(self.sequence, |_, _| ());
    }

    /// The same up to the last sequence that is committed, and says which request ids left memory. Entries after that may
    /// still be undone.
    pub fn forget_with(
        &mut self,
        committed: u64,
        mut forgotten: impl FnMut(MerchantId, &RequestId),
    ) {
        let Some(until) = committed.min(self.sequence).checked_sub(WINDOW) else { return };
        self.payments.forget(until);
        while let Some((gone, is_unknown)) = self.requests.forget(until) {
            let (caller, request) = (gone.caller, gone.request);
            // A tombstone whose payment came after all stays remembered by the payment; what follows from forgetting is
            // the same whether or not the payment came before that: a replay forgets sooner than a batch does.
            if is_unknown {
                forgotten(caller, &request);
            }
            let past = self.pasts.entry(caller).or_default();
            if past.greatest_forgotten.as_ref().is_none_or(|greatest| request > *greatest) {
                past.greatest_forgotten = Some(request);
            }
        }
    }
}

pub(crate) fn credential_id(credentials: &[Credential], number: u32) -> Option<[u8; 16]> {
    credentials.get(usize::try_from(number).ok()?).map(|it| it.id.raw())
}
