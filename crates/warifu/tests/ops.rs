//! The rules for operators' alarms, as the alarm system itself reads them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops")
}

fn promtool(args: &[&str]) {
    match Command::new("promtool").args(args).current_dir(ops()).output() {
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "promtool is missing: {error}");
            eprintln!("skipped: promtool is missing (Debian package prometheus)");
        }
    }
}

#[test]
fn the_alerts_are_good_rules_and_fire_when_they_should() {
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts.test.yml"]);
}

#[test]
fn every_metric_that_an_alert_looks_at_is_told_by_the_program() {
    let rules = std::fs::read_to_string(ops().join("alerts.yml")).unwrap();
    let sources = sources(&ops().join("../crates"));
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics: Vec<&str> = words.filter(|it| it.starts_with("warifu_")).collect();
    assert!(metrics.len() >= 5, "{metrics:?}");
    for metric in metrics {
        assert!(sources.contains(&format!("\"{metric}\"")), "nobody tells {metric}");
    }
}

/// All of the program's source.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            text += &sources(&path);
        } else if path.extension().is_some_and(|it| it == "rs") {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}
