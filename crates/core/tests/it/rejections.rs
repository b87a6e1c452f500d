//! Paying: each rejection, in order of precedence: its own check broken with all later ones, with each single one, and
//! alone.

use warifu_core::account::AccountStanding;
use warifu_core::decide::{
    Command, Decision, Pay, Refusal, StandAccount, StandCredential, Standing,
};
use warifu_core::limits::Limits;
use warifu_proto::code::Code;
use warifu_proto::message::{AccountKind, PaymentStatus, ReversalReason};
use warifu_proto::rejection::Rejection;

use crate::bench::{Bench, Terminal, code, money};

/// What can speak against a payment, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Its reversal came first.
    Reversed,
    Late,
    SuspendedReader,
    SuspendedMerchant,
    /// The digits lie in the slot of a live code, and are others.
    WrongSecret,
    Expired,
    Used,
    /// By a withdrawal.
    Retired,
    SuspendedTerminal,
    Frozen,
    Closed,
    OtherCurrency,
    OverCap,
    OverPayment,
    OverDay,
    OverCount,
    TooMuch,
}
use Fault::{
    Closed, Expired, Frozen, Late, OtherCurrency, OverCap, OverCount, OverDay, OverPayment,
    Retired, Reversed, SuspendedMerchant, SuspendedReader, SuspendedTerminal, TooMuch, Used,
    WrongSecret,
};

/// Each with the rejection that it leads to when nothing above it is wrong. An account is either frozen or closed.
const ORDER: &[(Fault, Rejection)] = &[
    (Reversed, Rejection::ReversedBeforeArrival),
    (Late, Rejection::DeadlinePassed),
    (SuspendedReader, Rejection::ReaderSuspended),
    (SuspendedMerchant, Rejection::MerchantSuspended),
    (WrongSecret, Rejection::CodeUnknown),
    (Expired, Rejection::CodeExpired),
    (Used, Rejection::CodeUsed),
    (Retired, Rejection::CodeRetired),
    (SuspendedTerminal, Rejection::CredentialSuspended),
    (Frozen, Rejection::AccountFrozen),
    (Closed, Rejection::AccountClosed),
    (OtherCurrency, Rejection::CurrencyMismatch),
    (OverCap, Rejection::OverCodeCap),
    (OverPayment, Rejection::OverPaymentLimit),
    (OverDay, Rejection::OverDailyLimit),
    (OverCount, Rejection::OverDailyCount),
    (TooMuch, Rejection::InsufficientFunds),
];

const CAP: u64 = 600;
const AMOUNT: u64 = 300;

/// An account with 500 to spend, and a code for up to 600.
fn scene(kind: AccountKind) -> (Bench, Terminal, Code) {
    let mut bench = Bench::new();
    let account = bench.open(kind, "EUR", 500);
    if kind == AccountKind::Prepaid {
        bench.top_up(account, 500, "EUR");
    }
    let terminal = bench.link(account, 1);
    let digits = code(1234, 42);
    let mut statement = terminal.statement(&digits, 100, bench.now);
    statement.cap_minor = CAP;
    bench.write(&terminal.register(statement));
    (bench, terminal, digits)
}

fn faulty(bench: &mut Bench, terminal: &Terminal, digits: &Code, faults: &[Fault]) -> Box<Pay> {
    let has = |fault| faults.contains(&fault);
    if has(Used) {
        assert_eq!(bench.paid("before", digits, money(1, "EUR")), None);
    }
    if has(Retired) {
        bench.withdraw(terminal, 101);
    }
    if has(Expired) {
        bench.wait_ms(60_000);
    }
    if has(Reversed) {
        bench.write(&crate::life::reverse("now", ReversalReason::Timeout, 0));
    }
    if has(SuspendedTerminal) {
        let credential = terminal.credential;
        let suspend = StandCredential { credential, is_suspended: true };
        bench.write(&Command::StandCredential(suspend));
    }
    let account = bench.state.account(0).unwrap().id;
    for (fault, standing) in [(Frozen, AccountStanding::Frozen), (Closed, AccountStanding::Closed)]
    {
        if has(fault) {
            bench.write(&Command::StandAccount(StandAccount { account, standing }));
        }
    }
    let digits = if has(WrongSecret) { code(1234, 43) } else { digits.clone() };
    let minor = match (has(TooMuch), has(OverCap)) {
        (_, true) => CAP + 1,
        (true, false) => 501,
        (false, false) => AMOUNT,
    };
    let mut pay =
        bench.pay("now", &digits, money(minor, if has(OtherCurrency) { "JPY" } else { "EUR" }));
    if has(Late) {
        pay.deadline_at = bench.now;
    }
    if has(SuspendedReader) {
        pay.reader_standing = Standing::Suspended;
    }
    if has(SuspendedMerchant) {
        pay.merchant_standing = Standing::Suspended;
    }
    pay.limits = Limits {
        payment_max_minor: has(OverPayment).then_some(AMOUNT - 1),
        day_max_minor: has(OverDay).then_some(AMOUNT - 1),
        day_count_max: has(OverCount).then_some(0),
        ..Limits::default()
    };
    pay
}

