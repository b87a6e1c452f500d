//! What entries do to the code book. Of two codes of a credential the newer is the one with the higher sequence,
//! whichever arrived first: registrations may overtake each other on their way.

use warifu_proto::code::Locator;
use warifu_proto::limits::RETIRE_GRACE_MS;
use warifu_proto::time::Timestamp;

use super::Fit;
use crate::code_book::{BookedCode, SLOTS, is_due, tidy};
use crate::credential::{CODES_MAX, CodeRef, Usage};
use crate::entry::{Registered, Withdrawn};
use crate::partition::Partition;
use crate::undo::{Old, UndoLog};

/// A slot that is full gets room for so many more codes.
const SLOT_STEP: usize = 4;

impl Partition {
    pub(super) fn register(&mut self, it: &Registered, at: Timestamp, undo: &mut UndoLog) -> Fit {
        self.book(it, at, undo)?;
        // The terminal has network again: what it may pay without begins anew.
        let mut usage = self.usage(it.credential_number)?;
        if usage.offline_count > 0 {
            (usage.offline_minor, usage.offline_count) = (0, 0);
            return self.set_usage(it.credential_number, usage, undo);
        }
        Ok(())
    }

    /// Puts a code into the book.
    pub(super) fn book(&mut self, it: &Registered, at: Timestamp, undo: &mut UndoLog) -> Fit {
        let slot = self.slot_of(it.locator)?;
        let mut usage = self.usage(it.credential_number)?;
        usage.take_sequence(it.code_sequence).map_err(|_| "its sequence was used before")?;
        self.tidy_slot(slot, undo);
        let retires_at = self.supersede(it, &mut usage, at, undo);
        if retires_at > at {
            usage.add_code(CodeRef { slot, code_sequence: it.code_sequence });
        }
        let codes = self.codes.slot_mut(usize::from(slot));
        if codes.len() == codes.capacity() {
            // Most slots stay at a handful: twice as much room would be the largest thing in memory.
            codes.reserve_exact(SLOT_STEP);
        }
        codes.push(BookedCode {
            credential_number: it.credential_number,
            code_sequence: it.code_sequence,
            tag: it.tag,
            digest: it.digest,
            registered_at: at,
            expires_at: it.expires_at,
            retires_at,
            cap_minor: it.cap_minor,
            wrong_secrets: 0,
            is_used: false,
        });
        undo.keep(Old::CodeBooked(slot));
        self.set_usage(it.credential_number, usage, undo)
    }

    /// Lets older codes end 5 s from now, and says when the new one ends: never, or, when a newer one was here before
    /// it, 5 s after that one's arrival.
    fn supersede(
        &mut self,
        it: &Registered,
        usage: &mut Usage,
        at: Timestamp,
        undo: &mut UndoLog,
    ) -> Timestamp {
        let mut retires_at = if it.code_sequence <= usage.ended_to { at } else { Timestamp::MAX };
        let mut ended_to = usage.ended_to;
        usage.retain_codes(|code| {
            let is_older = code.code_sequence < it.code_sequence;
            let booked = self.change_code(code, it.credential_number, undo, |booked| {
                if is_older {
                    booked.retires_at = booked.retires_at.min(at.plus_ms(RETIRE_GRACE_MS));
                }
            });
            let grace_ends = booked.map(|it| it.registered_at.plus_ms(RETIRE_GRACE_MS));
            if let (false, Some(grace_ends)) = (is_older, grace_ends) {
                retires_at = retires_at.min(grace_ends);
            }
            // A code that is neither payable nor within its grace says nothing more than that older ones have ended.
            let stays = booked.is_some_and(|it| it.refusal(at).is_none())
                || grace_ends.is_some_and(|ends| at < ends);
            if !stays {
                ended_to = ended_to.max(code.code_sequence);
            }
            stays
        });
        usage.ended_to = ended_to;
        if usage.codes_count() >= CODES_MAX {
            let listed = usage.codes().map(|code| code.code_sequence);
            let oldest = listed.chain([it.code_sequence]).min().unwrap_or_default();
            self.end_codes(it.credential_number, usage, oldest, at, undo);
        }
        if it.code_sequence <= usage.ended_to { at } else { retires_at.max(at) }
    }

    pub(super) fn withdraw(&mut self, it: &Withdrawn, at: Timestamp, undo: &mut UndoLog) -> Fit {
        let mut usage = self.usage(it.credential_number)?;
        usage.take_sequence(it.code_sequence).map_err(|_| "its sequence was used before")?;
        self.end_codes(it.credential_number, &mut usage, it.code_sequence, at, undo);
        (usage.withdrawn_sequence, usage.withdrawn_at) = (it.code_sequence, at);
        self.set_usage(it.credential_number, usage, undo)
    }

    /// Ends a credential's codes up to a sequence at once, those that have not arrived yet included.
    pub(super) fn end_codes(
        &mut self,
        credential_number: u32,
        usage: &mut Usage,
        to_sequence: u32,
        at: Timestamp,
        undo: &mut UndoLog,
    ) {
        usage.ended_to = usage.ended_to.max(to_sequence);
        usage.retain_codes(|code| {
            let stays = code.code_sequence > to_sequence;
            if !stays {
                self.change_code(code, credential_number, undo, |code| {
                    code.retires_at = code.retires_at.min(at);
                });
            }
            stays
        });
    }

    pub(super) fn change_code(
        &mut self,
        code: CodeRef,
        credential_number: u32,
        undo: &mut UndoLog,
        change: impl FnOnce(&mut BookedCode),
    ) -> Option<BookedCode> {
        let booked = self.codes.code_mut(code, credential_number)?;
        let before = *booked;
        change(booked);
        if before != *booked {
            undo.keep(Old::Code(code.slot, before));
        }
        Some(*booked)
    }

    /// Somebody guesses: counted against every live code of the slot, and the tenth retires them.
    pub(super) fn count_wrong_secret(
        &mut self,
        locator: Locator,
        at: Timestamp,
        undo: &mut UndoLog,
    ) {
        let Ok(slot) = self.slot_of(locator) else { return };
        let Some(codes) = self.codes.made_slot_mut(usize::from(slot)) else { return };
        for code in codes.iter_mut().filter(|it| it.refusal(at).is_none()) {
            undo.keep(Old::Code(slot, *code));
            code.wrong_secrets = code.wrong_secrets.saturating_add(1);
        }
    }

    pub(super) fn slot_of(&self, locator: Locator) -> Result<u16, &'static str> {
        if locator.partition() != self.number {
            return Err("its locator is of another partition");
        }
        u16::try_from(locator.slot()).map_err(|_| "a slot above 9999")
    }

    /// One slot with every entry, so that those are tidied too where nothing arrives any more: of what is old. What is
    /// too much goes when more arrives.
    pub(super) fn tidy_in_turn(&mut self, undo: &mut UndoLog) {
        let slots = u64::try_from(SLOTS).unwrap_or(u64::MAX);
        let turn = self.sequence.checked_rem(slots).unwrap_or_default();
        let turn = u16::try_from(turn).unwrap_or_default();
        if is_due(self.codes.slot(usize::from(turn)), self.time) {
            self.tidy_slot(turn, undo);
        }
    }

    fn tidy_slot(&mut self, slot: u16, undo: &mut UndoLog) {
        let now = self.time;
        if let Some(codes) = self.codes.made_slot_mut(usize::from(slot)) {
            tidy(codes, now, |place, code| undo.keep(Old::CodeForgotten(slot, place, *code)));
        }
    }
}
