//! A partition of many payers with a registered code each, and a payment by each that nothing speaks against.

use warifu_core::decide::{Command, Decision};
use warifu_core::entry::Entry;
use warifu_proto::message::AccountKind;

use crate::bench::{Bench, PARTITION, code, money};

/// So many that they don't all lie in the nearest cache.
const PAYERS: u16 = 5_000;

/// The partition, and a payment by each payer.
pub(crate) fn payers() -> (Bench, Vec<Command>) {
    let mut bench = Bench::new();
    let codes: Vec<_> = (0..PAYERS)
        .map(|number| {
            let account = bench.open(AccountKind::Prepaid, "JPY", 0);
            bench.top_up(account, 1_000_000, "JPY");
            let terminal = bench.link(account, number.into());
            let code = code(number, u64::from(number));
            bench.register(&terminal, &code, 1);
            code
        })
        .collect();
    bench.undo.committed();
    let name = |number| format!("01995f0c-7e5a-7c3d-9a51-{number:012}");
    let pays = codes.iter().enumerate();
    let pays = pays.map(|(number, code)| bench.pay(&name(number), code, money(1250, "JPY")));
    let pays = pays.map(Command::Pay).collect();
    (bench, pays)
}

/// The entry that each payment would be, were it the next.
pub(crate) fn entries(bench: &Bench, pays: &[Command]) -> Vec<Entry> {
    let (sequence, at) = (bench.state.sequence() + 1, bench.now);
    let entry = |pay| match bench.decide(pay) {
        Ok(Decision::Commit(fact)) => Entry { partition: PARTITION, sequence, at, fact: *fact },
        other => panic!("{pay:?} was not to be written: {other:?}"),
    };
    pays.iter().map(entry).collect()
}
