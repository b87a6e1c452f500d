//! The code on the screen: made of random bytes, shown when its sequence is stored, registered, replaced by its
//! long form when nobody answers, and renewed before it expires.

use warifu_proto::base64url;
use warifu_proto::code::Code;
use warifu_proto::message::CodeAnswer;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

use super::{
    Answer, BAD_CHANCE_MAX, CHANCE_BYTES, CODE_PAUSE_MS, Chance, LONG_AFTER_MS, Output,
    STATEMENTS_MAX, Screen, Sending, Terminal, Trouble, Wish, is_passing, long_digits,
};

/// How long before its end a code is renewed, at most: longer than it takes to hold a phone under a scanner.
const RENEW_BEFORE_MS: u64 = 10_000;
/// How near the terminal's own clock must be to the issuer's for the correction to be forgotten.
const CLOCK_GOOD_MS: u64 = 30_000;
/// How old an acknowledgement may be to set the clock by: a repeat is answered with the time of the first.
const CLOCK_FRESH_MS: u64 = 5_000;

/// A code that waits for its sequence to be stored.
#[derive(Debug)]
pub(super) struct Made {
    code: Code,
    lifetime_s: u16,
    cap_minor: Option<u64>,
    sending: Sending,
}

/// The code that the payer sees.
#[derive(Debug)]
pub(super) struct OnScreen {
    pub(super) code: Code,
    lifetime_s: u16,
    cap_minor: Option<u64>,
    pub(super) sending: Sending,
    statements: u8,
    shown_ms: u64,
    /// When it can't be paid with any more, in milliseconds of life.
    pub(super) expires_ms: u64,
    is_acked: bool,
    /// The sequence of the statement in the long code on the screen, if that is what is shown.
    long: Option<u32>,
    /// Whether another code should take its place at once.
    pub(super) is_over: bool,
}

impl OnScreen {
    fn renew_ms(&self) -> u64 {
        if self.is_over {
            return 0;
        }
        let lifetime_ms = u64::from(self.lifetime_s).saturating_mul(1000);
        self.expires_ms.saturating_sub(RENEW_BEFORE_MS.min(lifetime_ms / 4))
    }

    /// When to take it off the screen, and when to show its long form.
    pub(super) fn deadlines(&self, durable_revision: u64) -> impl Iterator<Item = u64> {
        let waits =
            !self.is_acked && self.long.is_none() && self.sending.is_stored(durable_revision);
        let long = waits.then(|| self.shown_ms.saturating_add(LONG_AFTER_MS));
        [Some(self.expires_ms), long].into_iter().flatten()
    }
}

impl Terminal {
    /// When a new code is wanted, if no one is on its way.
    pub(super) fn code_wanted_at(&self) -> Option<u64> {
        if self.wish.is_none() || self.next.is_some() || self.chance.is_asked {
            return None;
        }
        let renew = self.shown.as_ref().map_or(0, OnScreen::renew_ms);
        Some(renew.max(self.made_ms.map_or(0, |made| made.saturating_add(CODE_PAUSE_MS))))
    }

    pub(super) fn wants_code(&self, now_ms: u64) -> bool {
        self.code_wanted_at().is_some_and(|at| at <= now_ms)
    }

    pub(super) fn make(&mut self, random: &[u8; CHANCE_BYTES]) {
        let Some(wish) = self.wish.filter(|_| self.chance.is_asked) else { return };
        self.chance.is_asked = false;
        let Ok(code) = Code::make(self.link.prefix(), self.link.partition, random) else {
            self.chance.bad = self.chance.bad.saturating_add(1);
            if self.chance.bad >= BAD_CHANCE_MAX {
                self.wish = None;
                self.chance = Chance::default();
                self.out.push_back(Output::Trouble(Trouble::BadChance));
            }
            return;
        };
        self.chance = Chance::default();
        let Some(statement) = self.statement(&code, wish.lifetime_s, wish.cap_minor) else {
            return;
        };
        // Until when it makes sense is known when it is shown.
        let sending = Sending::new(&statement, &self.key, self.link.counters.revision, u64::MAX);
        self.made_ms = Some(self.steady.lived_ms());
        let Wish { lifetime_s, cap_minor } = wish;
        self.next = Some(Made { code, lifetime_s, cap_minor, sending });
    }

