//! Signatures: a terminal's of a code, and a request's as the edge checks it, in a session and by an identity key.
#![expect(clippy::unwrap_used, reason = "what it is given is right")]

use std::hint::black_box;

use criterion::Criterion;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::id::{CredentialId, SessionId};
use warifu_proto::key::PrivateKey;
use warifu_proto::mac::hmac_sha256;
use warifu_proto::registration::{Registration, Statement, tag};
use warifu_proto::signature::{
    ReceivedSignature, RequestTarget, SigningKey, content_digest, content_digest_matches,
    sign_answer, sign_request,
};
use warifu_proto::time::Timestamp;

/// As long as a payment's request.
const BODY: &[u8] = br#"{"request_id":"01995f0c-7e5a-7c3d-9a51-0f6b2f1c9d11","code":"710000010700421234567890","amount":{"minor":1250,"currency":"EUR"},"capture":"now"}"#;
const TARGET: RequestTarget<'static> = RequestTarget {
    method: "POST",
    authority: "issuer.example:8443",
    path: "/v1/payments",
    query: None,
};
const NOW_S: u64 = 1_795_305_600;
const SECRET: [u8; 32] = [7; 32];

fn main() {
    let mut bench = Criterion::default().configure_from_args();
    statement(&mut bench);
    bench.bench_function("session/hmac", |it| {
        it.iter(|| hmac_sha256(black_box(&SECRET), black_box(&[BODY])));
    });
    request(&mut bench);
    bench.final_summary();
}

fn statement(bench: &mut Criterion) {
    let key = PrivateKey::from_bytes(&[3; 32]).unwrap();
    let prefix = Prefix::parse("71000001").unwrap();
    let code = Code::make(prefix, 7, &[0x2a; 64]).unwrap();
    let statement = Statement {
        prefix,
        locator: code.locator(prefix),
        lifetime_s: 60,
        sequence: 1,
        credential: CredentialId::from_raw([9; 16]),
        tag: tag(&[1; 32], &code),
        issued_at: Timestamp::from_ms(NOW_S * 1000),
        currency_number: 392,
        cap_minor: 0,
    };
    let registration = statement.sign(&key).encode();
    bench.bench_function("statement/sign", |it| it.iter(|| statement.sign(black_box(&key))));
    bench.bench_function("statement/verify", |it| {
        it.iter(|| {
            let registration = Registration::decode(black_box(&registration)).unwrap();
            assert!(registration.is_signed_by(key.public()));
        });
    });
}

fn request(bench: &mut Criterion) {
    let key = PrivateKey::from_bytes(&[4; 32]).unwrap();
    let session = SessionId::from_raw([5; 16]).to_string();
    let in_session = SigningKey::Session { keyid: &session, secret: &SECRET };
    let digest = content_digest(BODY);
    let sign = |by| sign_request(&TARGET, Some(&digest), by, NOW_S, "bm9uY2Ugb2YgYSByZXF1ZXN0");
    let signed = sign(in_session);
    bench.bench_function("request/sign in session", |it| it.iter(|| sign(black_box(in_session))));
    bench.bench_function("request/check in session", |it| {
        it.iter(|| {
            let (received, base) = check(&signed.signature_input, &signed.signature, &digest);
            received.verify_with_secret(&base, &SECRET).unwrap();
        });
    });
    let bound = Some(signed.label_and_bytes());
    bench.bench_function("answer/sign in session", |it| {
        it.iter(|| sign_answer(200, Some(black_box(&digest)), &TARGET, bound, in_session, NOW_S));
    });
    let signed = sign(SigningKey::Identity(&key));
    bench.bench_function("request/check by ecdsa", |it| {
        it.iter(|| {
            let (received, base) = check(&signed.signature_input, &signed.signature, &digest);
            received.verify_with_key(&base, key.public()).unwrap();
        });
    });
}

/// All but the signature itself, in the edge's order.
fn check(input: &str, signature: &str, digest: &str) -> (ReceivedSignature, String) {
    let received = ReceivedSignature::parse(black_box(input), black_box(signature)).unwrap();
    assert!(content_digest_matches(digest, black_box(BODY)));
    let base = received.check_request(&TARGET, Some(digest), |_| None::<&str>).unwrap();
    received.check_created(NOW_S).unwrap();
    (received, base)
}
