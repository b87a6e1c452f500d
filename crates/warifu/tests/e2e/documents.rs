//! Every command of the operating guide is run, in the order in which it stands there.

use std::io::Write as _;
use std::process::Command;

/// The ```sh blocks of a document, one script.
fn script(document: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in document.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => script.extend([line, "\n"]),
            _ => {}
        }
    }
    script
}

#[test]
fn the_operating_guide_makes_a_network_that_pays() {
    let guide = include_str!("../../../../docs/operating.md");
    let dir = tempfile::tempdir().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_warifu")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let file = dir.path().join("guide.sh");
    // The guide's ports are free on an operator's machine; here another test may have them.
    let ports = free_ports();
    let script = script(guide)
        .replace("7001", &ports[0])
        .replace("7101", &ports[1])
        .replace("7102", &ports[2]);
    let ends = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n";
    std::fs::File::create(&file)
        .unwrap()
        .write_all(format!("set -eux\n{ends}{script}").as_bytes())
        .unwrap();
    let output = Command::new("bash")
        .arg(&file)
        .current_dir(dir.path())
        .env("PATH", path)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("approved: 1200 JPY"), "{stdout}\n{stderr}");
}

fn free_ports() -> Vec<String> {
    let listeners: Vec<_> =
        (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|it| it.local_addr().unwrap().port().to_string()).collect()
}
