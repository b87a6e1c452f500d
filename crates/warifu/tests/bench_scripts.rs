//! The scripts that compare us with others: that they can be read and say what they take. `bench/check.sh` runs them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench")
}

fn bash(args: &[&str]) -> Output {
    Command::new("bash").args(args).current_dir(folder()).output().unwrap()
}

#[test]
fn the_scripts_are_scripts() {
    let scripts = std::fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path());
    let scripts: Vec<_> =
        scripts.filter(|it| it.extension().is_some_and(|it| it == "sh")).collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    for script in scripts {
        let read = bash(&["-n", script.to_str().unwrap()]);
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
}

#[test]
fn the_history_says_what_it_takes_and_refuses_the_rest() {
    let help = bash(&["history.sh", "--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for option in ["--accounts", "--payments", "--payers", "--seconds", "--runs", "--rate", "--out"]
    {
        assert!(help.contains(option), "{option} is not told");
    }
    let refused = bash(&["history.sh", "--rate", "fast"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--rate takes a number"));
}

#[test]
fn the_comparison_says_what_it_takes_and_refuses_the_rest() {
    let help = bash(&["compare.sh", "--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for option in ["--seconds", "--connections", "--accounts", "--runs", "--pool", "--out"] {
        assert!(help.contains(option), "{option} is not told");
    }
    for args in [["compare.sh", "--fast"], ["compare.sh", "--seconds"]] {
        let refused = bash(&args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(args[1]), "{args:?}");
    }
}
