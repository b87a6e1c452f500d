//! `warifu reader serve` from outside: the built program, a real hub, and an issuer whose answers can be made to fail.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod issuer;
mod rig;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use issuer::Mood;
use rig::{CODE, Rig, warifu};

const PATIENCE: Duration = Duration::from_secs(60);

fn sale(order: &str, code: &str, minor: u64) -> Value {
    json!({"order_id": order, "code": code, "amount": {"minor": minor, "currency": "JPY"}, "deadline_ms": 1000})
}

#[track_caller]
fn result(answer: &(u16, Value)) -> &str {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1["result"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_paid_once_whatever_is_asked_again() {
    let rig = Rig::start().await;
    let agent = rig.agent();
    let first = agent.post("/pay", &sale("A-1", CODE, 1200)).await;
    assert_eq!(result(&first), "approved");
    assert_eq!((&first.1["paid"], &first.1["attempts"]), (&json!(true), &json!(1)));
    assert!(first.1["cashier"].as_str().unwrap().contains("Paid"));
    // Again, and with another code: the payment that was made.
    let again = agent.post("/pay", &sale("A-1", "710000010728921840110799", 1200)).await;
    assert_eq!(again.1["payment"]["payment_id"], first.1["payment"]["payment_id"]);
    assert_eq!(rig.issuer.payments(), 1);
    let (status, other) = agent.post("/pay", &sale("A-1", CODE, 1300)).await;
    assert_eq!((status, &other["error"]), (409, &json!("order_paid")));
    assert_eq!(other["paid_amount"]["minor"], 1200);
    assert_eq!(other["asked_amount"]["minor"], 1300);

    // Two tills' worth of impatience: one attempt, one outcome.
    rig.issuer.set(Mood::Slow(Duration::from_millis(500)));
    let body = sale("A-2", CODE, 700);
    let mut wrong = sale("A-2", CODE, 701);
    wrong["description"] = json!("Two loaves");
    let (one, two, three) =
        tokio::join!(agent.post("/pay", &body), agent.post("/pay", &body), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            agent.post("/pay", &wrong).await
        });
    assert_eq!(one.1["request_id"], two.1["request_id"]);
    assert_eq!((three.0, &three.1["error"]), (409, &json!("in_progress")));
    assert_eq!(rig.issuer.payments(), 2);

    // A declined attempt is in nobody's way.
    rig.issuer.set(Mood::Decline);
    assert_eq!(result(&agent.post("/pay", &sale("A-3", CODE, 500)).await), "declined");
    rig.issuer.set(Mood::Good);
    let paid = agent.post("/pay", &sale("A-3", CODE, 500)).await;
    assert_eq!((result(&paid), &paid.1["attempts"]), ("approved", &json!(2)));
    let (_, order) = agent.get("/orders/A-3").await;
    assert_eq!(order["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(order["paid"], true);
    let (_, recent) = agent.get("/recent").await;
    assert_eq!(recent["sales"][0]["order_id"], "A-3");
    assert_eq!(recent["sales"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_answer_is_reversed_and_the_agent_goes_on_until_it_is() {
    let mut rig = Rig::start().await;
    let agent = rig.agent();
    // The payment is made, and its answer is lost.
    rig.issuer.set(Mood::LosePayments);
    let began = Instant::now();
    let answer = agent.post("/pay", &sale("B-1", CODE, 1200)).await;
    assert_eq!(result(&answer), "reversed");
    assert_eq!(answer.1["paid"], false);
    assert_eq!(rig.issuer.effects(), 0);

    // Nothing comes back at all.
    rig.issuer.set(Mood::Silent);
    let answer = agent.post("/pay", &sale("B-2", CODE, 1200)).await;
    assert_eq!(result(&answer), "reversing");
    assert!(began.elapsed() < Duration::from_secs(15), "by the deadline and its grace");
    let (_, health) = agent.get("/health").await;
    assert_eq!((&health["state"], &health["unresolved"]), (&json!("degraded"), &json!(1)));
    let metrics = agent.text("/metrics").await;
    assert!(metrics.contains("warifu_reader_unresolved 1"), "{metrics}");
    assert!(metrics.contains("warifu_reader_oldest_unresolved_age_seconds "), "{metrics}");
    assert!(metrics.contains("warifu_reader_attempts_total{result=\"reversing\"} 1"), "{metrics}");

    // A power cut in the middle: another agent goes on, and ends it when the issuer is back. A new try of the order did
    // not have to wait for that.
    rig.kill_agent();
    rig.restart_agent().await;
    let agent = rig.agent();
    let until = Instant::now() + PATIENCE;
    rig.issuer.set(Mood::Good);
    let paid = agent.post("/pay", &sale("B-2", CODE, 1200)).await;
    assert_eq!(result(&paid), "approved");
    loop {
        let (_, order) = agent.get("/orders/B-2").await;
        if order["attempts"][0]["result"] == "reversed" {
            assert_eq!(order["paid"], true);
            break;
        }
        assert!(Instant::now() < until, "{order}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.issuer.effects(), 1);
    assert_eq!(agent.get("/health").await.1["unresolved"], 0);
    assert_eq!(rig.stop_agent(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_open_is_asked_for_and_given_to_the_till_that_repeats_it() {
    let mut rig = Rig::start().await;
    rig.issuer.set(Mood::Slow(Duration::from_secs(30)));
    let (agent, mut body) = (rig.agent(), sale("F-1", CODE, 900));
    body["deadline_ms"] = json!(20_000);
    let cut_off = tokio::spawn({
        let body = body.clone();
        async move { agent.try_post("/pay", &body).await }
    });
    while rig.issuer.payments() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.kill_agent();
    assert!(cut_off.await.unwrap().is_none(), "the till knows nothing");
    rig.issuer.set(Mood::Good);
    rig.restart_agent().await;
    let paid = rig.agent().post("/pay", &body).await;
    assert_eq!((result(&paid), &paid.1["attempts"]), ("approved", &json!(1)));
    assert_eq!(rig.issuer.effects(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_taken_back_or_refunded() {
    let rig = Rig::start().await;
    let agent = rig.agent();
    assert_eq!(result(&agent.post("/pay", &sale("C-1", CODE, 1000)).await), "approved");
    let part =
        json!({"order_id": "C-1", "refund_id": "R-1", "amount": {"minor": 300, "currency": "JPY"}});
    let mut too_much = part.clone();
    too_much["amount"]["minor"] = json!(1001);
    assert_eq!(agent.post("/refund", &too_much).await.1["error"], "amount_too_large");
    rig.issuer.set(Mood::LoseOne);
    let (status, refund) = agent.post("/refund", &part).await;
    assert_eq!((status, &refund["refunded"]), (200, &json!(true)), "{refund}");
    assert_eq!(refund["payment"]["refunded"]["minor"], 300);
    let (_, again) = agent.post("/refund", &part).await;
    assert_eq!(again["request_id"], refund["request_id"]);
    let rest = json!({"order_id": "C-1", "refund_id": "R-2"});
    assert_eq!(agent.post("/refund", &rest).await.1["amount"]["minor"], 700);
    assert_eq!(agent.post("/refund", &rest).await.1["amount"]["minor"], 700, "the same again");
    let (status, more) = agent
        .post("/refund", &json!({"order_id": "C-1", "refund_id": "R-3", "amount": {"minor": 1, "currency": "JPY"}}))
        .await;
    assert_eq!((status, &more["error"]), (422, &json!("amount_too_large")));
    let (_, sold_again) = agent.post("/pay", &sale("C-1", CODE, 1000)).await;
    assert_eq!((&sold_again["result"], &sold_again["paid"]), (&json!("approved"), &json!(false)));
    assert!(sold_again["cashier"].as_str().unwrap().contains("given back"), "{sold_again}");
    let mut other = part.clone();
    other["amount"]["minor"] = json!(301);
    assert_eq!(agent.post("/refund", &other).await.1["error"], "id_conflict");

    assert_eq!(result(&agent.post("/pay", &sale("C-2", CODE, 1000)).await), "approved");
    let cancelled = agent.post("/orders/C-2/cancel", &json!({})).await;
    assert_eq!((result(&cancelled), &cancelled.1["paid"]), ("reversed", &json!(false)));
    assert_eq!(result(&agent.post("/orders/C-2/cancel", &json!({})).await), "reversed");
    assert_eq!(result(&agent.post("/pay", &sale("C-2", CODE, 1000)).await), "approved");
    rig.issuer.set(Mood::DayClosed);
    let (status, closed) = agent.post("/orders/C-2/cancel", &json!({})).await;
    assert_eq!(
        (status, &closed["error"], &closed["paid"]),
        (409, &json!("use_refund"), &json!(true))
    );
    assert_eq!(agent.get("/orders/C-2").await.1["paid"], true);

    // While the payer's answer is waited for.
    rig.issuer.set(Mood::Slow(Duration::from_secs(3)));
    let mut long = sale("C-3", CODE, 1000);
    long["deadline_ms"] = json!(20_000);
    let (paid, cancelled) = tokio::join!(agent.post("/pay", &long), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        agent.post("/orders/C-3/cancel", &json!({})).await
    });
    assert_eq!(paid.1["request_id"], cancelled.1["request_id"]);
    assert_eq!(cancelled.1["paid"], false);

    rig.issuer.set(Mood::Good);
    let mut hold = sale("C-4", CODE, 1000);
    hold["capture"] = json!("later");
    assert_eq!(result(&agent.post("/pay", &hold).await), "held");
    let capture = json!({"order_id": "C-4", "amount": {"minor": 800, "currency": "JPY"}});
    let (status, captured) = agent.post("/capture", &capture).await;
    assert_eq!(
        (status, &captured["payment"]["captured"]["minor"]),
        (200, &json!(800)),
        "{captured}"
    );
    hold["order_id"] = json!("C-5");
    assert_eq!(result(&agent.post("/pay", &hold).await), "held");
    assert_eq!(agent.post("/release", &json!({"order_id": "C-5"})).await.0, 200);
    assert_eq!(agent.get("/orders/C-5").await.1["paid"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_what_to_do() {
    let rig = Rig::start().await;
    let agent = rig.agent();
    #[track_caller]
    fn check(answer: (u16, Value), status: u16, error: &str) {
        assert_eq!(
            (answer.0, answer.1["error"].as_str().unwrap()),
            (status, error),
            "{}",
            answer.1
        );
        assert!(!answer.1["next"].as_str().unwrap().is_empty());
    }
    let with = |name: &str, it: Value| {
        let mut body = sale("D-1", CODE, 1);
        body[name] = it;
        body
    };
    check(agent.post("/pay", &with("code", json!("123"))).await, 400, "code_malformed");
    check(agent.post("/pay", &with("order_id", json!("D 1"))).await, 400, "malformed");
    check(agent.post("/pay", &with("deadline_ms", json!(999))).await, 400, "malformed");
    check(agent.post("/pay", &with("deadlin_ms", json!(1000))).await, 400, "malformed");
    let unknown = json!("720000010728921840110704");
    check(agent.post("/pay", &with("code", unknown)).await, 422, "issuer_unknown");
    let euros = json!({"minor": 1, "currency": "EUR"});
    check(agent.post("/pay", &with("amount", euros)).await, 422, "currency_unknown");
    check(agent.get("/orders/D-1").await, 404, "order_unknown");
    check(agent.post("/orders/D-1/cancel", &json!({})).await, 404, "order_unknown");
    check(
        agent.post("/refund", &json!({"order_id": "D-1", "refund_id": "R"})).await,
        404,
        "order_unknown",
    );
    check(agent.get("/nothing").await, 404, "not_found");
    check(agent.get("/pay").await, 405, "method_not_allowed");
    let (code, _, stderr) =
        warifu(rig.path(), &["reader", "serve", "--dir", "till", "--listen", "0.0.0.0:1"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("this machine only"), "{stderr}");
    let (code, _, stderr) =
        warifu(rig.path(), &["reader", "pay", "--dir", "till", "--amount", "1", "--code", CODE]);
    assert_eq!(code, 2);
    assert!(stderr.contains("another running instance"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_end_what_they_begin() {
    let mut rig = Rig::start().await;
    rig.stop_agent();
    let pay = |order: &str| {
        warifu(
            rig.path(),
            &[
                "reader",
                "pay",
                "--dir",
                "till",
                "--amount",
                "1200",
                "--code",
                CODE,
                "--order-id",
                order,
                "--deadline-ms",
                "1000",
                "--json",
            ],
        )
    };
    let object = |text: &str| serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap();
    rig.issuer.set(Mood::LosePayments);
    let (code, stdout, _) = pay("E-1");
    assert_eq!((code, &object(&stdout)["outcome"]), (1, &json!("reversed")));
    rig.issuer.set(Mood::Silent);
    let (code, stdout, _) = pay("E-2");
    assert_eq!((code, &object(&stdout)["outcome"]), (3, &json!("reversing")));
    rig.issuer.set(Mood::Good);
    let (code, stdout, stderr) = warifu(rig.path(), &["reader", "resolve", "--dir", "till"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("reversed"), "{stdout}");
    let (code, stdout, _) = pay("E-3");
    assert_eq!(code, 0);
    let id = object(&stdout)["request_id"].as_str().unwrap().to_owned();
    let (code, _, stderr) = pay("E-3");
    assert_eq!(code, 1);
    assert!(stderr.is_empty() || stderr.contains("paid already"), "{stderr}");
    let on = ["--dir", "till", "--request-id", &id];
    let (code, stdout, stderr) =
        warifu(rig.path(), &[&["reader", "refund", "--amount", "200"], on.as_slice()].concat());
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("refunded: 200 JPY"), "{stdout}");
    let (code, stdout, stderr) =
        warifu(rig.path(), &[&["reader", "reverse"], on.as_slice()].concat());
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("nothing is paid"), "{stdout}");
    assert_eq!(rig.issuer.effects(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_moves_is_found_in_the_middle_of_a_payment() {
    let mut rig = Rig::start().await;
    rig.issuer.set(Mood::Silent);
    let agent = rig.agent();
    let paying = tokio::spawn(async move {
        let mut body = sale("G-1", CODE, 900);
        body["deadline_ms"] = json!(20_000);
        agent.post("/pay", &body).await
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let old = rig.move_issuer().await;
    let paid = paying.await.unwrap();
    assert_eq!((result(&paid), &paid.1["attempts"]), ("approved", &json!(1)));
    assert_eq!((old.payments(), rig.issuer.payments()), (0, 1));
}

/// The examples pay, are declined, and repeat safely, as `docs/reader.md` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_do_what_they_say() {
    let rig = Rig::start().await;
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/till");
    for (program, file) in [("sh", "pay.sh"), ("python3", "pay.py"), ("node", "pay.mjs")] {
        let has = Command::new(program)
            .args(["-c", ":"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if has.is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is missing");
            eprintln!("skipped: {program} is missing");
            continue;
        }
        let run = |order: &str, code: &str, agent: &str| {
            let output = Command::new(program)
                .args([&format!("{examples}/{file}"), order, "1200", "JPY", code])
                .env("WARIFU_AGENT", agent)
                .output()
                .unwrap();
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            (output.status.code().unwrap(), text)
        };
        let order = format!("X-{program}");
        rig.issuer.set(Mood::Decline);
        let (code, said) = run(&order, CODE, &rig.url());
        assert_eq!(code, 1, "{file}: {said}");
        rig.issuer.set(Mood::Good);
        let before = rig.issuer.payments();
        for _ in 0..2 {
            let (code, said) = run(&order, CODE, &rig.url());
            assert_eq!(code, 0, "{file}: {said}");
            assert!(said.contains("approved"), "{file}: {said}");
        }
        assert_eq!(rig.issuer.payments(), before + 1);
        assert_eq!(run(&order, "123", &rig.url()).0, 2, "{file}");
        assert_eq!(run("Y-1", "720000010728921840110704", &rig.url()).0, 1, "{file}");
        assert_eq!(run("Y-2", CODE, "http://127.0.0.1:1").0, 3, "{file}");
    }
}

/// Two of the same at the same moment are one, and both are told the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_refund_twice_at_once_is_one() {
    let rig = Rig::start().await;
    let agent = rig.agent();
    assert_eq!(result(&agent.post("/pay", &sale("T-1", CODE, 1000)).await), "approved");
    rig.issuer.set(Mood::Slow(Duration::from_millis(300)));
    let refund =
        json!({"order_id": "T-1", "refund_id": "R-1", "amount": {"minor": 600, "currency": "JPY"}});
    let (one, two) = tokio::join!(agent.post("/refund", &refund), agent.post("/refund", &refund));
    assert_eq!((one.0, &one.1["request_id"]), (200, &two.1["request_id"]));
    assert_eq!(two.1["payment"]["refunded"]["minor"], 600);
}
