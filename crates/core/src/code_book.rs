//! Registered codes of a partition: 10 000 slots, one for each locator, each with the codes that lie there.
//!
//! Finding a code is: take the slot, compare the tag of what was scanned with the tags that lie there, in constant
//! time. The book keeps a few spent codes in each slot, to say `code_used` instead of `code_unknown`.

use warifu_proto::code::Code;
use warifu_proto::limits::{LIFETIME_MAX_S, WRONG_SECRETS_MAX};
use warifu_proto::registration::{Tag, tag};
use warifu_proto::time::Timestamp;
use warifu_proto::{mac, rejection::Rejection};

use crate::credential::{CodeRef, Credential};
use crate::entry::Digest;
use crate::layout::{LayoutError, Reader, Writer};

/// Slots of a partition: four digits.
pub const SLOTS: usize = 10_000;
/// Spent codes that a slot remembers; bounds memory under full load, where a slot sees a code every few seconds.
pub const SPENT_PER_SLOT_MAX: usize = 8;
/// How long after its arrival a code is forgotten, in milliseconds: the longest lifetime and the clock window.
pub const FORGET_AFTER_MS: u64 = LIFETIME_MAX_S as u64 * 1000 + 120_000;

/// A registered code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BookedCode {
    /// Whose.
    pub credential_number: u32,
    /// The terminal's count.
    pub code_sequence: u32,
    /// Hides the digits.
    pub tag: Tag,
    /// Of the statement: tells a repeat.
    pub digest: Digest,
    /// When it arrived.
    pub registered_at: Timestamp,
    /// From then on it is expired.
    pub expires_at: Timestamp,
    /// From then on it is retired.
    pub retires_at: Timestamp,
    /// Most that it can pay; 0 for any.
    pub cap_minor: u64,
    /// Wrong secrets that were tried under its locator while it was live.
    pub wrong_secrets: u8,
    /// Whether a decision consumed it.
    pub is_used: bool,
}

impl BookedCode {
    /// Why it can't pay at that time; nothing when it can.
    pub fn refusal(&self, now: Timestamp) -> Option<Rejection> {
        if now >= self.expires_at {
            Some(Rejection::CodeExpired)
        } else if self.is_used {
            Some(Rejection::CodeUsed)
        } else if now >= self.retires_at || self.wrong_secrets >= WRONG_SECRETS_MAX {
            Some(Rejection::CodeRetired)
        } else {
            None
        }
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.refusal(now).is_none()
    }

    fn is_old(&self, now: Timestamp) -> bool {
        now.since_ms(self.registered_at) >= FORGET_AFTER_MS
    }

    fn encode(&self, to: &mut Writer) {
        to.u32(self.credential_number);
        to.u32(self.code_sequence);
        to.raw(&self.tag);
        to.raw(&self.digest);
        to.time(self.registered_at);
        to.time(self.expires_at);
        to.time(self.retires_at);
        to.u64(self.cap_minor);
        to.u8(self.wrong_secrets);
        to.flag(self.is_used);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            credential_number: from.u32()?,
            code_sequence: from.u32()?,
            tag: from.array()?,
            digest: from.array()?,
            registered_at: from.time()?,
            expires_at: from.time()?,
            retires_at: from.time()?,
            cap_minor: from.u64()?,
            wrong_secrets: from.u8()?,
            is_used: from.flag()?,
        })
    }
}

/// The codes of a partition by slot. Slots are made when the first code arrives.
#[derive(Debug, Clone, Default)]
pub struct CodeBook {
    slots: Vec<Vec<BookedCode>>,
}

