//! One payment, from the scan to an answer that can be believed.
//!
//! Laws, each a property test in `tests/laws.rs`:
//! 1. nothing is sent before the record is stored, and what is sent has the same id and content for ever (only the
//!    time that the issuer may take shrinks with what is left of the cashier's patience);
//! 2. an outcome is what a signed, final answer to this very request says; without one it is [`Outcome::Unknown`],
//!    or [`Outcome::NotTaken`] when it is certain that no message had or will have an effect;
//! 3. there is exactly one outcome, at the deadline at the latest.
//!
//! Repeating is safe because a repeat never does anything. Limits: one call at a time. A reader that gave up will later
//! ask, then reverse; those are two more states between [`State::Pausing`] and [`State::Ended`].

use std::collections::VecDeque;

use warifu_proto::Malformed;
use warifu_proto::code::Route;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::Directory;
use warifu_proto::key::PublicKey;
use warifu_proto::limits::{DEADLINE_MAX_MS, DEADLINE_MIN_MS};
use warifu_proto::message::{PayRequest, Payment, PaymentStatus};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::answer::{self, Proof, Reply};
use crate::record::{Order, Record, Standing};
use crate::route::{IssuerAt, RouteError};
use crate::steady::Steady;

/// First pause before a repeat.
pub const REPEAT_PAUSE_MIN_MS: u64 = 200;
/// Longest pause before a repeat.
pub const REPEAT_PAUSE_MAX_MS: u64 = 1_000;
/// How long one call may take: the 1.5 s that an issuer waits for a registration, and a slow network's share.
const CALL_MAX_MS: u64 = 4_000;
/// How much longer than its question to the payer a payment is waited for.
const AWAITING_GRACE_MS: u64 = 2_000;
/// Longest time that a payer is waited for, whatever the issuer says.
const AWAITING_MAX_MS: u64 = 90_000;

/// How to go on with a record of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Only ask. A payment that the issuer does not know stays unknown until its code is dead: then the same request
    /// is repeated, which ends it as declined.
    Ask,
    /// Ask, and repeat the same request when the issuer does not know it. It may be approved now.
    AskThenRepeat,
    /// Repeat the same request. It may be approved now.
    Repeat,
}

/// What the driver tells the machine.
#[derive(Debug)]
pub enum Input {
    /// The record of the first [`Output::Store`] is on disk.
    Stored,
    /// What came back for a call.
    Answered {
        /// As in [`Send::number`].
        number: u32,
        /// What it was.
        reply: Reply,
    },
    /// Time passed.
    Tick,
}

/// What the machine wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Put this into the journal under its request id, then give [`Input::Stored`].
    Store(Box<Record>),
    /// Make this call.
    Send(Box<Send>),
    /// Something for the cashier's screen.
    Progress(Progress),
    /// The end. It has been given to [`Output::Store`] just before.
    Outcome(Box<Outcome>),
    /// Give [`Input::Tick`] then, if nothing else happens before.
    WakeAt(Timestamp),
}

/// A call to the issuer, signed by the reader.
#[derive(Debug, Clone)]
pub struct Send {
    /// To name it in [`Input::Answered`].
    pub number: u32,
    /// Where the issuer listens.
    pub url: String,
    /// Who must sign the answer.
    pub key: PublicKey,
    /// What to send.
    pub call: Call,
    /// After which to give [`Reply::Nothing`].
    pub timeout_ms: u64,
}

/// What is asked of the issuer.
#[derive(Debug, Clone)]
pub enum Call {
    /// `POST /v1/payments`
    Pay(Box<PayRequest>),
    /// `GET /v1/payments?request_id=…`
    Ask {
        /// Of which payment.
        request_id: RequestId,
        /// Where it lives.
        route: Route,
        /// How long the issuer may wait for a final state.
        wait_ms: u64,
    },
}

impl Call {
    /// The HTTP method.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Pay(_) => "POST",
            Self::Ask { .. } => "GET",
        }
    }

    /// Path and query.
    pub fn path_and_query(&self) -> String {
        match self {
            Self::Pay(_) => "/v1/payments".to_owned(),
            // Request ids and routes have only characters that stand for themselves in a query.
            Self::Ask { request_id, route, wait_ms } => {
                format!("/v1/payments?request_id={request_id}&route={route}&wait_ms={wait_ms}")
            }
        }
    }

    /// The body.
    pub fn body(&self) -> Option<Vec<u8>> {
        match self {
            Self::Pay(request) => {
                Some(serde_json::to_vec(request).expect("a payment request is plain JSON"))
            }
            Self::Ask { .. } => None,
        }
    }
}