    pub(super) fn progress_code(&mut self, now_ms: u64) {
        let durable = self.store.durable_revision;
        if let Some(made) = self.next.take_if(|made| made.sending.is_stored(durable)) {
            let lifetime_ms = u64::from(made.lifetime_s).saturating_mul(1000);
            let mut shown = OnScreen {
                code: made.code,
                lifetime_s: made.lifetime_s,
                cap_minor: made.cap_minor,
                sending: made.sending,
                statements: 1,
                shown_ms: now_ms,
                expires_ms: now_ms.saturating_add(lifetime_ms),
                is_acked: false,
                long: None,
                is_over: false,
            };
            shown.sending.repeats.until_ms = shown.expires_ms;
            self.out.push_back(Output::Show(self.screen(&shown)));
            self.shown = Some(shown);
        }
        let Some(mut shown) = self.shown.take() else { return };
        if now_ms >= shown.expires_ms {
            self.out.push_back(Output::Hide);
            return;
        }
        if let Some(send) = shown.sending.due(durable, now_ms) {
            self.out.push_back(send);
        }
        let is_late = now_ms >= shown.shown_ms.saturating_add(LONG_AFTER_MS);
        let sequence = shown.sending.sequence();
        let is_ready = shown.sending.is_stored(durable) && shown.long != Some(sequence);
        if !shown.is_acked && is_late && is_ready {
            shown.long = Some(sequence);
            let digits = long_digits(&shown.code, &shown.sending);
            self.out.push_back(Output::ShowLong(Screen { digits, ..self.screen(&shown) }));
        }
        self.shown = Some(shown);
    }

    fn screen(&self, shown: &OnScreen) -> Screen {
        Screen {
            digits: Zeroizing::new(shown.code.as_str().to_owned()),
            expires_at: self.steady.wall_at(shown.expires_ms),
            sequence: shown.sending.sequence(),
            is_acked: shown.is_acked,
        }
    }

    /// Takes an answer, if it is to what is under way.
    pub(super) fn answered(&mut self, sequence: u32, answer: Answer) {
        let answers = |it: &Sending| it.repeats.started_ms.is_some() && it.sequence() == sequence;
        if let Some(withdrawal) = self.withdrawal.take_if(|it| answers(it)) {
            self.withdrawal_answered(withdrawal, &answer);
        } else if let Some(shown) = self.shown.take_if(|it| !it.is_acked && answers(&it.sending)) {
            match answer {
                Answer::Registered(answer) => self.code_registered(shown, &answer),
                Answer::Refused(problem) if !shown.sending.repeats.is_done => {
                    self.code_refused(shown, problem);
                }
                Answer::Refused(_) => self.shown = Some(shown),
            }
        }
    }

    fn withdrawal_answered(&mut self, withdrawal: Sending, answer: &Answer) {
        let link_key = &self.link.keys.link_key;
        match answer {
            Answer::Registered(it) if withdrawal.is_acked_by(link_key, it) => {
                self.out.push_back(Output::Withdrawn { acked: true });
            }
            // Whatever else it says, the code expires by itself: repeat until then.
            Answer::Registered(_) | Answer::Refused(_) => self.withdrawal = Some(withdrawal),
        }
    }

