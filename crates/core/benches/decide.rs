//! Deciding: a payment that is approved, and a code that is registered.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what it is given is right")]

use std::hint::black_box;

use criterion::Criterion;
use warifu_core::decide::Decision;
use warifu_proto::message::AccountKind;

use crate::bench::code;

#[path = "../tests/it/bench.rs"]
#[expect(dead_code, reason = "the tests' own, with more than is needed here")]
mod bench;
#[path = "shared/payers.rs"]
#[expect(dead_code, reason = "shared, with more than is needed here")]
mod payers;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (mut bench, pays) = payers::payers();
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    let terminal = bench.link(account, 0);
    let register = terminal.register(terminal.statement(&code(1, 1), 1, bench.now));

    let mut next = pays.iter().cycle();
    criterion.bench_function("decide/pay", |it| {
        it.iter(|| {
            let decision = bench.decide(black_box(next.next().unwrap()));
            assert!(matches!(decision, Ok(Decision::Commit(_))));
            decision
        });
    });
    criterion.bench_function("decide/register", |it| {
        it.iter(|| {
            let decision = bench.decide(black_box(&register));
            assert!(matches!(decision, Ok(Decision::Commit(_))));
            decision
        });
    });
    criterion.final_summary();
}
