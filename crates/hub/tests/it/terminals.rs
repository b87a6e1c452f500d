//! Links and registrations: what is carried, what is refused, and what an issuer that is away costs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::Value;
use warifu_proto::code::{Locator, Prefix};
use warifu_proto::id::{CredentialId, PaymentId};
use warifu_proto::message::{CodeAnswer, CodeRequest, LinkAnswer, UnlinkAnswer};
use warifu_proto::notice::Verdict;
use warifu_proto::problem::ProblemCode;
use warifu_proto::registration::Statement;
use warifu_server::client::Answer;
use warifu_server::{chance, clock};

use crate::harness::{
    Actor, Issuer, PATIENCE, Terminal, code_of, hub_and_issuer, hub_entry, to_json,
};

#[tokio::test]
async fn a_terminal_links_and_its_registration_reaches_the_issuer_as_it_is() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    assert_eq!(issuer.seen("link"), [to_json(&terminal.link_request())]);
    let again = terminal.try_link(&hub).await;
    assert_eq!(again.json::<LinkAnswer>().unwrap().credential_id, terminal.credential);

    let statement = terminal.statement();
    // Whatever the JSON looks like: the very bytes arrive.
    let registration = statement.sign(&terminal.actor.key).encode();
    let registration = warifu_proto::base64url::encode(registration);
    let body = format!("{{ \"registration\" :\n \"{registration}\" }}").into_bytes();
    let answer = hub.unsigned(Method::POST, "/v1/codes", Some(body.clone())).await;
    assert_eq!(answer.status, 201, "{}", code_of(&answer));
    assert_eq!(answer.json::<CodeAnswer>().unwrap().ack, [5; 16]);
    assert_eq!(issuer.seen("code"), [body]);

    // What the issuer refuses is the issuer's word, passed on.
    *issuer.script.refusal.lock().unwrap() = Some(ProblemCode::SequenceUsed);
    let refused = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!((refused.status.as_u16(), code_of(&refused).as_str()), (422, "sequence_used"));
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    hub.stop().await;
}

#[tokio::test]
async fn the_hub_judges_what_it_can_judge() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let good = terminal.statement();
    let other = Terminal::new("71000001");

    let forged = good.sign(&other.actor.key).encode();
    let body = to_json(&CodeRequest { registration: forged });
    let answer = hub.unsigned(Method::POST, "/v1/codes", Some(body)).await;
    assert_eq!((answer.status.as_u16(), code_of(&answer).as_str()), (401, "signature_invalid"));

    let wrong = async |statement: Statement| code_of(&terminal.register(&hub, &statement).await);
    let unlinked = Statement { credential: CredentialId::from_raw([9; 16]), ..good.clone() };
    assert_eq!(wrong(unlinked).await, "credential_unknown");
    let foreign = Statement { prefix: Prefix::parse("71000002").unwrap(), ..good.clone() };
    assert_eq!(wrong(foreign).await, "issuer_unknown");
    let elsewhere = Statement { locator: Locator::from_number(81_234).unwrap(), ..good.clone() };
    assert_eq!(wrong(elsewhere).await, "registration_mismatch");

    let mut version = good.sign(&terminal.actor.key).encode();
    version[0] = 2;
    let body = to_json(&CodeRequest { registration: version });
    let answer = hub.unsigned(Method::POST, "/v1/codes", Some(body)).await;
    assert_eq!(code_of(&answer), "registration_malformed");
    for body in [r#"{"registration":"AAAA"}"#, r#"{"registration":1}"#, r#"{"x":1}"#, "["] {
        let answer = hub.unsigned(Method::POST, "/v1/codes", Some(body.into())).await;
        assert_eq!(code_of(&answer), "malformed", "{body}");
    }
    assert_eq!(issuer.seen("code").len(), 0);
    hub.stop().await;
}

