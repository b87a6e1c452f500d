//! Every way a pairing's answer may not fit, in the order of the checks.

use serde_json::{Value, json};
use warifu_proto::directory::Taken;
use warifu_proto::key::PrivateKey;
use warifu_proto::message::MerchantAbout;

use super::*;

const NOW: Timestamp = Timestamp::from_ms(1_795_305_600_000);
const NETWORK: NetworkId = NetworkId::from_raw([1; 16]);
const MERCHANT: MerchantId = MerchantId::from_raw([2; 16]);
const READER: ReaderId = ReaderId::from_raw([3; 16]);

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number; 32]).unwrap()
}

fn common(id: impl Serialize) -> Value {
    json!({
        "id": id, "revision": 1, "status": "active",
        "not_before_ms": NOW.as_ms() - 1000, "not_after_ms": NOW.as_ms() + 1000,
    })
}

fn with(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { return base };
    base.as_object_mut().unwrap().extend(more);
    base
}

fn directory() -> Directory {
    let mut directory = Directory::new(NETWORK, key(1).public().clone());
    let body = with(
        common(MERCHANT),
        json!({"name": "Aoba Bakery", "category": "5462", "key": key(2).public()}),
    );
    let body = serde_json::to_vec(&body).unwrap();
    let entry = Entry::sign(NETWORK, EntryKind::Merchant, body, &key(1));
    assert_eq!(directory.take(&entry).unwrap(), Taken::New);
    directory
}

fn pairing() -> Pairing {
    let link = PairingLink {
        page: String::new(),
        hub_url: "http://127.0.0.1:7001".to_owned(),
        pairing: PairingId::from_raw([4; 16]),
        secret: [5; 16].into(),
        registrar: key(1).thumbprint(),
    };
    Pairing::begin(link, key(9).public(), "Till 1").unwrap()
}

fn reader() -> Value {
    with(
        common(READER),
        json!({"merchant_id": MERCHANT, "name": "Till 1", "key": key(9).public(), "rights": ["refund", "x"]}),
    )
}

fn answer(body: &Value, signer: &PrivateKey) -> PairingAnswer {
    PairingAnswer {
        reader_id: READER,
        merchant: MerchantAbout { id: MERCHANT, name: "Whatever".to_owned() },
        entry: Entry::sign(NETWORK, EntryKind::Reader, serde_json::to_vec(body).unwrap(), signer),
    }
}

#[test]
fn a_good_answer_becomes_a_record_that_survives_storage() {
    let pairing = pairing();
    let request = pairing.request();
    assert_eq!(request.proof, proof(&[5; 16], pairing.id(), key(9).thumbprint()));
    let paired = pairing.accept(&answer(&reader(), &key(2)), &directory(), NOW).unwrap();
    assert_eq!((paired.merchant_name.as_str(), paired.name.as_str()), ("Aoba Bakery", "Till 1"));
    assert_eq!(paired.rights, [Right::Refund, Right::Unknown]);
    let text = serde_json::to_string(&paired).unwrap();
    assert_eq!(serde_json::from_str::<Paired>(&text).unwrap().entry, paired.entry);
}

#[test]
fn answers_that_do_not_fit_are_refused_by_name() {
    #[track_caller]
    fn check(answer: &PairingAnswer, directory: &Directory, want: PairError) {
        assert_eq!(pairing().accept(answer, directory, NOW).err(), Some(want));
    }
    let good = directory();
    let signed = |more: Value| answer(&with(reader(), more), &key(2));
    let misfit = |what| PairError::Misfit { what };
    let elsewhere = Directory::new(NETWORK, key(7).public().clone());
    check(&signed(json!({})), &elsewhere, PairError::OtherNetwork);
    check(&signed(json!({"key": 5})), &good, PairError::Unreadable);
    let mut other_kind = signed(json!({}));
    other_kind.entry.kind = EntryKind::Merchant;
    check(&other_kind, &good, PairError::Unreadable);
    check(
        &signed(json!({"id": ReaderId::from_raw([8; 16])})),
        &good,
        misfit("it names two readers"),
    );
    check(
        &signed(json!({"key": key(8).public()})),
        &good,
        misfit("it names another key than this reader's"),
    );
    check(
        &signed(json!({"merchant_id": MerchantId::from_raw([8; 16])})),
        &good,
        misfit("it names two merchants"),
    );
    let nobody = Directory::new(NETWORK, key(1).public().clone());
    check(&signed(json!({})), &nobody, PairError::MerchantUnknown);
    check(&answer(&reader(), &key(1)), &good, PairError::NotSigned);
    let mut touched = signed(json!({}));
    touched.entry.signature[0] ^= 1;
    check(&touched, &good, PairError::NotSigned);
    check(&signed(json!({"status": "suspended"})), &good, PairError::Inactive);
    assert!(Pairing::begin(pairing().link, key(9).public(), "").is_err());
}
