//! A phone without a network: the long code after two seconds, the short one again when the hub is back. And a phone
//! that the hub does not know any more.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use warifu_proto::code::Scanned;

use crate::harness::{Network, PATIENCE, Process, json_of, warifu};

#[test]
fn a_phone_without_network_shows_the_long_code_and_registers_the_same_one_later() {
    let mut net = Network::start();
    let (_, invitation) = net.invite(1_000);
    json_of(net.path(), &["terminal", "link", &invitation, "--dir", "phone"]);
    net.hub.kill_9();
    let begun = Instant::now();
    let mut show = Process(
        Command::new(env!("CARGO_BIN_EXE_warifu"))
            .args(["--json", "terminal", "show", "--dir", "phone", "--lifetime", "300"])
            .current_dir(net.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(show.0.stdout.take().unwrap()).lines();
    let mut next = || {
        let object: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(begun.elapsed() < PATIENCE * 2);
        object
    };
    let short = next();
    assert_eq!((&short["long"], &short["acked"]), (&Value::Bool(false), &Value::Bool(false)));
    let long = next();
    assert!(begun.elapsed().as_millis() >= 2_000);
    assert_eq!(long["long"], true);
    let digits = long["code"].as_str().unwrap();
    assert_eq!(digits.len(), 333);
    let scanned = Scanned::parse(digits).unwrap();
    assert_eq!(scanned.code.as_str(), short["code"]);
    let statement = scanned.registration.unwrap().statement;

    net.restart_hub();
    let back = loop {
        let object = next();
        if object["acked"] == true {
            break object;
        }
    };
    assert_eq!((&back["long"], &back["code"]), (&Value::Bool(false), &short["code"]));
    assert_eq!(back["sequence"], statement.sequence, "registered by the very statement");
    assert_eq!(show.stop(), 0);
}

#[test]
fn a_phone_that_the_hub_has_forgotten_is_told_that_its_link_has_ended() {
    let mut net = Network::start();
    let (_, invitation) = net.invite(1_000);
    json_of(net.path(), &["terminal", "link", &invitation, "--dir", "phone"]);
    // As a day after the link's end, when the hub drops the key.
    net.hub.stop();
    std::fs::remove_dir_all(net.path().join("hub/data")).unwrap();
    net.restart_hub();
    let (code, _, stderr) = warifu(net.path(), &["terminal", "unlink", "--dir", "phone"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the link of this terminal has ended"), "{stderr}");
    assert!(stderr.contains("next: delete the folder phone"), "{stderr}");
    assert!(!stderr.contains("registrar"), "{stderr}");
}
