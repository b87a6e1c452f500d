//! Applying the entry of a payment, and taking it back.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what it is given is right")]

use std::cell::RefCell;
use std::hint::black_box;

use criterion::{BatchSize, Criterion};

#[path = "../tests/it/bench.rs"]
#[expect(dead_code, reason = "the tests' own, with more than is needed here")]
mod bench;
#[path = "shared/payers.rs"]
mod payers;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (bench, pays) = payers::payers();
    let entries = payers::entries(&bench, &pays);
    let bench = RefCell::new(bench);
    let mut next = entries.iter().cycle();
    let undo = || {
        let bench = &mut *bench.borrow_mut();
        bench.undo.undo(&mut bench.state, 0);
    };
    let mut apply = || {
        let bench = &mut *bench.borrow_mut();
        let entry = black_box(next.next().unwrap());
        bench.state.apply(entry, &bench.vault, &mut bench.undo).unwrap();
    };
    // Each is measured alone: the other one prepares it, outside of the measured time.
    criterion.bench_function("apply/pay", |it| {
        it.iter_batched(undo, |()| apply(), BatchSize::PerIteration);
    });
    undo();
    criterion.bench_function("apply/undo a pay", |it| {
        it.iter_batched(&mut apply, |()| undo(), BatchSize::PerIteration);
    });
    criterion.final_summary();
}
