//! `warifu bench`: each scenario works a little load off and says on what its figures rest. Nothing here is timed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

fn warifu(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warifu")).args(args).output().unwrap()
}

fn bench(args: &[&str]) -> Value {
    let output = warifu(&[&["--json", "bench"], args].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

const LITTLE: [&str; 8] =
    ["--seconds", "1", "--connections", "8", "--accounts", "60", "--limits-seconds", "0"];

#[test]
fn refunds_of_many_merchants_with_a_history() {
    let more = ["--merchants", "3", "--hot-share", "50", "--history", "100"];
    let it = bench(&[&["refund"], &LITTLE[..], &more].concat());
    assert_eq!((&it["errors"], &it["scenario"]), (&0.into(), &"refund".into()));
    assert!(it["done"].as_u64().unwrap() > 0 && it["batch_p99_at_most"].as_u64().is_some());
    let conditions = ["merchants", "hot_share_percent", "history", "accounts"].map(|it_| &it[it_]);
    assert_eq!(conditions.map(|it| it.as_u64().unwrap()), [3, 50, 100, 60]);
    assert!(it["durability"].as_str().unwrap().contains("synced before its answer"));
}

#[test]
fn registrations_through_the_hub_within_its_rule() {
    // Each of the sixty may register five codes at once: enough for this and for warming up.
    let it = bench(&[&["register", "--rate", "100"], &LITTLE[..]].concat());
    assert_eq!(["errors", "refused", "done"].map(|name| it[name].as_u64().unwrap()), [0, 0, 100]);
    assert!(it["latency_us"]["whole"]["p50"].as_u64().unwrap() > 0);
}

/// With an account for each payment an open loop is one schedule; with fewer it says in how many rounds it was measured.
#[test]
fn an_open_loop_is_one_schedule_if_there_are_accounts() {
    let open = ["pay-only", "--seconds", "1", "--connections", "8", "--limits-seconds", "0"];
    let one = bench(&[&open[..], &["--rate", "60", "--accounts", "60"]].concat());
    assert_eq!(one["loop"], "open");
    assert_eq!(["errors", "done", "rounds"].map(|it| one[it].as_u64().unwrap()), [0, 60, 1]);
    // The last is sent a sixtieth before the second is over.
    assert!(one["measured_ms"].as_u64().unwrap() >= 983, "{one}");
    let two = bench(&[&open[..], &["--rate", "60", "--accounts", "40"]].concat());
    assert_eq!(["errors", "done", "rounds"].map(|it| two[it].as_u64().unwrap()), [0, 60, 2]);
}

#[test]
fn lone_payments_on_an_idle_system() {
    let it = bench(&["lone", "--accounts", "20", "--limits-seconds", "0"]);
    assert_eq!((&it["errors"], &it["done"]), (&0.into(), &500.into()), "{it}");
    assert!(it["latency_us"]["whole"]["p50"].as_u64().unwrap() > 0);
}

#[test]
fn a_mix_measures_each_part() {
    let it = bench(&[&["mixed"], &LITTLE[..]].concat());
    assert_eq!(it["errors"], 0, "{it}");
    let shares = ["look_up", "refund", "reverse"].map(|part| it["mix_percent"][part].as_u64());
    assert_eq!(shares, [Some(20), Some(5), Some(2)]);
    for part in ["whole", "register", "pay", "look_up", "refund", "reverse"] {
        assert!(it["latency_us"][part]["p99"].as_u64().unwrap() > 0, "{part}");
    }
}

#[test]
fn the_engine_alone_in_both_stores_and_the_machines_limits() {
    let little = ["engine", "--seconds", "1", "--accounts", "50"];
    let more = ["--limits-seconds", "1", "--restart", "--history", "500", "--batch", "16"];
    let it = bench(&[&little[..], &more].concat());
    let paid = it["payments"].as_u64().unwrap();
    assert!(it["restart"]["entries"].as_u64().unwrap() >= 2 * (paid + 500), "{it}");
    for limit in ["appends_4k_per_second", "echoes_per_second", "p256_checks_all_cores_per_second"]
    {
        assert!(it["limits"][limit].as_u64().unwrap() > 0, "{limit}");
    }
    assert!(it["batch_mean_hundredths"].as_u64().unwrap() <= 1600);
    let more = ["--limits-seconds", "0", "--store", "memory", "--one-partition", "--random-ids"];
    let it = bench(&[&little[..], &more].concat());
    assert!(it["payments"].as_u64().unwrap() > 0);
    assert!(it["durability"].as_str().unwrap().starts_with("NONE"));
}

/// Books that were filled are like any others: they hold what was said, fit together, and are not filled again.
#[test]
fn a_new_issuers_books_are_filled_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |args: &[&str]| {
        let output = warifu(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["registrar", "init", "--dir", &at("registrar")]);
    let (network, dir) = (at("registrar/network.json"), at("aoba"));
    let hub = ["--hub", "http://127.0.0.1:9", "--network", &network, "--dir", &dir];
    let aoba = ["--name", "Aoba", "--prefix", "71000001", "--currency", "EUR", "--kind", "prepaid"];
    let listen =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let listen = ["--listen", &listen];
    run(&[&["issuer", "init"], &aoba[..], &hub, &listen].concat());
    let fill = ["fill", "--dir", &dir, "--accounts", "40", "--payments", "300"];
    let it = bench(&fill);
    // Opened, topped up, invited, linked; registered and paid.
    assert_eq!(it["entries"], 40 * 4 + 300 * 2, "{it}");
    let output = warifu(&[&["bench"], &fill[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("hold entries already") && told.contains("issuer init"), "{told}");

    // Its views are made when it is served, as of any journal.
    let mut issuer = Command::new(env!("CARGO_BIN_EXE_warifu"));
    let mut issuer = issuer.args(["issuer", "serve", "--dir", &dir]).spawn().unwrap();
    let agrees = || {
        std::thread::sleep(Duration::from_millis(100));
        let output = warifu(&["--json", "verify", &dir]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        output.status.success() && report["checked"]["view rows"].as_u64() >= Some(300)
    };
    let is_sound = (0..200).any(|_| agrees());
    issuer.kill().unwrap();
    issuer.wait().unwrap();
    assert!(is_sound, "{}", String::from_utf8_lossy(&warifu(&["verify", &dir]).stdout));
}

/// A network that somebody else started, by its addresses; and what is said when something is missing.
#[test]
fn an_existing_network_by_its_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("network");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_warifu"));
    let demo = demo.args(["--json", "demo", "--dir"]).arg(&dir);
    let mut demo = demo.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = demo.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let up: Value = serde_json::from_str(&line).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let hub = up["hub"]["url"].as_str().unwrap();
    let issuer = up["issuers"][0]["url"].as_str().unwrap();
    let (key, reader) = (text(&dir.join("aoba/operator.key")), text(&dir.join("till")));
    let existing = ["--hub", hub, "--issuer", issuer, "--operator-key", &key, "--reader", &reader];
    let it = bench(&[&["pay"], &LITTLE[..], &existing].concat());
    assert_eq!(it["errors"], 0, "{it}");
    assert!(it["store"].as_str().unwrap().contains(hub));

    let output = warifu(&["bench", "pay", "--hub", hub]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--operator-key"), "{told}");
    let elsewhere = ["--hub", hub, "--issuer", "http://127.0.0.1:9", "--operator-key", &key];
    let output = warifu(&[&["bench", "pay"], &elsewhere[..], &["--reader", &reader]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("no issuer of this network is at"), "{told}");
    // A key of somebody else is no operator's.
    let existing = ["--hub", hub, "--issuer", issuer, "--reader", &reader, "--limits-seconds", "0"];
    let wrong = text(&dir.join("registrar/registrar.key"));
    let output = warifu(&[&["bench", "pay", "--operator-key", &wrong], &existing[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("by this operator's key") && told.contains("operator.key in"), "{told}");
    demo.kill().unwrap();
    demo.wait().unwrap();
}
