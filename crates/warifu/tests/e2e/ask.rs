//! The payer is asked: the program as the payer uses it and a real hub, with an issuer that asks and hears as the
//! protocol says, and nothing else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use warifu_proto::id::{MerchantId, NoticeId, PaymentId};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::message::{
    ConfirmationAnswer, ConfirmationRequest, MerchantAbout, NoticeText, PaymentStatus,
};
use warifu_proto::money::Money;
use warifu_proto::notice::{Verdict, confirm_message, seal};
use warifu_proto::{base64url, time};
use warifu_server::client::Client;
use warifu_server::edge::{self, Caller, Edge, EdgeParts, KeyRing};
use warifu_server::json::Strict;
use warifu_server::session::Sessions;
use warifu_server::{chance, clock, keyfile, serve};
use warifu_terminal::Link;

use crate::harness::{DEADLINE, Network, PATIENCE, Process, json_of, warifu};

/// The issuer's side of a question, in the place of the issuer that made the link.
struct Desk {
    net: Network,
    key: Arc<PrivateKey>,
    client: Client,
    link: Link,
    heard: Arc<Mutex<Vec<ConfirmationRequest>>>,
}

struct OnlyHub(PublicKey);

impl KeyRing for OnlyHub {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        (self.0.thumbprint() == *thumbprint).then(|| self.0.clone())
    }
}

type Heard = State<Arc<Mutex<Vec<ConfirmationRequest>>>>;

async fn hear(
    State(heard): Heard,
    _hub: Caller,
    Strict(word): Strict<ConfirmationRequest>,
) -> axum::Json<ConfirmationAnswer> {
    let mut heard = heard.lock().unwrap();
    heard.push(word.clone());
    let first = heard.iter().find(|it| it.payment_id == word.payment_id).unwrap();
    axum::Json(ConfirmationAnswer { payment_id: word.payment_id, verdict: first.verdict })
}

impl Desk {
    /// Links a phone at the real issuer, which then makes place.
    fn open() -> Self {
        let mut net = Network::start();
        let (_, invitation) = net.invite(50_000);
        json_of(net.path(), &["terminal", "link", &invitation, "--dir", "phone"]);
        net.issuer.kill_9();
        let key = Arc::new(keyfile::read(net.path().join("aoba/issuer.key")).unwrap());
        let client = Client::new(Arc::clone(&key), net.http.clone());
        let link = read_link(net.path());
        Self { net, key, client, link, heard: Arc::default() }
    }

    fn path(&self) -> &Path {
        self.net.path()
    }

    /// Begins to hear words, at the issuer's address.
    async fn serve(&self) {
        let authority = self.net.issuer_peer.url.trim_start_matches("http://").to_owned();
        let bound = serve::bind(authority.parse::<SocketAddr>().unwrap(), None).await.unwrap();
        let edge = Arc::new(Edge::new(EdgeParts {
            key: Arc::clone(&self.key),
            authorities: vec![authority],
            ring: Arc::new(OnlyHub(self.net.hub_peer.key.clone())),
            sessions: Arc::new(Sessions::new()),
            max_in_flight: 100,
        }));
        let routes = axum::Router::new()
            .route("/v1/confirmations", axum::routing::post(hear))
            .with_state(Arc::clone(&self.heard));
        tokio::spawn(bound.serve(edge::apply(routes, edge), std::future::pending()));
    }

    /// Asks; the payment, and what the payer's word must be signed over.
    async fn ask(&self, number: u64) -> (PaymentId, impl Fn(Verdict) -> Vec<u8> + use<>) {
        let now = clock::now();
        let payment: PaymentId = chance::id(now);
        let merchant: MerchantId = chance::id(now);
        let text = NoticeText {
            kind: "confirm".to_owned(),
            payment_id: payment,
            merchant: MerchantAbout { id: merchant, name: "Aoba Bakery".to_owned() },
            amount: Money::new(12_000, self.link.account.currency).unwrap(),
            status: PaymentStatus::AwaitingPayer,
            reason: None,
            balance: None,
            expires_at: Some(now.plus_ms(60_000)),
            at: now,
        };
        let plain = serde_json::to_vec(&text).unwrap();
        self.notify(number, &plain).await;
        let signed =
            move |verdict| confirm_message(verdict, payment, merchant, 12_000, 392, &plain);
        (payment, signed)
    }

