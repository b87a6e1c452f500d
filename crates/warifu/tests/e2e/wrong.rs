//! Wrong things. Each gets a clear, signed refusal; nothing is lost, no process dies.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use warifu_proto::message::PaymentStatus;
use warifu_server::chance;
use warifu_server::client::{CallError, Client};

use crate::harness::{DEADLINE, Network, Phone, Till, payment, warifu, wish};

async fn code_of(answer: Result<warifu_server::client::Answer, CallError>) -> String {
    let answer = answer.unwrap();
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["status"], answer.status.as_u16());
    problem["code"].as_str().unwrap().to_owned()
}

async fn rejection(till: &Till, body: &Value) -> String {
    payment(&till.pay(body).await.unwrap()).rejection.unwrap().code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_that_can_not_pay() {
    let net = Network::start();
    let till = net.till();
    net.wait_for_till(&till).await;
    let (_, link) = net.invite(1_000);
    let mut phone = Phone::link(&net, &link).await;
    let issuer = net.issuer_peer.clone();

    let code = phone.register(&issuer).await;
    let mut altered = code.as_str().to_owned();
    let last = if altered.pop() == Some('0') { '1' } else { '0' };
    altered.push(last);
    assert_eq!(rejection(&till, &wish("altered", &altered, 1)).await, "code_unknown");
    let (other, unknown) =
        (payment(&till.pay(&wish("paid", &code, 100)).await.unwrap()), "710000010412345678901234");
    assert_eq!(other.status, PaymentStatus::Approved);
    assert_eq!(rejection(&till, &wish("used", &code, 100)).await, "code_used");
    assert_eq!(rejection(&till, &wish("unknown", unknown, 100)).await, "code_unknown");

    let (short, _, body) = phone.make(1);
    assert_eq!(phone.send(&issuer, &body).await.unwrap().status, 201);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(rejection(&till, &wish("expired", &short, 1)).await, "code_expired");
    let code = phone.register(&issuer).await;
    assert_eq!(rejection(&till, &wish("poor", &code, 901)).await, "insufficient_funds");
    let euros = json!({ "request_id": "euros", "code": phone.register(&issuer).await.as_str(), "amount": { "minor": 1, "currency": "EUR" }, "capture": "now" });
    assert_eq!(rejection(&till, &euros).await, "currency_mismatch");

    // A payment that overtakes its registration waits for it.
    let (early, _, body) = phone.make(60);
    let first = wish("early", &early, 1);
    let (paid, sent) = tokio::join!(till.pay(&first), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        phone.send(&issuer, &body).await
    });
    assert_eq!(sent.unwrap().status, 201);
    assert_eq!(payment(&paid.unwrap()).status, PaymentStatus::Approved);

    // The same request id with another code is refused for ever, in whichever partition that code lies.
    for partition in ["00", "04", "55"] {
        let body = wish("paid", &format!("71000001{partition}12345678901234"), 100);
        assert_eq!(code_of(till.pay(&body).await).await, "request_id_conflict");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_taken() {
    let net = Network::start();
    let till = net.till();
    net.wait_for_till(&till).await;
    let (_, link) = net.invite(1_000);
    let mut phone = Phone::link(&net, &link).await;
    let issuer = net.issuer_peer.clone();
    let code = phone.register(&issuer).await;
    let good = wish("good", &code, 1);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for (body, problem) in [
        (with("amount", json!({ "minor": 0, "currency": "JPY" })), "malformed"),
        (with("amount", json!({ "minor": -1, "currency": "JPY" })), "malformed"),
        (with("amount", json!({ "minor": 1.0, "currency": "JPY" })), "malformed"),
        (
            with("amount", json!({ "minor": 1_000_000_000_000_000_u64, "currency": "JPY" })),
            "malformed",
        ),
        (with("amount", json!({ "minor": 1, "currency": "yen" })), "malformed"),
        (with("extra", json!(1)), "malformed"),
        (with("request_id", json!("a b")), "malformed"),
        (with("deadline_ms", json!(5)), "malformed"),
        (with("code", json!("12345")), "code_malformed"),
        (with("code", json!(format!(" {}", code.as_str()))), "code_malformed"),
        (with("code", json!("820000010412345678901234")), "misdirected"),
        (with("capture", json!("never")), "malformed"),
    ] {
        assert_eq!(code_of(till.pay(&body).await).await, problem, "{body}");
    }
    let call = |client: &Client, body: Vec<u8>, headers: HeaderMap| {
        let (client, issuer) = (
            Client::new(std::sync::Arc::clone(client.identity()), net.http.clone()),
            issuer.clone(),
        );
        async move {
            client.call(&issuer, Method::POST, "/v1/payments", Some(body), DEADLINE, headers).await
        }
    };
    let none = HeaderMap::new;
    assert_eq!(code_of(call(&till.client, b"{\"a\":".to_vec(), none()).await).await, "malformed");
    assert_eq!(
        code_of(call(&till.client, "[".repeat(10_000).into_bytes(), none()).await).await,
        "malformed"
    );
    let doubled = serde_json::to_string(&good).unwrap().replacen('{', "{\"capture\":\"now\",", 1);
    assert_eq!(code_of(call(&till.client, doubled.into_bytes(), none()).await).await, "malformed");
    // Refused before anybody looked who signed it: said, and bound to nothing.
    let large = call(&till.client, vec![b' '; 10 << 20], none()).await.unwrap_err();
    let is_told = large.to_string().contains("413 too_large");
    assert!(is_told && matches!(large, CallError::Unverified { .. }), "{large}");

    let stranger = Till {
        client: Client::new(std::sync::Arc::new(chance::key()), net.http.clone()),
        issuer: issuer.clone(),
    };
    assert_eq!(code_of(stranger.pay(&good).await).await, "key_unknown");
    let unsigned = stranger
        .client
        .call_unsigned(
            &issuer,
            Method::POST,
            "/v1/payments",
            Some(serde_json::to_vec(&good).unwrap()),
            DEADLINE,
            none(),
        )
        .await;
    assert_eq!(code_of(unsigned).await, "unsigned");
    let admin =
        till.client.call(&issuer, Method::GET, "/admin/v1/accounts", None, DEADLINE, none()).await;
    assert_eq!(code_of(admin).await, "forbidden");
    let nowhere =
        till.client.call(&issuer, Method::GET, "/v1/nothing", None, DEADLINE, none()).await;
    assert_eq!(code_of(nowhere).await, "not_found");

    // Registrations: altered, by another key, repeated, for somebody else.
    let (_, _, body) = phone.make(60);
    let mut bytes =
        warifu_proto::base64url::decode(body["registration"].as_str().unwrap()).unwrap();
    bytes[40] ^= 1;
    let altered = json!({ "registration": warifu_proto::base64url::encode(bytes) });
    assert_eq!(code_of(phone.send(&issuer, &altered).await).await, "signature_invalid");
    let (first, second) =
        (phone.send(&issuer, &body).await.unwrap(), phone.send(&issuer, &body).await.unwrap());
    assert_eq!(
        (first.status.as_u16(), &first.body),
        (201, &second.body),
        "the same statement gets the same answer"
    );
    let (_, _, body) = phone.make(301);
    assert_eq!(code_of(phone.send(&issuer, &body).await).await, "lifetime_too_long");

    // After all that the good one is still paid, once.
    let paid = payment(&till.pay(&good).await.unwrap());
    // Rights are the merchant's to give, and this till has none.
    let path = format!("/v1/payments/{}", paid.payment_id);
    let amount = json!({ "minor": 1, "currency": "JPY" });
    for (method, path, body) in [
        (
            Method::POST,
            format!("{path}/refunds"),
            Some(json!({ "request_id": "r", "amount": amount })),
        ),
        (
            Method::POST,
            format!("{path}/captures"),
            Some(json!({ "request_id": "c", "amount": amount })),
        ),
        (Method::POST, format!("{path}/release"), Some(json!({}))),
        (Method::GET, "/v1/events".to_owned(), None),
    ] {
        let body = body.map(|it| serde_json::to_vec(&it).unwrap());
        let refused = till.client.call(&issuer, method, &path, body, DEADLINE, none()).await;
        assert_eq!(code_of(refused).await, "forbidden", "{path}");
    }
    assert_eq!(payment(&till.pay(&good).await.unwrap()).payment_id, paid.payment_id);
    assert_eq!(
        code_of(till.pay(&with("amount", json!({ "minor": 2, "currency": "JPY" }))).await).await,
        "request_id_conflict"
    );
}

#[test]
fn folders_that_can_not_be_used() {
    let net = Network::start();
    let (code, _, stderr) = warifu(net.path(), &["issuer", "serve", "--dir", "aoba"]);
    assert_ne!(code, 0);
    assert!(stderr.contains("in use"), "{stderr}");
    let (code, _, stderr) = warifu(net.path(), &["hub", "serve", "--dir", "hub"]);
    assert_ne!(code, 0);
    assert!(stderr.contains("in use"), "{stderr}");
    let (code, _, stderr) = warifu(net.path(), &["issuer", "serve", "--dir", "nowhere"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("issuer init"), "{stderr}");
}
