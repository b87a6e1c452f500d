//! An honest issuer behind a network that drops, delays, doubles and reorders messages: what the till was told is what
//! the issuer's book says when every message has arrived.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use serde_json::json;
use warifu_proto::message::ReversalReason;
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_reader::timing::{AWAITING_GRACE_MS, REVERSAL_GRACE_MS};
use warifu_reader::{
    Attempt, Call, Driver, Ended, How, Input, Order, Outcome, Record, Reply, Send, Standing, drive,
    pay,
};

use crate::shop::{NOW_MS, directory, order, payment, problem, reversed, signed};

/// What becomes of one message and its answer.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// When it arrives, each copy; none: it is lost.
    arrives_after_ms: [Option<u64>; 2],
    does: Does,
    answer: AnswerIs,
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Decide(bool),
    AskPayer,
    NotAccept,
    Refuse(usize),
    Break,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum AnswerIs {
    Delivered,
    Lost,
    ForAnother,
    /// It never left, and that is known.
    NotSent,
}

/// The issuer's book about the one payment.
#[derive(Debug, Default)]
struct Issuer {
    status: Option<&'static str>,
    /// A reversal came before any payment.
    tombstone: bool,
    /// The day of the payment is over.
    has_closed: bool,
}

impl Issuer {
    fn has_effect(&self) -> bool {
        matches!(self.status, Some("approved" | "awaiting_payer"))
    }

    fn take(&mut self, call: &Call, does: Does) -> Reply {
        match does {
            Does::NotAccept => return problem(ProblemCode::NotAccepted),
            Does::Break => return problem(ProblemCode::Internal),
            Does::Refuse(which) => {
                let refusals: Vec<_> = ProblemCode::ALL
                    .iter()
                    .filter(|it| it.status() < 500 && !means_something_else(**it))
                    .collect();
                return problem(*refusals[which % refusals.len()]);
            }
            Does::Decide(_) | Does::AskPayer => {}
        }
        match (call, self.status) {
            (Call::Reverse(request), status) => {
                self.has_closed |= matches!(does, Does::AskPayer);
                let is_late = request.reason == ReversalReason::Cashier && self.has_closed;
                if is_late && self.has_effect() {
                    return problem(ProblemCode::UseRefund);
                }
                match status {
                    Some("approved" | "awaiting_payer") => self.status = Some("reversed"),
                    Some(_) => {}
                    None => self.tombstone = true,
                }
                signed(200, &reversed())
            }
            (Call::Pay(_), None) if self.tombstone => {
                self.status = Some("declined");
                signed(200, &payment("declined"))
            }
            (Call::Pay(_), None) => {
                let status = match does {
                    Does::Decide(true) => "approved",
                    Does::AskPayer => "awaiting_payer",
                    _ => "declined",
                };
                self.status = Some(status);
                signed(200, &payment(status))
            }
            (_, Some(status)) => {
                // A repeat never does anything, but the payer may have answered meanwhile.
                if let ("awaiting_payer", Does::Decide(yes)) = (status, does) {
                    self.status = Some(if yes { "approved" } else { "declined" });
                }
                signed(200, &payment(self.status.unwrap()))
            }
            (_, None) => problem(ProblemCode::NotFound),
        }
    }
}

/// Refusals that prove more than that this message was refused: an honest issuer gives them only when it is so.
fn means_something_else(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::RequestIdConflict | ProblemCode::UseRefund)
}

/// Time, the messages that are still on their way, and the journal.
struct World {
    now_ms: u64,
    issuer: Issuer,
    fates: Vec<Fate>,
    calls: usize,
    /// By when and number: messages that arrive later than their answer is waited for.
    late: BTreeMap<(u64, usize), (Call, Does)>,
    journal: Option<Record>,
    has_told_paid: bool,
    cancel_at_ms: Option<u64>,
}

impl World {
    fn new(fates: Vec<Fate>, cancel_at_ms: Option<u64>) -> Self {
        Self {
            now_ms: NOW_MS,
            issuer: Issuer::default(),
            fates,
            calls: 0,
            late: BTreeMap::new(),
            journal: None,
            has_told_paid: false,
            cancel_at_ms: cancel_at_ms.map(|it| NOW_MS + it),
        }
    }

    /// Lets time pass, and everything arrive that does so meanwhile.
    fn pass_until(&mut self, ms: u64) {
        while let Some(entry) = self.late.first_entry() {
            if entry.key().0 > ms {
                break;
            }
            let (call, does) = entry.remove();
            self.issuer.take(&call, does);
        }
        self.now_ms = self.now_ms.max(ms);
    }

    /// Whether the cashier cancels before then; time has passed until that.
    fn is_cancelled_before(&mut self, ms: u64) -> bool {
        let Some(at) = self.cancel_at_ms.filter(|at| *at <= ms) else { return false };
        self.cancel_at_ms = None;
        self.pass_until(at);
        true
    }

