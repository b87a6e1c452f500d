//! Which codes can pay, kept from the facts alone by the laws of protocol.md 2.5: registered, not expired, not over its
//! cap, not ended by a newer code, a withdrawal, a payment or guesses.
//!
//! The time of an entry is the very one that it was decided by, so nothing here is a matter of tolerance. Of each
//! credential those codes are kept that nothing has ended but time: one, or as many as arrive in 5 s.

use std::collections::HashMap;

use warifu_core::entry::{Decided, Registered, Withdrawn};
use warifu_proto::code::Locator;
use warifu_proto::limits::{RETIRE_GRACE_MS, WRONG_SECRETS_MAX};
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use super::books::Kept;

/// The codes of a partition.
#[derive(Debug, Default)]
pub(super) struct Codes {
    by_credential: HashMap<u32, Shown>,
    /// Payments that found no code under a locator: each is a guess at all codes there.
    guesses: HashMap<Locator, u32>,
}

/// The codes that a credential's terminal has shown.
#[derive(Debug, Default)]
struct Shown {
    /// Codes of this sequence and below have ended, those that arrive later included.
    ended_to: u32,
    sequence_highest: u32,
    /// The others.
    codes: Vec<Code>,
}

#[derive(Debug, Clone, Copy)]
struct Code {
    sequence: u32,
    locator: Locator,
    arrived_at: Timestamp,
    expires_at: Timestamp,
    cap_minor: u64,
    /// Guesses under its locator before it arrived.
    guesses: u32,
}

impl Codes {
    pub(super) fn registered(&mut self, it: &Registered, at: Timestamp) {
        let code = Code {
            sequence: it.code_sequence,
            locator: it.locator,
            arrived_at: at,
            expires_at: it.expires_at,
            cap_minor: it.cap_minor,
            guesses: self.guesses_at(it.locator),
        };
        self.shown(it.credential_number, at).add(code);
    }

    pub(super) fn withdrawn(&mut self, it: &Withdrawn, at: Timestamp) {
        let shown = self.shown(it.credential_number, at);
        shown.sequence_highest = shown.sequence_highest.max(it.code_sequence);
        shown.end(it.code_sequence);
    }

    /// Says why the code of a payment could not pay it, when it could not; and what it ends.
    pub(super) fn decided(&mut self, it: &Decided, at: Timestamp) -> Kept {
        let Some(matched) = &it.matched else {
            if it.rejection == Some(Rejection::CodeUnknown) {
                *self.guesses.entry(it.locator).or_default() += 1;
            }
            return Ok(());
        };
        let guesses = self.guesses_at(it.locator);
        let shown = self.shown(matched.credential_number, at);
        let sequence = matched.code_sequence;
        let carried = it.offline.map(|offline| Code {
            sequence,
            locator: it.locator,
            arrived_at: at,
            // It pays at its last moment too, unlike a code that was registered.
            expires_at: offline.expires_at.plus_ms(1),
            cap_minor: offline.cap_minor,
            guesses,
        });
        let is_it = |code: &&Code| code.sequence == sequence && code.locator == it.locator;
        let code = carried.or_else(|| shown.codes.iter().find(is_it).copied());
        let could = match code {
            _ if it.rejection.is_some() => Ok(()),
            _ if sequence <= shown.ended_to => {
                Err("paid by a code that could not pay: it was retired")
            }
            None => Err("paid by a code that could not pay: it was never registered"),
            Some(code) => code.pays(it.amount_minor, at, guesses),
        };
        carried.into_iter().for_each(|code| shown.add(code));
        if it.rejection.is_none_or(Rejection::consumes_code) {
            // With it end all others of the credential.
            shown.end(shown.sequence_highest);
        }
        could
    }

    fn guesses_at(&self, locator: Locator) -> u32 {
        self.guesses.get(&locator).copied().unwrap_or_default()
    }

    /// What a credential has shown, as it stands at that time.
    fn shown(&mut self, credential_number: u32, at: Timestamp) -> &mut Shown {
        let shown = self.by_credential.entry(credential_number).or_default();
        let is_in_force = |it: &&Code| at >= it.arrived_at.plus_ms(RETIRE_GRACE_MS);
        let newest = shown.codes.iter().filter(is_in_force).map(|it| it.sequence).max();
        // Older ones have ended 5 s after a newer one arrived.
        shown.end(newest.unwrap_or_default().saturating_sub(1));
        shown
    }
}

impl Shown {
    fn add(&mut self, code: Code) {
        self.sequence_highest = self.sequence_highest.max(code.sequence);
        if code.sequence > self.ended_to {
            // Nearly always it is the only one.
            self.codes.reserve_exact(1);
            self.codes.push(code);
        }
    }

    fn end(&mut self, to_sequence: u32) {
        self.ended_to = self.ended_to.max(to_sequence);
        self.codes.retain(|it| it.sequence > self.ended_to);
        self.codes.shrink_to_fit();
    }
}

impl Code {
    fn pays(&self, amount_minor: u64, at: Timestamp, guesses: u32) -> Kept {
        if at >= self.expires_at {
            Err("paid by a code that could not pay: it had expired")
        } else if guesses - self.guesses >= u32::from(WRONG_SECRETS_MAX) {
            Err("paid by a code that could not pay: it was guessed at too often")
        } else if self.cap_minor != 0 && amount_minor > self.cap_minor {
            Err("paid by a code that could not pay: its cap was lower")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
