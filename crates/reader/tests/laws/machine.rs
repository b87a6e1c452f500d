//! The machine step by step, and against nonsense.

use proptest::prelude::*;
use serde_json::{Value, json};
use warifu_proto::code::Scanned;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::Directory;
use warifu_proto::message::{Capture, PayRequest, PaymentStatus, ReversalReason};
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_reader::timing::REVERSAL_GRACE_MS;
use warifu_reader::{
    Attempt, BeginError, Call, How, Input, Order, Outcome, Output, Record, Reply, RouteError,
    Standing, UndoError, Why, request_id,
};

use crate::shop::{
    NOW_MS, directory, directory_with, money, order, payment, problem, reversed, signed,
};

/// A driver with a journal, and everything that was ever seen, to hold the laws against.
struct World {
    attempt: Attempt,
    now: Timestamp,
    journal: Option<Record>,
    is_stored: bool,
    calls: Vec<(u32, Call, u64)>,
    outcomes: Vec<Outcome>,
    wake: Option<Timestamp>,
    log: Vec<String>,
}

impl World {
    fn new(attempt: Attempt) -> Self {
        let now = Timestamp::from_ms(NOW_MS);
        let mut world = Self {
            attempt,
            now,
            journal: None,
            is_stored: false,
            calls: Vec::new(),
            outcomes: Vec::new(),
            wake: None,
            log: Vec::new(),
        };
        world.drain();
        world
    }

    fn begin() -> Self {
        let now = Timestamp::from_ms(NOW_MS);
        Self::new(Attempt::begin(&order(), &directory(), now).unwrap())
    }

    fn resume(record: Record, how: How, now: Timestamp) -> Self {
        let attempt = Attempt::resume(record.clone(), how, 5_000, &directory(), now).unwrap();
        let mut world = Self::new(attempt);
        world.now = now;
        world
    }

    fn give(&mut self, input: Input) {
        self.attempt.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        self.wake = None;
        while let Some(output) = self.attempt.poll() {
            assert!(self.wake.is_none(), "WakeAt is the last of a round");
            match output {
                Output::Store(record) => {
                    assert_eq!(record.code.is_some(), record.standing.may_be_paid());
                    self.journal = Some(*record);
                }
                Output::Send(send) => self.sent(send.number, send.call, send.timeout_ms),
                Output::Progress(progress) => self.log.push(format!("{progress:?}")),
                Output::Outcome(outcome) => {
                    let standing = &self.journal.as_ref().unwrap().standing;
                    assert!(is_told_as(standing, &outcome), "it is stored as it is told");
                    self.outcomes.push(*outcome);
                }
                Output::WakeAt(at) => self.wake = Some(at),
            }
        }
        assert!(self.outcomes.len() <= 1, "law 3");
        assert_eq!(self.wake.is_none(), self.outcomes.len() == 1, "law 3");
    }

    fn sent(&mut self, number: u32, call: Call, timeout_ms: u64) {
        if let Call::Pay(request) = &call {
            let stored = self.journal.as_ref().unwrap_or_else(|| self.attempt.record());
            assert!(self.is_stored || self.journal.is_none(), "law 1");
            let same = PayRequest { deadline_ms: None, ..(**request).clone() };
            let first = PayRequest { deadline_ms: None, ..stored.request(0).unwrap() };
            assert_eq!(same, first, "law 1");
            request.check().unwrap();
        }
        if let Call::Reverse(_) = &call {
            let stored = &self.journal.as_ref().unwrap_or_else(|| self.attempt.record()).standing;
            assert!(matches!(stored, Standing::Reversing { .. }), "law 4");
        }
        self.log.push(format!(
            "{} {}",
            if call.method() == "GET" { "?".to_owned() } else { call.path_and_query() },
            self.now.since_ms(Timestamp::from_ms(NOW_MS))
        ));
        self.calls.push((number, call, timeout_ms));
    }

    fn stored(&mut self) {
        self.is_stored = true;
        self.give(Input::Stored);
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.give(Input::Tick);
    }