    async fn notify(&self, number: u64, plain: &[u8]) {
        let (credential, keys) = (self.link.credential, &self.link.keys);
        let sealed = seal(&keys.seal_key, credential, number, chance::bytes(), plain);
        let notice_id: NoticeId = chance::id(clock::now());
        let body = json!({
            "credential_id": credential, "number": number,
            "notice_id": notice_id,
            "sealed": base64url::encode(sealed),
        });
        let body = Some(serde_json::to_vec(&body).unwrap());
        let (hub, path) = (&self.net.hub_peer, "/v1/notices");
        let answer = self.client.call(hub, Method::POST, path, body, DEADLINE, HeaderMap::new());
        assert_eq!(answer.await.unwrap().status, 200);
    }

    /// The only words that were heard, each by the phone's key over what the phone was shown.
    fn heard(&self, signed: impl Fn(Verdict) -> Vec<u8>) -> Vec<Verdict> {
        let key = format!("phone/device-{}.key", self.link.invitation);
        let phone = keyfile::read(self.path().join(key)).unwrap();
        let heard = self.heard.lock().unwrap();
        for word in heard.iter() {
            assert_eq!(word.credential_id, self.link.credential);
            assert!(phone.public().verifies(&signed(word.verdict), &word.signature));
        }
        heard.iter().map(|it| it.verdict).collect()
    }

