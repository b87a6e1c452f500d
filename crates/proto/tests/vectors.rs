//! Every vector of `vectors/code.json`, made by an independent implementation: layouts and cryptography to the
//! letter, valid and invalid.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use warifu_proto::code::{Code, Locator, Prefix, Scanned};
use warifu_proto::directory::{Directory, Entry, Taken};
use warifu_proto::id::{
    CredentialId, InvitationId, MerchantId, NetworkId, PairingId, PaymentId, SessionId,
};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::link::{LinkKeys, unlink_message};
use warifu_proto::notice::{Verdict, confirm_message, open, seal};
use warifu_proto::registration::{Registration, Statement, clock_ack, registered_ack, tag};
use warifu_proto::session::{SessionKeys, SessionParties};
use warifu_proto::time::Timestamp;
use warifu_proto::{base64url, pairing};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../vectors/code.json")).unwrap()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_else(|| panic!("{name} is missing"))
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("{name} is missing"))
}

fn hex(of: &Value, name: &str) -> Vec<u8> {
    let text = text(of, name);
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn bytes<const N: usize>(of: &Value, name: &str) -> [u8; N] {
    hex(of, name).try_into().unwrap_or_else(|_| panic!("{name} has another length"))
}

#[test]
fn keys_and_links() {
    for vector in vectors()["valid"].as_array().unwrap() {
        let (input, expect) = (&vector["input"], &vector["expect"]);
        let key = PrivateKey::from_bytes(&bytes(input, "device_private_key_hex")).unwrap();
        let jwk = serde_json::to_value(key.public()).unwrap();
        assert_eq!(jwk, expect["device_jwk"]);
        let read: PublicKey = serde_json::from_value(jwk).unwrap();
        assert_eq!(&read, key.public());
        assert_eq!(key.thumbprint().to_string(), text(expect, "device_thumbprint"));

        let prefix = Prefix::parse(text(input, "issuer_prefix")).unwrap();
        let invitation = InvitationId::from_raw(bytes(input, "invitation_id_hex"));
        let credential = CredentialId::from_raw(bytes(input, "credential_id_hex"));
        let keys = LinkKeys::derive(&bytes(input, "invitation_secret_hex"), key.thumbprint());
        assert_eq!(keys.code_key, bytes(expect, "code_key_hex"));
        assert_eq!(keys.link_key, bytes(expect, "link_key_hex"));
        assert_eq!(keys.seal_key, bytes(expect, "seal_key_hex"));
        assert_eq!(keys.next_key, bytes(expect, "next_key_hex"));
        assert_eq!(keys, LinkKeys::from_bytes(&keys.to_bytes()));
        assert_eq!(
            keys.proof(prefix, invitation, key.thumbprint()),
            bytes(expect, "link_proof_hex")
        );
        let answer = text(input, "answer_utf8").as_bytes();
        assert_eq!(keys.confirmation(credential, answer), bytes(expect, "link_confirmation_hex"));
        let at = Timestamp::from_ms(number(input, "now_ms"));
        assert_eq!(unlink_message(credential, at), hex(expect, "unlink_message_hex"));

        let pairing = PairingId::from_raw(bytes(input, "pairing_id_hex"));
        let proof = pairing::proof(&bytes(input, "pairing_secret_hex"), pairing, key.thumbprint());
        assert_eq!(proof, bytes(expect, "pair_proof_hex"));
    }
}

#[test]
fn codes_and_registrations() {
    for vector in vectors()["valid"].as_array().unwrap() {
        let (input, expect, verify) = (&vector["input"], &vector["expect"], &vector["verify"]);
        let key = PrivateKey::from_bytes(&bytes(input, "device_private_key_hex")).unwrap();
        let prefix = Prefix::parse(text(input, "issuer_prefix")).unwrap();
        let partition = number(input, "partition");
        let code =
            Code::parse(&format!("{prefix}{partition:02}{}", text(input, "code_random_digits")))
                .unwrap();
        assert_eq!(code.as_str(), text(expect, "code"));
        let locator = code.locator(prefix);
        assert_eq!(u64::from(locator.number()), number(expect, "locator"));
        assert_eq!(u64::from(locator.partition()), partition);
        let tag = tag(&bytes(expect, "code_key_hex"), &code);
        assert_eq!(tag, bytes(expect, "tag_hex"));

        let statement = Statement {
            prefix,
            locator,
            lifetime_s: number(input, "lifetime_s").try_into().unwrap(),
            sequence: number(input, "sequence").try_into().unwrap(),
            credential: CredentialId::from_raw(bytes(input, "credential_id_hex")),
            tag,
            issued_at: Timestamp::from_ms(number(input, "issued_at_ms")),
            currency_number: number(input, "currency_number").try_into().unwrap(),
            cap_minor: number(input, "cap_minor"),
        };
        assert_eq!(statement.encode().to_vec(), hex(expect, "statement_hex"));
        assert_eq!(Statement::decode(&statement.encode()).unwrap(), statement);

        let given = Registration {
            statement: statement.clone(),
            signature: bytes(verify, "signature_hex"),
        };
        assert!(given.is_signed_by(key.public()));
        assert!(statement.sign(&key).is_signed_by(key.public()));
        assert_eq!(base64url::encode(given.encode()), text(verify, "registration_base64url"));
        assert_eq!(Registration::decode(&given.encode()).unwrap(), given);
        let long = Scanned::parse(text(verify, "long_code")).unwrap();
        assert_eq!((&long.code, long.registration.as_deref()), (&code, Some(&given)));
        assert_eq!(long.to_digits(), text(verify, "long_code"));

        let link_key = bytes(expect, "link_key_hex");
        let (expires, now) = (number(input, "expires_ms"), number(input, "now_ms"));
        let (expires, now) = (Timestamp::from_ms(expires), Timestamp::from_ms(now));
        let digest = statement.digest();
        assert_eq!(
            registered_ack(&link_key, &digest, expires, now),
            bytes(expect, "registered_ack_hex")
        );
        assert_eq!(clock_ack(&link_key, &digest, now), bytes(expect, "clock_ack_hex"));
    }
}

#[test]
fn altered_registrations_are_not_signed() {
    let vectors = vectors();
    let vector = &vectors["valid"][0];
    let key = PrivateKey::from_bytes(&bytes(&vector["input"], "device_private_key_hex")).unwrap();
    let good: [u8; 128] =
        base64url::decode_array(text(&vector["verify"], "registration_base64url")).unwrap();
    for at in 0..128 {
        let mut bad = good;
        bad[at] ^= 1;
        let holds = Registration::decode(&bad).is_ok_and(|read| read.is_signed_by(key.public()));
        assert!(!holds, "byte {at}");
    }
}

#[test]
fn notices_and_verdicts() {
    for vector in vectors()["valid"].as_array().unwrap() {
        let (input, expect) = (&vector["input"], &vector["expect"]);
        let credential = CredentialId::from_raw(bytes(input, "credential_id_hex"));
        let seal_key = bytes(expect, "seal_key_hex");
        let number_ = number(input, "notice_number");
        let plain = text(input, "notice_plaintext_utf8").as_bytes();
        let sealed = seal(&seal_key, credential, number_, bytes(input, "notice_nonce_hex"), plain);
        assert_eq!(sealed, hex(expect, "sealed_notice_hex"));
        assert_eq!(open(&seal_key, credential, number_, &sealed).unwrap(), plain);
        assert!(open(&seal_key, credential, number_ + 1, &sealed).is_err());
        assert!(open(&seal_key, CredentialId::from_raw([0; 16]), number_, &sealed).is_err());
        assert!(open(&seal_key, credential, number_, &sealed[..sealed.len() - 1]).is_err());

        let message = confirm_message(
            Verdict::Confirm,
            PaymentId::from_raw(bytes(input, "payment_id_hex")),
            MerchantId::from_raw(bytes(input, "merchant_id_hex")),
            number(input, "confirm_minor"),
            number(input, "currency_number").try_into().unwrap(),
            plain,
        );
        assert_eq!(message, hex(expect, "confirm_message_hex"));
    }
}

#[test]
fn sessions() {
    for vector in vectors()["sessions"].as_array().unwrap() {
        let caller =
            PrivateKey::from_bytes(&bytes(vector, "caller_ephemeral_private_hex")).unwrap();
        let server =
            PrivateKey::from_bytes(&bytes(vector, "server_ephemeral_private_hex")).unwrap();
        let parties = SessionParties {
            session: SessionId::from_raw(bytes(vector, "session_id_hex")),
            caller: Thumbprint(bytes(vector, "caller_identity_thumbprint_hex")),
            server: Thumbprint(bytes(vector, "server_identity_thumbprint_hex")),
        };
        let at_caller = SessionKeys::for_caller(parties, &caller, server.public()).unwrap();
        let at_server = SessionKeys::for_server(parties, &server, caller.public()).unwrap();
        assert!(at_caller == at_server);
        assert_eq!(at_caller.caller_to_server, bytes(vector, "caller_to_server_key_hex"));
        assert_eq!(at_caller.server_to_caller, bytes(vector, "server_to_caller_key_hex"));
    }
}

#[test]
fn directory_entries() {
    for vector in vectors()["directory_entries"].as_array().unwrap() {
        let network = NetworkId::from_raw(bytes(vector, "network_id_hex"));
        let signer: PublicKey = serde_json::from_value(vector["signer_jwk"].clone()).unwrap();
        let entry: Entry = serde_json::from_value(vector["entry"].clone()).unwrap();
        assert!(entry.is_signed_by(network, &signer));
        assert!(!entry.is_signed_by(NetworkId::from_raw([0; 16]), &signer));
        assert_eq!(serde_json::to_value(&entry).unwrap(), vector["entry"]);
        // This vector's body has no key, so it is no full merchant entry of version 1: only its signature counts.
        let mut directory = Directory::new(network, signer);
        assert!(!matches!(directory.take(&entry), Ok(Taken::Same)));
    }
}

#[test]
fn scanned_text() {
    let vectors = vectors();
    for vector in vectors["scanned_text_valid"].as_array().unwrap() {
        assert_eq!(Scanned::parse(text(vector, "text")).unwrap().to_digits(), text(vector, "is"));
    }
    for vector in vectors["scanned_text_invalid"].as_array().unwrap() {
        assert!(Scanned::parse(text(vector, "text")).is_err(), "{}", text(vector, "why"));
    }
}

#[test]
fn foreign_keys_are_refused() {
    let good = vectors()["valid"][0]["expect"]["device_jwk"].clone();
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        serde_json::from_value::<PublicKey>(jwk)
    };
    assert!(with("alg", "ES256".into()).is_ok(), "other members are ignored");
    assert!(with("d", "AAAA".into()).is_err(), "a private member");
    assert!(with("crv", "P-384".into()).is_err());
    assert!(with("kty", "OKP".into()).is_err());
    assert!(with("x", "AAAA".into()).is_err(), "short");
    assert!(with("x", format!("AA{}", text(&good, "x")).into()).is_err(), "long");
    let zero = base64url::encode([0; 32]);
    assert!(with("x", zero.into()).is_err(), "not on the curve");
    assert!(Locator::from_number(1_000_000).is_none());
}
