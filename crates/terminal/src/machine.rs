//! The terminal's state machine: shows codes, registers them until the issuer itself says that it has them, renews
//! them, takes them back, opens notices, and carries the payer's word where the issuer asks for it.
//!
//! Laws, each a property test in `tests/laws.rs`:
//! 1. no code is shown and no registration is sent whose sequence is not stored durably;
//! 2. a code counts as registered only by an acknowledgement that the issuer made for this very statement;
//! 3. sequences only grow, over restarts too;
//! 4. notices are given out once each and in order, those that were not sealed by the issuer never;
//! 5. any inputs in any order end: after [`Input::Leave`] and enough time there is nothing left to wake for;
//! 6. a payment is confirmed or refused by the payer's input only, by one word for ever, which is stored before it is
//!    signed, and never sent after the question's end; a question is put once a life, if it is stored.
//!
//! Limits: one code on the screen; one store under way at a time; a new code every [`CODE_PAUSE_MS`] at most
//! (the hub takes one registration in 2 s); [`STATEMENTS_MAX`] statements a code;
//! [`QUESTIONS_MAX`](crate::QUESTIONS_MAX) questions.

mod code;
mod notices;
mod questions;
mod repeats;
mod sending;
mod trouble;

use std::collections::VecDeque;
use std::fmt;

use warifu_proto::code::{Code, Scanned};
use warifu_proto::id::PaymentId;
use warifu_proto::key::PrivateKey;
use warifu_proto::message::{
    CodeAnswer, CodeRequest, ConfirmationAnswer, ConfirmationRequest, NoticeText, SealedNotice,
};
use warifu_proto::notice::Verdict;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::registration::{CAP_MAX, Statement};
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

use self::code::{Made, OnScreen};
use self::questions::Open;
use self::sending::Sending;
pub use self::trouble::Trouble;
use crate::link::Link;
use crate::question::Question;
use crate::steady::Steady;

/// How many random bytes a code is made of.
pub const CHANCE_BYTES: usize = 64;
/// Shortest lifetime of a code in seconds: below it the terminal would do nothing but register.
pub const LIFETIME_MIN_S: u16 = 10;
/// How long a code is shown without an acknowledgement before the long code takes its place.
pub const LONG_AFTER_MS: u64 = 2_000;
/// Least time between two codes.
pub const CODE_PAUSE_MS: u64 = 2_000;
/// Most statements about one code: the first, and what a wrong clock and a used sequence make necessary.
pub const STATEMENTS_MAX: u8 = 4;
/// How often random bytes may be unusable in a row: once in 10^70 by chance, so twice is a broken source.
const BAD_CHANCE_MAX: u8 = 2;

/// What the payer wants of the codes on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How long a code can be paid with, in seconds; kept within [`LIFETIME_MIN_S`] and what the issuer allows.
    pub lifetime_s: u16,
    /// Most that one payment may be, in minor units.
    pub cap_minor: Option<u64>,
}

impl Default for Wish {
    fn default() -> Self {
        Self { lifetime_s: warifu_proto::limits::LIFETIME_DEFAULT_S, cap_minor: None }
    }
}

/// What the driver tells the machine.
#[derive(Debug)]
pub enum Input {
    /// The payer opened the screen, or changed the wish.
    Show(Wish),
    /// Random bytes, because [`Output::NeedChance`] asked for them.
    Chance(Box<[u8; CHANCE_BYTES]>),
    /// The record of this revision is on disk.
    Stored {
        /// As in [`Counters::revision`](crate::Counters::revision) of what was stored.
        revision: u64,
    },
    /// What came back for a registration. No answer, or one that is not signed by the hub, is no input.
    Answered {
        /// As in [`Output::Send`].
        sequence: u32,
        /// What it says.
        answer: Answer,
    },
    /// A notice came from the hub.
    Notice(SealedNotice),
    /// The payer answered a question.
    Verdict {
        /// About which payment.
        payment: PaymentId,
        /// Yes or no.
        verdict: Verdict,
    },
    /// What came back for the payer's word. No answer, or one that is not signed by the hub, is no input.
    VerdictAnswered {
        /// About which payment.
        payment: PaymentId,
        /// What it says.
        answer: VerdictAnswer,
    },
    /// What was on disk when [`Output::Store`] was done, if other processes store this link too. Give it before
    /// [`Input::Stored`]: a word that another one stored first stands.
    Others(Box<Link>),
    /// The payer left the screen.
    Leave,
    /// Time passed.
    Tick,
}

