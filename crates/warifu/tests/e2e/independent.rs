//! A client in another language, by `docs/protocol.md` and without our code, joins a running network.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::harness::Process;

#[test]
fn a_client_in_another_language_links_pairs_pays_once_and_checks_every_signature() {
    let python = "/usr/bin/python3";
    let has =
        Command::new(python).args(["-c", "import cryptography"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|it| it.success()) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "Python with cryptography is missing"
        );
        eprintln!(
            "skipped: Python with cryptography is missing (Debian package python3-cryptography)"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_warifu"));
    let mut demo = Process(
        demo.args(["--json", "demo"])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let line = BufReader::new(demo.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let file = dir.path().join("demo.json");
    std::fs::File::create(&file).unwrap().write_all(line.as_bytes()).unwrap();
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent/client.py");
    let output = Command::new(python).arg(client).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("checks passed"), "{said}");
    drop(demo);
}