/// Kind of account, what speaks against the payment, what becomes of it.
type Row<'a> = (AccountKind, &'a [Fault], Option<Rejection>);

fn check((kind, faults, outcome): Row<'_>) {
    let (mut bench, terminal, digits) = scene(kind);
    let pay = faulty(&mut bench, &terminal, &digits, faults);
    let before = bench.state.clone();
    bench.write(&Command::Pay(pay.clone()));
    let payment = bench.last_payment();
    assert_eq!(payment.rejection, outcome, "{faults:?}");
    let (status, captured) = match outcome {
        None => (PaymentStatus::Approved, pay.amount.minor()),
        Some(_) => (PaymentStatus::Declined, 0),
    };
    assert_eq!((payment.status, payment.captured_minor), (status, captured), "{faults:?}");
    if outcome.is_some() {
        assert_eq!(bench.state.accounts(), before.accounts(), "law 5: {faults:?}");
        assert!(
            bench.state.merchant_balances().eq(before.merchant_balances()),
            "law 5: {faults:?}"
        );
    }
    // Law 2, and whether the refusal spent the code.
    let again = bench.paid("again", &digits, money(1, "EUR"));
    let spent = outcome.is_none_or(Rejection::consumes_code);
    let dead = [Expired, Used, Retired, SuspendedTerminal, Frozen, Closed]
        .iter()
        .any(|fault| faults.contains(fault));
    assert_eq!(again.is_some(), spent || dead, "{faults:?}: {again:?}");
    if spent {
        assert_eq!(again, Some(Rejection::CodeUsed), "{faults:?}");
    }
}

#[test]
fn each_rejection_in_order_of_precedence() {
    let (prepaid, credit) = (AccountKind::Prepaid, AccountKind::Credit);
    for (at, (fault, rejection)) in ORDER.iter().enumerate() {
        // With everything below it wrong as well, with each single one, and alone.
        let below: Vec<Fault> = ORDER[at..].iter().map(|it| it.0).collect();
        for left_out in [Frozen, Closed] {
            let faults: Vec<Fault> =
                below.iter().copied().filter(|it| *it == *fault || *it != left_out).collect();
            let both = faults.contains(&Frozen) && faults.contains(&Closed);
            if !both {
                check((prepaid, &faults, Some(*rejection)));
            }
        }
        for other in below.iter().filter(|it| ![*fault, Frozen, Closed].contains(it)) {
            check((prepaid, &[*fault, *other], Some(*rejection)));
        }
        check((prepaid, &[*fault], Some(*rejection)));
    }
    check((prepaid, &[], None));
    check((credit, &[], None));
    check((credit, &[OtherCurrency], Some(Rejection::CurrencyMismatch)));
    check((credit, &[TooMuch], Some(Rejection::OverCreditLimit)));
    assert!(ORDER.is_sorted_by_key(|it| it.1.number()));
}

/// Kind of account, balance in front of it, amount, what becomes of it.
#[test]
fn a_balance_never_goes_below_its_floor() {
    let check = |(kind, top_up, amount, outcome): (AccountKind, u64, u64, Option<Rejection>)| {
        let mut bench = Bench::new();
        let account = bench.open(kind, "EUR", 500);
        if top_up > 0 {
            bench.top_up(account, top_up, "EUR");
        }
        let terminal = bench.link(account, 1);
        bench.register(&terminal, &code(1, 1), 100);
        assert_eq!(
            bench.paid("p", &code(1, 1), money(amount, "EUR")),
            outcome,
            "{kind:?} {amount}"
        );
        let moved = if outcome.is_none() { amount } else { 0 };
        let left = i64::try_from(top_up).unwrap() - i64::try_from(moved).unwrap();
        assert_eq!(bench.account(account).balance_minor, left);
        assert!(bench.account(account).balance_minor >= bench.account(account).floor_minor);
    };
    let max = warifu_proto::limits::MINOR_MAX;
    for row in [
        (AccountKind::Prepaid, 0, 1, Some(Rejection::InsufficientFunds)),
        (AccountKind::Prepaid, 100, 101, Some(Rejection::InsufficientFunds)),
        (AccountKind::Prepaid, 100, max, Some(Rejection::InsufficientFunds)),
        (AccountKind::Prepaid, 100, 100, None),
        (AccountKind::Prepaid, max, max, None),
        (AccountKind::Credit, 0, 501, Some(Rejection::OverCreditLimit)),
        (AccountKind::Credit, 7, 508, Some(Rejection::OverCreditLimit)),
        (AccountKind::Credit, 0, max, Some(Rejection::OverCreditLimit)),
        (AccountKind::Credit, 0, 500, None),
        (AccountKind::Credit, 7, 507, None),
    ] {
        check(row);
    }
}

#[test]
fn every_rejection_has_a_test() {
    // A new rejection fails here until somebody has looked for its test.
    let elsewhere = [
        Rejection::RegistrationInvalid, // long_codes.rs
        Rejection::OverOfflineLimit,    // long_codes.rs
        Rejection::OverCreditLimit,     // above
        Rejection::PayerRefused,        // life.rs
        Rejection::PayerTimeout,        // life.rs
    ];
    for rejection in Rejection::ALL {
        let is_here = ORDER.iter().any(|it| it.1 == *rejection);
        assert_ne!(is_here, elsewhere.contains(rejection), "{rejection:?}");
    }
}

