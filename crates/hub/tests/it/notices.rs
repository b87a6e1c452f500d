//! Notices: stored, in order, until acknowledged, one stream a terminal.

use axum::http::Method;
use futures_util::StreamExt as _;
use serde_json::json;
use warifu_proto::message::SealedNotice;
use warifu_server::client::Events;

use crate::harness::{Issuer, PATIENCE, Terminal, code_of, hub_and_issuer, to_json};

/// The next notice of a stream.
pub(crate) async fn next(events: &mut Events) -> SealedNotice {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.event, "notice");
    let notice: SealedNotice = serde_json::from_str(&event.data).unwrap();
    assert_eq!(event.id, Some(notice.number.to_string()));
    notice
}

/// The stream ends.
async fn ends(events: &mut Events) {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap();
    assert!(event.is_none_or(|it| it.is_err()));
}

#[tokio::test]
async fn notices_come_in_order_and_stay_until_acknowledged() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    for number in 1..=3 {
        let answer = issuer.notice(&hub, &terminal, number, 1).await;
        assert_eq!(answer.status, 200, "{}", code_of(&answer));
        assert_eq!(answer.json::<serde_json::Value>().unwrap(), json!({"status": "stored"}));
    }
    assert_eq!(issuer.notice(&hub, &terminal, 2, 1).await.status, 200);
    assert_eq!(code_of(&issuer.notice(&hub, &terminal, 2, 9).await), "conflict");

    let mut events = terminal.events(&hub, None).await;
    for number in 1..=3 {
        let notice = next(&mut events).await;
        assert_eq!((notice.number, notice.credential_id), (number, terminal.credential));
        assert_eq!(notice.sealed, [1; 40]);
    }
    // What comes while somebody listens is sent at once.
    assert_eq!(issuer.notice(&hub, &terminal, 4, 1).await.status, 200);
    assert_eq!(next(&mut events).await.number, 4);
    drop(events);

    // Nothing was acknowledged: all again. Then up to 2, then all.
    let mut events = terminal.events(&hub, None).await;
    assert_eq!(next(&mut events).await.number, 1);
    let mut events = terminal.events(&hub, Some("2")).await;
    assert_eq!(next(&mut events).await.number, 3);
    assert_eq!(issuer.notice(&hub, &terminal, 1, 1).await.status, 200, "delivered already");
    let mut events = terminal.events(&hub, Some("4")).await;
    assert_eq!(issuer.notice(&hub, &terminal, 5, 1).await.status, 200);
    assert_eq!(next(&mut events).await.number, 5);
    let bad = terminal.actor.client.events(&hub.peer, "/v1/events", Some("x"), PATIENCE, PATIENCE);
    assert!(bad.await.is_err());
    hub.stop().await;
}

#[tokio::test]
async fn two_terminals_have_their_own_streams_and_a_newer_one_ends_the_older() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let (one, two) =
        (Terminal::linked("71000001", &hub).await, Terminal::linked("71000001", &hub).await);
    let (mut of_one, mut of_two) = (one.events(&hub, None).await, two.events(&hub, None).await);
    assert_eq!(issuer.notice(&hub, &one, 1, 1).await.status, 200);
    assert_eq!(issuer.notice(&hub, &two, 1, 2).await.status, 200);
    assert_eq!(next(&mut of_one).await.credential_id, one.credential);
    assert_eq!(next(&mut of_two).await.credential_id, two.credential);

    let mut newer = one.events(&hub, Some("1")).await;
    ends(&mut of_one).await;
    assert_eq!(issuer.notice(&hub, &one, 2, 1).await.status, 200);
    assert_eq!(next(&mut newer).await.number, 2);
    assert_eq!(one.unlink(&hub).await.status, 200);
    ends(&mut newer).await;
    // A stop ends the rest instead of waiting for it.
    hub.stop().await;
    ends(&mut of_two).await;
}