    /// Sleeps until the machine wants to be woken.
    fn sleep(&mut self) {
        let at = self.wake.unwrap();
        self.pass(at.since_ms(self.now));
    }

    fn reply(&mut self, reply: Reply) {
        let number = self.calls.last().unwrap().0;
        self.give(Input::Answered { number, reply });
    }

    fn outcome(&mut self) -> Outcome {
        while self.outcomes.is_empty() {
            self.sleep();
        }
        self.outcomes[0].clone()
    }
}

fn is_told_as(standing: &Standing, outcome: &Outcome) -> bool {
    match (standing, outcome) {
        (Standing::Decided { payment }, Outcome::Decided(told) | Outcome::Stands(told)) => {
            **payment == *told
        }
        (Standing::Refused { problem }, Outcome::Refused(told)) => **problem == *told,
        (Standing::Reversed { payment_id }, Outcome::Reversed { payment_id: told }) => {
            payment_id == told
        }
        (Standing::NotTaken, Outcome::NotTaken) => true,
        (Standing::Reversing { .. }, Outcome::Reversing(_)) => true,
        _ => false,
    }
}

fn status_of(outcome: &Outcome) -> PaymentStatus {
    match outcome {
        Outcome::Decided(payment) => payment.status,
        other => panic!("not decided: {other:?}"),
    }
}

#[test]
fn a_payment_is_journaled_then_sent_then_decided() {
    let mut world = World::begin();
    assert!(world.calls.is_empty());
    assert!(world.journal.as_ref().unwrap().code.is_some());
    world.stored();
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.attempt.issuer().url, "http://127.0.0.1:7102", "by partition");
    world.reply(signed(200, &payment("approved")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Approved);
    assert!(world.journal.unwrap().code.is_none(), "a spent code is not kept");
}

#[test]
fn codes_that_nobody_answers_for_are_named_without_asking() {
    #[track_caller]
    fn check(change: impl Fn(&mut Order), directory: &Directory, want: &str) {
        let mut order = order();
        change(&mut order);
        let got = Attempt::begin(&order, directory, Timestamp::from_ms(NOW_MS)).unwrap_err();
        assert_eq!(got.to_string(), want);
    }
    let code =
        |text: &'static str| move |it: &mut Order| it.scanned = Scanned::parse(text).unwrap();
    let good = directory();
    let unknown = RouteError::PrefixUnknown.to_string();
    check(code("720000010728921840110704"), &good, &unknown);
    let no_address = "the issuer Aoba Pay has no address for partition 99";
    check(code("710000019928921840110704"), &good, no_address);
    let suspended = directory_with("suspended", &json!([]));
    check(|_| {}, &suspended, "the issuer Aoba Pay takes no payments at the moment");
    let euros = BeginError::CurrencyUnknown {
        name: "Aoba Pay".to_owned(),
        currency: CurrencyCode::parse("EUR").unwrap(),
    };
    check(|it| it.amount = money(1200, "EUR"), &good, &euros.to_string());
    let deadline = "deadline_ms is malformed: must lie in 1000 to 60000";
    check(|it| it.deadline_ms = Some(999), &good, deadline);
}

#[test]
fn silence_is_repeated_then_asked_about_then_reversed_until_the_last_word() {
    let mut world = World::begin();
    world.stored();
    while world.outcomes.is_empty() {
        let may_be_paid = world.attempt.record().standing.may_be_paid();
        world.reply(Reply::Nothing);
        if may_be_paid != world.attempt.record().standing.may_be_paid() {
            world.stored();
        } else if world.outcomes.is_empty() {
            world.sleep();
        }
    }
    let sent: Vec<_> = world.log.iter().filter(|it| it.contains(' ')).cloned().collect();
    let want = [
        "/v1/payments 0",
        "/v1/payments 200",
        "/v1/payments 600",
        "/v1/payments 1400",
        "/v1/payments 2400",
        "/v1/payments 3400",
        "/v1/payments 4400",
        "/v1/payments 5400",
        "/v1/payments 6400",
        "/v1/payments 7400",
        "/v1/payments 8400",
        "? 10000",
        "/v1/reversals 10000",
        "/v1/reversals 10200",
        "/v1/reversals 10600",
        "/v1/reversals 11400",
        "/v1/reversals 12400",
    ];
    assert_eq!(sent, want);
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));
    assert_eq!(world.now.as_ms(), NOW_MS + 10_000 + REVERSAL_GRACE_MS);
    // The issuer may never approve what the cashier has given up: each repeat says how long is left.
    for (_, call, _) in &world.calls {
        if let Call::Pay(request) = call {
            assert!(request.deadline_ms.unwrap() <= 10_000);
        }
    }
    assert!(world.journal.unwrap().code.is_none(), "it is never asked for again");
}

