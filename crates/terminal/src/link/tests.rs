//! Linking against the vectors, and every way an answer may not fit, in the order of the checks.

use serde_json::{Value, json};
use warifu_proto::directory::{Entry, EntryKind};
use warifu_proto::id::{IssuerId, NetworkId};

use super::*;

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number; 32]).unwrap()
}

fn invitation() -> InvitationLink {
    InvitationLink {
        page: "http://127.0.0.1:7001/wallet".to_owned(),
        prefix: Prefix::parse("71000001").unwrap(),
        invitation: InvitationId::from_raw([4; 16]),
        secret: zeroize::Zeroizing::new([5; 32]),
        registrar: key(1).thumbprint(),
    }
}

const NOW: Timestamp = Timestamp::from_ms(1_795_305_600_000);

fn directory(status: &str) -> Directory {
    let network = NetworkId::from_raw([1; 16]);
    let mut directory = Directory::new(network, key(1).public().clone());
    let body = json!({
        "id": IssuerId::from_raw([2; 16]), "revision": 1, "status": status,
        "not_before_ms": NOW.as_ms(), "not_after_ms": NOW.as_ms() + 1000,
        "name": "Aoba Pay", "prefix": "71000001", "key": key(2).public(), "currencies": ["JPY"],
        "endpoints": [{"url": "http://127.0.0.1:7101", "from": 0, "to": 99}],
    });
    let body = serde_json::to_vec(&body).unwrap();
    directory.take(&Entry::sign(network, EntryKind::Issuer, body, &key(1))).unwrap();
    directory
}

fn linked() -> Value {
    json!({
        "credential_id": CredentialId::from_raw([3; 16]),
        "partition": 7,
        "account": {"name": "Hana", "kind": "prepaid", "currency": "JPY", "exponent": 0},
        "limits": {"lifetime_max_s": 120},
        "issuer": {
            "id": IssuerId::from_raw([2; 16]), "name": "Aoba Pay", "prefix": "71000001",
            "key": key(2).thumbprint(),
        },
    })
}

fn answer(linking: &Linking, linked: &Value) -> LinkAnswer {
    let answer = serde_json::to_vec(linked).unwrap();
    let credential_id = CredentialId::from_raw([3; 16]);
    let confirmation = linking.keys.confirmation(credential_id, &answer);
    LinkAnswer { credential_id, answer, confirmation }
}

fn linking() -> Linking {
    Linking::begin(invitation(), key(9).public(), "My phone").unwrap()
}

#[test]
fn a_good_answer_becomes_a_record_that_survives_storage() {
    let linking = linking();
    assert_eq!(linking.hub_url(), "http://127.0.0.1:7001");
    let proof = linking.keys.proof(
        linking.invitation.prefix,
        linking.invitation.invitation,
        key(9).thumbprint(),
    );
    assert_eq!(linking.request().proof, proof);
    linking.request().check().unwrap();

    let link = linking.accept(&answer(&linking, &linked()), &directory("active"), NOW).unwrap();
    assert_eq!((link.partition, link.currency().number, link.lifetime_max_s()), (7, 392, 120));
    assert_eq!(link.device, key(9).thumbprint());
    let text = serde_json::to_string(&link).unwrap();
    assert_eq!(serde_json::from_str::<Link>(&text).unwrap(), link);
    let shown = format!("{link:?} {linking:?}");
    assert!(!shown.contains("Hana") && !shown.contains(&base64url::encode(link.keys.code_key)));
}

