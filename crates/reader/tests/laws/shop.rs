//! A shop's till, its directory, and what an issuer would answer it.

use serde_json::{Value, json};
use warifu_proto::code::Scanned;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::{Directory, Entry, EntryKind};
use warifu_proto::id::{IssuerId, NetworkId, PaymentId};
use warifu_proto::key::PrivateKey;
use warifu_proto::message::Capture;
use warifu_proto::money::Money;
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_reader::{Order, Reply, request_id};

pub(crate) const NOW_MS: u64 = 1_795_305_600_000;
const CODE: &str = "710000010728921840110704";

pub(crate) fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number; 32]).unwrap()
}

pub(crate) fn money(minor: u64, currency: &str) -> Money {
    Money::new(minor, CurrencyCode::parse(currency).unwrap()).unwrap()
}

pub(crate) fn directory_with(status: &str, endpoints: &Value) -> Directory {
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

pub(crate) fn directory() -> Directory {
    directory_with(
        "active",
        &json!([
            {"url": "http://127.0.0.1:7101", "from": 0, "to": 6},
            {"url": "http://127.0.0.1:7102", "from": 7, "to": 98},
        ]),
    )
}

pub(crate) fn order() -> Order {
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

pub(crate) fn payment(status: &str) -> Value {
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

pub(crate) fn signed(status: u16, body: &Value) -> Reply {
    Reply::Signed { status, body: serde_json::to_vec(body).unwrap(), retry_after_s: None }
}

pub(crate) fn problem(code: ProblemCode) -> Reply {
    let body = json!({
        "type": format!("urn:warifu:problem:{}", code.name()), "title": code.title(),
        "status": code.status(), "detail": "", "code": code.name(), "instance": "",
    });
    signed(code.status(), &body)
}

/// The answer to a reversal.
pub(crate) fn reversed() -> Value {
    json!({ "request_id": order().request_id.as_str(), "status": "reversed" })
}
