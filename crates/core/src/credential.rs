//! Credentials: terminals' keys bound to accounts; and the invitations they come from.

use warifu_proto::id::{CredentialId, InvitationId};
use warifu_proto::limits::SEQUENCE_WINDOW;
use warifu_proto::link::LinkKeys;
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

use crate::entry::SealedKeys;
use crate::layout::{LayoutError, Reader, Writer};
use crate::vault::{SEAL_BYTES, Vault};

/// A terminal's key bound to an account: what never changes.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its id for others.
    pub id: CredentialId,
    /// Whose money.
    pub account_number: u32,
    /// The terminal's public key, x ‖ y, unparsed.
    pub key: [u8; 64],
    /// What terminal and issuer share; nothing in a state that was folded with a vault that leaves it sealed.
    pub keys: Option<LinkKeys>,
    /// What changes with every code.
    pub usage: Usage,
}

/// A code of a credential, by where it lies in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodeRef {
    /// Place in the code book, 0–9 999.
    pub slot: u16,
    /// The terminal's count.
    pub code_sequence: u32,
}

/// Codes of one credential that are payable, or arrived less than 5 s ago: the newest, and what the protocol's rate (one
/// in 2 s, bursts of 5) lets arrive in 5 s. A ninth ends the one of the lowest sequence at once.
pub const CODES_MAX: usize = 8;

/// What changes about a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Whether it was unlinked.
    pub is_unlinked: bool,
    /// Whether the operator lets it pay nothing for now.
    pub is_suspended: bool,
    /// The business day of its last payment without a question, counted from 1970-01-01.
    pub unasked_day: u32,
    /// Payments without a question on that day.
    pub unasked_count: u32,
    /// What was paid by long codes since the last code that was registered.
    pub offline_minor: u64,
    /// In how many payments.
    pub offline_count: u32,
    /// Highest sequence seen.
    pub sequence_highest: u32,
    /// Bit n: the sequence n + 1 below the highest was seen.
    pub sequences_seen: u16,
    /// Codes of this sequence and below have ended, those that arrive later included: what a withdrawal or a payment
    /// ended must not come alive because its registration took a longer way.
    pub ended_to: u32,
    /// Sequence of the withdrawal that arrived last, to answer a repeat of it; 0 for none.
    pub withdrawn_sequence: u32,
    /// When that one arrived.
    pub withdrawn_at: Timestamp,
    /// Number of the last notice.
    pub notice_number: u64,
    // Two arrays, because one of pairs would have gaps.
    code_slots: [u16; CODES_MAX],
    code_sequences: [u32; CODES_MAX],
    codes_count: u8,
}

const _: () = assert!(SEQUENCE_WINDOW <= u16::BITS, "a bit for each sequence of the window");

/// What is wrong with a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceUsed;

impl Usage {
    pub(crate) fn new() -> Self {
        Self {
            is_unlinked: false,
            is_suspended: false,
            unasked_day: 0,
            unasked_count: 0,
            offline_minor: 0,
            offline_count: 0,
            sequence_highest: 0,
            sequences_seen: 0,
            ended_to: 0,
            withdrawn_sequence: 0,
            withdrawn_at: Timestamp::from_ms(0),
            notice_number: 0,
            code_slots: [0; CODES_MAX],
            code_sequences: [0; CODES_MAX],
            codes_count: 0,
        }
    }

    /// Every code that may still be payable, and those that arrived less than 5 s before the last one did, in order of
    /// their arrival.
    pub fn codes(&self) -> impl DoubleEndedIterator<Item = CodeRef> {
        let all = self.code_slots.iter().zip(&self.code_sequences);
        all.take(usize::from(self.codes_count))
            .map(|(slot, sequence)| CodeRef { slot: *slot, code_sequence: *sequence })
    }

    /// How many there are.
    pub fn codes_count(&self) -> usize {
        usize::from(self.codes_count)
    }

    /// Payments without a question on a day.
    pub fn unasked_on(&self, day: u32) -> u32 {
        if self.unasked_day == day { self.unasked_count } else { 0 }
    }

    /// Whether the last withdrawal had this sequence.
    pub fn was_withdrawn_by(&self, sequence: u32) -> bool {
        sequence != 0 && sequence == self.withdrawn_sequence
    }

