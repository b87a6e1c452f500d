//! Codes: read, made, hidden in a tag.
#![expect(clippy::unwrap_used, reason = "what it is given is right")]

use std::hint::black_box;

use criterion::Criterion;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::registration::tag;

fn main() {
    let mut bench = Criterion::default().configure_from_args();
    let prefix = Prefix::parse("71000001").unwrap();
    let code = Code::make(prefix, 7, &[0x2a; 64]).unwrap();
    let text = code.as_str().to_owned();
    bench.bench_function("code/parse", |it| it.iter(|| Code::parse(black_box(&text))));
    bench.bench_function("code/make", |it| {
        it.iter(|| Code::make(prefix, 7, black_box(&[0x2a; 64])));
    });
    bench.bench_function("code/tag", |it| it.iter(|| tag(black_box(&[1; 32]), black_box(&code))));
    bench.final_summary();
}
