//! A hub, a merchant with a paired till, an issuer in the test's hands, and the agent on that till.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use warifu_proto::key::PublicKey;
use warifu_server::client::http_client;
use warifu_server::keyfile;

use crate::PATIENCE;
use crate::issuer::Issuer;

/// A code of the issuer's; it takes any.
pub(crate) const CODE: &str = "710000010728921840110704";

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

#[track_caller]
fn good(dir: &Path, line: &str) {
    let (code, stdout, stderr) = warifu(dir, &line.split(' ').collect::<Vec<_>>());
    assert_eq!(code, 0, "{line}\n{stdout}{stderr}");
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub(crate) struct Rig {
    agent: Option<Process>,
    _hub: Process,
    url: String,
    reader: PublicKey,
    pub(crate) issuer: Arc<Issuer>,
    dir: TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let (hub, issuer) = (free(), free());
        let network = "--network registrar/network.json";
        good(at, "registrar init");
        good(at, &format!("hub init --listen {hub} {network}"));
        good(at, "registrar add hub hub/hub.card.json");
        let names = "--dir aoba --name Aoba --prefix 71000001 --currency JPY --kind prepaid";
        good(at, &format!("issuer init {names} --hub http://{hub} --listen {issuer} {network}"));
        let names = "--dir bakery --name Bakery --category 5462";
        good(at, &format!("merchant init {names} --hub http://{hub} {network}"));
        let log = std::fs::File::create(at.join("hub.log")).unwrap();
        let serving = Command::new(env!("CARGO_BIN_EXE_warifu"))
            .args(["hub", "serve"])
            .current_dir(at)
            .stderr(log)
            .spawn()
            .unwrap();
        let serving = Process(serving);
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&hub).is_err() {
            assert!(Instant::now() < until, "the hub does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        good(at, "registrar add issuer aoba/issuer.card.json");
        good(at, "registrar add merchant bakery/merchant.card.json");
        pair(at);
        let files = std::fs::read_dir(at.join("till")).unwrap().map(|it| it.unwrap().path());
        let key = files.into_iter().find(|it| it.extension().is_some_and(|it| it == "key"));
        let reader = keyfile::read(key.unwrap()).unwrap().public().clone();
        let own = keyfile::read(at.join("aoba/issuer.key")).unwrap();
        let issuer = Issuer::serve(&issuer, own, reader.clone()).await;
        let mut rig = Self { agent: None, _hub: serving, url: String::new(), reader, issuer, dir };
        rig.restart_agent().await;
        rig
    }

    /// The issuer moves: another address, another key, signed by the registrar. What it has at the old one stays there.
    pub(crate) async fn move_issuer(&mut self) -> Arc<Issuer> {
        let at = self.path().to_owned();
        let address = free();
        let key = warifu_server::chance::key();
        let card = at.join("aoba/issuer.card.json");
        let mut new: Value = serde_json::from_slice(&std::fs::read(&card).unwrap()).unwrap();
        new["key"] = serde_json::to_value(key.public()).unwrap();
        new["endpoints"][0]["url"] = Value::from(format!("http://{address}"));
        std::fs::write(&card, new.to_string()).unwrap();
        let issuer = Issuer::serve(&address, key, self.reader.clone()).await;
        good(&at, "registrar add issuer aoba/issuer.card.json");
        std::mem::replace(&mut self.issuer, issuer)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent { url: self.url.clone(), http: http_client(None).unwrap() }
    }

    /// As a power cut would.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// As whoever keeps it running would.
    pub(crate) fn stop_agent(&mut self) -> i32 {
        let mut agent = self.agent.take().unwrap();
        let pid = agent.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        agent.0.wait().unwrap().code().unwrap_or(-1)
    }

    pub(crate) async fn restart_agent(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("agent.log"))
            .unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_warifu"))
            .args(["--json", "reader", "serve", "--dir", "till", "--listen", "127.0.0.1:0"])
            .current_dir(self.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut agent = Process(agent);
        let line = BufReader::new(agent.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        self.url = said["url"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
        self.agent = Some(agent);
    }
}

fn pair(at: &Path) {
    let mut merchant = Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args(["--json", "merchant", "pair", "--dir", "bakery", "--reader", "till"])
        .current_dir(at)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(merchant.stdout.take().unwrap()).lines();
    let link: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    good(at, &format!("reader pair {} --dir till", link["link"].as_str().unwrap()));
    assert!(merchant.wait().unwrap().success());
}

/// Till software.
pub(crate) struct Agent {
    url: String,
    http: reqwest::Client,
}

impl Agent {
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body).await.unwrap()
    }

    /// Nothing when the connection breaks.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.ok()?;
        Some(Self::read(answer).await)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        Self::read(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap().text().await.unwrap()
    }

    async fn read(answer: reqwest::Response) -> (u16, Value) {
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}")))
    }
}
