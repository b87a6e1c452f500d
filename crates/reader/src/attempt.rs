//! One payment, from the scan to an answer that can be believed, and back again if there is none.
//!
//! Laws, each a property test in `tests/laws.rs`:
//! 1. nothing is sent before the record is stored, and what is sent has the same id and content for ever (only the
//!    time that the issuer may take shrinks with what is left of the cashier's patience);
//! 2. an outcome is what a signed answer to this very request says; without a final one by the deadline the machine
//!    asks once, then reverses, and is [`Outcome::Reversing`] if that is not acknowledged in time either.
//!    [`Outcome::NotTaken`] needs no reversal: it is certain that no message ever left;
//! 3. there is exactly one outcome, at the deadline and [`REVERSAL_GRACE_MS`] at the latest;
//! 4. that it is being reversed is stored before the reversal leaves, and from then on no answer makes it a paid one:
//!    a late `approved` will be undone by the reversal, so it is not told.
//!
//! Repeating is safe because a repeat never does anything. Limits: one call at a time. The numbers are those of
//! [`crate::timing`].

use std::collections::VecDeque;

use warifu_proto::directory::Directory;
use warifu_proto::limits::{DEADLINE_MAX_MS, DEADLINE_MIN_MS};
use warifu_proto::message::{Payment, PaymentStatus, ReversalReason, ReversalRequest};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::time::Timestamp;

use crate::answer::{self, Proof, Reply};
use crate::call::{Call, Send};
use crate::outcome::{BeginError, How, Input, Outcome, Output, Progress, UndoError, Why, is_paid};
use crate::record::{Order, Record, Standing};
use crate::route::{IssuerAt, RouteError};
use crate::steady::Steady;
use crate::timing::{
    AWAITING_GRACE_MS, AWAITING_MAX_MS, CALL_MAX_MS, LAST_ASK_MS, REPEAT_PAUSE_MAX_MS,
    REPEAT_PAUSE_MIN_MS, REVERSAL_GRACE_MS,
};

/// What is tried at the moment. They follow one another in this order, and some are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The request is sent, and sent again.
    Paying,
    /// The payment is there and not final: it is asked about.
    Awaiting,
    /// The deadline has passed: one question, before it is reversed.
    LastWord,
    /// It is made sure that nothing is paid.
    Reversing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The record is being stored; nothing leaves until it is.
    Storing,
    /// The next call leaves at this moment of life.
    Pausing { until_ms: u64 },
    /// A call is under way.
    Calling { number: u32, until_ms: u64 },
    /// The outcome is given.
    Ended,
}

/// The machine of one attempt. See the module's laws.
#[derive(Debug)]
pub struct Attempt {
    record: Record,
    issuer: IssuerAt,
    phase: Phase,
    state: State,
    steady: Steady,
    /// When asking for the payment ends, in milliseconds of life.
    deadline_ms: u64,
    /// When the outcome is due.
    end_ms: u64,
    pause_ms: u64,
    /// Of each call, by its number from 1: whether it was a reversal.
    were_reversals: Vec<bool>,
    /// Whether a request may have arrived whose fate nobody has told.
    is_in_doubt: bool,
    /// Whether the issuer refused the last reversal, so that the next call is a question.
    is_refused: bool,
    why: Why,
    /// Whether the deadline was moved because the payer is being asked.
    awaits_payer: bool,
    out: VecDeque<Output>,
    wake_given: bool,
}

impl Attempt {
    /// Begins a new payment. The first output is the record to store.
    ///
    /// # Errors
    /// In the order of [`BeginError`]; nobody has been asked.
    pub fn begin(order: &Order, directory: &Directory, now: Timestamp) -> Result<Self, BeginError> {
        let issuer = IssuerAt::of_code(directory, &order.scanned.code, now)?;
        let record = Record::new(order, issuer.route, issuer.id, now);
        let request = record.request(record.deadline_ms);
        request.map_or(Ok(()), |it| it.check())?;
        let currency = order.amount.currency();
        if !issuer.currencies.contains(&currency) {
            return Err(BeginError::CurrencyUnknown { name: issuer.name, currency });
        }
        let deadline_ms = record.deadline_ms;
        let mut attempt = Self::new(record, issuer, Phase::Paying, now);
        attempt.deadline_ms = deadline_ms;
        attempt.end_ms = deadline_ms.saturating_add(REVERSAL_GRACE_MS);
        attempt.is_in_doubt = false;
        attempt.store();
        Ok(attempt)
    }