/// An answer to `POST /v1/codes`.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 201.
    Registered(CodeAnswer),
    /// 4xx or 5xx.
    Refused(Problem),
}

/// An answer to `POST /v1/confirmations`.
#[derive(Debug, Clone)]
pub enum VerdictAnswer {
    /// 200.
    Heard(ConfirmationAnswer),
    /// 4xx or 5xx.
    Refused(Problem),
}

/// What the machine wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Give [`Input::Chance`].
    NeedChance,
    /// Put this on disk, then give [`Input::Stored`]. What can't be stored ends in nothing being shown.
    Store(Box<Link>),
    /// Show this 24-digit code instead of what is on the screen.
    Show(Screen),
    /// Show this 333-digit code instead: the hub does not answer, and this one works without it.
    ShowLong(Screen),
    /// The issuer has the code.
    Acked {
        /// Whose sequence it is.
        sequence: u32,
        /// Until when it can be paid with, by the terminal's clock.
        expires_at: Timestamp,
    },
    /// Take the code off the screen.
    Hide,
    /// Send this to the hub's `POST /v1/codes` without waiting for earlier ones.
    Send {
        /// To name it in [`Input::Answered`].
        sequence: u32,
        /// The body.
        request: Box<CodeRequest>,
    },
    /// After [`Input::Leave`]: no code of this terminal can be paid with any more.
    Withdrawn {
        /// Whether the issuer said so; otherwise none was shown or the last one has expired by itself.
        acked: bool,
    },
    /// Tell the payer. It may come twice when the terminal dies before it is stored.
    Notice {
        /// Its number.
        number: u64,
        /// What happened.
        notice: Box<NoticeText>,
    },
    /// Ask the payer, and give [`Input::Verdict`] when there is an answer. After a restart it comes again.
    Ask(Box<Question>),
    /// The payer need not answer any more: it is too late, decided, or said elsewhere.
    QuestionOver {
        /// About which payment.
        payment: PaymentId,
    },
    /// Send this, signed, to the hub's `POST /v1/confirmations` without waiting for earlier ones.
    SendVerdict {
        /// The body.
        request: Box<ConfirmationRequest>,
    },
    /// The issuer has heard the payer's word.
    VerdictHeard {
        /// About which payment.
        payment: PaymentId,
        /// The word that stands: the first one that the issuer heard.
        verdict: Verdict,
    },
    /// Something the payer should know.
    Trouble(Trouble),
    /// Give [`Input::Tick`] then, if nothing else happens before.
    WakeAt(Timestamp),
}