/// What the cashier may see meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No answer that can be believed; it is tried again.
    Repeating,
    /// The payer is asked on the phone.
    AwaitingPayer,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The issuer decided: `approved`, `held`, `declined`, `reversed`, `released` or `expired`.
    Decided(Payment),
    /// The issuer refused the request itself. Nothing happened, nothing is bound.
    Refused(Problem),
    /// No message arrived, or the issuer promised that those that did changed nothing. Nothing happened.
    NotTaken,
    /// Nobody knows. The record stays in the journal until it is resolved: the sale is neither paid nor unpaid.
    Unknown(Why),
}

/// Why an outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No answer that can be believed.
    NoAnswer,
    /// The issuer says that it does not know the payment. That is not an end: the request may still be on its way.
    NotKnown,
    /// The issuer says that it is not final.
    NotFinal(PaymentStatus),
    /// The issuer does not answer the question.
    NotAnswered(Problem),
}

/// Why an attempt can't begin. Nobody was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// The order is wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nobody answers for the code.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The issuer has no accounts in the order's currency.
    #[error("the issuer {name} has no accounts in {currency}")]
    CurrencyUnknown {
        /// The issuer's name.
        name: String,
        /// The order's currency.
        currency: CurrencyCode,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The record is being stored.
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
    how: How,
    state: State,
    steady: Steady,
    /// When the outcome is due, in milliseconds of life.
    deadline_ms: u64,
    pause_ms: u64,
    calls: u32,
    /// Whether a request may have arrived whose fate nobody has told.
    is_in_doubt: bool,
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
        let wait_ms = record.deadline_ms;
        let mut attempt = Self::new(record, issuer, How::Repeat, wait_ms, now);
        attempt.state = State::Storing;
        attempt.is_in_doubt = false;
        attempt.out.push_back(Output::Store(Box::new(attempt.record.clone())));
        Ok(attempt)
    }

    /// Goes on with a record of the journal for at most `wait_ms`.
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
        let how = match how {
            How::Ask if record.is_code_dead(now) => How::AskThenRepeat,
            How::Ask | How::AskThenRepeat | How::Repeat => how,
        };
        let mut attempt = Self::new(record, issuer, how, wait_ms, now);
        attempt.progress();
        Ok(attempt)
    }

    fn new(record: Record, issuer: IssuerAt, how: How, wait_ms: u64, now: Timestamp) -> Self {
        let mut steady = Steady::default();
        steady.advance(now);
        Self {
            record,
            issuer,
            how,
            state: State::Pausing { until_ms: 0 },
            steady,
            deadline_ms: wait_ms,
            pause_ms: REPEAT_PAUSE_MIN_MS,
            calls: 0,
            is_in_doubt: true,
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
            State::Storing => self.deadline_ms,
            State::Pausing { until_ms } | State::Calling { until_ms, .. } => {
                until_ms.min(self.deadline_ms)
            }
            State::Ended => return None,
        };
        Some(Output::WakeAt(self.steady.wall_at(at)))
    }

    /// Does what the time allows.
    fn progress(&mut self) {
        let now_ms = self.steady.lived_ms();
        if self.state != State::Ended && now_ms >= self.deadline_ms {
            self.give_up();
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

    fn send(&mut self, now_ms: u64) {
        let left_ms = self.deadline_ms.saturating_sub(now_ms);
        let call = if self.how == How::Repeat {
            // An issuer that hears of it when the cashier has given up must not approve it any more.
            let patience_ms = left_ms.clamp(DEADLINE_MIN_MS, DEADLINE_MAX_MS);
            let has_time = self.calls == 0 || left_ms >= DEADLINE_MIN_MS;
            let request = self.record.request(patience_ms).filter(|_| has_time);
            request.map(|it| Call::Pay(Box::new(it)))
        } else {
            let wait_ms = left_ms.min(CALL_MAX_MS / 2);
            let request_id = self.record.request_id.clone();
            Some(Call::Ask { request_id, route: self.record.route, wait_ms })
        };
        let Some(call) = call else {
            self.state = State::Pausing { until_ms: self.deadline_ms };
            return;
        };
        self.calls = self.calls.saturating_add(1);
        let number = self.calls;
        let timeout_ms = left_ms.min(CALL_MAX_MS);
        self.state = State::Calling { number, until_ms: now_ms.saturating_add(timeout_ms) };
        self.out.push_back(Output::Send(Box::new(Send {
            number,
            url: self.issuer.url.clone(),
            key: self.issuer.key.clone(),
            call,
            timeout_ms,
        })));
    }

    fn answered(&mut self, number: u32, reply: Reply) {
        let awaited = match self.state {
            State::Calling { number, .. } => Some(number),
            State::Pausing { .. } => None,
            State::Storing | State::Ended => return,
        };
        match answer::read(reply, &self.record) {
            // Late, but it says what happened, whichever call it answers.
            Proof::Final(payment) => {
                let standing = Standing::Decided { payment: payment.clone() };
                self.end(standing, Outcome::Decided(*payment));
            }
            _ if awaited != Some(number) => {}
            Proof::Pending(payment) => self.pending(&payment),
            Proof::NothingDone { retry_after_ms } => {
                self.out.push_back(Output::Progress(Progress::Repeating));
                self.pause(retry_after_ms);
            }
            Proof::Refused(problem) if self.how == How::Repeat => self.request_refused(*problem),
            Proof::Refused(problem) => self.question_refused(*problem),
            Proof::None => {
                self.is_in_doubt = true;
                self.out.push_back(Output::Progress(Progress::Repeating));
                self.pause(0);
            }
        }
    }

    /// It is there and not final: ask until it is, and as long as the payer is being asked.
    fn pending(&mut self, payment: &Payment) {
        self.is_in_doubt = true;
        self.how = How::Ask;
        self.why = Why::NotFinal(payment.status);
        if payment.status == PaymentStatus::AwaitingPayer && !self.awaits_payer {
            // Once: an issuer that keeps moving the end must not hold the cashier for ever.
            self.awaits_payer = true;
            let wall = self.steady.wall();
            let left_ms = payment.expires_at.map_or(0, |until| until.since_ms(wall));
            let left_ms = left_ms.saturating_add(AWAITING_GRACE_MS).min(AWAITING_MAX_MS);
            self.deadline_ms = self.deadline_ms.max(self.steady.lived_ms().saturating_add(left_ms));
            self.out.push_back(Output::Progress(Progress::AwaitingPayer));
        }
        self.pause(0);
    }

    fn request_refused(&mut self, problem: Problem) {
        // That another request has the id proves that this one never got it. Any other refusal speaks of this message
        // only, and an earlier one may have been taken.
        let has_other = problem.code == ProblemCode::RequestIdConflict.name();
        if has_other || !self.is_in_doubt {
            let standing = Standing::Refused { problem: Box::new(problem.clone()) };
            self.end(standing, Outcome::Refused(problem));
        } else {
            self.why = Why::NotAnswered(problem);
            self.pause(0);
        }
    }

    fn question_refused(&mut self, problem: Problem) {
        match ProblemCode::from_name(&problem.code) {
            Some(ProblemCode::NotFound) => {
                self.why = Why::NotKnown;
                if self.how == How::AskThenRepeat && self.record.code.is_some() {
                    self.how = How::Repeat;
                }
                self.pause(0);
            }
            Some(ProblemCode::TooManyRequests) => self.pause(REPEAT_PAUSE_MAX_MS),
            Some(_) | None => {
                self.why = Why::NotAnswered(problem);
                self.give_up();
            }
        }
    }

    fn pause(&mut self, at_least_ms: u64) {
        let pause_ms = self.pause_ms.max(at_least_ms);
        self.pause_ms = self.pause_ms.saturating_mul(2).min(REPEAT_PAUSE_MAX_MS);
        self.state = State::Pausing { until_ms: self.steady.lived_ms().saturating_add(pause_ms) };
    }

    /// The deadline is here, or asking has no use.
    fn give_up(&mut self) {
        let may_have_arrived = self.is_in_doubt || matches!(self.state, State::Calling { .. });
        if may_have_arrived {
            self.end(Standing::Unknown, Outcome::Unknown(self.why.clone()));
        } else {
            self.end(Standing::NotTaken, Outcome::NotTaken);
        }
    }

    fn end(&mut self, standing: Standing, outcome: Outcome) {
        self.record.end(standing);
        self.state = State::Ended;
        self.out.push_back(Output::Store(Box::new(self.record.clone())));
        self.out.push_back(Output::Outcome(Box::new(outcome)));
    }
}
