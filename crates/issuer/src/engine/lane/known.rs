//! What is known of a request id, and what is said when it comes again: in memory, or in the journal by way of the index.

use warifu_core::decide::{OldPayment, Refusal};
use warifu_core::entry::{Digest, Entry, Fact};
use warifu_core::partition::{Answered, Remembered};
use warifu_core::payment::PaymentPlace;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::Lane;
use super::answers::{account_state, broken, entry_bytes, payment, rule};
use crate::engine::{Answer, Refused};

/// What is known of a request id.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// Nothing: it is new.
    New,
    /// A partition remembers it.
    Recent(u8, Remembered),
    /// It was answered by this entry, long ago.
    Old(PaymentPlace),
}

impl Lane {
    /// Where a request was answered, whatever its partition and age.
    pub(super) fn find_request(&self, caller: MerchantId, request: &RequestId) -> Known {
        // A tuple of references can't be looked up in a map of tuples; cloning an id shares its text.
        if let Some(partition) = self.requests.get(&(caller, request.clone())) {
            let remembered =
                self.partitions.get(&partition).and_then(|it| it.state.remembered(caller, request));
            return remembered.map_or(Known::New, |it| Known::Recent(partition, it));
        }
        if self.forgotten.get(&caller).is_none_or(|greatest| request > greatest) {
            return Known::New;
        }
        match self.store.find_request(caller, request) {
            Ok(row) => row.map_or(Known::New, |row| {
                let (partition, first_sequence) = (row.partition, row.sequence);
                Known::Old(PaymentPlace { partition, first_sequence })
            }),
            Err(error) => {
                // Not knowing whether a request was answered, nothing more may be decided.
                self.stop("the index can't be read: restart when the disk is well", &error);
                Known::New
            }
        }
    }

    pub(super) fn is_tombstone(&self, known: Known) -> Result<bool, Refused> {
        match known {
            Known::New => Ok(false),
            Known::Recent(_, remembered) => Ok(remembered.answered == Answered::Tombstone),
            Known::Old(place) => Ok(matches!(self.entry(place)?.fact, Fact::Tombstone(_))),
        }
    }

    /// What stands under a request id that was answered before; nothing when it is new.
    pub(super) fn repeat(
        &self,
        known: Known,
        digest: &Digest,
        old: Option<&OldPayment>,
        now: Timestamp,
    ) -> Result<Option<Answer>, Refused> {
        let conflict = || rule(Refusal::RequestIdConflict, now);
        let (partition, sequence, before, first_sequence) = match known {
            Known::New => return Ok(None),
            Known::Recent(partition, it) => match it.answered {
                Answered::Payment => (partition, it.sequence, it.digest, Some(it.sequence)),
                Answered::Change { first_sequence } => {
                    (partition, it.sequence, it.digest, Some(first_sequence))
                }
                Answered::Operator => (partition, it.sequence, it.digest, None),
                Answered::Tombstone => return Err(conflict()),
            },
            Known::Old(place) => match &self.entry(place)?.fact {
                Fact::Decided(it) => {
                    (place.partition, place.first_sequence, it.digest, Some(place.first_sequence))
                }
                Fact::Changed(it) => match &it.request {
                    Some((_, digest)) => (
                        place.partition,
                        place.first_sequence,
                        *digest,
                        Some(it.payment.first_sequence),
                    ),
                    None => return Err(Refused::NotFound),
                },
                Fact::AccountOpened(it) => (place.partition, place.first_sequence, it.digest, None),
                Fact::ToppedUp(it) => (place.partition, place.first_sequence, it.digest, None),
                Fact::Tombstone(_) => return Err(conflict()),
                Fact::Invited(_)
                | Fact::Linked(_)
                | Fact::Unlinked(_)
                | Fact::Registered(_)
                | Fact::Withdrawn(_)
                | Fact::AccountStood(_)
                | Fact::CredentialStood(_)
                | Fact::Limited(_) => return Err(Refused::NotFound),
            },
        };
        if before != *digest {
            return Err(conflict());
        }
        let state = self.state(partition)?;
        let answer = match first_sequence {
            Some(first) if first == sequence => Answer::Payment(payment(state, first, old)?),
            Some(first) => Answer::Changed { payment: payment(state, first, old)?, sequence },
            None => {
                let place = PaymentPlace { partition, first_sequence: sequence };
                let number = match &self.entry(place)?.fact {
                    Fact::AccountOpened(it) => state.account_by_id(it.account).map(|it| it.0),
                    Fact::ToppedUp(it) => Some(it.account_number),
                    _ => None,
                };
                account_state(state, number.ok_or(Refused::NotFound)?)?
            }
        };
        Ok(Some(answer))
    }

    /// An entry by its place: of this very batch, or of the journal.
    pub(super) fn entry(&self, place: PaymentPlace) -> Result<Entry, Refused> {
        let in_batch = self
            .batch
            .entries
            .iter()
            .find(|it| it.partition == place.partition && it.sequence == place.first_sequence);
        let bytes = match in_batch {
            Some(entry) => entry.bytes.clone(),
            None => entry_bytes(self.store.as_ref(), place)
                .map_err(|error| broken(&error))?
                .ok_or(Refused::NotFound)?,
        };
        Entry::decode(&bytes).map_err(|error| broken(&error.into()))
    }
}