/// A code for the screen.
#[derive(Clone, PartialEq, Eq)]
pub struct Screen {
    /// 24 or 333 digits: what the picture shows. A secret until it is spent.
    pub digits: Zeroizing<String>,
    /// Until when it can be paid with, by the terminal's clock.
    pub expires_at: Timestamp,
    /// The sequence of its registration.
    pub sequence: u32,
    /// Whether the issuer has said that it has the code.
    pub is_acked: bool,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("expires_at", &self.expires_at)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// The machine of one link. See the module's laws.
pub struct Terminal {
    link: Link,
    key: PrivateKey,
    steady: Steady,
    /// What the screen should show, while it is open.
    wish: Option<Wish>,
    /// Whether random bytes were asked for, and how often they were bad.
    chance: Chance,
    /// A code whose sequence is being stored.
    next: Option<Made>,
    shown: Option<OnScreen>,
    withdrawal: Option<Sending>,
    /// Questions that are not over.
    open: Vec<Open>,
    /// When the last code was made, in milliseconds of life.
    made_ms: Option<u64>,
    store: Store,
    out: VecDeque<Output>,
    wake_given: bool,
}

#[derive(Debug, Default)]
struct Chance {
    is_asked: bool,
    bad: u8,
}

/// Which state of the link is on disk.
#[derive(Debug, Default)]
struct Store {
    durable_revision: u64,
    durable_notice: u64,
    /// Revision and notice of the store that is under way.
    under_way: Option<(u64, u64)>,
}

impl Terminal {
    /// Takes the link as it is stored and its key.
    pub fn new(link: Link, key: PrivateKey) -> Self {
        let store = Store {
            durable_revision: link.counters.revision,
            durable_notice: link.counters.notice,
            under_way: None,
        };
        Self {
            link,
            key,
            steady: Steady::default(),
            wish: None,
            chance: Chance::default(),
            next: None,
            shown: None,
            withdrawal: None,
            open: Vec::new(),
            made_ms: None,
            store,
            out: VecDeque::new(),
            wake_given: true,
        }
    }

    /// The link as it is now, stored or not.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The last notice that is stored as seen: what `Last-Event-ID` may acknowledge.
    pub fn acknowledged_notice(&self) -> u64 {
        self.store.durable_notice
    }

    /// Takes an input. Then call [`Terminal::poll`] until it gives nothing.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.steady.advance(now);
        match input {
            Input::Show(wish) => self.open(wish),
            Input::Chance(random) => self.make(&random),
            Input::Stored { revision } => self.stored(revision),
            Input::Answered { sequence, answer } => self.answered(sequence, answer),
            Input::Notice(notice) => self.notice(&notice),
            Input::Verdict { payment, verdict } => self.say(payment, verdict),
            Input::VerdictAnswered { payment, answer } => self.verdict_answered(payment, answer),
            Input::Others(link) => self.others(&link),
            Input::Leave => self.leave(),
            Input::Tick => {}
        }
        self.progress();
        self.wake_given = false;
    }