#[tokio::test]
async fn links_are_refused_before_they_cost_an_invitation() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let stray = Terminal::new("72000001").try_link(&hub).await;
    assert_eq!((stray.status.as_u16(), code_of(&stray).as_str()), (404, "issuer_unknown"));

    // Signed by another known key than the one it carries.
    let linked = Terminal::linked("71000001", &hub).await;
    let body = to_json(&Terminal::new("71000001").link_request());
    let answer = linked.actor.call_by_key(&hub, Method::POST, "/v1/links", Some(body)).await;
    assert_eq!(code_of(&answer), "signature_invalid");

    // One key, one link.
    let second =
        Terminal { actor: Actor::with_key(linked.actor.key.clone()), ..Terminal::new("71000001") };
    assert_eq!(code_of(&second.try_link(&hub).await), "conflict");
    assert_eq!(issuer.seen("link").len(), 1);

    // A suspension is in force with the next call, without a restart.
    hub.publish(&[issuer.entry(&network, 2, "suspended")]).await;
    let suspended = Terminal::new("71000001").try_link(&hub).await;
    assert_eq!(code_of(&suspended), "issuer_unknown");
    assert!(suspended.problem().unwrap().detail.contains("suspended"));
    assert_eq!(code_of(&linked.register(&hub, &linked.statement()).await), "issuer_unknown");
    hub.publish(&[issuer.entry(&network, 3, "active")]).await;
    assert_eq!(linked.register(&hub, &linked.statement()).await.status, 201);
    hub.stop().await;
}

#[tokio::test]
async fn an_unlinked_terminal_can_do_nothing_but_unlink_again() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let other = Terminal::linked("71000001", &hub).await;
    let path = format!("/v1/links/{}", terminal.credential);
    let body = to_json(
        &serde_json::json!({"at_ms": 1, "signature": warifu_proto::base64url::encode([1; 64])}),
    );
    let foreign = other.actor.call(&hub, Method::DELETE, &path, Some(body.clone())).await;
    assert_eq!(code_of(&foreign), "credential_unknown");
    let unsigned = terminal.actor.call(&hub, Method::DELETE, &path, Some(body)).await;
    assert_eq!(code_of(&unsigned), "signature_invalid");
    assert_eq!(issuer.seen("unlink").len(), 0);

    for _ in 0..2 {
        let answer = terminal.unlink(&hub).await;
        assert_eq!(answer.status, 200, "{}", code_of(&answer));
        let answer: UnlinkAnswer = answer.json().unwrap();
        assert_eq!(answer.credential_id, terminal.credential);
    }
    assert_eq!(issuer.seen("unlink").len(), 1);
    let registered = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!(code_of(&registered), "credential_unknown");
    assert_eq!(code_of(&issuer.notice(&hub, &terminal, 1, 1).await), "credential_unknown");
    let events = terminal.actor.call(&hub, Method::GET, "/v1/events", None).await;
    assert_eq!(code_of(&events), "credential_unknown");
    hub.stop().await;

    let hub = network.start().await;
    let registered = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!(code_of(&registered), "credential_unknown");
    assert_eq!(terminal.unlink(&hub).await.status, 200);
    hub.stop().await;
}

#[tokio::test]
async fn a_link_that_the_issuer_has_ended_is_ended_here() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    *issuer.script.refusal.lock().unwrap() = Some(ProblemCode::CredentialUnknown);
    assert_eq!(code_of(&terminal.unlink(&hub).await), "credential_unknown");
    *issuer.script.refusal.lock().unwrap() = None;
    let registered = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!(code_of(&registered), "credential_unknown");
    assert_eq!(issuer.seen("code").len(), 0);
    hub.stop().await;
}

#[tokio::test]
async fn registrations_are_rationed_and_repeats_are_free() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let first = terminal.statement();
    assert_eq!(terminal.register(&hub, &first).await.status, 201);
    for _ in 1..5 {
        assert_eq!(terminal.register(&hub, &terminal.statement()).await.status, 201);
    }
    let refused = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!(code_of(&refused), "too_many_requests");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait));
    for _ in 0..5 {
        assert_eq!(terminal.register(&hub, &first).await.status, 201);
    }
    assert_eq!(issuer.seen("code").len(), 10);
    let other = Terminal::linked("71000001", &hub).await;
    assert_eq!(other.register(&hub, &other.statement()).await.status, 201);
    hub.stop().await;
}