    fn send(&mut self, send: &Send) -> Input {
        let journal = self.journal.as_ref().expect("law 1: nothing is sent before it is stored");
        match &send.call {
            Call::Pay(_) => assert!(journal.standing.may_be_paid(), "law 4"),
            Call::Reverse(_) => {
                assert!(matches!(journal.standing, Standing::Reversing { .. }), "law 4");
            }
            _ => {}
        }
        let fate = self.fates[self.calls % self.fates.len()];
        self.calls += 1;
        let give_up_at = self.now_ms + send.timeout_ms;
        let mut answer = None;
        if fate.answer == AnswerIs::NotSent {
            return Input::Answered { number: send.number, reply: Reply::NotSent };
        }
        for (copy, after_ms) in fate.arrives_after_ms.into_iter().enumerate() {
            let Some(at) = after_ms.map(|it| self.now_ms + it) else { continue };
            if at <= give_up_at && answer.is_none() && fate.answer != AnswerIs::Lost {
                if self.is_cancelled_before(at) {
                    self.late.insert((at, self.calls * 2 + copy), (send.call.clone(), fate.does));
                    return Input::Cancel;
                }
                self.pass_until(at);
                answer = Some(self.issuer.take(&send.call, fate.does));
            } else {
                self.late.insert((at, self.calls * 2 + copy), (send.call.clone(), fate.does));
            }
        }
        let reply = match (answer, fate.answer) {
            (Some(reply), AnswerIs::Delivered) => reply,
            (Some(_), AnswerIs::ForAnother) => {
                let mut other = payment("approved");
                other["request_id"] = json!("another");
                signed(200, &other)
            }
            _ => {
                if self.is_cancelled_before(give_up_at) {
                    return Input::Cancel;
                }
                self.pass_until(give_up_at);
                Reply::Nothing
            }
        };
        Input::Answered { number: send.number, reply }
    }
}

struct Sim<'a>(&'a RefCell<World>);

impl Driver for Sim<'_> {
    type Error = ();

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.borrow().now_ms)
    }

    fn store(
        &mut self,
        record: &Record,
    ) -> impl Future<Output = Result<(), ()>> + core::marker::Send {
        let mut world = self.0.borrow_mut();
        if record.standing.is_paid() {
            world.has_told_paid = true;
        }
        world.journal = Some(record.clone());
        async { Ok(()) }
    }

    fn call(&mut self, send: &Send) -> impl Future<Output = Input> + core::marker::Send {
        std::future::ready(self.0.borrow_mut().send(send))
    }

    fn wait(&mut self, until: Timestamp) -> impl Future<Output = Input> + core::marker::Send {
        let mut world = self.0.borrow_mut();
        std::future::ready(if world.is_cancelled_before(until.as_ms()) {
            Input::Cancel
        } else {
            world.pass_until(until.as_ms());
            Input::Tick
        })
    }
}

/// Nothing here ever waits for anything but made-up time.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(it) => it,
        Poll::Pending => panic!("it waits for the real world"),
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    let does = prop_oneof![
        4 => any::<bool>().prop_map(Does::Decide),
        1 => Just(Does::AskPayer),
        1 => Just(Does::NotAccept),
        1 => any::<usize>().prop_map(Does::Refuse),
        1 => Just(Does::Break),
    ];
    let answer = prop_oneof![
        3 => Just(AnswerIs::Delivered),
        3 => Just(AnswerIs::Lost),
        1 => Just(AnswerIs::ForAnother),
        1 => Just(AnswerIs::NotSent),
    ];
    let after =
        || proptest::option::weighted(0.7, prop_oneof![3 => 0_u64..1_500, 1 => 0_u64..30_000]);
    let twice = prop_oneof![
        3 => after().prop_map(|it| [it, None]),
        1 => (after(), after()).prop_map(|(one, two)| [one, two]),
    ];
    (twice, does, answer).prop_map(|(arrives_after_ms, does, answer)| {
        // The promise of `not_accepted` is about the message, so about every copy of it.
        Fate { arrives_after_ms, does, answer }
    })
}

/// A network that has healed.
fn healed() -> Fate {
    Fate {
        arrives_after_ms: [Some(5), None],
        does: Does::Decide(true),
        answer: AnswerIs::Delivered,
    }
}