    /// The next thing to do, [`Output::WakeAt`] last, then nothing.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.out.pop_front() {
            return Some(output);
        }
        if std::mem::replace(&mut self.wake_given, true) {
            return None;
        }
        self.next_deadline().map(|lived_ms| Output::WakeAt(self.steady.wall_at(lived_ms)))
    }

    /// Asks the driver to store the link, now or when the store that is under way has ended.
    fn store(&mut self) {
        let counters = &mut self.link.counters;
        counters.revision = counters.revision.saturating_add(1);
        if self.store.under_way.is_none() {
            self.begin_store();
        }
    }

    fn begin_store(&mut self) {
        let counters = self.link.counters;
        self.store.under_way = Some((counters.revision, counters.notice));
        self.out.push_back(Output::Store(Box::new(self.link.clone())));
    }

    fn stored(&mut self, revision: u64) {
        let Some((awaited, notice)) = self.store.under_way else { return };
        if revision != awaited {
            return;
        }
        self.store = Store { durable_revision: awaited, durable_notice: notice, under_way: None };
        if self.link.counters.revision > awaited {
            self.begin_store();
        }
    }

    fn open(&mut self, wish: Wish) {
        let lifetime_s =
            wish.lifetime_s.clamp(LIFETIME_MIN_S, self.link.lifetime_max_s().max(LIFETIME_MIN_S));
        let wish = Wish { lifetime_s, cap_minor: wish.cap_minor.map(|cap| cap.min(CAP_MAX)) };
        if self.wish.is_some_and(|before| before != wish) {
            self.next = None;
            self.shown.iter_mut().for_each(|shown| shown.is_over = true);
        }
        // A newer code retires older ones by itself.
        self.withdrawal = None;
        self.wish = Some(wish);
    }

    fn leave(&mut self) {
        self.wish = None;
        self.next = None;
        self.chance = Chance::default();
        if self.withdrawal.is_some() {
            return;
        }
        let shown = self.shown.take();
        if shown.is_some() {
            self.out.push_back(Output::Hide);
        }
        let now_ms = self.steady.lived_ms();
        let withdrawal = shown.filter(|it| now_ms < it.expires_ms).and_then(|shown| {
            let statement = self.statement(&shown.code, 0, None)?;
            Some((statement, shown.expires_ms))
        });
        match withdrawal {
            Some((statement, until_ms)) => {
                let revision = self.link.counters.revision;
                self.withdrawal = Some(Sending::new(&statement, &self.key, revision, until_ms));
            }
            None => self.out.push_back(Output::Withdrawn { acked: false }),
        }
    }

    /// A statement with the next sequence, which is being stored from now on.
    fn statement(
        &mut self,
        code: &Code,
        lifetime_s: u16,
        cap_minor: Option<u64>,
    ) -> Option<Statement> {
        let issued_at = self.link.issuer_time(self.steady.wall());
        let seconds = u32::try_from(issued_at.as_ms() / 1000).unwrap_or(0);
        let Some(after_last) = self.link.counters.sequence.checked_add(1) else {
            self.wish = None;
            self.out.push_back(Output::Trouble(Trouble::SequencesUsedUp));
            return None;
        };
        let sequence = after_last.max(seconds);
        self.link.counters.sequence = sequence;
        self.store();
        Some(Statement {
            prefix: self.link.prefix(),
            locator: code.locator(self.link.prefix()),
            lifetime_s,
            sequence,
            credential: self.link.credential,
            tag: warifu_proto::registration::tag(&self.link.keys.code_key, code),
            issued_at,
            currency_number: self.link.currency_number,
            cap_minor: cap_minor.unwrap_or(0),
        })
    }

    /// Does what the time and what is stored allow.
    fn progress(&mut self) {
        let now_ms = self.steady.lived_ms();
        self.progress_code(now_ms);
        self.progress_questions(now_ms);
        let durable = self.store.durable_revision;
        if let Some(withdrawal) = &mut self.withdrawal {
            if now_ms >= withdrawal.repeats.until_ms {
                self.withdrawal = None;
                self.out.push_back(Output::Withdrawn { acked: false });
            } else if let Some(send) = withdrawal.due(durable, now_ms) {
                self.out.push_back(send);
            }
        }
        if self.wants_code(now_ms) {
            self.chance.is_asked = true;
            self.out.push_back(Output::NeedChance);
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let durable = self.store.durable_revision;
        let sending = self.shown.iter().map(|it| &it.sending).chain(&self.withdrawal);
        let sends = sending.filter_map(|it| it.repeats.next_deadline(durable));
        let screen = self.shown.iter().flat_map(|it| it.deadlines(durable));
        let withdrawal = self.withdrawal.iter().map(|it| it.repeats.until_ms);
        let questions = self.question_deadlines();
        sends.chain(screen).chain(withdrawal).chain(questions).chain(self.code_wanted_at()).min()
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Whether a problem may be gone when the same is sent again.
fn is_passing(problem: &Problem) -> bool {
    match ProblemCode::from_name(&problem.code) {
        Some(code) => matches!(
            code,
            ProblemCode::TooManyRequests
                | ProblemCode::Internal
                | ProblemCode::NotAccepted
                | ProblemCode::IssuerUnavailable
        ),
        None => problem.status >= 500 || problem.status == 429,
    }
}

/// The digits of the long code of a code and its registration.
fn long_digits(code: &Code, sending: &Sending) -> Zeroizing<String> {
    let registration = Some(Box::new(sending.registration.clone()));
    Zeroizing::new(Scanned { code: code.clone(), registration }.to_digits())
}