#[tokio::test]
async fn only_the_credentials_own_active_issuer_leaves_notices() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let other = Issuer::start(&network, "71000002").await;
    assert_eq!(code_of(&other.notice_by_key(&hub, &terminal, 1).await), "key_unknown");
    hub.publish(&[other.entry(&network, 1, "active")]).await;
    assert_eq!(code_of(&other.notice(&hub, &terminal, 1, 1).await), "credential_unknown");
    hub.publish(&[issuer.entry(&network, 2, "suspended")]).await;
    assert_eq!(code_of(&issuer.notice(&hub, &terminal, 1, 1).await), "forbidden");
    hub.publish(&[issuer.entry(&network, 3, "active")]).await;
    assert_eq!(issuer.notice(&hub, &terminal, 1, 1).await.status, 200);

    // A terminal is no issuer, an issuer no terminal.
    let body = to_json(&json!({"credential_id": terminal.credential, "number": 2,
        "notice_id": "ntc_00000000000000000000000000", "sealed": warifu_proto::base64url::encode([1; 40])}));
    let answer = terminal.actor.call(&hub, Method::POST, "/v1/notices", Some(body)).await;
    assert_eq!(code_of(&answer), "forbidden");
    let answer = issuer.actor.call(&hub, Method::GET, "/v1/events", None).await;
    assert_eq!(code_of(&answer), "credential_unknown");

    for (number, sealed) in [(0, 40), (u64::MAX, 40), (2, 27), (2, 4097)] {
        let body = to_json(&json!({"credential_id": terminal.credential, "number": number,
            "notice_id": "ntc_00000000000000000000000000",
            "sealed": warifu_proto::base64url::encode(vec![1; sealed])}));
        let answer = issuer.actor.call(&hub, Method::POST, "/v1/notices", Some(body)).await;
        assert_eq!(code_of(&answer), "malformed", "{number} {sealed}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn many_notices_in_one_call_have_an_answer_each() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let stranger = "crd_00000000000000000000000000";
    let notice = |credential: &str, number: u64, text: u8| {
        let id = format!("ntc_{number:026}");
        json!({"credential_id": credential, "number": number, "notice_id": id,
            "sealed": warifu_proto::base64url::encode([text; 40])})
    };
    let mine = terminal.credential.to_string();
    let batch = |notices: Vec<serde_json::Value>| Some(to_json(&json!({ "notices": notices })));
    let path = "/v1/notices/batch";
    let body = batch(vec![
        notice(&mine, 1, 1),
        notice(stranger, 1, 1),
        notice(&mine, 2, 1),
        notice(&mine, 1, 2),
        notice(&mine, 1, 1),
    ]);
    let answer = issuer.actor.call(&hub, Method::POST, path, body).await;
    assert_eq!(answer.status, 200);
    let results = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap();
    let expected = ["stored", "credential_unknown", "stored", "conflict", "stored"];
    assert_eq!(results["results"], json!(expected));

    // A wrong one refuses the call, and nothing of it is there.
    for wrong in [vec![], vec![notice(&mine, 3, 1), notice(&mine, 0, 1)]] {
        let answer = issuer.actor.call(&hub, Method::POST, path, batch(wrong)).await;
        assert_eq!(code_of(&answer), "malformed");
    }
    let many = (3..68).map(|number| notice(&mine, number, 1)).collect();
    let answer = issuer.actor.call(&hub, Method::POST, path, batch(many)).await;
    assert_eq!(code_of(&answer), "malformed");
    let answer =
        terminal.actor.call(&hub, Method::POST, path, batch(vec![notice(&mine, 3, 1)])).await;
    assert_eq!(code_of(&answer), "forbidden");
    let answer =
        issuer.actor.call(&hub, Method::POST, path, batch(vec![notice(&mine, 3, 9)])).await;
    assert_eq!(answer.status, 200, "nothing of the refused calls is there");
    hub.stop().await;
}

#[tokio::test]
async fn an_issuer_fills_its_own_share_and_nobody_elses() {
    let (network, hub, full) = hub_and_issuer(|config| {
        config.links_max = 2;
        config.notice_bytes_max = 100;
    })
    .await;
    let other = Issuer::start(&network, "71000002").await;
    hub.publish(&[other.entry(&network, 1, "active")]).await;
    let terminals =
        [Terminal::linked("71000001", &hub).await, Terminal::linked("71000001", &hub).await];
    let refused = Terminal::new("71000001").try_link(&hub).await;
    assert_eq!((refused.status.as_u16(), code_of(&refused).as_str()), (503, "not_accepted"));
    assert_eq!(refused.headers["retry-after"], "60");
    assert_eq!(full.seen("link").len(), 2, "refused before the issuer acts");
    assert_eq!(terminals[0].try_link(&hub).await.status, 201, "a repeat is no more of them");
    let elsewhere = Terminal::linked("71000002", &hub).await;

    // 40 bytes each: the third passes the bound, what comes then waits.
    for number in 1..=3 {
        assert_eq!(full.notice(&hub, &terminals[0], number, 1).await.status, 200);
    }
    for terminal in &terminals {
        let answer = full.notice(&hub, terminal, 4, 1).await;
        assert_eq!((answer.status.as_u16(), code_of(&answer).as_str()), (429, "too_many_requests"));
        assert_eq!(answer.headers["retry-after"], "10");
    }
    assert_eq!(other.notice(&hub, &elsewhere, 1, 1).await.status, 200);
    let mut events = terminals[0].events(&hub, Some("2")).await;
    assert_eq!(next(&mut events).await.number, 3);
    assert_eq!(full.notice(&hub, &terminals[0], 4, 1).await.status, 200);
    assert_eq!(next(&mut events).await.number, 4);
    drop(events);

    // Who is gone makes room for another only when the hub has forgotten the link, a day later.
    assert_eq!(terminals[1].unlink(&hub).await.status, 200);
    assert_eq!(code_of(&Terminal::new("71000001").try_link(&hub).await), "not_accepted");
    hub.stop().await;
}
