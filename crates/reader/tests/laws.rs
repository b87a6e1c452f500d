//! The laws of the reader's machine: against a model of an honest issuer behind a network that loses, delays and
//! repeats, and against nonsense. The numbers are those of `attempt.rs`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::{Value, json};
use warifu_proto::code::Scanned;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::{Directory, Entry, EntryKind};
use warifu_proto::id::{IssuerId, NetworkId, PaymentId};
use warifu_proto::key::PrivateKey;
use warifu_proto::message::{Capture, PayRequest, PaymentStatus};
use warifu_proto::money::Money;
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_reader::{
    Attempt, BeginError, CODE_DEAD_AFTER_MS, Call, How, Input, Order, Outcome, Output, Record,
    Reply, RouteError, Standing, Why, request_id,
};

const NOW_MS: u64 = 1_795_305_600_000;
const CODE: &str = "710000010728921840110704";

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number; 32]).unwrap()
}

fn money(minor: u64, currency: &str) -> Money {
    Money::new(minor, CurrencyCode::parse(currency).unwrap()).unwrap()
}

fn directory_with(status: &str, endpoints: &Value) -> Directory {
    let network = NetworkId::from_raw([1; 16]);
    let mut directory = Directory::new(network, key(1).public().clone());
    let body = json!({
        "id": IssuerId::from_raw([2; 16]), "revision": 1, "status": status,
        "not_before_ms": 0, "not_after_ms": NOW_MS * 2,
        "name": "Aoba Pay", "prefix": "71000001", "key": key(2).public(), "currencies": ["JPY"],
        "endpoints": endpoints,
    });
    let body = serde_json::to_vec(&body).unwrap();
    directory.take(&Entry::sign(network, EntryKind::Issuer, body, &key(1))).unwrap();
    directory
}

fn directory() -> Directory {
    directory_with(
        "active",
        &json!([
            {"url": "http://127.0.0.1:7101", "from": 0, "to": 6},
            {"url": "http://127.0.0.1:7102", "from": 7, "to": 98},
        ]),
    )
}

fn order() -> Order {
    Order {
        request_id: request_id(Timestamp::from_ms(NOW_MS), [7; 10]),
        scanned: Scanned::parse(CODE).unwrap(),
        amount: money(1200, "JPY"),
        capture: Capture::Now,
        order_id: Some("A-17".to_owned()),
        description: None,
        deadline_ms: Some(10_000),
    }
}

fn payment(status: &str) -> Value {
    json!({
        "payment_id": PaymentId::from_raw([3; 16]),
        "request_id": order().request_id.as_str(),
        "status": status,
        "amount": {"minor": 1200, "currency": "JPY"},
        "captured": {"minor": if status == "approved" { 1200 } else { 0 }, "currency": "JPY"},
        "refunded": {"minor": 0, "currency": "JPY"},
        "account_hint": "··12",
        "decided_at": "2026-11-22T00:00:00.000Z",
        "sequence": "1",
    })
}

fn signed(status: u16, body: &Value) -> Reply {
    Reply::Signed { status, body: serde_json::to_vec(body).unwrap(), retry_after_s: None }
}