fn check(world: &World, outcome: &Outcome) -> Result<(), TestCaseError> {
    let status = world.issuer.status;
    match outcome {
        Outcome::Decided(payment) => {
            let told = serde_json::to_value(payment.status).unwrap();
            prop_assert_eq!(Some(told.as_str().unwrap()), status);
        }
        Outcome::Stands(_) => prop_assert_eq!(status, Some("approved")),
        Outcome::Reversed { .. } | Outcome::Refused(_) | Outcome::NotTaken => {
            prop_assert!(!world.issuer.has_effect(), "{:?} but {:?}", outcome, status);
        }
        Outcome::Reversing(_) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_told_is_what_the_book_says_in_the_end(
        fates in proptest::collection::vec(fate(), 1..40),
        patience_ms in 1_000_u64..20_000,
        cancels in proptest::option::weighted(0.2, 0_u64..20_000),
        crashes_before in 0_usize..12,
        takes_back: bool,
    ) {
        let order = Order { deadline_ms: Some(patience_ms), ..order() };
        let world = RefCell::new(World::new(fates, cancels));
        let ended = now(pay(&order, &directory(), &mut Sim(&world))).unwrap();
        // A payer who is asked here without a time of its own is waited for `AWAITING_GRACE_MS` longer.
        let late_ms = world.borrow().now_ms - NOW_MS;
        let bound_ms = patience_ms + AWAITING_GRACE_MS + REVERSAL_GRACE_MS;
        prop_assert!(late_ms <= bound_ms, "law 3: {}", late_ms);
        prop_assert_eq!(world.borrow().has_told_paid, ended.outcome.is_paid());

        // Everything on its way arrives, whatever was told.
        let mut outcome = ended.outcome;
        {
            let mut world = world.borrow_mut();
            let end = world.now_ms + 60_000;
            world.pass_until(end);
            check(&world, &outcome)?;
        }
        // A till that crashed on the way has less in its journal than what was told, but nothing else.
        if takes_back && outcome.is_paid() {
            let record = world.borrow().journal.clone().unwrap();
            let at = Sim(&world).now();
            let undo = Attempt::undo(record, 3_000, &directory(), at).unwrap();
            outcome = now(drive(undo, &mut Sim(&world))).unwrap().outcome;
        }
        for _ in 0..crashes_before {
            if !world.borrow().journal.as_ref().unwrap().standing.is_open() { break; }
            outcome = resume(&world).outcome;
        }
        // The network heals: every record ends.
        world.borrow_mut().fates = vec![healed()];
        let end = world.borrow().now_ms + 60_000;
        world.borrow_mut().pass_until(end);
        if world.borrow().journal.as_ref().unwrap().standing.is_open() {
            outcome = resume(&world).outcome;
        }
        let world = world.borrow();
        prop_assert!(!world.journal.as_ref().unwrap().standing.is_open());
        prop_assert!(!matches!(outcome, Outcome::Reversing(_)));
        check(&world, &outcome)?;
    }

    #[test]
    fn a_crash_anywhere_leaves_what_can_be_ended(
        fates in proptest::collection::vec(fate(), 1..20),
        polls in 0_usize..30,
    ) {
        let world = RefCell::new(World::new(fates, None));
        let at = Timestamp::from_ms(NOW_MS);
        let mut attempt = Attempt::begin(&order(), &directory(), at).unwrap();
        // The process dies after so many rounds: whatever it had not stored is gone.
        for _ in 0..polls {
            let mut sim = Sim(&world);
            let (mut input, mut until) = (None, sim.now());
            let mut is_over = false;
            while let Some(output) = attempt.poll() {
                use warifu_reader::Output;
                match output {
                    Output::Store(record) => {
                        now(sim.store(&record)).unwrap();
                        input = Some(Input::Stored);
                    }
                    Output::Send(send) => input = Some(now(sim.call(&send))),
                    Output::WakeAt(at) => until = at,
                    Output::Progress(_) => {}
                    Output::Outcome(_) => is_over = true,
                }
            }
            if is_over { break; }
            let input = match input { Some(it) => it, None => now(sim.wait(until)) };
            attempt.handle(input, sim.now());
        }
        if world.borrow().journal.is_none() {
            prop_assert_eq!(world.borrow().calls, 0);
            return Ok(());
        }
        let end = world.borrow().now_ms + 60_000;
        world.borrow_mut().pass_until(end);
        world.borrow_mut().fates = vec![healed()];
        let was_open = world.borrow().journal.as_ref().unwrap().standing.is_open();
        if was_open {
            let ended = resume(&world);
            check(&world.borrow(), &ended.outcome)?;
        }
        prop_assert!(!world.borrow().journal.as_ref().unwrap().standing.is_open());
    }
}

/// One try to end what the journal has, as after a restart.
fn resume(world: &RefCell<World>) -> Ended {
    let text = serde_json::to_string(world.borrow().journal.as_ref().unwrap()).unwrap();
    let record = serde_json::from_str(&text).unwrap();
    let at = Timestamp::from_ms(world.borrow().now_ms);
    let attempt = Attempt::resume(record, How::End, 5_000, &directory(), at).unwrap();
    now(drive(attempt, &mut Sim(world))).unwrap()
}