/// One whose deadline has passed in silence, and whose question is on its way.
fn asking() -> World {
    let mut world = World::begin();
    world.stored();
    while !matches!(world.calls.last().unwrap().1, Call::Ask { .. }) {
        world.sleep();
    }
    world
}

#[test]
fn after_the_deadline_one_question_decides_or_it_is_reversed() {
    let mut world = asking();
    world.reply(signed(200, &payment("approved")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Approved, "by the question");

    let mut world = asking();
    world.give(Input::Answered { number: 1, reply: signed(200, &payment("approved")) });
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Approved, "late, but in time");

    for answer in [
        problem(ProblemCode::NotFound),
        problem(ProblemCode::KeyUnknown),
        problem(ProblemCode::NotAccepted),
        signed(200, &payment("awaiting_payer")),
        Reply::NotSent,
    ] {
        let mut world = asking();
        let calls = world.calls.len();
        world.reply(answer);
        assert_eq!(world.calls.len(), calls, "nothing leaves before the intent is stored");
        let journal = world.journal.clone().unwrap();
        let reason = ReversalReason::Timeout;
        assert_eq!(journal.standing, Standing::Reversing { reason, told: None });
        world.stored();
        assert_eq!(world.calls.last().unwrap().1.path_and_query(), "/v1/reversals");
        world.reply(signed(200, &reversed()));
        assert_eq!(world.outcome(), Outcome::Reversed { payment_id: None });
    }
}

#[test]
fn a_late_approval_is_not_told_once_it_is_being_reversed() {
    let mut world = asking();
    let ask = world.calls.last().unwrap().0;
    world.reply(problem(ProblemCode::NotFound));
    let approved = || signed(200, &payment("approved"));
    world.give(Input::Answered { number: 1, reply: approved() });
    world.stored();
    world.give(Input::Answered { number: 2, reply: approved() });
    world.give(Input::Answered { number: ask, reply: approved() });
    assert!(world.outcomes.is_empty());
    world.give(Input::Answered { number: 1, reply: signed(200, &payment("declined")) });
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Declined, "that one has no effect");
}

#[test]
fn a_refused_reversal_is_asked_about_and_repeated() {
    let mut world = asking();
    world.reply(problem(ProblemCode::NotFound));
    world.stored();
    world.reply(problem(ProblemCode::Forbidden));
    world.sleep();
    assert!(matches!(world.calls.last().unwrap().1, Call::Ask { .. }));
    world.reply(signed(200, &payment("approved")));
    assert!(world.outcomes.is_empty(), "law 4");
    world.sleep();
    assert!(matches!(world.calls.last().unwrap().1, Call::Reverse(_)));
    world.reply(problem(ProblemCode::Forbidden));
    let Outcome::Reversing(Why::Refused(why)) = world.outcome() else { panic!("it goes on") };
    assert_eq!(why.code, "forbidden");

    // Another try, later, sees that it has ended otherwise.
    let record = world.journal.unwrap();
    let mut world = World::resume(record, How::Repeat, world.now);
    assert!(matches!(world.calls[0].1, Call::Reverse(_)), "never a payment again");
    world.reply(problem(ProblemCode::PaymentState));
    world.sleep();
    world.reply(signed(200, &payment("expired")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Expired);
}

#[test]
fn a_cashier_who_cancels_is_answered_soon() {
    let mut world = World::begin();
    world.give(Input::Cancel);
    assert_eq!(world.outcome(), Outcome::NotTaken, "nothing had left");

    let mut world = World::begin();
    world.stored();
    world.give(Input::Cancel);
    world.stored();
    let Call::Reverse(request) = &world.calls.last().unwrap().1 else { panic!("a reversal") };
    assert_eq!(request.reason, ReversalReason::Cashier);
    world.give(Input::Cancel);
    // The day closes in between: nobody was told of a payment, so it may still be reversed, for another reason.
    world.reply(problem(ProblemCode::UseRefund));
    world.stored();
    let Call::Reverse(request) = &world.calls.last().unwrap().1 else { panic!("a reversal") };
    assert_eq!(request.reason, ReversalReason::Timeout);
    world.reply(Reply::Nothing);
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));
    assert_eq!(world.now.as_ms(), NOW_MS + REVERSAL_GRACE_MS);
}

