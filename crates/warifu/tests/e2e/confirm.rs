//! The payer's word through all parties: a till asks for more than the credential's limit, the issuer asks the payer
//! through the hub, and what the payer says decides.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use warifu_proto::message::{Payment, PaymentStatus};

use crate::harness::{Network, PATIENCE, Process, Till, json_of, payment, wish};

/// A phone whose payer is asked above 10,000 yen; its account.
fn phone(net: &Network) -> String {
    let (account, invitation) = net.invite(50_000);
    json_of(
        net.path(),
        &["issuer", "account", "limit", &account, "--confirm-above", "10000", "--dir", "aoba"],
    );
    json_of(net.path(), &["terminal", "link", &invitation, "--dir", "phone"]);
    account
}

fn code(net: &Network) -> String {
    let shown = json_of(net.path(), &["terminal", "show", "--once", "--dir", "phone"]);
    shown["code"].as_str().unwrap().to_owned()
}

/// A terminal that listens and answers every question in the same way.
fn watch(net: &Network, says: &str) -> (Process, Lines<BufReader<ChildStdout>>) {
    let mut watch = Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args(["--json", "terminal", "watch", "--confirm", says, "--dir", "phone"])
        .current_dir(net.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    (Process(watch), lines)
}

/// The payment when it does not wait any more.
async fn decided(till: &Till, request: &str, code: &str) -> Payment {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = payment(&till.ask(request, code.get(..10).unwrap()).await.unwrap());
        if now.status != PaymentStatus::AwaitingPayer {
            return now;
        }
        assert!(Instant::now() < until, "the payer's word decides nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The next object of an event.
fn next(lines: &mut Lines<BufReader<ChildStdout>>, event: &str) -> Value {
    loop {
        let object: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if object["event"] == event {
            return object;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_payment_waits_for_the_payers_yes() {
    let net = Network::start();
    let till = net.till();
    net.wait_for_till(&till).await;
    phone(&net);
    let small = code(&net);
    let paid = payment(&till.pay(&wish("small", &small, 10_000)).await.unwrap());
    assert_eq!(paid.status, PaymentStatus::Approved, "not above the limit");

    let (_watch, mut lines) = watch(&net, "yes");
    let large = code(&net);
    let asked = payment(&till.pay(&wish("large", &large, 12_000)).await.unwrap());
    assert!(matches!(asked.status, PaymentStatus::AwaitingPayer | PaymentStatus::Approved));
    let paid = decided(&till, "large", &large).await;
    assert_eq!(paid.status, PaymentStatus::Approved);
    assert_eq!(paid.payment_id, asked.payment_id);

    let question = next(&mut lines, "question");
    assert_eq!(question["notice"]["payment_id"], asked.payment_id.to_string());
    assert_eq!(question["notice"]["merchant"]["name"], "Aoba Bakery");
    assert_eq!(question["notice"]["amount"]["minor"], 12_000);
    let notice = next(&mut lines, "notice");
    assert_eq!(notice["notice"]["kind"], "paid");
    assert_eq!(notice["notice"]["balance"]["minor"], 28_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_declines_it_and_later_words_change_nothing() {
    let net = Network::start();
    let till = net.till();
    net.wait_for_till(&till).await;
    phone(&net);
    let (_watch, _lines) = watch(&net, "no");
    let large = code(&net);
    let asked = payment(&till.pay(&wish("large", &large, 12_000)).await.unwrap());
    let declined = decided(&till, "large", &large).await;
    assert_eq!(declined.status, PaymentStatus::Declined);
    assert_eq!(declined.rejection.unwrap().code, "payer_refused");
    let id = asked.payment_id.to_string();
    let (code, _, stderr) =
        crate::harness::warifu(net.path(), &["terminal", "confirm", &id, "--dir", "phone"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("refused before"), "{stderr}");
    assert_eq!(decided(&till, "large", &large).await.status, PaymentStatus::Declined);
}