    /// Adds a code; the caller made room for it.
    pub(crate) fn add_code(&mut self, code: CodeRef) {
        let at = usize::from(self.codes_count);
        let place = self.code_slots.get_mut(at).zip(self.code_sequences.get_mut(at));
        if let Some((slot, sequence)) = place {
            (*slot, *sequence) = (code.slot, code.code_sequence);
            self.codes_count = self.codes_count.saturating_add(1);
        }
    }

    pub(crate) fn retain_codes(&mut self, mut stays: impl FnMut(CodeRef) -> bool) {
        let before = *self;
        (self.code_slots, self.code_sequences) = ([0; CODES_MAX], [0; CODES_MAX]);
        self.codes_count = 0;
        for code in before.codes() {
            if stays(code) {
                self.add_code(code);
            }
        }
    }

    /// Takes a sequence that was not seen and lies above the highest − 16.
    ///
    /// # Errors
    /// When it was seen or is too old.
    pub fn take_sequence(&mut self, sequence: u32) -> Result<(), SequenceUsed> {
        if sequence > self.sequence_highest {
            let step = sequence.saturating_sub(self.sequence_highest);
            // The former highest (0 before the first) is seen as well; what is shifted out is too old to matter.
            let moved = u64::from(self.sequences_seen).checked_shl(step).unwrap_or(0);
            let former = 1_u64.checked_shl(step.saturating_sub(1)).unwrap_or(0);
            self.sequences_seen = u16::try_from((moved | former) & 0xffff).unwrap_or_default();
            self.sequence_highest = sequence;
            return Ok(());
        }
        let below = self.sequence_highest.saturating_sub(sequence);
        let bit = match below {
            0 => return Err(SequenceUsed),
            // "Above the highest − 16": 15 below is the last one.
            _ if below >= SEQUENCE_WINDOW => return Err(SequenceUsed),
            _ => 1_u16.checked_shl(below.saturating_sub(1)).unwrap_or(0),
        };
        if self.sequences_seen & bit != 0 {
            return Err(SequenceUsed);
        }
        self.sequences_seen |= bit;
        Ok(())
    }
}

impl Credential {
    /// Takes the link keys as they were sealed, if they are not open.
    pub(crate) fn encode(&self, sealed: Option<&SealedKeys>, to: &mut Writer, vault: &Vault) {
        to.raw(&self.id.raw());
        to.u32(self.account_number);
        to.raw(&self.key);
        match (&self.keys, sealed) {
            (Some(keys), _) => to.raw(&vault.seal(self.id, keys.to_bytes().as_slice())),
            (None, sealed) => to.raw(sealed.expect("what is not open lies beside it")),
        }
        to.flag(self.usage.is_unlinked);
        to.flag(self.usage.is_suspended);
        to.u32(self.usage.unasked_day);
        to.u32(self.usage.unasked_count);
        to.u64(self.usage.offline_minor);
        to.u32(self.usage.offline_count);
        to.u32(self.usage.sequence_highest);
        to.u16(self.usage.sequences_seen);
        to.u32(self.usage.ended_to);
        to.u32(self.usage.withdrawn_sequence);
        to.time(self.usage.withdrawn_at);
        to.u64(self.usage.notice_number);
        to.count(self.usage.codes_count());
        for code in self.usage.codes() {
            to.u16(code.slot);
            to.u32(code.code_sequence);
        }
    }

    /// And the link keys as they were sealed.
    pub(crate) fn decode(
        from: &mut Reader<'_>,
        vault: &Vault,
    ) -> Result<(Self, SealedKeys), LayoutError> {
        let id = CredentialId::from_raw(from.array()?);
        let (account_number, key) = (from.u32()?, from.array()?);
        let sealed: SealedKeys = from.array()?;
        let keys = vault.open_link_keys(id, &sealed)?;
        let mut usage = Usage::new();
        usage.is_unlinked = from.flag()?;
        usage.is_suspended = from.flag()?;
        (usage.unasked_day, usage.unasked_count) = (from.u32()?, from.u32()?);
        (usage.offline_minor, usage.offline_count) = (from.u64()?, from.u32()?);
        usage.sequence_highest = from.u32()?;
        usage.sequences_seen = from.u16()?;
        usage.ended_to = from.u32()?;
        usage.withdrawn_sequence = from.u32()?;
        usage.withdrawn_at = from.time()?;
        usage.notice_number = from.u64()?;
        let codes =
            from.many(|from| Ok(CodeRef { slot: from.u16()?, code_sequence: from.u32()? }))?;
        if codes.len() > CODES_MAX {
            return Err(LayoutError("a credential with more codes than it can have"));
        }
        codes.into_iter().for_each(|code| usage.add_code(code));
        Ok((Self { id, account_number, key, keys, usage }, sealed))
    }
}

