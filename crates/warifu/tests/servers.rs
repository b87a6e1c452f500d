//! The operators' commands against real servers: the built binary, one hub or one issuer, a temporary folder.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything in here may take: two cores may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warifu"));
    command.args(args).current_dir(dir).env_remove("RUST_LOG");
    command
}

fn run(dir: &Path, line: &str) -> Output {
    command(dir, &line.split(' ').collect::<Vec<_>>()).output().unwrap()
}

#[track_caller]
fn json(dir: &Path, line: &str) -> Value {
    let output = run(dir, &format!("--json {line}"));
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{line}\n{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    /// Asks it to stop, as an operator would.
    fn interrupt(&mut self) -> i32 {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code().unwrap()
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

struct Net {
    dir: TempDir,
    url: String,
    hub: Option<Running>,
}

impl Net {
    /// A hub and a merchant, signed; the hub is not running.
    fn signed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = free_port();
        let url = format!("http://{listen}");
        let net = Self { dir, url, hub: None };
        let file = "--network registrar/network.json";
        net.json("registrar init");
        net.json(&format!("hub init {file} --listen {listen}"));
        net.json(&format!("merchant init --name Bakery --category 5462 {file} --hub {}", net.url));
        net.json("registrar add hub hub/hub.card.json");
        net.json("registrar add merchant merchant/merchant.card.json");
        net
    }

    fn serving() -> Self {
        let mut net = Self::signed();
        net.hub = Some(net.serve("hub", "hub directory"));
        net
    }

    /// Starts a server, and waits until a command gets an answer from it.
    fn serve(&self, role: &str, question: &str) -> Running {
        let dir = self.dir.path();
        let log = dir.join(format!("{role}.log"));
        let mut server = command(dir, &[role, "serve"]);
        let server = server.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let server = Running(server);
        let begun = Instant::now();
        while !run(dir, question).status.success() {
            let log = std::fs::read_to_string(&log).unwrap();
            assert!(begun.elapsed() < PATIENCE, "the {role} does not answer\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        json(self.dir.path(), line)
    }

    /// Starts `merchant pair`, and gives it with the first line that it prints.
    fn pair(&self, more: &[&str]) -> (Running, BufReader<std::process::ChildStdout>, Value) {
        let mut pair = command(self.dir.path(), &["--json", "merchant", "pair"]);
        let mut pair = pair.args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(pair.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (Running(pair), stdout, serde_json::from_str(&line).unwrap())
    }
}

fn entries(list: &Value) -> Vec<(String, u64, String)> {
    let entries = list["entries"].as_array().unwrap().iter();
    entries
        .map(|it| {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            (text("kind"), it["revision"].as_u64().unwrap(), text("status"))
        })
        .collect()
}

#[test]
fn a_hub_that_was_away_is_told_later_and_shows_what_was_signed() {
    let mut net = Net::serving();
    assert_eq!(net.json("hub directory")["version"], 0);
    let published = net.json("registrar publish");
    assert_eq!(published["published"][0]["taken"], 2, "{published}");
    let published = net.json("registrar publish");
    assert_eq!(published["published"][0]["known"], 2, "{published}");

    let add = "registrar add merchant merchant/merchant.card.json --status suspended";
    let added = net.json(add);
    assert_eq!(added["published"][0]["taken"], 1, "{added}");
    assert_eq!(added["published"][0]["error"], Value::Null, "{added}");
    let word = |kind: &str, revision, status: &str| (kind.to_owned(), revision, status.to_owned());
    let want = [word("hub", 1, "active"), word("merchant", 2, "suspended")];
    let by_folder = net.json("hub directory");
    assert_eq!(entries(&by_folder), want);
    assert_eq!(by_folder["registrar_checked"], true);
    let by_url = net.json(&format!("hub directory --hub {}", net.url));
    assert_eq!(entries(&by_url), want);
    assert_eq!(by_url["registrar_checked"], false);

    let other = net.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    json(&other, "registrar init");
    let line = format!("hub directory --hub {} --network registrar/network.json", net.url);
    assert_eq!(run(&other, &line).status.code(), Some(1));

    // Asked to stop, the hub does, and keeps what it was told.
    assert_eq!(net.hub.take().unwrap().interrupt(), 0);
    assert_eq!(run(net.dir.path(), "hub directory").status.code(), Some(3));
}

#[test]
fn a_reader_is_paired_listed_and_suspended() {
    let net = Net::serving();
    let early = run(net.dir.path(), "merchant pair");
    assert_eq!(early.status.code(), Some(1), "the hub does not know the merchant yet");
    net.json("registrar publish");

    let (mut pair, mut stdout, open) = net.pair(&["--reader", "Till 1", "--right", "refund"]);
    let link = open["link"].as_str().unwrap();
    assert!(link.starts_with(&format!("{}/till#pair=http%3A%2F%2F127", net.url)), "{link}");
    let paired = command(net.dir.path(), &["reader", "pair", link, "--dir", "till1"]);
    let paired = { paired }.output().unwrap();
    assert!(paired.status.success(), "{}", String::from_utf8_lossy(&paired.stderr));
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let done: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(pair.0.wait().unwrap().code(), Some(0));
    assert_eq!((&done["name"], &done["rights"][0]), (&"Till 1".into(), &"refund".into()));
    let id = done["reader_id"].as_str().unwrap();

    let list = net.json("merchant readers");
    assert_eq!(list["readers"][0]["id"], id, "{list}");
    assert_eq!(list["readers"][0]["status"], "active");
    assert_eq!(net.json(&format!("merchant suspend-reader {id}"))["status"], "suspended");
    assert_eq!(net.json("merchant readers")["readers"][0]["revision"], 2);
    net.json(&format!("merchant suspend-reader {id} --status active"));
    net.json(&format!("merchant suspend-reader {id} --status revoked"));
    let back = run(net.dir.path(), &format!("merchant suspend-reader {id} --status active"));
    assert_eq!(back.status.code(), Some(1));
    assert_eq!(net.json("merchant readers")["readers"][0]["status"], "revoked");
}

#[test]
fn a_wrong_proof_is_refused_and_the_link_goes_on() {
    let net = Net::serving();
    net.json("registrar publish");
    let (mut pair, mut stdout, open) = net.pair(&[]);
    let link = open["link"].as_str().unwrap();
    // The secret is the part before the last dot: another one of the same form.
    let (rest, registrar) = link.rsplit_once('.').unwrap();
    let (rest, _) = rest.rsplit_once('.').unwrap();
    let wrong = format!("{rest}.AAAAAAAAAAAAAAAAAAAAAA.{registrar}");
    let refused = { command(net.dir.path(), &["reader", "pair", &wrong, "--dir", "thief"]) };
    let refused = { refused }.output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    let right =
        command(net.dir.path(), &["reader", "pair", link, "--dir", "till", "--name", "Own"]);
    assert!({ right }.output().unwrap().status.success());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["name"], "Own");
    assert_eq!(pair.0.wait().unwrap().code(), Some(0));
    assert_eq!(net.json("merchant readers")["readers"].as_array().unwrap().len(), 1);
}

#[test]
fn an_interrupted_pairing_leaves_no_link_that_works() {
    let net = Net::serving();
    net.json("registrar publish");
    let (mut pair, _stdout, open) = net.pair(&["--reader", "Till 1"]);
    assert_eq!(pair.interrupt(), 1);
    let link = open["link"].as_str().unwrap();
    let late = command(net.dir.path(), &["reader", "pair", link, "--dir", "till1"]);
    assert_eq!({ late }.output().unwrap().status.code(), Some(1));
}

#[test]
fn an_issuers_operator_opens_tops_up_invites_and_lists() {
    let net = Net::serving();
    net.json(&format!(
        "issuer init --name Aoba --prefix 71000001 --currency JPY --kind prepaid \
         --network registrar/network.json --hub {} --listen {}",
        net.url,
        free_port(),
    ));
    let added = net.json("registrar add issuer issuer/issuer.card.json");
    assert_eq!(added["published"][0]["refused"].as_array().unwrap().len(), 0, "{added}");
    let mut issuer = net.serve("issuer", "issuer accounts");

    // The same wish twice is one account, another wish under its id is refused.
    let open = "issuer account open --name Hana --request-id open-1";
    let account = net.json(open)["account_id"].as_str().unwrap().to_owned();
    assert_eq!(net.json(open)["account_id"], *account);
    let other = run(net.dir.path(), "issuer account open --name Sora --request-id open-1");
    assert_eq!(other.status.code(), Some(1));

    let top_up = format!("issuer account top-up {account} 5000 --request-id top-up-1");
    assert_eq!(net.json(&top_up)["balance"]["minor"], 5000);
    assert_eq!(net.json(&top_up)["balance"]["minor"], 5000);
    let again = format!("issuer account top-up {account} 500");
    assert_eq!(net.json(&again)["balance"]["minor"], 5500);
    for (amount, code) in [("12.50", 2), ("0", 2), ("1e3", 2), ("5 --currency EUR", 1)] {
        let line = format!("issuer account top-up {account} {amount}");
        assert_eq!(run(net.dir.path(), &line).status.code(), Some(code), "{line}");
    }
    let limit = run(net.dir.path(), "issuer account open --name Mio --credit-limit 100");
    assert_eq!(limit.status.code(), Some(1), "a prepaid issuer gives no credit");

    let invitation = net.json(&format!("issuer invite {account}"));
    let link = invitation["link"].as_str().unwrap();
    assert!(link.starts_with(&format!("{}/wallet#link=71000001.inv_", net.url)), "{link}");

    for number in 1..=3 {
        net.json(&format!("issuer account open --name Guest{number}"));
    }
    // The views follow the journal and may lag by a moment.
    let begun = Instant::now();
    let all = loop {
        let all = net.json("issuer accounts");
        if all["accounts"].as_array().unwrap().len() == 4 {
            break all;
        }
        assert!(begun.elapsed() < PATIENCE, "{all}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let hana = all["accounts"].as_array().unwrap().iter().find(|it| it["account_id"] == *account);
    assert_eq!(hana.unwrap()["balance_minor"], 5500);
    let mut seen = Vec::new();
    let mut line = "issuer accounts --limit 3".to_owned();
    loop {
        let page = net.json(&line);
        let rows = page["accounts"].as_array().unwrap();
        seen.extend(rows.iter().map(|it| it["account_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        line = format!("issuer accounts --limit 3 --after {next}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    assert_eq!(net.json("issuer payments")["payments"].as_array().unwrap().len(), 0);

    // Somebody else's key is refused.
    let own = net.dir.path().join("issuer/operator.key");
    std::fs::remove_file(&own).unwrap();
    std::fs::copy(net.dir.path().join("merchant/merchant.key"), &own).unwrap();
    assert_eq!(run(net.dir.path(), "issuer accounts").status.code(), Some(1));
    assert_eq!(issuer.interrupt(), 0);
}
