//! Codes that carry their own registration: what holds, what does not, and how much a terminal without network may pay.

use warifu_core::decide::{Command, LongCode, Pay};
use warifu_core::limits::Limits;
use warifu_proto::code::Code;
use warifu_proto::message::{AccountKind, PaymentStatus};
use warifu_proto::registration::Statement;
use warifu_proto::rejection::Rejection;

use crate::bench::{Bench, Terminal, code, money};
use crate::life::{next_code, scene};

/// A payment by a code that carries this statement.
fn by(
    bench: &Bench,
    name: &str,
    terminal: &Terminal,
    digits: &Code,
    statement: Statement,
    minor: u64,
) -> Box<Pay> {
    let mut pay = bench.pay(name, digits, money(minor, "JPY"));
    let digest = statement.digest();
    pay.long_code = Some(LongCode { statement, digest, signed_by: Some(terminal.key.xy()) });
    // An unknown code would wait; one that carries its registration does not.
    pay.wait_until = bench.now.plus_ms(1_500);
    pay
}

fn outcome(bench: &mut Bench, pay: Box<Pay>) -> Option<Rejection> {
    bench.write(&Command::Pay(pay));
    bench.last_payment().rejection
}

/// One that is refused and one above the limit, for the corpus.
pub(crate) fn two(bench: &mut Bench, terminal: &Terminal) {
    let at = bench.state.sequence() + 1;
    let (digits, sequence) = (code(9, at), next_code(bench, terminal));
    let statement = terminal.statement(&digits, sequence, bench.now);
    let mut altered = statement.clone();
    altered.tag[0] ^= 1;
    let pay = by(bench, "long-1", terminal, &digits, altered, 1);
    assert_eq!(outcome(bench, pay), Some(Rejection::RegistrationInvalid));
    let mut pay = by(bench, "long-2", terminal, &digits, statement, 1);
    pay.limits.offline_count_max = Some(0);
    assert_eq!(outcome(bench, pay), Some(Rejection::OverOfflineLimit));
    let at = bench.state.sequence() + 1;
    let (digits, sequence) = (code(9, at), next_code(bench, terminal));
    let statement = terminal.statement(&digits, sequence, bench.now);
    let pay = by(bench, "long-3", terminal, &digits, statement, 1);
    assert_eq!(outcome(bench, pay), None);
}

#[test]
fn a_long_code_pays_at_once_and_once_however_it_arrives() {
    let (mut bench, terminal) = scene();
    let digits = code(5, 5);
    let statement = terminal.statement(&digits, 10, bench.now);
    let pay = by(&bench, "long", &terminal, &digits, statement.clone(), 100);
    assert_eq!(outcome(&mut bench, pay), None);
    // Long again, short, and after its registration arrived.
    let pay = by(&bench, "again", &terminal, &digits, statement.clone(), 1);
    assert_eq!(outcome(&mut bench, pay), Some(Rejection::CodeUsed));
    assert_eq!(bench.paid("short", &digits, money(1, "JPY")), Some(Rejection::CodeUsed));
    let register = terminal.register(statement);
    assert!(matches!(
        bench.run(&register),
        Ok(warifu_core::decide::Decision::RegisteredBefore { .. })
    ));
    assert_eq!(bench.paid("late", &digits, money(1, "JPY")), Some(Rejection::CodeUsed));
    // The other way round: registered first, then scanned long.
    let digits = code(6, 6);
    bench.register(&terminal, &digits, 20);
    let statement = terminal.statement(&digits, 20, bench.now);
    let pay = by(&bench, "registered", &terminal, &digits, statement.clone(), 1);
    assert_eq!(outcome(&mut bench, pay), None);
    let usage = bench.state.credential(0).unwrap().usage;
    assert_eq!((usage.offline_count, usage.offline_minor), (0, 0), "it came through the hub");
    let pay = by(&bench, "used", &terminal, &digits, statement, 1);
    assert_eq!(outcome(&mut bench, pay), Some(Rejection::CodeUsed));
}

