//! A short storm over the whole system. The long one is `warifu storm`.

use crate::harness::warifu;

#[test]
fn nobody_is_paid_twice_or_told_what_is_not_so() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["--seconds", "15", "--readers", "3", "--terminals", "10", "--issuers", "2"];
    let args = [["storm", "--dir", "net", "--json"].as_slice(), &small].concat();
    let (code, stdout, stderr) = warifu(dir.path(), &args);
    let report: serde_json::Value = serde_json::from_str(stdout.trim()).unwrap_or_default();
    assert_eq!(code, 0, "{report:#}\n{stderr}");
    assert_eq!(report["good"], true, "{report:#}");
    assert_eq!(report["unresolved"], 0, "{report:#}");
    assert!(report["outcomes"]["approved"].as_u64().unwrap() > 0, "{report:#}");
    let kills = &report["kills"];
    assert!(kills["issuers"].as_u64().unwrap() > 0, "{report:#}");
    assert!(kills["readers"].as_u64().unwrap() > 0, "{report:#}");
    let dropped = |hop: &str| report["faults"][hop]["answer"]["drop"].as_u64().unwrap();
    assert!(dropped("reader-issuer") + dropped("hub-issuer") > 0, "{report:#}");
}