#[tokio::test]
async fn an_issuer_that_is_away_is_refused_at_once_and_found_again() {
    let (_network, hub, mut issuer) = hub_and_issuer(|config| {
        config.breaker_failures = 3;
        config.breaker_open_ms = 1_500;
    })
    .await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let statement = terminal.statement();
    assert_eq!(terminal.register(&hub, &statement).await.status, 201);
    issuer.go_away().await;
    for _ in 0..3 {
        let answer = terminal.register(&hub, &statement).await;
        assert_eq!(
            (answer.status.as_u16(), code_of(&answer).as_str()),
            (503, "issuer_unavailable")
        );
    }
    // Open: nobody waits, and the answer says when to come back.
    let begun = Instant::now();
    let answer = terminal.register(&hub, &statement).await;
    assert_eq!(code_of(&answer), "issuer_unavailable");
    assert!(answer.problem().unwrap().detail.contains("nothing was sent"));
    assert!(["1", "2"].contains(&answer.headers["retry-after"].to_str().unwrap()));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    issuer.come_back().await;
    let begun = Instant::now();
    while terminal.register(&hub, &statement).await.status != 201 {
        assert!(begun.elapsed() < PATIENCE, "the breaker never closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_slow_issuer_is_given_up_at_the_deadline() {
    let (_network, hub, issuer) = hub_and_issuer(|config| config.forward_deadline_ms = 300).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    issuer.script.delay_ms.store(30_000, Ordering::Relaxed);
    let begun = Instant::now();
    let answer = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!((answer.status.as_u16(), code_of(&answer).as_str()), (503, "issuer_unavailable"));
    assert!(answer.problem().unwrap().detail.contains("outcome is unknown"));
    assert!((Duration::from_millis(300)..Duration::from_secs(15)).contains(&begun.elapsed()));
    hub.stop().await;
}

#[tokio::test]
async fn one_slow_issuer_takes_its_own_room_only() {
    let (network, hub, slow) = hub_and_issuer(|config| config.forward_in_flight_max = 2).await;
    let quick = Issuer::start(&network, "71000002").await;
    hub.publish(&[quick.entry(&network, 1, "active")]).await;
    let terminals = [
        Terminal::linked("71000001", &hub).await,
        Terminal::linked("71000001", &hub).await,
        Terminal::linked("71000001", &hub).await,
    ];
    let elsewhere = Terminal::linked("71000002", &hub).await;
    slow.script.delay_ms.store(2_000, Ordering::Relaxed);
    let register = async |terminal: &Terminal| {
        let answer = terminal.register(&hub, &terminal.statement()).await;
        (answer.status.as_u16(), code_of(&answer))
    };
    let late = async |terminal: &Terminal| {
        while slow.seen("code").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        register(terminal).await
    };
    let [one, two, three] = &terminals;
    let (first, second, third, other) =
        tokio::join!(register(one), register(two), late(three), late(&elsewhere));
    assert_eq!((first.0, second.0), (201, 201));
    assert_eq!((third.0, third.1.as_str()), (503, "not_accepted"));
    assert_eq!(other.0, 201);
    hub.stop().await;
}

#[tokio::test]
async fn an_issuer_that_does_not_know_the_hub_is_not_the_terminals_fault() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    *issuer.script.refusal.lock().unwrap() = Some(ProblemCode::KeyUnknown);
    let answer = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!((answer.status.as_u16(), code_of(&answer).as_str()), (503, "issuer_unavailable"));

    // An answer by somebody else than the issuer is no answer.
    *issuer.script.refusal.lock().unwrap() = None;
    let mut posing = Issuer::start(&network, "71000001").await;
    posing.id = issuer.id;
    let mut entry: Value =
        serde_json::from_slice(&issuer.entry(&network, 2, "active").body).unwrap();
    entry["endpoints"][0]["url"] = format!("http://{}", posing.addr).into();
    let entry = network.entry(warifu_proto::directory::EntryKind::Issuer, entry);
    assert_eq!(hub.publish(&[entry, hub_entry(&network)]).await["taken"], 2);
    let answer = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!((answer.status.as_u16(), code_of(&answer).as_str()), (503, "issuer_unavailable"));
    hub.stop().await;
}

#[tokio::test]
async fn an_issuer_cannot_take_the_credential_of_another() {
    let (network, hub, honest) = hub_and_issuer(|_| {}).await;
    let greedy = Issuer::start(&network, "71000002").await;
    hub.publish(&[greedy.entry(&network, 1, "active")]).await;
    let victim = Terminal::linked("71000001", &hub).await;
    let accomplice = Terminal::new("71000002");
    greedy.claims(accomplice.actor.key.thumbprint(), victim.credential);
    assert_eq!(code_of(&accomplice.try_link(&hub).await), "conflict");
    assert_eq!(victim.register(&hub, &victim.statement()).await.status, 201);
    assert_eq!(code_of(&greedy.notice(&hub, &victim, 1, 1).await), "credential_unknown");
    assert_eq!(honest.notice(&hub, &victim, 1, 1).await.status, 200);
    hub.stop().await;
}

#[tokio::test]
async fn who_hangs_up_in_the_middle_is_linked_and_unlinked_all_the_same() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let database = rusqlite::Connection::open(network.folder.path().join("data/hub.db")).unwrap();
    let credential: CredentialId = chance::id(clock::now());
    let terminal = Terminal { credential, ..Terminal::new("71000001") };
    issuer.claims(terminal.actor.key.thumbprint(), credential);
    // The issuer has answered, the hub's write waits for the disk: here the caller goes away.
    let hang_up = async |what: &str, call: &mut (dyn Future<Output = Answer> + Unpin)| {
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        let gone = async {
            while issuer.seen(what).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        tokio::select! {
            answer = call => panic!("{}", answer.status),
            () = gone => {}
        }
    };
    let noted = async |status: u16| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        database.execute_batch("COMMIT").unwrap();
        let begun = Instant::now();
        while terminal.register(&hub, &terminal.statement()).await.status != status {
            assert!(begun.elapsed() < PATIENCE, "the hub never heard of it");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    hang_up("link", &mut Box::pin(terminal.try_link(&hub))).await;
    noted(201).await;
    hang_up("unlink", &mut Box::pin(terminal.unlink(&hub))).await;
    noted(404).await;
    hub.stop().await;
}

#[tokio::test]
async fn one_payers_repeats_take_four_places_and_no_more() {
    let (_network, hub, issuer) =
        hub_and_issuer(|config| config.forward_deadline_ms = 20_000).await;
    let greedy = Terminal::linked("71000001", &hub).await;
    let other = Terminal::linked("71000001", &hub).await;
    let (statement, others_statement) = (greedy.statement(), other.statement());
    issuer.script.delay_ms.store(3_000, Ordering::Relaxed);
    let flood = (0..20).map(|_| greedy.register(&hub, &statement));
    let (answers, others, word) = tokio::join!(
        futures_util::future::join_all(flood),
        other.register(&hub, &others_statement),
        greedy.confirm(&hub, PaymentId::from_raw([7; 16]), Verdict::Confirm),
    );
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 201);
    assert_eq!((taken.len(), refused.len()), (4, 16));
    for answer in refused {
        assert_eq!((answer.status.as_u16(), code_of(answer).as_str()), (429, "too_many_requests"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!((others.status.as_u16(), word.status.as_u16()), (201, 200));
    // What is over holds no place, and it was no statement of its own.
    issuer.script.delay_ms.store(0, Ordering::Relaxed);
    for _ in 0..5 {
        assert_eq!(greedy.register(&hub, &statement).await.status, 201);
    }
    for _ in 0..4 {
        assert_eq!(greedy.register(&hub, &greedy.statement()).await.status, 201);
    }
    hub.stop().await;
}
