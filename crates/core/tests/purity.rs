//! Law of `core` and `proto`: they never read a clock, chance, the environment, a file, a socket or a database. Checked
//! on what they link and on what they say; `clippy.toml` beside each manifest denies the calls as well.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the test reads sources; what it tests may not")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Crates that bring what a rule may not have, directly or by way of others.
const IMPURE: [&str; 10] = [
    "tokio",
    "mio",
    "hyper",
    "reqwest",
    "rusqlite",
    "rand",
    "getrandom",
    "socket2",
    "tracing",
    "axum",
];

/// Words of the standard library for the same, and for an order that differs from run to run.
const WORDS: [&str; 17] = [
    "::now(",
    "SystemTime",
    "Instant",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::io",
    "std::os",
    "HashMap",
    "HashSet",
    "RandomState",
    "env!(",
    "option_env!(",
    "include_bytes!(",
    "thread_local!",
];

/// Whatever brings several of them at once: `use std::{env, fs}`.
const MODULES: [&str; 6] = ["env", "fs", "net", "thread", "process", "io"];

fn crates() -> [PathBuf; 2] {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    [core.to_owned(), core.parent().unwrap().join("proto")]
}

/// The packages that a package links, on this platform, as `cargo tree` names them.
fn linked(package: &str) -> Vec<String> {
    let mut tree = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    let tree = tree
        .args([
            "tree",
            "--offline",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_rule_links_a_clock_chance_a_socket_or_a_database() {
    for package in ["warifu-core", "warifu-proto"] {
        let linked = linked(package);
        assert!(
            linked.iter().any(|name| name == "aws-lc-rs"),
            "{package}: this is not its tree: {linked:?}"
        );
        for name in IMPURE {
            let family = [format!("{name}_"), format!("{name}-")];
            let belongs =
                |it: &&String| *it == name || family.iter().any(|start| it.starts_with(start));
            let found = linked.iter().find(belongs);
            assert_eq!(
                found, None,
                "{package} links {name}: run `cargo tree -p {package} -i {name}`"
            );
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// What in a line of source is not allowed.
fn impure(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    let word = WORDS.into_iter().find(|word| code.contains(word));
    let grouped = code.contains("use std::{").then(|| {
        let names = code.split(['{', '}', ',', ' ', ':']);
        MODULES.into_iter().find(|module| names.clone().any(|name| name == *module))
    });
    word.or(grouped.flatten())
}

#[test]
fn no_rule_says_clock_chance_environment_file_or_socket() {
    for folder in crates() {
        let mut found = Vec::new();
        sources(&folder.join("src"), &mut found);
        assert!(found.len() > 10, "{}", folder.display());
        for path in found {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in (1..).zip(text.lines()) {
                assert_eq!(impure(line), None, "{}:{number}: {line}", path.display());
            }
        }
    }
}

#[test]
fn what_is_looked_for_would_be_found() {
    assert_eq!(impure("use std::time::{Duration, SystemTime};"), Some("SystemTime"));
    assert_eq!(impure("let now = jiff::Timestamp::now();"), Some("::now("));
    assert_eq!(impure("use std::{cmp, fs};"), Some("fs"));
    assert_eq!(impure("use std::collections::{BTreeMap, HashMap};"), Some("HashMap"));
    assert_eq!(impure("use std::{cmp, fmt};"), None);
    assert_eq!(impure("// never SystemTime"), None);
}
