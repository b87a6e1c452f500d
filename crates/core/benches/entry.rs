//! The bytes of a payment's entry: written, read, and linked into the chain.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what it is given is right")]

use std::hint::black_box;

use criterion::Criterion;
use warifu_core::entry::Entry;
use warifu_core::layout::Writer;
use warifu_proto::mac::sha256;

#[path = "../tests/it/bench.rs"]
#[expect(dead_code, reason = "the tests' own, with more than is needed here")]
mod bench;
#[path = "shared/payers.rs"]
mod payers;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (bench, pays) = payers::payers();
    let entries = payers::entries(&bench, &pays);
    let mut next = entries.iter().cycle();
    let mut to = Writer::default();
    criterion.bench_function("entry/encode", |it| {
        it.iter(|| {
            to.0.clear();
            black_box(next.next().unwrap()).encode(&mut to);
            black_box(&to.0);
        });
    });
    let bytes = entries.first().unwrap().to_bytes();
    criterion.bench_function("entry/decode", |it| {
        it.iter(|| Entry::decode(black_box(&bytes)).unwrap());
    });
    criterion.bench_function("entry/chain link", |it| {
        it.iter(|| sha256(black_box(&[&[1; 32], &bytes])));
    });
    criterion.final_summary();
}
