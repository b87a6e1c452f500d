//! The operators' commands as people run them: the built binary in a temporary folder, no servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn warifu(dir: &Path, line: &str) -> Output {
    warifu_args(dir, &line.split(' ').collect::<Vec<_>>())
}

fn warifu_args(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args(args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .output()
        .expect("the built binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must work, and gives its standard output.
#[track_caller]
fn good(dir: &Path, line: &str) -> String {
    let output = warifu(dir, line);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}\n{stdout}{stderr}");
    stdout
}

/// Runs a command that must be refused with this code, and gives its standard error.
#[track_caller]
fn bad(dir: &Path, line: &str, code: i32) -> String {
    let output = warifu(dir, line);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}\n{stdout}{stderr}");
    assert!(stderr.contains("error: "), "{line}\n{stderr}");
    stderr
}

#[track_caller]
fn json(dir: &Path, line: &str) -> Value {
    let stdout = good(dir, &format!("--json {line}"));
    assert_eq!(stdout.lines().count(), 1, "{line}\n{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

const INIT_HUB: &str = "hub init --dir hub --network registrar/network.json --listen 127.0.0.1:1 \
                        --url http://127.0.0.1:1";
const INIT_ISSUER: &str = "issuer init --dir aoba --name Aoba --prefix 71000001 --currency JPY --kind prepaid \
                           --network registrar/network.json --hub http://127.0.0.1:1 \
                           --listen 127.0.0.1:2";
const INIT_MERCHANT: &str = "merchant init --dir bakery --name Bakery --category 5462 \
                             --network registrar/network.json --hub http://127.0.0.1:1";

/// A network in which nothing runs: port 1 refuses connections.
fn network() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    good(dir.path(), "registrar init --dir registrar");
    good(dir.path(), INIT_HUB);
    good(dir.path(), INIT_ISSUER);
    good(dir.path(), INIT_MERCHANT);
    dir
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_network_is_made_signed_and_listed_without_any_server() {
    let dir = network();
    let dir = dir.path();
    for (kind, card) in [
        ("hub", "hub/hub.card.json"),
        ("issuer", "aoba/issuer.card.json"),
        ("merchant", "bakery/merchant.card.json"),
    ] {
        let output = warifu(dir, &format!("registrar add {kind} {card} --dir registrar"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let stdout = text(&output.stdout);
        assert!(stdout.contains(&format!("Signed this {kind} entry")), "{stdout}");
        assert!(stdout.contains("warifu registrar publish --dir registrar"), "{stdout}");
        assert!(text(&output.stderr).contains("was not told"), "{}", text(&output.stderr));
    }
    let list = good(dir, "registrar list --dir registrar");
    for word in ["http://127.0.0.1:1", "Aoba (71000001)", "Bakery", "active", "REVISION"] {
        assert!(list.contains(word), "{word}: {list}");
    }
    let list = json(dir, "registrar list --dir registrar");
    let kinds: Vec<&str> =
        list["entries"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["hub", "issuer", "merchant"]);
}

#[test]
fn keys_are_for_the_owner_only() {
    let dir = network();
    for file in [
        "registrar/registrar.key",
        "hub/hub.key",
        "aoba/issuer.key",
        "aoba/vault.key",
        "aoba/operator.key",
        "bakery/merchant.key",
    ] {
        assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_second_init_refuses_and_changes_nothing() {
    let dir = network();
    let dir = dir.path();
    for (line, file) in [
        ("registrar init --dir registrar", "registrar/registrar.key"),
        (INIT_HUB, "hub/hub.key"),
        (INIT_ISSUER, "aoba/issuer.key"),
        (INIT_MERCHANT, "bakery/merchant.key"),
    ] {
        let before = std::fs::read(dir.join(file)).unwrap();
        let stderr = bad(dir, line, 2);
        assert!(stderr.contains("nothing is overwritten"), "{stderr}");
        assert!(stderr.contains("next: "), "{stderr}");
        assert_eq!(std::fs::read(dir.join(file)).unwrap(), before);
    }
}

#[test]
fn init_with_wrong_arguments_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, "registrar init --dir registrar");
    for line in [
        "hub init --dir x --network registrar/network.json --listen 0.0.0.0:7001",
        "hub init --dir x --network registrar/network.json --url http://hub.example.org",
        "hub init --dir x --network registrar/nothing.json",
        "issuer init --dir x --name A --prefix 71 --currency JPY --kind prepaid \
         --network registrar/network.json --hub http://127.0.0.1:1",
        "issuer init --dir x --name A --prefix 7100 --currency YEN --kind prepaid \
         --network registrar/network.json --hub http://127.0.0.1:1",
        "issuer init --dir x --name A --prefix 7100 --currency JPY --kind gift \
         --network registrar/network.json --hub http://127.0.0.1:1",
        "merchant init --dir x --name B --category 54 --network registrar/network.json \
         --hub http://127.0.0.1:1",
        "merchant init --dir x --name B --category 5462 --network registrar/network.json \
         --hub http://hub.example.org",
    ] {
        bad(dir, line, 2);
        assert!(!dir.join("x").exists(), "{line}");
    }
}

fn change_card(dir: &Path, card: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(card);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_wrong_card_is_refused_with_what_is_wrong() {
    let dir = network();
    let dir = dir.path();
    let add = |kind: &str, card: &str| bad(dir, &format!("registrar add {kind} {card}"), 2);

    let stderr = add("merchant", "hub/hub.card.json");
    assert!(stderr.contains("the card of a hub, not of a merchant"), "{stderr}");
    assert!(stderr.contains("next: warifu registrar add hub hub/hub.card.json"), "{stderr}");
    assert!(add("hub", "nothing.json").contains("nothing.json can't be read"));
    assert!(add("hub", "hub/hub.toml").contains("not as it should be"));

    change_card(dir, "bakery/merchant.card.json", |card| {
        card["category"] = "54".into();
        card["name"] = "Bak\u{1b}[2Jery".into();
    });
    let stderr = add("merchant", "bakery/merchant.card.json");
    assert!(stderr.contains("category: ") && stderr.contains("name: "), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");

    change_card(dir, "hub/hub.card.json", |card| card["url"] = "http://hub.example.org".into());
    assert!(add("hub", "hub/hub.card.json").contains("url: must be https"));
    change_card(dir, "hub/hub.card.json", |card| card["colour"] = "red".into());
    assert!(add("hub", "hub/hub.card.json").contains("colour"));

    change_card(dir, "aoba/issuer.card.json", |card| {
        card["currencies"] = ["XQ1"].as_slice().into()
    });
    assert!(add("issuer", "aoba/issuer.card.json").contains("XQ1 is neither"));
    assert_eq!(json(dir, "registrar list")["entries"].as_array().unwrap().len(), 0);
}

#[test]
fn prefixes_of_a_network_do_not_overlap() {
    let dir = network();
    let dir = dir.path();
    good(dir, "registrar add issuer aoba/issuer.card.json");
    good(dir, &INIT_ISSUER.replace("aoba", "kaede").replace("71000001", "7100"));
    let stderr = bad(dir, "registrar add issuer kaede/issuer.card.json", 2);
    assert!(stderr.contains("7100 overlaps with 71000001, the prefix of Aoba"), "{stderr}");
}

#[test]
fn revisions_grow_and_revoking_is_for_ever() {
    let dir = network();
    let dir = dir.path();
    let add = "registrar add merchant bakery/merchant.card.json";
    assert_eq!(json(dir, add)["body"]["revision"], 1);
    let renewed = json(dir, &format!("{add} --status suspended --valid-days 30"));
    assert_eq!(renewed["body"]["revision"], 2);
    assert_eq!(renewed["body"]["status"], "suspended");
    assert_eq!(json(dir, &format!("{add} --status revoked"))["body"]["revision"], 3);
    assert!(bad(dir, add, 2).contains("revoked, and that is for ever"));
    let list = json(dir, "registrar list");
    assert_eq!(list["entries"].as_array().unwrap().len(), 1);
    assert_eq!(list["entries"][0]["revision"], 3);
}

#[test]
fn regional_currencies_are_given_out_once() {
    let dir = network();
    let dir = dir.path();
    let add = "registrar currency add XAB --number 1001 --exponent 0 --name Coin";
    assert_eq!(json(dir, add)["body"]["code"], "XAB");
    assert_eq!(json(dir, add)["body"]["revision"], 2);
    for (line, why) in [
        ("registrar currency add XAB --number 1002 --exponent 0 --name Coin", "was given out"),
        (
            "registrar currency add XAC --number 1001 --exponent 0 --name Coin",
            "1001 is that of XAB",
        ),
        ("registrar currency add XAU --number 1003 --exponent 0 --name Gold", "ISO does not use"),
        ("registrar currency add XQ2 --number 999 --exponent 0 --name Low", "1000-65535"),
        ("registrar currency add XQ2 --number 1004 --exponent 7 --name Fine", "0-6"),
    ] {
        let stderr = bad(dir, line, 2);
        assert!(stderr.contains(why), "{line}\n{stderr}");
    }
    change_card(dir, "aoba/issuer.card.json", |card| {
        card["currencies"] = ["XAB"].as_slice().into()
    });
    good(dir, "registrar add issuer aoba/issuer.card.json");
}

#[test]
fn a_line_cut_short_by_a_crash_is_dropped_and_a_changed_one_is_not_believed() {
    let dir = network();
    let dir = dir.path();
    good(dir, "registrar add hub hub/hub.card.json");
    let path = dir.join("registrar/entries.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
    good(dir, "registrar add merchant bakery/merchant.card.json");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    std::fs::write(&path, whole.replacen("\"hub\"", "\"issuer\"", 1)).unwrap();
    let stderr = bad(dir, "registrar list", 2);
    assert!(stderr.contains("line 1 of"), "{stderr}");
}

#[test]
fn configurations_work_as_they_are_written() {
    let dir = network();
    good(dir.path(), "hub check-config --dir hub");
    good(dir.path(), "issuer check-config --dir aoba");
}

#[test]
fn check_config_reports_all_faults_at_once() {
    let dir = network();
    let dir = dir.path();
    for (role, folder) in [("hub", "hub"), ("issuer", "aoba")] {
        let path = dir.join(folder).join(format!("{role}.toml"));
        let good = std::fs::read_to_string(&path).unwrap();
        let spoilt = good.replace("listen = \"127.0.0.1:", "listen = \"nowhere:");
        assert_ne!(spoilt, good);
        std::fs::write(&path, format!("colour = \"red\"\n{spoilt}")).unwrap();
        let stderr = bad(dir, &format!("{role} check-config --dir {folder}"), 2);
        assert!(stderr.contains("colour") && stderr.contains("listen"), "{stderr}");
    }
}

#[test]
fn a_folder_that_is_missing_is_named_with_the_command_that_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    for (line, init) in [
        ("registrar list --dir nowhere", "warifu registrar init --dir nowhere"),
        ("hub serve --dir nowhere", "warifu hub init --dir nowhere"),
        ("hub check-config --dir nowhere", "warifu hub init --dir nowhere"),
        ("issuer serve --dir nowhere", "warifu issuer init --dir nowhere"),
        ("issuer accounts --dir nowhere", "warifu issuer init --dir nowhere"),
        ("merchant readers --dir nowhere", "warifu merchant init --dir nowhere"),
    ] {
        let stderr = bad(dir.path(), line, 2);
        assert!(
            stderr.contains(&format!("next: make the folder first: {init}")),
            "{line}\n{stderr}"
        );
    }
}

#[test]
fn whoever_cannot_be_reached_is_exit_code_3() {
    let dir = network();
    let dir = dir.path();
    good(dir, "registrar add hub hub/hub.card.json");
    good(dir, "registrar add merchant bakery/merchant.card.json");
    let output = warifu(dir, "registrar publish");
    assert_eq!(output.status.code(), Some(3));
    for line in [
        "hub directory --dir hub",
        "hub directory --hub http://127.0.0.1:1",
        "merchant pair --dir bakery --reader Till",
        "issuer accounts --dir aoba",
        "issuer payments --dir aoba",
        "issuer account open --name Hana --dir aoba",
    ] {
        bad(dir, line, 3);
    }
}

#[test]
fn errors_are_one_object_with_json() {
    let dir = network();
    let output = warifu(dir.path(), "--json registrar init --dir registrar");
    assert_eq!(output.status.code(), Some(2));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["exit"], "usage");
    assert!(error["error"]["message"].as_str().unwrap().contains("overwritten"));
    assert!(error["error"]["next"].is_string());
    assert_eq!(text(&output.stderr), "");

    let output = warifu(dir.path(), "registrar list --colour red --json");
    assert_eq!(output.status.code(), Some(2));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("--colour"), "{error}");
}

/// All commands, found by reading the help itself.
fn commands(dir: &Path, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
    args.push("--help");
    let output = warifu_args(dir, &args);
    assert_eq!(output.status.code(), Some(0), "{path:?}");
    let help = text(&output.stdout);
    assert!(help.contains("Example:"), "{path:?}\n{help}");
    assert!(help.contains("--json"), "{path:?}\n{help}");
    found.push(path.clone());
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return };
    for line in list.lines().take_while(|line| line.starts_with("  ")) {
        if let Some(name) = line.strip_prefix("  ").filter(|it| !it.starts_with(' ')) {
            path.push(name.split(' ').next().unwrap().to_owned());
            commands(dir, path, found);
            path.pop();
        }
    }
}

#[test]
fn every_command_has_an_example() {
    let dir = tempfile::tempdir().unwrap();
    let help = good(dir.path(), "--help");
    let roles = ["demo", "registrar", "hub", "issuer", "merchant", "terminal", "reader"];
    let places: Vec<usize> =
        roles.iter().map(|role| help.find(&format!("\n  {role} ")).unwrap()).collect();
    assert!(places.is_sorted(), "{help}");
    assert!(help.contains("Example:"));
    let mut found = Vec::new();
    for role in roles {
        commands(dir.path(), &mut vec![role.to_owned()], &mut found);
    }
    assert!(found.contains(&vec!["issuer".to_owned(), "account".to_owned(), "top-up".to_owned()]));
    assert!(found.len() > 25, "{found:?}");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_warifu"))
        .args(["registrar", "init", "--dir", "registrar"])
        .current_dir(dir.path())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    assert!(dir.path().join("registrar/network.json").exists());
}