    fn code_registered(&mut self, mut shown: OnScreen, answer: &CodeAnswer) {
        if shown.sending.is_acked_by(&self.link.keys.link_key, answer) {
            shown.is_acked = true;
            shown.sending.repeats.is_done = true;
            // Counted from when it was first sent: a repeat is answered as the first was.
            let lifetime_ms = u64::from(shown.lifetime_s).saturating_mul(1000);
            let left_ms = answer.expires_ms.saturating_sub(answer.now_ms).min(lifetime_ms);
            let started_ms = shown.sending.repeats.started_ms.unwrap_or(shown.shown_ms);
            shown.expires_ms = started_ms.saturating_add(left_ms);
            let waited_ms = self.steady.lived_ms().saturating_sub(started_ms);
            self.learn_clock(Timestamp::from_ms(answer.now_ms), waited_ms);
            let screen = self.screen(&shown);
            let Screen { sequence, expires_at, .. } = screen;
            if shown.long.take().is_some() {
                self.out.push_back(Output::Show(screen));
            }
            self.out.push_back(Output::Acked { sequence, expires_at });
        }
        self.shown = Some(shown);
    }

    fn code_refused(&mut self, mut shown: OnScreen, problem: Problem) {
        match ProblemCode::from_name(&problem.code) {
            Some(ProblemCode::ClockSkew) => {
                // Said by somebody else than the issuer it is no reason to change anything: repeat.
                if self.correct_clock(&shown.sending, &problem) {
                    self.state_again(&mut shown, problem);
                }
            }
            Some(ProblemCode::SequenceUsed) => self.state_again(&mut shown, problem),
            _ if is_passing(&problem) => {}
            Some(_) | None => self.give_up(&mut shown, problem),
        }
        self.shown = Some(shown);
    }

    /// No more repeats: the same statement gets the same answer. The long code stays a way to pay.
    fn give_up(&mut self, shown: &mut OnScreen, problem: Problem) {
        shown.sending.repeats.is_done = true;
        let (code, title) = (problem.code, problem.title);
        self.out.push_back(Output::Trouble(Trouble::Refused { code, title }));
    }

    /// Makes another statement about the same code, with the next sequence and the time as it is known now.
    fn state_again(&mut self, shown: &mut OnScreen, problem: Problem) {
        if shown.statements >= STATEMENTS_MAX {
            self.give_up(shown, problem);
            return;
        }
        let Some(statement) = self.statement(&shown.code, shown.lifetime_s, shown.cap_minor) else {
            shown.sending.repeats.is_done = true;
            return;
        };
        shown.statements = shown.statements.saturating_add(1);
        let (revision, until_ms) = (self.link.counters.revision, shown.sending.repeats.until_ms);
        shown.sending = Sending::new(&statement, &self.key, revision, until_ms);
    }

    /// Learns the issuer's time of its own proof.
    fn correct_clock(&mut self, sending: &Sending, problem: &Problem) -> bool {
        let Some((now_ms, ack)) = problem.now_ms.zip(problem.ack.as_deref()) else { return false };
        let now = Timestamp::from_ms(now_ms);
        let Ok(ack) = base64url::decode_array::<16>(ack) else { return false };
        if !sending.is_clock_of(&self.link.keys.link_key, now, &ack) {
            return false;
        }
        self.set_clock(now);
        true
    }

    fn set_clock(&mut self, issuers: Timestamp) {
        let ms = |at: Timestamp| i64::try_from(at.as_ms()).unwrap_or(i64::MAX);
        self.link.counters.clock_offset_ms = ms(issuers).saturating_sub(ms(self.steady.wall()));
    }

    /// Learns the issuer's time of an acknowledgement, for what is not refused when the clock is wrong: the end of a
    /// question. Somebody may also have set the terminal's clock since a correction was learned.
    fn learn_clock(&mut self, issuers: Timestamp, waited_ms: u64) {
        let own = self.steady.wall();
        let is_near = |at: Timestamp| at.as_ms().abs_diff(issuers.as_ms()) <= CLOCK_GOOD_MS;
        if is_near(own) {
            if self.link.counters.clock_offset_ms != 0 {
                self.link.counters.clock_offset_ms = 0;
                self.store();
            }
        } else if !is_near(self.link.issuer_time(own)) && waited_ms <= CLOCK_FRESH_MS {
            self.set_clock(issuers);
            self.store();
        }
    }
}