/// A way to link one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// To which account.
    pub account_number: u32,
    /// Until when.
    pub expires_at: Timestamp,
    /// What is left of it.
    pub state: InvitationState,
}

/// Whether an invitation was used.
#[derive(Clone, PartialEq, Eq)]
pub enum InvitationState {
    /// No: the secret waits for a proof.
    Open(Zeroizing<[u8; 32]>),
    /// Yes: the secret is forgotten, and a repeat of the same request gets the same credential.
    Used {
        /// The credential that it made.
        credential_number: u32,
    },
}

impl std::fmt::Debug for InvitationState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open"),
            Self::Used { credential_number } => write!(f, "Used({credential_number})"),
        }
    }
}

impl Invitation {
    pub(crate) fn encode(&self, id: InvitationId, to: &mut Writer, vault: &Vault) {
        to.raw(&id.raw());
        to.u32(self.account_number);
        to.time(self.expires_at);
        match &self.state {
            InvitationState::Open(secret) => {
                to.u8(1);
                to.raw(&vault.seal(id, secret.as_slice()));
            }
            InvitationState::Used { credential_number } => {
                to.u8(2);
                to.u32(*credential_number);
            }
        }
    }

    pub(crate) fn decode(
        from: &mut Reader<'_>,
        vault: &Vault,
    ) -> Result<(InvitationId, Self), LayoutError> {
        let id = InvitationId::from_raw(from.array()?);
        let (account_number, expires_at) = (from.u32()?, from.time()?);
        let state = match from.u8()? {
            1 => {
                let sealed: [u8; 32 + SEAL_BYTES] = from.array()?;
                InvitationState::Open(
                    vault
                        .open(id, &sealed)
                        .ok_or(LayoutError("a secret that this vault does not open"))?,
                )
            }
            2 => InvitationState::Used { credential_number: from.u32()? },
            _ => return Err(LayoutError("an unknown state of an invitation")),
        };
        Ok((id, Self { account_number, expires_at, state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_taken_once_and_only_within_the_window() {
        let mut usage = Usage::new();
        for sequence in [100, 103, 101, 102, 99] {
            assert_eq!(usage.take_sequence(sequence), Ok(()), "{sequence}");
        }
        for sequence in [100, 103, 101, 102, 99, 87, 0] {
            assert_eq!(usage.take_sequence(sequence), Err(SequenceUsed), "{sequence}");
        }
        assert_eq!(usage.take_sequence(88), Ok(()), "fifteen below the highest");
        assert_eq!(usage.take_sequence(u32::MAX), Ok(()));
        assert_eq!(usage.take_sequence(u32::MAX), Err(SequenceUsed));
        assert_eq!(usage.take_sequence(u32::MAX - 15), Ok(()));
        assert_eq!(usage.take_sequence(u32::MAX - 16), Err(SequenceUsed));
    }

    #[test]
    fn any_order_of_a_burst_is_taken_once_each() {
        proptest::proptest!(|(mut order in proptest::sample::subsequence((1000_u32..1015).collect::<Vec<_>>(), 1..15), turn: u8)| {
            let length = order.len();
            order.rotate_left(usize::from(turn) % length);
            let mut usage = Usage::new();
            for sequence in &order {
                proptest::prop_assert_eq!(usage.take_sequence(*sequence), Ok(()));
            }
            for sequence in &order {
                proptest::prop_assert_eq!(usage.take_sequence(*sequence), Err(SequenceUsed));
            }
        });
    }
}
