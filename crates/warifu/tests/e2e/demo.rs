//! `warifu demo` as a script sees it.

use crate::harness::json_of;

#[test]
fn a_first_payment_is_approved_and_others_can_join() {
    let dir = tempfile::tempdir().unwrap();
    let demo = json_of(dir.path(), &["demo", "--once"]);
    let payment = &demo["payment"];
    assert_eq!(payment["status"], "approved", "{demo}");
    assert_eq!(payment["amount"]["minor"], 1200);
    assert_eq!(payment["account_hint"].as_str().unwrap().len(), 4);
    assert!(payment["payment_id"].as_str().unwrap().starts_with("pay_"));
    assert!(demo["merchant_id"].as_str().unwrap().starts_with("mer_"));
    assert!(demo["hub"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    let issuers = demo["issuers"].as_array().unwrap();
    assert_eq!(
        issuers.iter().map(|it| it["prefix"].as_str().unwrap()).collect::<Vec<_>>(),
        ["71000001", "71000002"]
    );
    for timing in ["show", "register", "pay"] {
        assert!(demo["timings_ms"][timing].as_f64().unwrap() > 0.0);
    }
    assert!(demo["spare_invitations"].as_array().unwrap().len() >= 2);
    assert!(!demo["spare_pairing_links"].as_array().unwrap().is_empty());
    assert!(demo["store"].as_str().unwrap().contains("synchronous=FULL"));
}

#[test]
fn its_files_are_kept_on_request_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    json_of(dir.path(), &["demo", "--once", "--dir", "net"]);
    assert!(dir.path().join("net/aoba/data/journal.db").is_file());
    let (code, _, stderr) = crate::harness::warifu(dir.path(), &["demo", "--once", "--dir", "net"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn every_payment_ends_on_a_network_that_loses_repeats_and_dies() {
    let dir = tempfile::tempdir().unwrap();
    let spec = "reader-issuer.answer:drop=0.4,*:delay=0.2@300,*:duplicate=0.2,reader-issuer:kill=0.1,seed=7";
    let args = ["demo", "--faults", spec, "--payments", "6", "--dir", "net"];
    let end = json_of(dir.path(), &args);
    assert_eq!(end["payments"], 6, "{end}");
    let outcomes = end["outcomes"].as_object().unwrap();
    assert!(!outcomes.contains_key("unknown"), "{end}");
    let lost = &end["faults"]["reader-issuer"]["answer"]["drop"];
    assert!(lost.as_u64().unwrap() > 0, "{end}");

    let list = json_of(dir.path(), &["reader", "payments", "--dir", "net/till", "--open"]);
    assert!(list["payments"].as_array().unwrap().is_empty(), "{list}");
}

#[test]
fn a_wrong_plan_of_faults_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["demo", "--once", "--faults", "*:dealy=0.5"];
    let (code, _, stderr) = crate::harness::warifu(dir.path(), &args);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("`*:dealy=0.5`: no fault is called dealy"), "{stderr}");
}
