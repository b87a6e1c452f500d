//! What memory keeps of the past, and what it does when it no longer knows.

use warifu_core::decide::{Command, Decision, Refusal};
use warifu_core::partition::{OPERATOR, Partition, WINDOW};
use warifu_core::undo::UndoLog;
use warifu_proto::message::AccountKind;

use crate::bench::{Bench, code, merchant, money, request, vault};

const PAYMENTS: u64 = 33_000;

fn name(number: u64) -> String {
    format!("attempt-{number:06}")
}

/// The cheapest of entries: payments that were decided too late. Number n is entry n + 1, behind an account.
fn late(bench: &Bench, number: u64) -> Command {
    let mut pay = bench.pay(&name(number), &code(1, 1), money(1, "JPY"));
    pay.deadline_at = bench.now;
    Command::Pay(pay)
}

fn busy() -> Bench {
    let mut bench = Bench::new();
    bench.open(AccountKind::Prepaid, "JPY", 0);
    for number in 1..=PAYMENTS {
        bench.write(&late(&bench, number));
    }
    bench.undo.committed();
    bench
}

#[test]
fn memory_keeps_a_window_and_knows_what_it_does_not_know() {
    let mut bench = busy();
    let ask = |bench: &Bench, number| {
        bench.state.decide(&late(bench, number), false, bench.now, &bench.vault)
    };
    // Nothing is forgotten that nobody told it to forget.
    assert_eq!(ask(&bench, 1), Ok(Decision::Repeat { sequence: 2 }));
    assert!(!bench.state.may_be_forgotten(merchant(1), &request(&name(1))));

    let mut gone = Vec::new();
    bench.state.forget_with(bench.state.sequence(), |caller, request| {
        gone.push((caller, request.clone()))
    });
    let last_gone = bench.state.sequence() - WINDOW;
    let first_kept = last_gone + 1;
    assert_eq!(
        gone.len(),
        usize::try_from(last_gone).unwrap(),
        "the account's and the oldest payments'"
    );
    assert_eq!(gone.first().map(|it| it.0), Some(OPERATOR));
    assert_eq!(gone.last(), Some(&(merchant(1), request(&name(last_gone - 1)))));

    assert_eq!(bench.state.payment(last_gone), None);
    assert!(bench.state.payment(first_kept).is_some());
    assert_eq!(bench.state.payments_in_memory(), usize::try_from(WINDOW).unwrap());
    for (number, outcome) in [
        (1, Ok(Decision::LookUp)),
        (last_gone - 1, Ok(Decision::LookUp)),
        (first_kept - 1, Ok(Decision::Repeat { sequence: first_kept })),
        (PAYMENTS, Ok(Decision::Repeat { sequence: PAYMENTS + 1 })),
    ] {
        assert_eq!(ask(&bench, number), outcome, "payment {number}");
    }
    // A later id needs no index, an id that is older than the greatest forgotten one does; and once it was asked, it is new.
    assert!(matches!(ask(&bench, PAYMENTS + 1), Ok(Decision::Commit(_))));
    let Command::Pay(mut old) = late(&bench, 1) else { panic!() };
    old.request = request("attempt-000000");
    let old = Command::Pay(old);
    let decide = |is_new| bench.state.decide(&old, is_new, bench.now, &bench.vault);
    assert_eq!(decide(false), Ok(Decision::LookUp));
    assert!(matches!(decide(true), Ok(Decision::Commit(_))));
    // The same for a merchant of whom nothing was forgotten.
    let Command::Pay(mut other) = late(&bench, 1) else { panic!() };
    other.merchant = merchant(2);
    let other = Command::Pay(other);
    assert!(matches!(
        bench.state.decide(&other, false, bench.now, &bench.vault),
        Ok(Decision::Commit(_))
    ));
    // What is in memory conflicts, whatever the index is said to know.
    let Command::Pay(mut changed) = late(&bench, PAYMENTS) else { panic!() };
    changed.digest = [0; 16];
    let changed = Command::Pay(changed);
    for is_new in [false, true] {
        let got = bench.state.decide(&changed, is_new, bench.now, &bench.vault);
        assert_eq!(got, Err(Refusal::RequestIdConflict));
    }
}

#[test]
fn forgetting_is_a_function_of_the_entries_alone() {
    let bench = busy();
    let vault = vault();
    let mut at_once = bench.state.clone();
    at_once.forget();
    let (mut each_time, mut undo) = (Partition::new(crate::bench::PARTITION), UndoLog::default());
    for entry in &bench.entries {
        each_time.apply(entry, &vault, &mut undo).unwrap();
        undo.committed();
        each_time.forget();
    }
    assert_eq!(at_once.state_hash(&vault), each_time.state_hash(&vault));

    let bytes = at_once.to_snapshot(&vault);
    let mut loaded = Partition::from_snapshot(&bytes, &vault).unwrap();
    assert!(loaded.to_snapshot(&vault) == bytes);
    assert!(loaded.requests().eq(at_once.requests()));
    assert!(loaded.greatest_forgotten().eq(at_once.greatest_forgotten()));
    loaded.forget();
    assert!(loaded.to_snapshot(&vault) == bytes, "nothing more to forget");

    // A batch after forgetting is undone like any other.
    let mut bench = Bench { state: loaded, ..bench };
    for number in PAYMENTS + 1..PAYMENTS + 100 {
        bench.write(&late(&bench, number));
    }
    bench.undo.undo(&mut bench.state, 0);
    assert!(bench.state.to_snapshot(&vault) == bytes);
}

#[test]
fn old_invitations_and_codes_leave_memory() {
    let mut bench = Bench::new();
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    let terminal = bench.link(account, 1);
    for number in 0_u16..50 {
        bench.invite(account);
        bench.register(&terminal, &code(number, 1), 100 + u32::from(number));
    }
    assert_eq!(bench.state.invitations_in_memory(), 51);
    bench.wait_ms(15 * 60_000);
    for _ in 0..17 {
        bench.invite(account);
    }
    assert_eq!(bench.state.invitations_in_memory(), 17, "each new one sweeps out four old ones");
    // Codes where nothing arrives any more go in turn: every entry looks into one more of the ten thousand slots.
    for number in 0..10_000 {
        bench.write(&late(&bench, number));
    }
    assert!((0..50).all(|slot| bench.state.codes_at(slot).is_empty()));
}

#[test]
fn a_slot_remembers_eight_spent_codes_and_every_live_one() {
    let mut bench = Bench::new();
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    let terminals: Vec<_> = (1..=12).map(|number| bench.link(account, number)).collect();
    for (number, terminal) in (0..).zip(&terminals) {
        bench.register(terminal, &code(1, number), 100);
    }
    assert_eq!(bench.state.codes_at(1).len(), 12, "all live");
    bench.wait_ms(60_000);
    bench.register(&terminals[0], &code(1, 99), 101);
    let left: Vec<_> = bench.state.codes_at(1).iter().map(|code| code.credential_number).collect();
    assert_eq!(left, [4, 5, 6, 7, 8, 9, 10, 11, 0], "the oldest four of twelve went");
    for (number, terminal) in (200..).zip(&terminals).skip(1) {
        bench.register(terminal, &code(1, number), 101);
    }
    assert_eq!(bench.state.codes_at(1).len(), 8 + 12, "live ones take no spent one's place");
}