fn paid_record() -> Record {
    let mut world = World::begin();
    world.stored();
    world.reply(signed(200, &payment("approved")));
    world.journal.unwrap()
}

#[test]
fn a_paid_one_is_taken_back_until_the_day_closes() {
    let undo = || {
        let now = Timestamp::from_ms(NOW_MS);
        let mut world = World::new(Attempt::undo(paid_record(), 5_000, &directory(), now).unwrap());
        assert!(world.calls.is_empty() && world.journal.as_ref().unwrap().standing.claims_order());
        world.stored();
        world
    };
    let mut world = undo();
    world.reply(signed(200, &reversed()));
    assert_eq!(world.outcome(), Outcome::Reversed { payment_id: None });

    let mut world = undo();
    world.reply(problem(ProblemCode::UseRefund));
    let Outcome::Stands(payment) = world.outcome() else { panic!("the payment stands") };
    assert_eq!(payment.status, PaymentStatus::Approved);
    assert!(world.journal.unwrap().standing.is_paid());

    let mut world = undo();
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));
    let reversed = world.journal.unwrap();
    let again = Attempt::undo(reversed, 5_000, &directory(), Timestamp::from_ms(NOW_MS));
    assert_eq!(again.unwrap_err(), UndoError::NotPaid);
}

#[test]
fn a_late_answer_to_an_earlier_call_still_counts() {
    let mut world = World::begin();
    world.stored();
    world.sleep();
    world.sleep();
    assert_eq!(world.calls.len(), 2);
    let reply = signed(200, &payment("declined"));
    world.give(Input::Answered { number: 1, reply });
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Declined);
}

#[test]
fn refusals_are_final_only_when_no_earlier_message_can_have_been_taken() {
    let mut world = World::begin();
    world.stored();
    world.reply(Reply::NotSent);
    world.sleep();
    world.reply(problem(ProblemCode::Forbidden));
    assert!(matches!(world.outcome(), Outcome::Refused(it) if it.code == "forbidden"));

    let mut world = World::begin();
    world.stored();
    world.reply(problem(ProblemCode::NotAccepted));
    world.sleep();
    world.reply(problem(ProblemCode::Forbidden));
    assert!(world.outcomes.is_empty(), "another copy of the first one may have been taken");

    let mut world = World::begin();
    world.stored();
    world.reply(Reply::Nothing);
    world.sleep();
    world.reply(problem(ProblemCode::TooManyRequests));
    assert!(world.outcomes.is_empty(), "the first one may have been taken");
    world.sleep();
    world.reply(signed(200, &payment("approved")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Approved);

    let mut world = World::begin();
    world.stored();
    world.reply(Reply::Nothing);
    world.sleep();
    world.reply(problem(ProblemCode::RequestIdConflict));
    assert!(matches!(world.outcome(), Outcome::Refused(_)), "the id was never this request's");
}

#[test]
fn nothing_taken_is_only_said_when_it_is_certain() {
    let mut world = World::begin();
    assert_eq!(world.outcome(), Outcome::NotTaken, "a journal that never writes");
    assert!(world.calls.is_empty());

    let mut world = World::begin();
    world.stored();
    while world.outcomes.is_empty() {
        let calls = world.calls.len();
        world.reply(Reply::NotSent);
        while world.outcomes.is_empty() && world.calls.len() == calls {
            world.sleep();
        }
    }
    assert_eq!(world.outcome(), Outcome::NotTaken);

    // That one copy was not accepted says nothing about another, which a network may have made of it.
    let mut world = World::begin();
    world.stored();
    world.reply(Reply::NotSent);
    world.sleep();
    world.reply(problem(ProblemCode::NotAccepted));
    world.give(Input::Cancel);
    world.stored();
    assert!(matches!(world.calls.last().unwrap().1, Call::Reverse(_)));
}

#[test]
fn a_call_that_is_under_way_at_the_deadline_may_have_been_taken() {
    let order = Order { deadline_ms: Some(2_000), ..order() };
    let now = Timestamp::from_ms(NOW_MS);
    let mut world = World::new(Attempt::begin(&order, &directory(), now).unwrap());
    world.stored();
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));
    assert_eq!(world.now.as_ms(), NOW_MS + 2_000 + REVERSAL_GRACE_MS);
}

