//! The payer's word: carried as it is to the credential's own issuer, of the linked terminal only.

use axum::http::Method;
use serde_json::Value;
use warifu_proto::id::PaymentId;
use warifu_proto::message::ConfirmationAnswer;
use warifu_proto::notice::Verdict;
use warifu_proto::problem::ProblemCode;

use crate::harness::{Issuer, Terminal, code_of, hub_and_issuer, to_json};

const PAYMENT: PaymentId = PaymentId::from_raw([7; 16]);

#[tokio::test]
async fn a_word_reaches_the_issuer_as_it_is_and_the_first_one_stands() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let word = terminal.word(PAYMENT, Verdict::Confirm);
    // Whatever the JSON looks like: the very bytes arrive.
    let body = [b" ".as_slice(), &word, b"\n"].concat();
    let path = "/v1/confirmations";
    let answer = terminal.actor.call(&hub, Method::POST, path, Some(body.clone())).await;
    assert_eq!(answer.status, 200, "{}", code_of(&answer));
    let stands = ConfirmationAnswer { payment_id: PAYMENT, verdict: Verdict::Confirm };
    assert_eq!(answer.json::<ConfirmationAnswer>().unwrap(), stands);
    assert_eq!(issuer.seen("confirmation"), [body]);

    // A repeat, signed by the key itself this time, and a change of mind.
    let again = terminal.actor.call_by_key(&hub, Method::POST, path, Some(word)).await;
    assert_eq!(again.json::<ConfirmationAnswer>().unwrap(), stands);
    let other = terminal.confirm(&hub, PAYMENT, Verdict::Refuse).await;
    assert_eq!(other.json::<ConfirmationAnswer>().unwrap(), stands, "the issuer's word, not ours");
    hub.stop().await;
}

#[tokio::test]
async fn only_the_linked_terminal_is_heard() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let other = Terminal::linked("71000001", &hub).await;
    let path = "/v1/confirmations";
    let word = Some(terminal.word(PAYMENT, Verdict::Confirm));
    let foreign = other.actor.call(&hub, Method::POST, path, word.clone()).await;
    assert_eq!((foreign.status.as_u16(), code_of(&foreign).as_str()), (404, "credential_unknown"));
    let servers = issuer.actor.call(&hub, Method::POST, path, word.clone()).await;
    assert_eq!(code_of(&servers), "credential_unknown");
    assert_eq!(code_of(&hub.unsigned(Method::POST, path, word.clone()).await), "unsigned");

    let mut extra: Value = serde_json::from_slice(&word.clone().unwrap()).unwrap();
    extra["amount"] = 1.into();
    let told = terminal.actor.call(&hub, Method::POST, path, Some(to_json(&extra))).await;
    assert_eq!(code_of(&told), "malformed", "the hub is told of no amounts");
    for (field, bad) in [("verdict", "maybe"), ("payment_id", "pay_1"), ("signature", "AAAA")] {
        let mut body: Value = serde_json::from_slice(&word.clone().unwrap()).unwrap();
        body[field] = bad.into();
        let answer = terminal.actor.call(&hub, Method::POST, path, Some(to_json(&body))).await;
        assert_eq!(code_of(&answer), "malformed", "{field}");
    }

    assert_eq!(terminal.unlink(&hub).await.status, 200);
    let ended = terminal.actor.call(&hub, Method::POST, path, word).await;
    assert_eq!(code_of(&ended), "credential_unknown");
    assert_eq!(issuer.seen("confirmation").len(), 0);
    hub.stop().await;
}

#[tokio::test]
async fn words_are_rationed_apart_from_codes_and_repeats_are_free() {
    let (_network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    for _ in 0..5 {
        assert_eq!(terminal.register(&hub, &terminal.statement()).await.status, 201);
    }
    let payment = |number: u8| PaymentId::from_raw([number; 16]);
    for number in 0..5 {
        for _ in 0..2 {
            let answer = terminal.confirm(&hub, payment(number), Verdict::Confirm).await;
            assert_eq!(answer.status, 200, "{}", code_of(&answer));
        }
    }
    let refused = terminal.confirm(&hub, payment(9), Verdict::Refuse).await;
    assert_eq!(code_of(&refused), "too_many_requests");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait));
    assert_eq!(terminal.confirm(&hub, payment(4), Verdict::Confirm).await.status, 200);
    assert_eq!(issuer.seen("confirmation").len(), 11);
    hub.stop().await;
}

#[tokio::test]
async fn an_issuers_problem_is_passed_on_and_an_absence_is_said() {
    let (network, hub, mut issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let confirm = async || {
        let answer = terminal.confirm(&hub, PAYMENT, Verdict::Confirm).await;
        (answer.status.as_u16(), code_of(&answer))
    };
    for code in [
        ProblemCode::NotFound,
        ProblemCode::PaymentState,
        ProblemCode::CredentialUnknown,
        // Only the issuer can judge the word's own signature, so this is about the terminal.
        ProblemCode::SignatureInvalid,
    ] {
        *issuer.script.refusal.lock().unwrap() = Some(code);
        assert_eq!(confirm().await, (code.status(), code.name().to_owned()));
    }
    *issuer.script.refusal.lock().unwrap() = Some(ProblemCode::KeyUnknown);
    assert_eq!(confirm().await, (503, "issuer_unavailable".to_owned()), "that is about the hub");
    *issuer.script.refusal.lock().unwrap() = None;
    assert_eq!(confirm().await.0, 200);

    issuer.go_away().await;
    assert_eq!(confirm().await, (503, "issuer_unavailable".to_owned()));
    hub.publish(&[issuer.entry(&network, 2, "suspended")]).await;
    assert_eq!(confirm().await, (404, "issuer_unknown".to_owned()));
    hub.stop().await;
}

#[tokio::test]
async fn an_answer_by_somebody_else_than_the_issuer_is_not_believed() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    let mut posing = Issuer::start(&network, "71000001").await;
    posing.id = issuer.id;
    let mut entry: Value =
        serde_json::from_slice(&issuer.entry(&network, 2, "active").body).unwrap();
    entry["endpoints"][0]["url"] = format!("http://{}", posing.addr).into();
    let entry = network.entry(warifu_proto::directory::EntryKind::Issuer, entry);
    assert_eq!(hub.publish(&[entry]).await["taken"], 1);
    let answer = terminal.confirm(&hub, PAYMENT, Verdict::Confirm).await;
    assert_eq!((answer.status.as_u16(), code_of(&answer).as_str()), (503, "issuer_unavailable"));
    hub.stop().await;
}