fn problem(code: ProblemCode) -> Reply {
    let body = json!({
        "type": format!("urn:warifu:problem:{}", code.name()), "title": code.title(),
        "status": code.status(), "detail": "", "code": code.name(), "instance": "",
    });
    signed(code.status(), &body)
}

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
                    assert_eq!(record.code.is_some(), record.standing.is_open());
                    self.journal = Some(*record);
                }
                Output::Send(send) => self.sent(send.number, send.call, send.timeout_ms),
                Output::Progress(progress) => self.log.push(format!("{progress:?}")),
                Output::Outcome(outcome) => {
                    let standing = &self.journal.as_ref().unwrap().standing;
                    assert_eq!(*standing, standing_of(&outcome), "it is stored as it is told");
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
        self.log.push(format!(
            "{} {}",
            call.method(),
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

fn standing_of(outcome: &Outcome) -> Standing {
    match outcome.clone() {
        Outcome::Decided(payment) => Standing::Decided { payment: Box::new(payment) },
        Outcome::Refused(problem) => Standing::Refused { problem: Box::new(problem) },
        Outcome::NotTaken => Standing::NotTaken,
        Outcome::Unknown(_) => Standing::Unknown,
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
fn silence_is_repeated_with_the_same_request_and_ends_unknown() {
    let mut world = World::begin();
    world.stored();
    for _ in 0..5 {
        world.reply(Reply::Nothing);
        world.sleep();
    }
    let want = ["POST 0", "POST 200", "POST 600", "POST 1400", "POST 2400", "POST 3400"];
    let sent: Vec<_> = world.log.iter().filter(|it| it.starts_with("POST")).cloned().collect();
    assert_eq!(sent, want);
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NoAnswer));
    assert_eq!(world.now.as_ms(), NOW_MS + 10_000);
    // The issuer may never approve what the cashier has given up: each repeat says how long is left.
    for (_, call, _) in &world.calls {
        let Call::Pay(request) = call else { panic!("only payments") };
        assert!(request.deadline_ms.unwrap() <= 10_000);
    }
    assert!(world.journal.unwrap().code.is_some(), "it is kept to be repeated");
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
    world.reply(problem(ProblemCode::NotAccepted));
    world.sleep();
    world.reply(Reply::NotSent);
    world.sleep();
    world.reply(problem(ProblemCode::Forbidden));
    assert!(matches!(world.outcome(), Outcome::Refused(it) if it.code == "forbidden"));

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
        world.reply(if calls.is_multiple_of(2) {
            Reply::NotSent
        } else {
            problem(ProblemCode::NotAccepted)
        });
        while world.outcomes.is_empty() && world.calls.len() == calls {
            world.sleep();
        }
    }
    assert_eq!(world.outcome(), Outcome::NotTaken);
}

#[test]
fn a_call_that_is_under_way_at_the_deadline_may_have_been_taken() {
    let order = Order { deadline_ms: Some(2_000), ..order() };
    let now = Timestamp::from_ms(NOW_MS);
    let mut world = World::new(Attempt::begin(&order, &directory(), now).unwrap());
    world.stored();
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NoAnswer));
    assert_eq!(world.now.as_ms(), NOW_MS + 2_000);
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
        assert_eq!(world.outcome(), Outcome::Unknown(Why::NoAnswer), "{answer}");
    }
}

#[test]
fn what_a_later_version_says_is_not_final_or_declined() {
    let mut world = World::begin();
    world.stored();
    world.reply(signed(200, &payment("half_approved")));
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NotFinal(PaymentStatus::Unknown)));

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
    assert_eq!(world.now.as_ms(), NOW_MS + 62_000);
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NotFinal(PaymentStatus::AwaitingPayer)));
}

#[test]
fn a_hold_is_an_answer_only_to_who_asked_for_one() {
    let mut world = World::begin();
    world.stored();
    world.reply(signed(200, &payment("held")));
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NotFinal(PaymentStatus::Held)));
    let order = Order { capture: Capture::Later, ..order() };
    let now = Timestamp::from_ms(NOW_MS);
    let mut world = World::new(Attempt::begin(&order, &directory(), now).unwrap());
    world.stored();
    world.reply(signed(200, &payment("held")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Held);
}

