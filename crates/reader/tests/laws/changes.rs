//! Refunds, captures and releases: done once or not at all, and never lost.

use std::collections::VecDeque;
use std::future::Future;

use serde_json::{Value, json};
use warifu_proto::id::{PaymentId, RefundId};
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_reader::change::{Change, ChangeDriver, Deed, Settled, Trial, settle};
use warifu_reader::{Call, Driver, Input, Record, Reply, Send, request_id};

use crate::network::now;
use crate::shop::{NOW_MS, directory, money, payment, problem, signed};

#[derive(Default)]
struct Till {
    now_ms: u64,
    replies: VecDeque<Reply>,
    calls: Vec<(String, Option<Value>)>,
    journal: Vec<Change>,
}

impl Driver for Till {
    type Error = ();

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(NOW_MS + self.now_ms)
    }

    async fn store(&mut self, _record: &Record) -> Result<(), ()> {
        panic!("only changes")
    }

    async fn call(&mut self, send: &Send) -> Input {
        assert!(!self.journal.is_empty(), "nothing leaves before it is stored");
        let body = send.call.body().map(|it| serde_json::from_slice(&it).unwrap());
        self.calls.push((send.call.path_and_query(), body));
        let reply = self.replies.pop_front().unwrap_or_else(|| {
            self.now_ms += send.timeout_ms;
            Reply::Nothing
        });
        Input::Answered { number: send.number, reply }
    }

    async fn wait(&mut self, until: Timestamp) -> Input {
        self.now_ms = until.as_ms() - NOW_MS;
        Input::Tick
    }
}

impl ChangeDriver for Till {
    fn store_change(
        &mut self,
        change: &Change,
    ) -> impl Future<Output = Result<(), ()>> + core::marker::Send {
        self.journal.push(change.clone());
        std::future::ready(Ok(()))
    }
}

fn change(deed: Deed) -> Change {
    let record: Record = serde_json::from_value(json!({
        "request_id": "sale", "route": "7100000107", "issuer": "iss_01h455vb4pex5vsknk084sn02q",
        "code": null, "amount": money(1200, "JPY"), "capture": "now", "order_id": "A-17",
        "description": null, "deadline_ms": 10_000, "created_at": "2026-11-22T00:00:00.000Z",
        "standing": {"is": "decided", "payment": payment("approved")},
    }))
    .unwrap();
    let at = Timestamp::from_ms(NOW_MS);
    Change::new(&record, request_id(at, [9; 10]), "R-1".to_owned(), deed, at).unwrap()
}

fn refund() -> Change {
    change(Deed::Refund { amount: money(500, "JPY"), reason: Some("Torn".to_owned()) })
}

fn refunded() -> Reply {
    let id = RefundId::from_raw([4; 16]);
    signed(200, &json!({"refund_id": id, "status": "refunded", "payment": payment("approved")}))
}

#[track_caller]
fn check(trial: Trial, replies: Vec<Reply>, want: &str) -> Till {
    let mut till = Till { replies: replies.into(), ..Till::default() };
    let settled = now(settle(refund(), trial, 5_000, &directory(), &mut till)).unwrap();
    let got = match &settled.standing {
        Settled::Open => "open".to_owned(),
        Settled::Done { id, .. } => id.clone().unwrap(),
        Settled::Refused { problem } => problem.code.clone(),
    };
    assert_eq!(got, want);
    assert_eq!(till.journal.last(), Some(&settled));
    assert!(till.calls.windows(2).all(|pair| pair[0] == pair[1]), "a repeat is the same");
    till
}

#[test]
fn a_refund_is_repeated_under_its_id_until_it_is_answered() {
    let id = RefundId::from_raw([4; 16]).to_string();
    let till = check(Trial::First, vec![Reply::Nothing, Reply::NotSent, refunded()], &id);
    assert_eq!(till.calls.len(), 3);
    let pay = PaymentId::from_raw([3; 16]);
    assert_eq!(till.calls[0].0, format!("/v1/payments/{pay}/refunds"));
    let body = till.calls[0].1.clone().unwrap();
    assert_eq!(body["amount"]["minor"], 500);
    assert_eq!(body["reason"], "Torn");

    let till = check(Trial::First, vec![], "open");
    assert!(till.now_ms <= 5_000);
    assert!(till.journal[0].is_open(), "it stays in the journal until it is answered");
}

#[test]
fn a_refusal_ends_it_only_when_no_earlier_message_can_be_taken() {
    let too_large = || problem(ProblemCode::AmountTooLarge);
    check(Trial::First, vec![too_large()], "amount_too_large");
    check(Trial::Again, vec![too_large()], "amount_too_large");
    check(Trial::First, vec![problem(ProblemCode::Forbidden)], "forbidden");
    let id = RefundId::from_raw([4; 16]).to_string();
    check(Trial::Again, vec![problem(ProblemCode::Forbidden), refunded()], &id);
    check(Trial::First, vec![problem(ProblemCode::TooManyRequests), refunded()], &id);
    check(
        Trial::First,
        vec![problem(ProblemCode::NotAccepted), problem(ProblemCode::Forbidden), refunded()],
        &id,
    );
    check(
        Trial::First,
        vec![problem(ProblemCode::Internal), problem(ProblemCode::Forbidden), refunded()],
        &id,
    );
}

#[test]
fn answers_about_other_payments_prove_nothing() {
    let mut other = payment("approved");
    other["payment_id"] = json!(PaymentId::from_raw([8; 16]));
    let id = RefundId::from_raw([4; 16]);
    let answer = json!({"refund_id": id, "status": "refunded", "payment": other});
    check(Trial::First, vec![signed(200, &answer), refunded()], &id.to_string());
}

#[test]
fn holds_are_captured_and_released() {
    let release = change(Deed::Release);
    let answer = signed(200, &payment("released"));
    let mut till = Till { replies: vec![answer].into(), ..Till::default() };
    let settled = now(settle(release, Trial::First, 5_000, &directory(), &mut till)).unwrap();
    assert!(matches!(settled.standing, Settled::Done { id: None, .. }));
    assert!(till.calls[0].0.ends_with("/release"));
    assert_eq!(till.calls[0].1, Some(json!({})));

    let capture = Call::Capture(
        PaymentId::from_raw([3; 16]),
        Box::new(
            serde_json::from_value(json!({
                "request_id": "c", "amount": money(1, "JPY")
            }))
            .unwrap(),
        ),
    );
    assert!(capture.path_and_query().ends_with("/captures"));
}