#[test]
fn an_unknown_code_waits_for_its_registration_and_then_is_unknown() {
    let (mut bench, terminal, _) = scene(AccountKind::Prepaid);
    let late = code(1234, 77);
    let mut pay = bench.pay("p", &late, money(5, "EUR"));
    pay.wait_until = bench.now.plus_ms(1_500);
    let pay = Command::Pay(pay);
    assert_eq!(bench.run(&pay), Ok(Decision::Wait));
    bench.wait_ms(1_499);
    assert_eq!(bench.run(&pay), Ok(Decision::Wait), "a wrong secret waits like any unknown code");
    let mut missed = Bench::new();
    missed.state = bench.state.clone();
    missed.now = bench.now.plus_ms(1);
    missed.write(&pay);
    assert_eq!(missed.last_payment().rejection, Some(Rejection::CodeUnknown));
    bench.register(&terminal, &late, 101);
    bench.write(&pay);
    assert_eq!(bench.last_payment().rejection, None);
}

#[test]
fn a_payment_that_waits_past_its_deadline_is_late_and_no_guess() {
    let (mut bench, ..) = scene(AccountKind::Prepaid);
    let mut pay = bench.pay("p", &code(1234, 77), money(5, "EUR"));
    pay.wait_until = bench.now.plus_ms(10_000);
    bench.wait_ms(10_000);
    bench.write(&Command::Pay(pay));
    assert_eq!(bench.last_payment().rejection, Some(Rejection::DeadlinePassed));
    assert!(bench.state.codes_at(1234).iter().all(|code| code.wrong_secrets == 0));
}

#[test]
fn a_repeat_gets_the_same_payment_and_a_change_is_a_conflict() {
    for faults in [&[][..], &[TooMuch], &[WrongSecret], &[Late]] {
        let (mut bench, terminal, digits) = scene(AccountKind::Prepaid);
        let pay = faulty(&mut bench, &terminal, &digits, faults);
        bench.write(&Command::Pay(pay.clone()));
        let (sequence, payment) = (bench.state.sequence(), bench.last_payment().clone());
        let before = bench.hash();
        bench.wait_ms(100_000);
        // Whatever else has changed meanwhile: what is compared is the digest.
        let mut again = pay.clone();
        again.merchant_standing = Standing::Suspended;
        again.deadline_at = bench.now.plus_ms(5_000);
        assert_eq!(bench.run(&Command::Pay(again)), Ok(Decision::Repeat { sequence }));
        let mut changed = pay.clone();
        changed.digest = [0; 16];
        assert_eq!(bench.run(&Command::Pay(changed)), Err(Refusal::RequestIdConflict));
        assert_eq!(bench.hash(), before);
        assert_eq!(bench.state.payment(sequence), Some(&payment));
        // The same id of another merchant is another request.
        let mut other = pay.clone();
        other.merchant = crate::bench::merchant(2);
        assert!(matches!(bench.decide(&Command::Pay(other)), Ok(Decision::Commit(_))));
    }
}

#[test]
fn the_payer_hears_once_of_each_code_that_was_consumed() {
    let (mut bench, terminal, digits) = scene(AccountKind::Prepaid);
    let number = |bench: &Bench| bench.state.credential(0).unwrap().usage.notice_number;
    bench.paid("declined", &digits, money(400, "EUR"));
    assert_eq!(number(&bench), 1);
    bench.paid("spent", &digits, money(1, "EUR"));
    bench.paid("wrong", &code(1234, 43), money(1, "EUR"));
    assert_eq!(number(&bench), 1);
    bench.register(&terminal, &code(1, 1), 101);
    bench.paid("approved", &code(1, 1), money(1, "EUR"));
    assert_eq!(number(&bench), 2);
}

#[test]
fn a_business_day_never_goes_back() {
    let (mut bench, terminal, digits) = scene(AccountKind::Prepaid);
    let mut early = bench.pay("waited-over-midnight", &digits, money(1, "EUR"));
    let mut late = bench.pay("first-of-the-new-day", &code(1, 1), money(1, "EUR"));
    early.business_day = 20_000;
    late.business_day = 20_001;
    bench.write(&Command::Pay(late));
    bench.write(&Command::Pay(early));
    assert_eq!(bench.state.business_day(), 20_001);
    assert_eq!(bench.last_payment().rejection, None);
    assert_eq!(terminal.number, 0);
}

#[test]
fn digits_of_another_partition_match_nothing() {
    let (mut bench, _, digits) = scene(AccountKind::Prepaid);
    let mut pay = bench.pay("p", &digits, money(1, "EUR"));
    pay.locator = warifu_proto::code::Locator::from_number(81_234).unwrap();
    bench.write(&Command::Pay(pay));
    assert_eq!(bench.last_payment().rejection, Some(Rejection::CodeUnknown));
    assert!(bench.state.codes_at(1234).iter().all(|code| code.wrong_secrets == 0));
}
