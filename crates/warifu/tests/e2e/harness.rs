//! A network of processes in a temporary folder, and a phone and a till that call it from inside of the test.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::id::CredentialId;
use warifu_proto::key::{PrivateKey, PublicKey};
use warifu_proto::link::{InvitationLink, LinkKeys};
use warifu_proto::message::{CodeAnswer, LinkAnswer, LinkedAccount, Payment};
use warifu_proto::registration::{Statement, registered_ack, tag};
use warifu_proto::{base64url, mac};
use warifu_server::client::{Answer, CallError, Client, Peer, http_client};
use warifu_server::{chance, clock, keyfile};

/// How long anything may take: two cores may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// Runs the program; exit code, standard output and standard error.
pub(crate) fn warifu(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args(args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Runs the program with `--json`; what it printed.
#[track_caller]
pub(crate) fn json_of(dir: &Path, args: &[&str]) -> Value {
    let (code, stdout, stderr) = warifu(dir, &[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}\n{stdout}{stderr}");
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// A process that ends with its test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// As a power cut would: no signal that it could handle.
    pub(crate) fn kill_9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As an operator would; waits until it has ended.
    pub(crate) fn stop(&mut self) -> i32 {
        assert!(
            Command::new("kill")
                .args(["-TERM", &self.0.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free_url() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("127.0.0.1:{port}")
}

/// Hub, issuer, merchant, and a paired till; every role a process.
pub(crate) struct Network {
    pub(crate) dir: TempDir,
    pub(crate) hub: Process,
    pub(crate) issuer: Process,
    pub(crate) hub_peer: Peer,
    pub(crate) issuer_peer: Peer,
    pub(crate) http: reqwest::Client,
}

impl Network {
    /// By the commands of `docs/operating.md`.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let (hub_at, issuer_at) = (free_url(), free_url());
        let (hub_url, issuer_url) = (format!("http://{hub_at}"), format!("http://{issuer_at}"));
        let network = ["--network", "registrar/network.json"];
        json_of(at, &["registrar", "init"]);
        json_of(at, &[&["hub", "init", "--listen", &hub_at], network.as_slice()].concat());
        json_of(at, &["registrar", "add", "hub", "hub/hub.card.json"]);
        let issuer = [
            "issuer",
            "init",
            "--dir",
            "aoba",
            "--name",
            "Aoba Pay",
            "--prefix",
            "71000001",
            "--currency",
            "JPY",
            "--kind",
            "prepaid",
            "--hub",
            &hub_url,
            "--listen",
            &issuer_at,
        ];
        json_of(at, &[issuer.as_slice(), &network].concat());
        let merchant = [
            "merchant",
            "init",
            "--dir",
            "bakery",
            "--name",
            "Aoba Bakery",
            "--category",
            "5462",
            "--hub",
            &hub_url,
        ];
        json_of(at, &[merchant.as_slice(), &network].concat());
        let hub = serve(at, "hub", "hub", &hub_url);
        json_of(at, &["registrar", "add", "issuer", "aoba/issuer.card.json"]);
        json_of(at, &["registrar", "add", "merchant", "bakery/merchant.card.json"]);
        let issuer = serve(at, "issuer", "aoba", &issuer_url);
        let peer = |url: String, card: &str| {
            let card: Value =
                serde_json::from_str(&std::fs::read_to_string(at.join(card)).unwrap()).unwrap();
            Peer { url, key: serde_json::from_value::<PublicKey>(card["key"].clone()).unwrap() }
        };
        let hub_peer = peer(hub_url, "hub/hub.card.json");
        let issuer_peer = peer(issuer_url, "aoba/issuer.card.json");
        let net =
            Self { hub, issuer, hub_peer, issuer_peer, http: http_client(None).unwrap(), dir };
        net.pair("till", &[]);
        net
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn restart_issuer(&mut self) {
        self.issuer = serve(self.dir.path(), "issuer", "aoba", &self.issuer_peer.url);
    }

    pub(crate) fn restart_hub(&mut self) {
        self.hub = serve(self.dir.path(), "hub", "hub", &self.hub_peer.url);
    }

    /// Pairs a till by `merchant pair` in one process and `reader pair` in another.
    pub(crate) fn pair(&self, folder: &str, rights: &[&str]) {
        let mut merchant = Command::new(env!("CARGO_BIN_EXE_warifu"))
            .args(["--json", "merchant", "pair", "--dir", "bakery", "--reader", folder])
            .args(rights.iter().flat_map(|right| ["--right", right]))
            .current_dir(self.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(merchant.stdout.take().unwrap()).lines();
        let link: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        json_of(self.path(), &["reader", "pair", link["link"].as_str().unwrap(), "--dir", folder]);
        assert!(merchant.wait().unwrap().success());
    }

    /// Opens an account with so much money and invites a terminal; account id and link.
    pub(crate) fn invite(&self, yen: u64) -> (String, String) {
        let account =
            json_of(self.path(), &["issuer", "account", "open", "--dir", "aoba", "--name", "Hana"]);
        let account = account["account_id"].as_str().unwrap().to_owned();
        json_of(
            self.path(),
            &["issuer", "account", "top-up", &account, &yen.to_string(), "--dir", "aoba"],
        );
        let link = json_of(self.path(), &["issuer", "invite", &account, "--dir", "aoba"]);
        (account, link["link"].as_str().unwrap().to_owned())
    }

    /// The till's key, for calls from inside of the test.
    pub(crate) fn till(&self) -> Till {
        self.till_in("till")
    }

    /// The same of another paired folder.
    pub(crate) fn till_in(&self, folder: &str) -> Till {
        let file = |it: &PathBuf| it.extension().is_some_and(|it| it == "key");
        let mut files =
            std::fs::read_dir(self.path().join(folder)).unwrap().map(|it| it.unwrap().path());
        let key = keyfile::read(files.find(file).unwrap()).unwrap();
        Till {
            client: Client::new(Arc::new(key), self.http.clone()),
            issuer: self.issuer_peer.clone(),
        }
    }

    /// Waits until the issuer takes calls of the till: its directory entry has arrived.
    pub(crate) async fn wait_for_till(&self, till: &Till) {
        let until = Instant::now() + PATIENCE;
        while till.ask("none", "7100000100").await.is_ok_and(|it| it.status == 401) {
            assert!(Instant::now() < until, "the issuer does not learn of the till");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn serve(dir: &Path, role: &str, folder: &str, url: &str) -> Process {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(format!("{folder}.log")))
        .unwrap();
    let server = Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args([role, "serve", "--dir", folder])
        .current_dir(dir)
        .stderr(log)
        .spawn()
        .unwrap();
    let mut server = Process(server);
    let address = url.trim_start_matches("http://").to_owned();
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(&address).is_err() {
        let ended = server.0.try_wait().unwrap();
        let log = || std::fs::read_to_string(dir.join(format!("{folder}.log"))).unwrap();
        assert!(
            ended.is_none() && Instant::now() < until,
            "the {role} does not come up\n{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// A reader that calls from inside of the test.
pub(crate) struct Till {
    pub(crate) client: Client,
    pub(crate) issuer: Peer,
}

impl Till {
    pub(crate) async fn pay(&self, body: &Value) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(body).unwrap();
        self.client
            .call(
                &self.issuer,
                Method::POST,
                "/v1/payments",
                Some(body),
                DEADLINE,
                HeaderMap::new(),
            )
            .await
    }

    pub(crate) async fn ask(&self, request_id: &str, route: &str) -> Result<Answer, CallError> {
        let path = format!("/v1/payments?request_id={request_id}&route={route}");
        self.client.call(&self.issuer, Method::GET, &path, None, DEADLINE, HeaderMap::new()).await
    }
}

/// What a till sends.
pub(crate) fn wish(request_id: &str, code: &str, yen: u64) -> Value {
    json!({ "request_id": request_id, "code": code, "amount": { "minor": yen, "currency": "JPY" }, "capture": "now" })
}

#[track_caller]
pub(crate) fn payment(answer: &Answer) -> Payment {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json().unwrap()
}

/// A terminal that calls from inside of the test.
pub(crate) struct Phone {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) keys: LinkKeys,
    pub(crate) credential: CredentialId,
    pub(crate) account: LinkedAccount,
    client: Client,
    sequence: u32,
}

impl Phone {
    /// Links by an invitation, through the hub, and checks the issuer's confirmation.
    pub(crate) async fn link(net: &Network, invitation: &str) -> Self {
        let invitation = InvitationLink::parse(invitation).unwrap();
        let key = Arc::new(chance::key());
        let client = Client::new(Arc::clone(&key), net.http.clone());
        let keys = LinkKeys::derive(&invitation.secret, key.thumbprint());
        let proof = keys.proof(invitation.prefix, invitation.invitation, key.thumbprint());
        let body = json!({ "prefix": invitation.prefix, "invitation_id": invitation.invitation, "key": key.public(), "label": "Phone", "proof": base64url::encode(proof) });
        let body = serde_json::to_vec(&body).unwrap();
        let answer = client
            .call_signed_by_key(
                &net.hub_peer,
                Method::POST,
                "/v1/links",
                Some(body),
                DEADLINE,
                HeaderMap::new(),
            )
            .await
            .unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let answer: LinkAnswer = answer.json().unwrap();
        assert_eq!(keys.confirmation(answer.credential_id, &answer.answer), answer.confirmation);
        let account: LinkedAccount = serde_json::from_slice(&answer.answer).unwrap();
        let sequence = u32::try_from(clock::now().as_ms() / 1000).unwrap();
        Self { key, keys, credential: answer.credential_id, account, client, sequence }
    }

    /// A new code and the body that registers it.
    pub(crate) fn make(&mut self, lifetime_s: u16) -> (Code, Statement, Value) {
        let prefix = Prefix::parse("71000001").unwrap();
        let code = Code::make(prefix, self.account.partition, &chance::bytes()).unwrap();
        self.sequence += 1;
        let statement = Statement {
            prefix,
            locator: code.locator(prefix),
            lifetime_s,
            sequence: self.sequence,
            credential: self.credential,
            tag: tag(&self.keys.code_key, &code),
            issued_at: clock::now(),
            currency_number: 392,
            cap_minor: 0,
        };
        let body = json!({ "registration": base64url::encode(statement.sign(&self.key).encode()) });
        (code, statement, body)
    }

    pub(crate) async fn send(&self, to: &Peer, body: &Value) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(body).unwrap();
        self.client
            .call_unsigned(to, Method::POST, "/v1/codes", Some(body), DEADLINE, HeaderMap::new())
            .await
    }

    /// Registers a new code and checks the acknowledgement.
    pub(crate) async fn register(&mut self, to: &Peer) -> Code {
        let (code, statement, body) = self.make(60);
        let answer = self.send(to, &body).await.unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let answer: CodeAnswer = answer.json().unwrap();
        let at = warifu_proto::time::Timestamp::from_ms;
        assert_eq!(
            registered_ack(
                &self.keys.link_key,
                &statement.digest(),
                at(answer.expires_ms),
                at(answer.now_ms)
            ),
            answer.ack
        );
        assert_ne!(mac::sha256(&[&answer.ack]), [0; 32]);
        code
    }
}