#[test]
fn nothing_is_believed_before_it_is_confirmed_and_fits() {
    #[track_caller]
    fn check(change: impl Fn(&mut Value), directory: &Directory, want: LinkError) {
        let linking = linking();
        let mut linked = linked();
        change(&mut linked);
        let got = linking.accept(&answer(&linking, &linked), directory, NOW);
        assert_eq!(got.err(), Some(want));
    }
    let good = directory("active");
    let misfit = |what| LinkError::Misfit { what };
    check(|it| *it = json!([]), &good, LinkError::Unreadable);
    let other = CredentialId::from_raw([8; 16]).to_string();
    check(|it| it["credential_id"] = json!(other), &good, misfit("it names two credentials"));
    check(
        |it| it["issuer"]["prefix"] = json!("71000002"),
        &good,
        misfit("its prefix is not the invitation's"),
    );
    check(|it| it["partition"] = json!(100), &good, misfit("its partition is above 99"));
    let elsewhere = Directory::new(good.network(), key(7).public().clone());
    check(|_| {}, &elsewhere, LinkError::OtherNetwork);
    check(|_| {}, &directory("suspended"), LinkError::IssuerUnknown);
    check(
        |it| it["issuer"]["id"] = json!(IssuerId::from_raw([9; 16])),
        &good,
        LinkError::IssuerUnknown,
    );
    check(|it| it["issuer"]["key"] = json!(key(3).thumbprint()), &good, LinkError::IssuerUnknown);
    check(|it| it["account"]["exponent"] = json!(2), &good, LinkError::CurrencyUnknown);
    check(|it| it["account"]["currency"] = json!("XK1"), &good, LinkError::CurrencyUnknown);
}

#[test]
fn an_answer_that_somebody_touched_is_refused_whatever_it_says() {
    let linking = linking();
    let good = answer(&linking, &linked());
    let directory = directory("active");
    let touch = |change: fn(&mut LinkAnswer)| {
        let mut touched = good.clone();
        change(&mut touched);
        linking.accept(&touched, &directory, NOW).err()
    };
    assert_eq!(touch(|_| {}), None);
    assert_eq!(touch(|it| it.answer.push(b' ')), Some(LinkError::Unconfirmed));
    assert_eq!(touch(|it| it.confirmation[31] ^= 1), Some(LinkError::Unconfirmed));
    let other = |it: &mut LinkAnswer| it.credential_id = CredentialId::from_raw([4; 16]);
    assert_eq!(touch(other), Some(LinkError::Unconfirmed));
    // The right words by somebody with another secret.
    let stranger = InvitationLink { secret: zeroize::Zeroizing::new([6; 32]), ..invitation() };
    let stranger = Linking::begin(stranger, key(9).public(), "My phone").unwrap();
    let forged = answer(&stranger, &linked());
    assert_eq!(linking.accept(&forged, &directory, NOW).err(), Some(LinkError::Unconfirmed));
}

#[test]
fn the_hub_is_where_the_wallet_page_is() {
    for (page, hub) in [
        ("https://hub.example.org/wallet", Some("https://hub.example.org")),
        ("https://hub.example.org/wallet/", Some("https://hub.example.org")),
        ("https://example.org/pay/wallet?lang=ja", Some("https://example.org/pay")),
        ("https://example.org/another/page", Some("https://example.org")),
        ("http://[::1]:7001", Some("http://[::1]:7001")),
        ("ftp://example.org/wallet", None),
        ("https:///wallet", None),
        ("https://a@b/wallet", None),
        ("wallet", None),
    ] {
        assert_eq!(hub_of(page).ok().as_deref(), hub, "{page}");
    }
    assert!(Linking::begin(invitation(), key(9).public(), " \n").is_err());
}

#[test]
fn counters_never_go_back_when_two_processes_store() {
    let linking = linking();
    let mut link = linking.accept(&answer(&linking, &linked()), &directory("active"), NOW).unwrap();
    let mut other = link.clone();
    link.counters = Counters { revision: 3, sequence: 9, notice: 1, clock_offset_ms: 5 };
    other.counters = Counters { revision: 2, sequence: 4, notice: 6, clock_offset_ms: 0 };
    link.merge(&other);
    assert_eq!(link.counters, Counters { revision: 3, sequence: 9, notice: 6, clock_offset_ms: 5 });
}

#[test]
fn the_unlink_message_is_signed_for_the_issuers_clock() {
    let linking = linking();
    let mut link = linking.accept(&answer(&linking, &linked()), &directory("active"), NOW).unwrap();
    link.counters.clock_offset_ms = -5_000;
    let request = link.unlink_request(&key(9), NOW);
    assert_eq!(request.at_ms, NOW.as_ms() - 5_000);
    let message = unlink_message(link.credential, Timestamp::from_ms(request.at_ms));
    assert!(key(9).public().verifies(&message, &request.signature));
}
