//! The agent in front of the real issuer: what a till is told is what the issuer's books say, when the issuer is killed,
//! stopped in the middle of a payment, or asked to take it back.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Network, PATIENCE, Phone, Process, json_of};

const YEN: u64 = 10_000;

struct Agent {
    process: Process,
    url: String,
    http: reqwest::Client,
}

impl Agent {
    fn start(net: &Network, folder: &str) -> Self {
        let log = std::fs::File::create(net.path().join("agent.log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_warifu"))
            .args(["--json", "reader", "serve", "--dir", folder, "--listen", "127.0.0.1:0"])
            .current_dir(net.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Process(process);
        let stdout = process.0.stdout.take().unwrap();
        let line = BufReader::new(stdout).lines().next().unwrap().unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap().to_owned();
        Self { process, url, http: net.http.clone() }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        read(request.send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Value {
        read(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await.1
    }

    /// Pays, and waits out the moments in which the issuer does not know the till yet.
    async fn pay(&self, order: &str, code: &str, yen: u64) -> Value {
        let amount = json!({"minor": yen, "currency": "JPY"});
        let body = json!({"order_id": order, "code": code, "amount": amount, "deadline_ms": 2_000});
        let until = Instant::now() + PATIENCE;
        loop {
            let (status, answer) = self.post("/pay", &body).await;
            assert_eq!(status, 200, "{answer}");
            if answer["problem"]["code"] != "key_unknown" {
                return answer;
            }
            assert!(Instant::now() < until, "the issuer does not learn of the till");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an attempt of an order has ended so.
    async fn wait_for(&self, order: &str, attempt: usize, result: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(&format!("/orders/{order}")).await;
            if answer["attempts"][attempt]["result"] == result {
                return;
            }
            assert!(Instant::now() < until, "{answer}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// Pairs a till that may refund and capture.
fn pair_with_rights(net: &Network, folder: &str) {
    let mut merchant = Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args(["--json", "merchant", "pair", "--dir", "bakery", "--reader", folder])
        .args(["--right", "refund", "--right", "capture"])
        .current_dir(net.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(merchant.stdout.take().unwrap()).lines();
    let link: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    json_of(net.path(), &["reader", "pair", link["link"].as_str().unwrap(), "--dir", folder]);
    assert!(merchant.wait().unwrap().success());
}

fn signal(process: &Process, name: &str) {
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// What the payer's account holds. The issuer's lists follow its books with a small lag.
#[track_caller]
fn check_balance(net: &Network, account: &str, want: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let accounts = json_of(net.path(), &["issuer", "accounts", "--dir", "aoba"]);
        let accounts = accounts["accounts"].as_array().unwrap();
        let found = accounts.iter().find(|it| it["account_id"] == account).unwrap();
        if found["balance_minor"] == want {
            return;
        }
        assert!(Instant::now() < until, "{found}, not {want}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_till_is_told_is_what_the_books_say() {
    let mut net = Network::start();
    pair_with_rights(&net, "till2");
    let (account, link) = net.invite(YEN);
    let mut phone = Phone::link(&net, &link).await;
    let agent = Agent::start(&net, "till2");

    let code = phone.register(&net.hub_peer).await.to_string();
    let paid = agent.pay("A-1", &code, 1_000).await;
    assert_eq!((&paid["result"], &paid["paid"]), (&json!("approved"), &json!(true)), "{paid}");
    assert_eq!(agent.pay("A-1", &code, 1_000).await["payment"], paid["payment"]);
    check_balance(&net, &account, 9_000);

    let part = json!({"minor": 300, "currency": "JPY"});
    let refund = json!({"order_id": "A-1", "refund_id": "R-1", "amount": part});
    for _ in 0..2 {
        let (status, answer) = agent.post("/refund", &refund).await;
        assert_eq!((status, &answer["refunded"]), (200, &json!(true)), "{answer}");
    }
    check_balance(&net, &account, 9_300);
    let too_much =
        json!({"order_id": "A-1", "refund_id": "R-2", "amount": {"minor": 701, "currency": "JPY"}});
    let (status, answer) = agent.post("/refund", &too_much).await;
    assert_eq!((status, &answer["error"]), (422, &json!("amount_too_large")));
    let (status, answer) = agent.post("/orders/A-1/cancel", &json!({})).await;
    assert_eq!((status, &answer["result"]), (200, &json!("reversed")), "{answer}");
    check_balance(&net, &account, 10_000);

    // The issuer hears everything and answers nothing until it is let go again.
    let code = phone.register(&net.hub_peer).await.to_string();
    signal(&net.issuer, "-STOP");
    let answer = agent.pay("A-2", &code, 1_000).await;
    assert_eq!((&answer["result"], &answer["paid"]), (&json!("reversing"), &json!(false)));
    signal(&net.issuer, "-CONT");
    agent.wait_for("A-2", 0, "reversed").await;
    check_balance(&net, &account, 10_000);

    // It is killed in the middle, and comes back.
    let code = phone.register(&net.hub_peer).await.to_string();
    signal(&net.issuer, "-STOP");
    let (answer, ()) = tokio::join!(agent.pay("A-3", &code, 1_000), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        net.issuer.kill_9();
    });
    assert_eq!(answer["paid"], false, "{answer}");
    net.restart_issuer();
    agent.wait_for("A-3", 0, "reversed").await;
    check_balance(&net, &account, 10_000);
    let code = phone.register(&net.hub_peer).await.to_string();
    let paid = agent.pay("A-3", &code, 1_000).await;
    assert_eq!((&paid["paid"], &paid["attempts"]), (&json!(true), &json!(2)), "{paid}");
    check_balance(&net, &account, 9_000);
    assert_eq!(agent.get("/health").await["unresolved"], 0);
    let mut agent = agent;
    assert_eq!(agent.process.stop(), 0);
}
