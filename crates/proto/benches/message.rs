//! JSON: a payment's request is read and checked.
#![expect(clippy::unwrap_used, reason = "what it is given is right")]

use std::hint::black_box;

use criterion::Criterion;
use warifu_proto::message::PayRequest;

const BODY: &[u8] = br#"{"request_id":"01995f0c-7e5a-7c3d-9a51-0f6b2f1c9d11","code":"710000010700421234567890","amount":{"minor":1250,"currency":"EUR"},"capture":"now"}"#;

fn main() {
    let mut bench = Criterion::default().configure_from_args();
    bench.bench_function("message/pay request", |it| {
        it.iter(|| {
            let request: PayRequest = serde_json::from_slice(black_box(BODY)).unwrap();
            request.check().unwrap();
            request.scanned().unwrap()
        });
    });
    bench.final_summary();
}