impl CodeBook {
    /// What lies in a slot.
    pub fn slot(&self, slot: usize) -> &[BookedCode] {
        self.slots.get(slot).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn slot_mut(&mut self, slot: usize) -> &mut Vec<BookedCode> {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Vec::new());
        }
        self.slots.get_mut(slot).expect("a locator's slot is below 10^4")
    }

    /// The same, if any code ever arrived.
    pub(crate) fn made_slot_mut(&mut self, slot: usize) -> Option<&mut Vec<BookedCode>> {
        self.slots.get_mut(slot)
    }

    pub(crate) fn code_mut(
        &mut self,
        code: CodeRef,
        credential_number: u32,
    ) -> Option<&mut BookedCode> {
        let slot = self.slots.get_mut(usize::from(code.slot))?;
        slot.iter_mut().find(|it| {
            it.credential_number == credential_number && it.code_sequence == code.code_sequence
        })
    }

    /// The determination: which registration the scanned digits belong to, live ones first. Digits that a decision has
    /// consumed do not come alive again when their terminal registers them anew: then it is the consumed registration.
    pub fn find(
        &self,
        slot: usize,
        code: &Code,
        credentials: &[Credential],
        now: Timestamp,
    ) -> Option<&BookedCode> {
        let matches = |it: &&BookedCode| {
            let index = usize::try_from(it.credential_number).ok();
            let keys = index.and_then(|at| credentials.get(at)).and_then(|it| it.keys.as_ref());
            keys.is_some_and(|keys| {
                mac::equal_in_constant_time(&tag(&keys.code_key, code), &it.tag)
            })
        };
        let codes = self.slot(slot);
        let Some(live) = codes.iter().filter(|it| it.is_live(now)).find(matches) else {
            return codes.iter().rev().filter(|it| !it.is_live(now)).find(matches);
        };
        let is_consumed = |it: &&BookedCode| {
            it.is_used && it.credential_number == live.credential_number && it.tag == live.tag
        };
        codes.iter().find(is_consumed).or(Some(live))
    }

    /// A registration by who made it and when, to answer a repeat of it.
    pub fn find_registration(
        &self,
        slot: usize,
        credential_number: u32,
        code_sequence: u32,
    ) -> Option<&BookedCode> {
        self.slot(slot).iter().find(|it| {
            it.credential_number == credential_number && it.code_sequence == code_sequence
        })
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        let filled: Vec<_> =
            (0_u16..).zip(&self.slots).filter(|(_, codes)| !codes.is_empty()).collect();
        to.count(filled.len());
        for (slot, codes) in filled {
            to.u16(slot);
            to.count(codes.len());
            codes.iter().for_each(|code| code.encode(to));
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let mut book = Self::default();
        for (slot, codes) in from.many(|from| Ok((from.u16()?, from.many(BookedCode::decode)?)))? {
            if usize::from(slot) >= SLOTS {
                return Err(LayoutError("a slot above 9999"));
            }
            *book.slot_mut(usize::from(slot)) = codes;
        }
        Ok(book)
    }
}

/// Whether the slot has codes that arrived long ago. They lie in order of arrival, so the first one tells.
pub(crate) fn is_due(codes: &[BookedCode], now: Timestamp) -> bool {
    codes.first().is_some_and(|it| it.is_old(now))
}

/// Forgets codes that arrived long ago and, beyond a handful, those spent ones that arrived first. Says which, each with
/// the place where it lay when it was taken out.
pub(crate) fn tidy(
    codes: &mut Vec<BookedCode>,
    now: Timestamp,
    mut gone: impl FnMut(usize, &BookedCode),
) {
    if codes.len() <= SPENT_PER_SLOT_MAX && !is_due(codes, now) {
        return;
    }
    let is_old = |it: &BookedCode| it.is_old(now);
    let spent = codes.iter().filter(|it| !is_old(it) && !it.is_live(now)).count();
    let mut surplus = spent.saturating_sub(SPENT_PER_SLOT_MAX);
    if surplus == 0 && !is_due(codes, now) {
        return;
    }
    let mut kept = 0_usize;
    codes.retain(|it| {
        let is_surplus = surplus > 0 && !is_old(it) && !it.is_live(now);
        surplus = surplus.saturating_sub(usize::from(is_surplus));
        let stays = !is_old(it) && !is_surplus;
        if stays {
            kept = kept.saturating_add(1);
        } else {
            gone(kept, it);
        }
        stays
    });
}