fn unknown_record() -> Record {
    let mut world = World::begin();
    world.stored();
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NoAnswer));
    let text = serde_json::to_string(&world.journal.unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn resolving_asks_and_repeats_only_when_that_is_safe_or_wished() {
    let later = Timestamp::from_ms(NOW_MS + 20_000);
    let ask = |how, now| World::resume(unknown_record(), how, now);

    let mut world = ask(How::Ask, later);
    let path = world.calls[0].1.path_and_query();
    let id = order().request_id;
    assert_eq!(path, format!("/v1/payments?request_id={id}&route=7100000107&wait_ms=2000"));
    world.reply(signed(200, &payment("approved")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Approved);

    let mut world = ask(How::Ask, later);
    world.reply(problem(ProblemCode::NotFound));
    assert_eq!(world.outcome(), Outcome::Unknown(Why::NotKnown), "404 is not an end");
    assert!(world.calls.iter().all(|(_, call, _)| call.method() == "GET"));

    let mut world = ask(How::AskThenRepeat, later);
    world.reply(problem(ProblemCode::NotFound));
    world.sleep();
    assert_eq!(world.calls.last().unwrap().1.method(), "POST");
    world.reply(signed(200, &payment("declined")));
    assert_eq!(status_of(&world.outcome()), PaymentStatus::Declined);

    // When the code can't be paid with any more, repeating is how to be sure.
    let dead = Timestamp::from_ms(NOW_MS + CODE_DEAD_AFTER_MS);
    let mut world = ask(How::Ask, dead);
    world.reply(problem(ProblemCode::NotFound));
    world.sleep();
    assert_eq!(world.calls.last().unwrap().1.method(), "POST");

    let mut world = ask(How::Repeat, later);
    assert_eq!(world.calls[0].1.method(), "POST");
    world.reply(problem(ProblemCode::CodeMalformed));
    assert!(world.outcomes.is_empty());

    let mut world = ask(How::Ask, later);
    world.reply(problem(ProblemCode::KeyUnknown));
    assert!(matches!(world.outcome(), Outcome::Unknown(Why::NotAnswered(_))));
}

#[test]
fn request_ids_sort_by_time() {
    let early = request_id(Timestamp::from_ms(NOW_MS), [255; 10]);
    let late = request_id(Timestamp::from_ms(NOW_MS + 1), [0; 10]);
    assert!(early < late);
    assert_eq!(early.as_str().len(), 26);
}

/// What the network does with one call, and what the issuer does when it arrives.
#[derive(Debug, Clone, Copy)]
enum Fate {
    NeverLeaves,
    LostOnTheWay,
    Arrives { delay_ms: u64, does: Does, answer_is: AnswerIs },
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Decide(bool),
    AskPayer,
    NotAccept,
    Refuse(usize),
    Break,
}

#[derive(Debug, Clone, Copy)]
enum AnswerIs {
    Delivered,
    Lost,
    /// The driver says nothing at all: the machine has to notice by itself.
    Silence,
    ForAnother,
}

/// An honest issuer.
#[derive(Debug, Default)]
struct Issuer {
    status: Option<&'static str>,
}

impl Issuer {
    fn take(&mut self, call: &Call, does: Does) -> Reply {
        if let (Some(status), Call::Pay(_) | Call::Ask { .. }) = (self.status, call) {
            // A repeat never does anything, but the payer may have answered meanwhile.
            if let ("awaiting_payer", Does::Decide(yes)) = (status, does) {
                self.status = Some(if yes { "approved" } else { "declined" });
            }
            return match does {
                Does::NotAccept => problem(ProblemCode::NotAccepted),
                Does::Break => problem(ProblemCode::Internal),
                Does::Refuse(_) => problem(ProblemCode::TooManyRequests),
                Does::Decide(_) | Does::AskPayer => {
                    signed(200, &payment(self.status.unwrap_or_default()))
                }
            };
        }
        match (call, does) {
            (_, Does::NotAccept) => problem(ProblemCode::NotAccepted),
            (_, Does::Break) => problem(ProblemCode::Internal),
            (Call::Ask { .. }, _) => problem(ProblemCode::NotFound),
            (Call::Pay(_), Does::Refuse(which)) => {
                let refusals: Vec<_> =
                    ProblemCode::ALL.iter().filter(|it| it.status() < 500).collect();
                problem(*refusals[which % refusals.len()])
            }
            (Call::Pay(_), Does::Decide(yes)) => {
                let status = if yes { "approved" } else { "declined" };
                self.status = Some(status);
                signed(200, &payment(status))
            }
            (Call::Pay(_), Does::AskPayer) => {
                self.status = Some("awaiting_payer");
                signed(200, &payment("awaiting_payer"))
            }
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    let does = prop_oneof![
        3 => any::<bool>().prop_map(Does::Decide),
        1 => Just(Does::AskPayer),
        2 => Just(Does::NotAccept),
        2 => any::<usize>().prop_map(Does::Refuse),
        1 => Just(Does::Break),
    ];
    let answer = prop_oneof![
        3 => Just(AnswerIs::Delivered),
        2 => Just(AnswerIs::Lost),
        1 => Just(AnswerIs::Silence),
        1 => Just(AnswerIs::ForAnother),
    ];
    prop_oneof![
        1 => Just(Fate::NeverLeaves),
        2 => Just(Fate::LostOnTheWay),
        6 => (0_u64..6_000, does, answer)
            .prop_map(|(delay_ms, does, answer_is)| Fate::Arrives { delay_ms, does, answer_is }),
    ]
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
    fn what_is_told_is_what_happened(
        fates in proptest::collection::vec(fate(), 1..40),
        patience_ms in 1_000_u64..20_000,
    ) {
        let order = Order { deadline_ms: Some(patience_ms), ..order() };
        let now = Timestamp::from_ms(NOW_MS);
        let mut world = World::new(Attempt::begin(&order, &directory(), now).unwrap());
        let mut issuer = Issuer::default();
        let mut fates = fates.into_iter().cycle();
        let mut seen = 0;
        world.stored();
        while world.outcomes.is_empty() {
            if world.calls.len() == seen {
                world.sleep();
                continue;
            }
            let (number, call, timeout_ms) = world.calls[seen].clone();
            seen += 1;
            let fate = fates.next().unwrap();
            let reply = match fate {
                Fate::NeverLeaves => Reply::NotSent,
                Fate::LostOnTheWay => Reply::Nothing,
                Fate::Arrives { delay_ms, does, answer_is } => {
                    let reply = issuer.take(&call, does);
                    match answer_is {
                        AnswerIs::Delivered if delay_ms <= timeout_ms => {
                            world.pass(delay_ms);
                            reply
                        }
                        AnswerIs::Delivered | AnswerIs::Lost => Reply::Nothing,
                        AnswerIs::Silence => continue,
                        AnswerIs::ForAnother => {
                            let mut other = payment("approved");
                            other["request_id"] = json!("another");
                            signed(200, &other)
                        }
                    }
                }
            };
            world.give(Input::Answered { number, reply });
        }
        match &world.outcomes[0] {
            Outcome::Decided(payment) => {
                let status = serde_json::to_value(payment.status).unwrap();
                prop_assert_eq!(Some(status.as_str().unwrap()), issuer.status, "law 2");
            }
            Outcome::Refused(_) | Outcome::NotTaken => {
                prop_assert_eq!(issuer.status, None, "law 2: nothing happened, it was said");
            }
            Outcome::Unknown(_) => {}
        }
    }

    #[test]
    fn nonsense_never_panics_and_always_ends(
        inputs in proptest::collection::vec((0_u32..6, nonsense(), 0_u64..2_000), 0..60),
        resumes: bool,
        clock in proptest::collection::vec(0_u64..NOW_MS * 2, 0..3),
    ) {
        let mut world = if resumes {
            World::resume(unknown_record(), How::AskThenRepeat, Timestamp::from_ms(NOW_MS))
        } else {
            World::begin()
        };
        for (number, reply, ms) in inputs {
            if number == 0 {
                world.stored();
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