#[test]
fn answers_to_other_questions_prove_nothing() {
    let change = |name: &str, to: Value| {
        let mut payment = payment("approved");
        payment[name] = to;
        payment
    };
    for answer in [
        change("request_id", json!("another")),
        change("amount", json!({"minor": 1, "currency": "JPY"})),
        change("amount", json!({"minor": 1200, "currency": "USD"})),
        change("captured", json!({"minor": 1, "currency": "JPY"})),
        change("captured", json!({"minor": 1200, "currency": "USD"})),
        change("captured", json!({"minor": -1200, "currency": "JPY"})),
        change("status", json!(null)),
        json!("approved"),
    ] {
        let mut world = World::begin();
        world.stored();
        world.reply(signed(200, &answer));
        assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer), "{answer}");
    }
}

#[test]
fn what_a_later_version_says_is_not_final_or_declined() {
    let mut world = World::begin();
    world.stored();
    world.reply(signed(200, &payment("half_approved")));
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));

    let mut declined = payment("declined");
    declined["rejection"] = json!({
        "code": "bad_weather", "number": 99, "retry": "when_it_is_sunny", "iso8583": "05",
        "cashier": "Declined.", "payer": "Declined.",
    });
    let mut world = World::begin();
    world.stored();
    world.reply(signed(200, &declined));
    let Outcome::Decided(payment) = world.outcome() else { panic!("a declined payment is final") };
    let rejection = payment.rejection.unwrap();
    assert_eq!(rejection.code, "bad_weather");
    assert_eq!(rejection.retry, warifu_proto::rejection::Retry::Never);
}

#[test]
fn a_payer_who_is_asked_is_waited_for_once() {
    let mut world = World::begin();
    world.stored();
    let mut awaiting = payment("awaiting_payer");
    awaiting["expires_at"] = json!(Timestamp::from_ms(NOW_MS + 60_000));
    world.reply(signed(200, &awaiting));
    assert!(world.log.contains(&"AwaitingPayer".to_owned()));
    world.sleep();
    assert_eq!(world.calls.last().unwrap().1.method(), "GET", "what is there is asked about");
    awaiting["expires_at"] = json!(Timestamp::MAX);
    while world.outcomes.is_empty() {
        let calls = world.calls.len();
        world.reply(signed(200, &awaiting));
        while world.outcomes.is_empty() && world.calls.len() == calls {
            world.sleep();
        }
    }
    assert_eq!(world.now.as_ms(), NOW_MS + 62_000 + REVERSAL_GRACE_MS);
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));
}

