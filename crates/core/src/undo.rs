//! Old values, kept while a batch is not committed, so that a refused commit leaves no trace.

use warifu_proto::id::{InvitationId, MerchantId};
use warifu_proto::time::Timestamp;

use crate::account::Account;
use crate::code_book::BookedCode;
use crate::credential::{Invitation, Usage};
use crate::limits::Limits;
use crate::partition::Partition;
use crate::payment::Payment;
use crate::requests::LineNumber;

/// One value as it was.
#[derive(Debug)]
pub(crate) enum Old {
    Head(u64, Timestamp, u32),
    AccountOpened,
    Account(u32, Account),
    CredentialLinked,
    Usage(u32, Usage),
    Invitation(InvitationId, Option<Invitation>),
    Code(u16, BookedCode),
    CodeBooked(u16),
    CodeForgotten(u16, usize, BookedCode),
    Merchant((MerchantId, u16), Option<i128>),
    World(u16, Option<i128>),
    RequestAdded(Option<LineNumber>),
    Limits(u32, Option<Limits>),
    PaymentBegun,
    PaymentChanged(u64, Option<Box<Payment>>),
}

/// The old values of one partition since the last commit, oldest first.
#[derive(Debug, Default)]
pub struct UndoLog(Vec<Old>);

impl UndoLog {
    pub(crate) fn keep(&mut self, old: Old) {
        self.0.push(old);
    }

    /// The batch is on disk: old values are of no use.
    pub fn committed(&mut self) {
        self.0.clear();
    }

    /// How many values are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts every old value back, the newest first, up to what was kept when the log had `mark` values.
    pub fn undo(&mut self, partition: &mut Partition, mark: usize) {
        while self.0.len() > mark {
            let Some(old) = self.0.pop() else { break };
            old.put_back(partition);
        }
    }
}

impl Old {
    fn put_back(self, to: &mut Partition) {
        match self {
            Self::Head(sequence, time, day) => {
                (to.sequence, to.time, to.business_day) = (sequence, time, day);
            }
            Self::AccountOpened => {
                to.accounts.pop();
                to.account_numbers.remove(last(to.accounts.len()));
            }
            Self::Account(number, old) => {
                if let Some(account) =
                    usize::try_from(number).ok().and_then(|at| to.accounts.get_mut(at))
                {
                    *account = old;
                }
            }
            Self::CredentialLinked => {
                if let Some(gone) = to.credentials.pop() {
                    to.sealed_keys.truncate(to.credentials.len());
                    to.credential_numbers.remove(last(to.credentials.len()), gone.id.raw());
                }
            }
            Self::Usage(number, old) => {
                if let Some(credential) =
                    usize::try_from(number).ok().and_then(|at| to.credentials.get_mut(at))
                {
                    credential.usage = old;
                }
            }
            Self::Invitation(id, old) => {
                put_or_remove(&mut to.invitations, id, old);
            }
            Self::Code(slot, old) => {
                let code = crate::credential::CodeRef { slot, code_sequence: old.code_sequence };
                if let Some(code) = to.codes.code_mut(code, old.credential_number) {
                    *code = old;
                }
            }
            Self::CodeBooked(slot) => {
                to.codes.slot_mut(usize::from(slot)).pop();
            }
            Self::CodeForgotten(slot, place, old) => {
                let codes = to.codes.slot_mut(usize::from(slot));
                codes.insert(place.min(codes.len()), old);
            }
            Self::Merchant(key, old) => put_or_remove(&mut to.merchants, key, old),
            Self::World(currency, old) => put_or_remove(&mut to.world, currency, old),
            Self::RequestAdded(before) => to.requests.undo_add(before),
            Self::Limits(account_number, old) => {
                put_or_remove(&mut to.limits, account_number, old);
            }
            Self::PaymentBegun => to.payments.undo_begin(),
            Self::PaymentChanged(first_sequence, old) => {
                to.payments.undo_change(first_sequence, old.map(|it| *it));
            }
        }
    }
}

/// The number that was taken out of so many that are left.
fn last(left: usize) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX)
}

fn put_or_remove<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, old: Option<V>) {
    match old {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