    fn terminal(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_warifu"))
            .args([&["terminal"], args, &["--dir", "phone"]].concat())
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

fn read_link(at: &Path) -> Link {
    serde_json::from_slice(&std::fs::read(at.join("phone/link.json")).unwrap()).unwrap()
}

/// Runs a command in a thread of its own, so that the desk can answer meanwhile.
async fn run(at: &Path, args: &[&str]) -> (i32, String, String) {
    let at = at.to_owned();
    let args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
    let run = move || warifu(&at, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn object(stdout: &str) -> Value {
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// Reads until the text has come.
fn read_until(from: &mut impl std::io::Read, text: &str) -> String {
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(text) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.extend(byte);
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_told_the_question_and_answers_by_a_command() {
    let desk = Desk::open();
    desk.serve().await;
    let (payment, signed) = desk.ask(1).await;
    let payment = payment.to_string();
    let watch = ["terminal", "watch", "--once", "--json", "--dir", "phone"];
    let (code, stdout, stderr) = run(desk.path(), &watch).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    let question = object(&stdout);
    assert_eq!((&question["event"], &question["number"]), (&json!("question"), &json!(1)));
    assert_eq!(question["notice"]["payment_id"], payment);
    assert_eq!(question["notice"]["amount"], json!({ "minor": 12_000, "currency": "JPY" }));

    let confirm = ["terminal", "confirm", &payment, "--dir", "phone"];
    let (code, stdout, stderr) = run(desk.path(), &confirm).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("confirmed: 12,000 JPY to Aoba Bakery"), "{stdout}");
    assert_eq!(desk.heard(&signed), [Verdict::Confirm]);

    // A repeat says the same without asking anybody; another word comes too late.
    let (code, stdout, _) = run(desk.path(), &[&confirm[..], &["--json"]].concat()).await;
    let said = json!({ "event": "verdict", "payment_id": payment, "verdict": "confirm" });
    assert_eq!((code, object(&stdout)), (0, said));
    let (code, _, stderr) =
        run(desk.path(), &["terminal", "refuse", &payment, "--dir", "phone"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("confirmed before, and the first word stands"), "{stderr}");
    let unknown = PaymentId::from_raw([1; 16]).to_string();
    let (code, _, stderr) =
        run(desk.path(), &["terminal", "confirm", &unknown, "--dir", "phone"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("has no question"), "{stderr}");
    assert_eq!(desk.heard(&signed).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_codes_is_asked_too_and_a_script_can_say_yes_to_all() {
    let desk = Desk::open();
    desk.serve().await;
    let mut show = Process(desk.terminal(&["show", "--json", "--confirm", "yes"]));
    let mut lines = BufReader::new(show.0.stdout.take().unwrap()).lines();
    let (payment, signed) = desk.ask(1).await;
    let events = tokio::task::spawn_blocking(move || {
        let mut events = Vec::new();
        loop {
            let object = object(&lines.next().unwrap().unwrap());
            events.push(object.clone());
            if object["event"] == "verdict" {
                return (events, lines);
            }
        }
    });
    let (events, _lines) = tokio::time::timeout(PATIENCE, events).await.unwrap().unwrap();
    let said = json!({ "event": "verdict", "payment_id": payment, "verdict": "confirm" });
    assert_eq!(events.last(), Some(&said));
    assert!(events.iter().any(|it| it["event"] == "question"));
    assert!(events.iter().any(|it| it["event"] == "code"));
    assert_eq!(desk.heard(&signed), [Verdict::Confirm]);
    assert_eq!(show.stop(), 0);

    let both = ["terminal", "watch", "--json", "--confirm", "ask", "--dir", "phone"];
    assert_eq!(run(desk.path(), &both).await.0, 2, "nobody is asked where a program reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_and_only_what_is_typed_after_the_question_counts() {
    let desk = Desk::open();
    desk.serve().await;
    let mut watch = desk.terminal(&["watch", "--once", "--confirm", "ask"]);
    let mut keys = watch.stdin.take().unwrap();
    let mut screen = watch.stdout.take().unwrap();
    // Typed ahead, before anything was asked.
    keys.write_all(b"y\n").unwrap();
    let (_, signed) = desk.ask(1).await;
    let prompt = "Pay 12,000 JPY to Aoba Bakery? [y/N] ";
    let typed = tokio::task::spawn_blocking(move || {
        read_until(&mut screen, prompt);
        read_until(&mut screen, prompt);
        std::thread::sleep(Duration::from_millis(700));
        keys.write_all(b"perhaps\n").unwrap();
        read_until(&mut screen, prompt);
        std::thread::sleep(Duration::from_millis(700));
        keys.write_all(b"n\n").unwrap();
        let mut rest = String::new();
        screen.read_to_string(&mut rest).unwrap();
        (rest, keys)
    });
    let (rest, _keys) = tokio::time::timeout(PATIENCE, typed).await.unwrap().unwrap();
    assert!(rest.contains("refused: 12,000 JPY to Aoba Bakery"), "{rest}");
    assert!(watch.wait().unwrap().success());
    assert_eq!(desk.heard(&signed), [Verdict::Refuse]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_is_said_again_after_a_crash_and_never_otherwise() {
    let desk = Desk::open();
    let (payment, signed) = desk.ask(1).await;
    let payment = payment.to_string();
    let watch = ["terminal", "watch", "--once", "--json", "--dir", "phone"];
    assert_eq!(run(desk.path(), &watch).await.0, 0);
    // Nobody is there to hear it, and then the power fails.
    let mut refusing = Process(desk.terminal(&["refuse", &payment]));
    let until = std::time::Instant::now() + PATIENCE;
    while read_link(desk.path()).questions.iter().all(|it| it.verdict.is_none()) {
        assert!(std::time::Instant::now() < until, "the word was never stored");
        std::thread::sleep(Duration::from_millis(20));
    }
    refusing.kill_9();

    let confirm = ["terminal", "confirm", &payment, "--dir", "phone"];
    assert_eq!(run(desk.path(), &confirm).await.0, 1, "the first word stands");
    desk.serve().await;
    let (code, stdout, stderr) = run(desk.path(), &watch).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    let said = json!({ "event": "verdict", "payment_id": payment, "verdict": "refuse" });
    assert_eq!(object(&stdout), said);
    assert!(desk.heard(&signed).iter().all(|it| *it == Verdict::Refuse));
    let link = read_link(desk.path());
    assert!(
        link.questions[0].is_over && link.questions[0].expires_at() > time::Timestamp::default()
    );
}