#[test]
fn a_hold_is_an_answer_only_to_who_asked_for_one() {
    let mut world = World::begin();
    world.stored();
    world.reply(signed(200, &payment("held")));
    assert_eq!(world.outcome(), Outcome::Reversing(Why::NoAnswer));
    let order = Order { capture: Capture::Later, ..order() };
    let now = Timestamp::from_ms(NOW_MS);
    let mut world = World::new(Attempt::begin(&order, &directory(), now).unwrap());
    world.stored();
    world.reply(signed(200, &payment("held")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Held);
}

/// As it is found after a crash: the journal of this version, or of one that could not reverse.
fn crashed_record(is: &str) -> Record {
    let mut record = serde_json::to_value(World::begin().journal.unwrap()).unwrap();
    record["standing"] = json!({ "is": is });
    serde_json::from_value(record).unwrap()
}

#[test]
fn what_a_crash_left_is_asked_for_then_reversed_and_never_asked_for_again() {
    let later = Timestamp::from_ms(NOW_MS + 20_000);
    let id = order().request_id;
    for is in ["open", "unknown"] {
        let mut world = World::resume(crashed_record(is), How::End, later);
        let path = world.calls[0].1.path_and_query();
        assert_eq!(path, format!("/v1/payments?request_id={id}&route=7100000107&wait_ms=0"));
        world.reply(signed(200, &payment("approved")));
        assert_eq!(status_of(&world.outcome()), PaymentStatus::Approved);

        let mut world = World::resume(crashed_record(is), How::End, later);
        world.reply(problem(ProblemCode::NotFound));
        world.stored();
        assert!(world.calls.iter().all(|(_, call, _)| !matches!(call, Call::Pay(_))));
        world.reply(signed(200, &reversed()));
        assert_eq!(world.outcome(), Outcome::Reversed { payment_id: None });
    }
    let mut world = World::resume(crashed_record("open"), How::Repeat, later);
    assert!(matches!(world.calls[0].1, Call::Pay(_)), "the till repeats it itself");
    world.reply(problem(ProblemCode::CodeMalformed));
    assert!(world.outcomes.is_empty(), "an earlier one may have been taken");
}

#[test]
fn a_record_that_has_ended_is_told_again_and_never_changed() {
    for how in [How::Repeat, How::End] {
        let record = paid_record();
        let world = World::resume(record.clone(), how, Timestamp::from_ms(NOW_MS + 1));
        assert!(world.calls.is_empty());
        assert_eq!(status_of(&world.outcomes[0]), PaymentStatus::Approved);
        assert_eq!(world.journal, Some(record));
    }
}

#[test]
fn request_ids_sort_by_time() {
    let early = request_id(Timestamp::from_ms(NOW_MS), [255; 10]);
    let late = request_id(Timestamp::from_ms(NOW_MS + 1), [0; 10]);
    assert!(early < late);
    assert_eq!(early.as_str().len(), 26);
}

fn nonsense() -> impl Strategy<Value = Reply> {
    let body = prop_oneof![
        Just(serde_json::to_vec(&payment("approved")).unwrap()),
        Just(serde_json::to_vec(&payment("awaiting_payer")).unwrap()),
        Just(serde_json::to_vec(&payment("new")).unwrap()),
        Just(br#"{"rejection":{"retry":1}}"#.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    prop_oneof![
        Just(Reply::Nothing),
        Just(Reply::NotSent),
        (0_u16..700, body, any::<Option<u32>>()).prop_map(|(status, body, retry_after_s)| {
            Reply::Signed { status, body, retry_after_s }
        }),
    ]
}

proptest! {
    #[test]
    fn nonsense_never_panics_and_always_ends(
        inputs in proptest::collection::vec((0_u32..6, nonsense(), 0_u64..2_000), 0..60),
        resumes: bool,
        clock in proptest::collection::vec(0_u64..NOW_MS * 2, 0..3),
    ) {
        let mut world = if resumes {
            World::resume(crashed_record("open"), How::End, Timestamp::from_ms(NOW_MS))
        } else {
            World::begin()
        };
        for (number, reply, ms) in inputs {
            if number == 0 {
                world.stored();
            }
            if number == 5 {
                world.give(Input::Cancel);
            }
            world.give(Input::Answered { number, reply });
            world.pass(ms);
        }
        for ms in clock {
            world.now = Timestamp::from_ms(ms);
            world.give(Input::Tick);
        }
        let mut rounds = 0;
        while world.outcomes.is_empty() {
            prop_assert!(world.wake.unwrap() > world.now, "waking for the past would never end");
            world.sleep();
            rounds += 1;
            prop_assert!(rounds < 300);
        }
    }
}