    /// Goes on with a record of the journal: [`How::Repeat`] for so long and [`REVERSAL_GRACE_MS`], [`How::End`] for so
    /// long. One that has ended gives its outcome again.
    ///
    /// # Errors
    /// As [`IssuerAt::of_route`].
    pub fn resume(
        record: Record,
        how: How,
        wait_ms: u64,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Self, RouteError> {
        let issuer = IssuerAt::of_route(directory, record.route)?;
        let phase = match (&record.standing, how) {
            (Standing::Reversing { .. }, _) => Phase::Reversing,
            (_, How::Repeat) if record.code.is_some() => Phase::Paying,
            (_, How::Repeat | How::End) => Phase::LastWord,
        };
        let ended = Outcome::of(&record.standing);
        let mut attempt = Self::new(record, issuer, phase, now);
        attempt.deadline_ms = wait_ms;
        attempt.end_ms = match phase {
            Phase::Paying => wait_ms.saturating_add(REVERSAL_GRACE_MS),
            Phase::Awaiting | Phase::LastWord | Phase::Reversing => wait_ms,
        };
        match ended {
            Some(outcome) => attempt.end(outcome),
            None => attempt.progress(),
        }
        Ok(attempt)
    }

    /// Takes a paid one back, as the cashier wishes, for so long. The first output is the record to store.
    ///
    /// # Errors
    /// In the order of [`UndoError`]; nobody has been asked.
    pub fn undo(
        mut record: Record,
        wait_ms: u64,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Self, UndoError> {
        let told = match &record.standing {
            Standing::Decided { payment } if is_paid(payment.status) => payment.clone(),
            _ => return Err(UndoError::NotPaid),
        };
        let issuer = IssuerAt::of_route(directory, record.route)?;
        let reason = ReversalReason::Cashier;
        record.now_is(Standing::Reversing { reason, told: Some(told) });
        let mut attempt = Self::new(record, issuer, Phase::Reversing, now);
        attempt.end_ms = wait_ms;
        attempt.store();
        Ok(attempt)
    }

    fn new(record: Record, issuer: IssuerAt, phase: Phase, now: Timestamp) -> Self {
        let mut steady = Steady::default();
        steady.advance(now);
        Self {
            record,
            issuer,
            phase,
            state: State::Pausing { until_ms: 0 },
            steady,
            deadline_ms: 0,
            end_ms: 0,
            pause_ms: REPEAT_PAUSE_MIN_MS,
            were_reversals: Vec::new(),
            is_in_doubt: true,
            is_refused: false,
            why: Why::NoAnswer,
            awaits_payer: false,
            out: VecDeque::new(),
            wake_given: false,
        }
    }

    /// The record as it stands.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The issuer that is asked.
    pub fn issuer(&self) -> &IssuerAt {
        &self.issuer
    }

    /// Takes an input. Then call [`Attempt::poll`] until it gives nothing.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.steady.advance(now);
        match input {
            Input::Stored if self.state == State::Storing => {
                self.state = State::Pausing { until_ms: 0 };
            }
            Input::Answered { number, reply } => self.answered(number, reply),
            Input::Cancel => self.cancel(),
            Input::Stored | Input::Tick => {}
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
        let at = match self.state {
            State::Storing => self.due_ms(),
            State::Pausing { until_ms } | State::Calling { until_ms, .. } => {
                until_ms.min(self.due_ms())
            }
            State::Ended => return None,
        };
        Some(Output::WakeAt(self.steady.wall_at(at)))
    }

    /// When what is tried at the moment ends.
    fn due_ms(&self) -> u64 {
        match self.phase {
            Phase::Paying | Phase::Awaiting => self.deadline_ms,
            Phase::LastWord | Phase::Reversing => self.end_ms,
        }
    }

    /// Does what the time allows.
    fn progress(&mut self) {
        let now_ms = self.steady.lived_ms();
        let is_paying = matches!(self.phase, Phase::Paying | Phase::Awaiting);
        if self.state != State::Ended && is_paying && now_ms >= self.deadline_ms {
            self.stop_paying();
        }
        if self.state != State::Ended && now_ms >= self.due_ms() {
            if self.phase == Phase::LastWord {
                self.reverse(ReversalReason::Timeout);
            }
            self.end(Outcome::Reversing(self.why.clone()));
        }
        match self.state {
            // The driver did not tell in time: the call's fate is unknown.
            State::Calling { number, until_ms } if now_ms >= until_ms => {
                self.answered(number, Reply::Nothing);
            }
            State::Pausing { until_ms } if now_ms >= until_ms => self.send(now_ms),
            State::Storing | State::Pausing { .. } | State::Calling { .. } | State::Ended => {}
        }
    }

    /// The deadline is here.
    fn stop_paying(&mut self) {
        self.is_in_doubt |= matches!(self.state, State::Calling { .. });
        if !self.is_in_doubt {
            return self.end(Outcome::NotTaken);
        }
        self.phase = Phase::LastWord;
        self.end_ms = self.deadline_ms.saturating_add(REVERSAL_GRACE_MS);
        self.state = State::Pausing { until_ms: 0 };
    }

    fn cancel(&mut self) {
        if self.state == State::Ended || self.phase == Phase::Reversing {
            return;
        }
        self.is_in_doubt |= matches!(self.state, State::Calling { .. });
        if !self.is_in_doubt {
            return self.end(Outcome::NotTaken);
        }
        let soon_ms = self.steady.lived_ms().saturating_add(REVERSAL_GRACE_MS);
        self.end_ms = self.end_ms.min(soon_ms);
        self.reverse(ReversalReason::Cashier);
    }

    /// From here on it can't become a paid one. The reversal leaves as soon as that is stored.
    fn reverse(&mut self, reason: ReversalReason) {
        self.record.now_is(Standing::Reversing { reason, told: None });
        self.phase = Phase::Reversing;
        self.pause_ms = REPEAT_PAUSE_MIN_MS;
        self.is_refused = false;
        self.out.push_back(Output::Progress(Progress::Reversing));
        self.store();
    }

    fn store(&mut self) {
        self.state = State::Storing;
        self.out.push_back(Output::Store(Box::new(self.record.clone())));
    }

    fn send(&mut self, now_ms: u64) {
        let left_ms = self.due_ms().saturating_sub(now_ms);
        let mut timeout_ms = left_ms.min(CALL_MAX_MS);
        let call = match self.phase {
            Phase::Paying => {
                // An issuer that hears of it when the cashier has given up must not approve it any more.
                let patience_ms = left_ms.clamp(DEADLINE_MIN_MS, DEADLINE_MAX_MS);
                let has_time = self.were_reversals.is_empty() || left_ms >= DEADLINE_MIN_MS;
                let request = self.record.request(patience_ms).filter(|_| has_time);
                request.map(|it| Call::Pay(Box::new(it)))
            }
            Phase::Awaiting => Some(self.question(timeout_ms / 2)),
            Phase::LastWord => {
                timeout_ms = timeout_ms.min(LAST_ASK_MS);
                Some(self.question(0))
            }
            Phase::Reversing if self.is_refused => Some(self.question(0)),
            Phase::Reversing => self.reversal(),
        };
        let Some(call) = call else {
            self.state = State::Pausing { until_ms: self.due_ms() };
            return;
        };
        self.were_reversals.push(matches!(call, Call::Reverse(_)));
        let number = u32::try_from(self.were_reversals.len()).unwrap_or(u32::MAX);
        self.state = State::Calling { number, until_ms: now_ms.saturating_add(timeout_ms) };
        self.out.push_back(Output::Send(Box::new(Send {
            number,
            url: self.issuer.url.clone(),
            key: self.issuer.key.clone(),
            route: self.record.route,
            call,
            timeout_ms,
        })));
    }

    fn question(&self, wait_ms: u64) -> Call {
        let request_id = self.record.request_id.clone();
        Call::Ask { request_id, route: self.record.route, wait_ms }
    }

    fn reversal(&self) -> Option<Call> {
        let Standing::Reversing { reason, .. } = &self.record.standing else { return None };
        Some(Call::Reverse(ReversalRequest {
            request_id: self.record.request_id.clone(),
            route: self.record.route,
            reason: *reason,
        }))
    }

    fn answered(&mut self, number: u32, reply: Reply) {
        let awaited = match self.state {
            State::Calling { number, .. } => Some(number),
            State::Pausing { .. } | State::Storing => None,
            State::Ended => return,
        };
        let index = usize::try_from(number).ok().and_then(|it| it.checked_sub(1));
        let Some(was_reversal) = index.and_then(|it| self.were_reversals.get(it)) else { return };
        let proof = if *was_reversal {
            answer::about_reversal(reply, &self.record)
        } else {
            answer::about_payment(reply, &self.record)
        };
        match proof {
            // Late, but it says what happened, whichever call it answers.
            Proof::Reversed { payment_id } => self.end(Outcome::Reversed { payment_id }),
            Proof::Final(payment) if self.phase != Phase::Reversing || !is_paid(payment.status) => {
                self.end(Outcome::Decided(*payment));
            }
            _ if awaited != Some(number) => {}
            proof => match self.phase {
                Phase::Paying => self.request_answered(proof),
                Phase::Awaiting => self.question_answered(proof),
                Phase::LastWord => self.reverse(ReversalReason::Timeout),
                Phase::Reversing if self.is_refused => {
                    self.is_refused = false;
                    self.pause(0);
                }
                Phase::Reversing => self.reversal_answered(proof),
            },
        }
    }

    fn request_answered(&mut self, proof: Proof) {
        match proof {
            Proof::Pending(payment) => self.pending(&payment),
            Proof::Refused(problem) => self.request_refused(*problem),
            Proof::NotSent => self.again(0),
            Proof::NotAccepted { retry_after_ms } => {
                self.is_in_doubt = true;
                self.again(retry_after_ms);
            }
            Proof::Final(_) | Proof::Reversed { .. } | Proof::None => {
                self.is_in_doubt = true;
                self.again(0);
            }
        }
    }

    fn question_answered(&mut self, proof: Proof) {
        match proof {
            Proof::Pending(payment) => self.pending(&payment),
            Proof::Refused(problem) => self.pause(least_pause_ms(&problem)),
            Proof::NotAccepted { retry_after_ms } => self.again(retry_after_ms),
            Proof::Final(_) | Proof::Reversed { .. } | Proof::NotSent | Proof::None => {
                self.again(0);
            }
        }
    }

    fn reversal_answered(&mut self, proof: Proof) {
        match proof {
            Proof::Refused(problem) => self.reversal_refused(*problem),
            Proof::NotAccepted { retry_after_ms } => self.pause(retry_after_ms),
            Proof::Pending(_)
            | Proof::Final(_)
            | Proof::Reversed { .. }
            | Proof::NotSent
            | Proof::None => self.pause(0),
        }
    }

    /// It is there and not final: ask until it is, and as long as the payer is being asked.
    fn pending(&mut self, payment: &Payment) {
        self.is_in_doubt = true;
        self.phase = Phase::Awaiting;
        if payment.status == PaymentStatus::AwaitingPayer && !self.awaits_payer {
            // Once: an issuer that keeps moving the end must not hold the cashier for ever.
            self.awaits_payer = true;
            let wall = self.steady.wall();
            let left_ms = payment.expires_at.map_or(0, |until| until.since_ms(wall));
            let left_ms = left_ms.saturating_add(AWAITING_GRACE_MS).min(AWAITING_MAX_MS);
            self.deadline_ms = self.deadline_ms.max(self.steady.lived_ms().saturating_add(left_ms));
            self.end_ms = self.deadline_ms.saturating_add(REVERSAL_GRACE_MS);
            self.out.push_back(Output::Progress(Progress::AwaitingPayer));
        }
        self.pause(0);
    }

    fn request_refused(&mut self, problem: Problem) {
        // That another request has the id proves that this one never got it. Any other refusal speaks of this message
        // only, and an earlier one may have been taken.
        let has_other = problem.code == ProblemCode::RequestIdConflict.name();
        if has_other || !self.is_in_doubt {
            self.end(Outcome::Refused(problem));
        } else {
            self.pause(least_pause_ms(&problem));
        }
    }

    fn reversal_refused(&mut self, problem: Problem) {
        if problem.code == ProblemCode::UseRefund.name()
            && let Standing::Reversing { reason: ReversalReason::Cashier, told } =
                &self.record.standing
        {
            return match told {
                // The day has closed for every copy of this reversal, so what was told as paid stays paid.
                Some(payment) => self.end(Outcome::Stands((**payment).clone())),
                // Nobody was told of a payment: for that a reversal is legal at any age.
                None => self.reverse(ReversalReason::Timeout),
            };
        }
        let pause_ms = least_pause_ms(&problem);
        self.why = Why::Refused(problem);
        self.is_refused = true;
        self.pause(pause_ms);
    }

    /// Tries once more, and says so.
    fn again(&mut self, at_least_ms: u64) {
        self.out.push_back(Output::Progress(Progress::Repeating));
        self.pause(at_least_ms);
    }

    fn pause(&mut self, at_least_ms: u64) {
        let pause_ms = self.pause_ms.max(at_least_ms);
        self.pause_ms = self.pause_ms.saturating_mul(2).min(REPEAT_PAUSE_MAX_MS);
        self.state = State::Pausing { until_ms: self.steady.lived_ms().saturating_add(pause_ms) };
    }

    fn end(&mut self, outcome: Outcome) {
        let standing = match &outcome {
            Outcome::Decided(payment) | Outcome::Stands(payment) => {
                Some(Standing::Decided { payment: Box::new(payment.clone()) })
            }
            Outcome::Reversed { payment_id } => {
                Some(Standing::Reversed { payment_id: *payment_id })
            }
            Outcome::Refused(problem) => {
                Some(Standing::Refused { problem: Box::new(problem.clone()) })
            }
            Outcome::NotTaken => Some(Standing::NotTaken),
            // It is so already.
            Outcome::Reversing(_) => None,
        };
        if let Some(standing) = standing {
            self.record.now_is(standing);
        }
        self.store();
        self.state = State::Ended;
        self.out.push_back(Output::Outcome(Box::new(outcome)));
    }
}

/// How long to leave an issuer alone that refuses.
fn least_pause_ms(problem: &Problem) -> u64 {
    if problem.code == ProblemCode::TooManyRequests.name() { REPEAT_PAUSE_MAX_MS } else { 0 }
}
