//! What happens to payments after they were decided, over real HTTP at real processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::harness::{DEADLINE, Network, PATIENCE, Phone, Till, json_of, payment, wish};

const ALL: [&str; 4] = ["capture", "refund", "reverse_any", "feed"];

fn yen(minor: u64) -> Value {
    json!({ "minor": minor, "currency": "JPY" })
}

/// A call of a till: status and body.
async fn call(till: &Till, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|it| serde_json::to_vec(&it).unwrap());
    let answer = till
        .client
        .call(&till.issuer, method, path, body, DEADLINE, HeaderMap::new())
        .await
        .unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

async fn post(till: &Till, path: &str, body: Value) -> (u16, Value) {
    call(till, Method::POST, path, Some(body)).await
}

async fn office() -> (Network, Till) {
    let net = Network::start();
    let rights = ALL.map(|it| it.replace('_', "-"));
    net.pair("office", &rights.each_ref().map(String::as_str));
    let till = net.till_in("office");
    net.wait_for_till(&till).await;
    (net, till)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tills_refund_sixty_of_a_hundred_at_once_and_one_does() {
    let (mut net, till) = office().await;
    let (account, link) = net.invite(1_000);
    let mut phone = Phone::link(&net, &link).await;
    let code = phone.register(&net.issuer_peer).await;
    let paid = payment(&till.pay(&wish("paid", &code, 100)).await.unwrap());
    let path = format!("/v1/payments/{}/refunds", paid.payment_id);
    let start = Arc::new(Barrier::new(64));
    let refunds: Vec<_> = (0..64)
        .map(|at| {
            // Each on a connection of its own, all at the same moment.
            let till = net.till_in("office");
            let (path, start) = (path.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                post(&till, &path, json!({ "request_id": format!("r{at}"), "amount": yen(60) }))
                    .await
            })
        })
        .collect();
    let mut ended = BTreeMap::<String, u32>::new();
    for refund in refunds {
        let (status, body) = refund.await.unwrap();
        let word = if status == 200 { body["status"].clone() } else { body["code"].clone() };
        *ended.entry(word.as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let expected = [("amount_too_large".to_owned(), 63), ("refunded".to_owned(), 1)];
    assert_eq!(ended, BTreeMap::from(expected));
    // The same after a crash.
    net.issuer.kill_9();
    net.restart_issuer();
    let till = net.till_in("office");
    net.wait_for_till(&till).await;
    let (status, more) =
        post(&till, &path, json!({ "request_id": "more", "amount": yen(41) })).await;
    assert_eq!((status, &more["code"]), (422, &json!("amount_too_large")));
    let (status, rest) =
        post(&till, &path, json!({ "request_id": "rest", "amount": yen(40) })).await;
    assert_eq!((status, &rest["payment"]["refunded"]), (200, &yen(100)));
    let now = json_of(net.path(), &["issuer", "account", "show", &account, "--dir", "aoba"]);
    assert_eq!(now["balance"], yen(1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_and_its_reversal_race_and_nothing_remains() {
    let (net, till) = office().await;
    let (account, link) = net.invite(1_000);
    let mut phone = Phone::link(&net, &link).await;
    for round in 0..12 {
        let code = phone.register(&net.issuer_peer).await;
        let request = format!("race-{round}");
        let route = code.as_str().get(..10).unwrap().to_owned();
        let reversal = json!({ "request_id": request, "route": route, "reason": "timeout" });
        let body = wish(&request, &code, 7);
        let other = net.till_in("office");
        let (paid, reversed) =
            tokio::join!(till.pay(&body), post(&other, "/v1/reversals", reversal.clone()));
        assert_eq!((reversed.0, &reversed.1["status"]), (200, &json!("reversed")), "{reversed:?}");
        assert_eq!(paid.unwrap().status, 200);
        let end = payment(&till.pay(&body).await.unwrap());
        let word = serde_json::to_value(end.status).unwrap();
        assert!(word == "reversed" || word == "declined", "{word}");
        assert_eq!(post(&till, "/v1/reversals", reversal).await.1["status"], "reversed");
    }
    let now = json_of(net.path(), &["issuer", "account", "show", &account, "--dir", "aoba"]);
    assert_eq!((&now["balance"], &now["reserved"]), (&yen(1_000), &yen(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_freezes_limits_and_closes_and_each_refusal_has_its_name() {
    let (net, till) = office().await;
    let (account, link) = net.invite(1_000);
    let mut phone = Phone::link(&net, &link).await;
    let issuer = |args: &[&str]| json_of(net.path(), &[args, &["--dir", "aoba"]].concat());
    let credential = phone.credential.to_string();
    let listed = issuer(&["issuer", "terminals"]);
    assert_eq!(listed["credentials"][0]["credential_id"], json!(credential));
    let code = phone.register(&net.issuer_peer).await;
    let kept = payment(&till.pay(&wish("kept", &code, 10)).await.unwrap());
    let steps: [(&[&str], &str); 6] = [
        (&["issuer", "terminal", "suspend", &credential], "credential_suspended"),
        (&["issuer", "account", "freeze", &account], "account_frozen"),
        (&["issuer", "account", "limit", &account, "--payment-max", "5"], "over_payment_limit"),
        (&["issuer", "account", "limit", &account, "--day-max", "15"], "over_daily_limit"),
        (&["issuer", "account", "limit", &account, "--day-count-max", "1"], "over_daily_count"),
        (&["issuer", "account", "limit", &account, "--none"], "insufficient_funds"),
    ];
    for (at, (command, rejection)) in steps.into_iter().enumerate() {
        issuer(command);
        // Saying it again does nothing.
        issuer(command);
        let code = phone.register(&net.issuer_peer).await;
        let minor = if rejection == "insufficient_funds" { 5_000 } else { 6 };
        let declined = payment(&till.pay(&wish(&format!("no-{at}"), &code, minor)).await.unwrap());
        assert_eq!(declined.rejection.unwrap().code, rejection);
        issuer(&["issuer", "terminal", "resume", &credential]);
        issuer(&["issuer", "account", "unfreeze", &account]);
    }
    let closed = issuer(&["issuer", "account", "close", &account]);
    assert_eq!((&closed["standing"], &closed["balance"]), (&json!("closed"), &yen(0)));
    let code = phone.register(&net.issuer_peer).await;
    let declined = payment(&till.pay(&wish("closed", &code, 1)).await.unwrap());
    assert_eq!(declined.rejection.unwrap().code, "account_closed");
    let path = format!("/v1/payments/{}/refunds", kept.payment_id);
    let (status, refused) =
        post(&till, &path, json!({ "request_id": "late", "amount": yen(1) })).await;
    assert_eq!((status, &refused["code"]), (422, &json!("account_closed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_misses_nothing_over_a_kill_and_wakes_who_waits() {
    let (mut net, till) = office().await;
    let (_, link) = net.invite(1_000);
    let mut phone = Phone::link(&net, &link).await;
    let mut sent = Vec::new();
    for at in 0..5 {
        let code = phone.register(&net.issuer_peer).await;
        sent.push(payment(&till.pay(&wish(&format!("p{at}"), &code, 5)).await.unwrap()).payment_id);
    }
    net.issuer.kill_9();
    net.restart_issuer();
    let till = net.till_in("office");
    net.wait_for_till(&till).await;
    let (mut read, mut after) = (Vec::new(), String::new());
    let until = Instant::now() + PATIENCE;
    while read.len() < sent.len() {
        assert!(Instant::now() < until, "the feed has only {} events", read.len());
        let path = format!("/v1/events?limit=2&wait_ms=500{after}");
        let (status, page) = call(&till, Method::GET, &path, None).await;
        assert_eq!(status, 200, "{page}");
        for event in page["events"].as_array().unwrap() {
            read.push(event["payment"]["payment_id"].as_str().unwrap().to_owned());
        }
        after = format!("&after={}", page["next"].as_str().unwrap());
    }
    assert_eq!(read, sent.iter().map(ToString::to_string).collect::<Vec<_>>());
    // Who waits is told when something happens, not when the wait is over.
    let path = format!("/v1/events?wait_ms=30000{after}");
    let waiting = call(&till, Method::GET, &path, None);
    let other = net.till_in("office");
    let happens = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let body = json!({ "request_id": "back", "amount": yen(2) });
        post(&other, &format!("/v1/payments/{}/refunds", sent[0]), body).await
    };
    let began = Instant::now();
    let ((_, page), (status, _)) = tokio::join!(waiting, happens);
    assert_eq!((status, &page["events"][0]["kind"]), (200, &json!("refunded")));
    assert!(began.elapsed() < Duration::from_secs(20), "the wait was not cut short");
}