#[test]
fn what_does_not_hold_is_refused_and_spends_nothing() {
    type Alter = fn(&mut Bench, &Terminal, &mut Statement, &mut Box<Pay>);
    let alterations: [(&str, Alter, Rejection); 13] = [
        ("tag", |_, _, it, _| it.tag[3] ^= 1, Rejection::RegistrationInvalid),
        ("currency", |_, _, it, _| it.currency_number = 978, Rejection::RegistrationInvalid),
        ("too long a life", |_, _, it, _| it.lifetime_s = 301, Rejection::RegistrationInvalid),
        ("a withdrawal", |_, _, it, _| it.lifetime_s = 0, Rejection::RegistrationInvalid),
        (
            "a clock ahead",
            |b, _, it, _| it.issued_at = b.now.plus_ms(120_001),
            Rejection::RegistrationInvalid,
        ),
        (
            "a clock behind",
            |b, _, it, _| {
                it.issued_at = b.now;
                b.wait_ms(60_000 + 120_001);
            },
            Rejection::CodeExpired,
        ),
        (
            "a stranger",
            |_, _, it, _| {
                it.credential = warifu_proto::id::CredentialId::from_raw([9; 16]);
            },
            Rejection::RegistrationInvalid,
        ),
        (
            "a sequence that was seen",
            |b, t, it, _| {
                b.register(t, &code(1, 1), 50);
                b.register(t, &code(1, 2), 40);
                it.sequence = 40;
            },
            Rejection::RegistrationInvalid,
        ),
        (
            "a sequence too old",
            |b, t, it, _| {
                b.register(t, &code(1, 1), 50);
                it.sequence = 34;
            },
            Rejection::RegistrationInvalid,
        ),
        (
            "withdrawn",
            |b, t, it, _| {
                b.withdraw(t, 60);
                it.sequence = 59;
            },
            Rejection::CodeRetired,
        ),
        (
            "ended by a payment",
            |b, t, it, _| {
                b.register(t, &code(1, 1), 70);
                assert_eq!(b.paid("ends", &code(1, 1), money(1, "JPY")), None);
                it.sequence = 69;
            },
            Rejection::CodeRetired,
        ),
        (
            "unlinked",
            |b, t, _, _| {
                b.write(&crate::bench::unlink(t));
            },
            Rejection::RegistrationInvalid,
        ),
        ("another key", |_, _, _, _| (), Rejection::RegistrationInvalid),
    ];
    for (name, alter, rejection) in alterations {
        let (mut bench, terminal) = scene();
        let digits = code(5, 5);
        let mut statement = terminal.statement(&digits, 10, bench.now);
        let mut pay = bench.pay("p", &digits, money(1, "JPY"));
        alter(&mut bench, &terminal, &mut statement, &mut pay);
        let mut pay = by(&bench, "p", &terminal, &digits, statement, 1);
        if name == "another key" {
            pay.long_code.as_mut().unwrap().signed_by = None;
        }
        assert_eq!(outcome(&mut bench, pay), Some(rejection), "{name}");
        let usage = bench.state.credential(0).unwrap().usage;
        assert_eq!((usage.offline_count, usage.offline_minor), (0, 0), "{name}");
    }
}

#[test]
fn at_the_very_boundaries_of_the_clock_it_holds() {
    for (name, wait, ahead) in [("oldest", 60_000 + 120_000, 0), ("newest", 0, 120_000)] {
        let (mut bench, terminal) = scene();
        let digits = code(5, 5);
        let statement = terminal.statement(&digits, 10, bench.now.plus_ms(ahead));
        bench.wait_ms(wait);
        let pay = by(&bench, "p", &terminal, &digits, statement, 1);
        assert_eq!(outcome(&mut bench, pay), None, "{name}");
    }
}

#[test]
fn a_terminal_without_network_pays_a_little_until_it_has_one_again() {
    let mut bench = Bench::new();
    let account = bench.open(AccountKind::Credit, "JPY", 100_000);
    let terminal = bench.link(account, 1);
    let limits = Limits {
        offline_max_minor: Some(100),
        offline_count_max: Some(3),
        confirm_above_minor: Some(90),
        ..Limits::default()
    };
    let mut sequence = 10;
    let mut offline = |bench: &mut Bench, minor: u64| {
        sequence += 1;
        let digits = code(7, u64::from(sequence));
        let statement = terminal.statement(&digits, sequence, bench.now);
        let name = format!("o{sequence}");
        let mut pay = by(bench, &name, &terminal, &digits, statement, minor);
        pay.limits = limits;
        outcome(bench, pay)
    };
    assert_eq!(offline(&mut bench, 60), None);
    assert_eq!(offline(&mut bench, 41), Some(Rejection::OverOfflineLimit), "the sum");
    assert_eq!(offline(&mut bench, 20), None);
    assert_eq!(offline(&mut bench, 20), None);
    assert_eq!(offline(&mut bench, 1), Some(Rejection::OverOfflineLimit), "the count");
    // A code through the hub: it has network again.
    bench.register(&terminal, &code(8, 8), 900);
    let statement = terminal.statement(&code(8, 9), 901, bench.now);
    let mut pay = by(&bench, "asks", &terminal, &code(8, 9), statement, 91);
    pay.limits = limits;
    assert_eq!(outcome(&mut bench, pay), Some(Rejection::OverOfflineLimit), "it can't be asked");
    let statement = terminal.statement(&code(8, 10), 902, bench.now);
    let mut pay = by(&bench, "again", &terminal, &code(8, 10), statement, 90);
    pay.limits = limits;
    assert_eq!(outcome(&mut bench, pay), None);
    assert_eq!(bench.last_payment().status, PaymentStatus::Approved);
}
