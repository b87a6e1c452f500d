//! Paying: each rejection, in order of precedence. A row breaks its own check and as many later ones as can be broken at
//! the same time.

use warifu_core::decide::{Command, Decision, Pay, Refusal, Standing};
use warifu_proto::code::Code;
use warifu_proto::message::{AccountKind, PaymentStatus};
use warifu_proto::rejection::Rejection;

use crate::bench::{Bench, Terminal, code, money};

/// What can speak against a payment, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Late,
    SuspendedReader,
    SuspendedMerchant,
    /// The digits lie in the slot of a live code, and are others.
    WrongSecret,
    Expired,
    Used,
    /// By a withdrawal.
    Retired,
    OtherCurrency,
    OverCap,
    TooMuch,
}
use Fault::{
    Expired, Late, OtherCurrency, OverCap, Retired, SuspendedMerchant, SuspendedReader, TooMuch,
    Used, WrongSecret,
};

const CAP: u64 = 300;

/// An account with 500 to spend, and a code for 300 of it.
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
    let digits = if has(WrongSecret) { code(1234, 43) } else { digits.clone() };
    let minor = match (has(TooMuch), has(OverCap)) {
        (true, _) => 501,
        (false, true) => CAP + 1,
        (false, false) => CAP,
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
    pay
}

/// Kind of account, what speaks against the payment, what becomes of it.
type Row = (AccountKind, &'static [Fault], Option<Rejection>);

fn check((kind, faults, outcome): Row) {
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
    let dead = [Expired, Used, Retired].iter().any(|fault| faults.contains(fault));
    assert_eq!(again.is_some(), spent || dead, "{faults:?}: {again:?}");
    if spent {
        assert_eq!(again, Some(Rejection::CodeUsed), "{faults:?}");
    }
}

const ROWS: &[Row] = &[
    (
        AccountKind::Prepaid,
        &[
            Late,
            SuspendedReader,
            SuspendedMerchant,
            WrongSecret,
            Expired,
            Used,
            Retired,
            OtherCurrency,
            OverCap,
            TooMuch,
        ],
        Some(Rejection::DeadlinePassed),
    ),
    (
        AccountKind::Prepaid,
        &[
            SuspendedReader,
            SuspendedMerchant,
            WrongSecret,
            Expired,
            Used,
            Retired,
            OtherCurrency,
            OverCap,
            TooMuch,
        ],
        Some(Rejection::ReaderSuspended),
    ),
    (
        AccountKind::Prepaid,
        &[SuspendedMerchant, WrongSecret, Expired, Used, Retired, OtherCurrency, OverCap, TooMuch],
        Some(Rejection::MerchantSuspended),
    ),
    (
        AccountKind::Prepaid,
        &[WrongSecret, Expired, Used, Retired, OtherCurrency, OverCap, TooMuch],
        Some(Rejection::CodeUnknown),
    ),
    (
        AccountKind::Prepaid,
        &[Expired, Used, Retired, OtherCurrency, OverCap, TooMuch],
        Some(Rejection::CodeExpired),
    ),
    (
        AccountKind::Prepaid,
        &[Used, Retired, OtherCurrency, OverCap, TooMuch],
        Some(Rejection::CodeUsed),
    ),
    (
        AccountKind::Prepaid,
        &[Retired, OtherCurrency, OverCap, TooMuch],
        Some(Rejection::CodeRetired),
    ),
    (AccountKind::Prepaid, &[OtherCurrency, OverCap, TooMuch], Some(Rejection::CurrencyMismatch)),
    (AccountKind::Prepaid, &[OverCap, TooMuch], Some(Rejection::OverCodeCap)),
    (AccountKind::Prepaid, &[OverCap], Some(Rejection::OverCodeCap)),
    (AccountKind::Prepaid, &[], None),
    (AccountKind::Credit, &[], None),
    // Later checks alone, so that no earlier one hides them.
    (AccountKind::Prepaid, &[WrongSecret], Some(Rejection::CodeUnknown)),
    (AccountKind::Prepaid, &[Expired], Some(Rejection::CodeExpired)),
    (AccountKind::Prepaid, &[Used], Some(Rejection::CodeUsed)),
    (AccountKind::Prepaid, &[Retired], Some(Rejection::CodeRetired)),
    (AccountKind::Credit, &[OtherCurrency], Some(Rejection::CurrencyMismatch)),
];

#[test]
fn each_rejection_in_order_of_precedence() {
    ROWS.iter().copied().for_each(check);
    let order: Vec<_> =
        ROWS.iter().filter(|row| row.0 == AccountKind::Prepaid).map_while(|row| row.2).collect();
    assert!(order.is_sorted_by_key(|rejection| rejection.number()), "{order:?}");
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

/// Rejections that no command can lead to yet. This list may only shrink.
pub(crate) const UNREACHED: &[Rejection] = &[
    Rejection::ReversedBeforeArrival,
    Rejection::RegistrationInvalid,
    Rejection::CredentialSuspended,
    Rejection::AccountFrozen,
    Rejection::AccountClosed,
    Rejection::OverPaymentLimit,
    Rejection::OverDailyLimit,
    Rejection::OverDailyCount,
    Rejection::OverOfflineLimit,
    Rejection::PayerRefused,
    Rejection::PayerTimeout,
];

#[test]
fn every_rejection_has_a_row() {
    let beyond = [Rejection::InsufficientFunds, Rejection::OverCreditLimit];
    for rejection in Rejection::ALL {
        let has_row =
            ROWS.iter().any(|row| row.2 == Some(*rejection)) || beyond.contains(rejection);
        assert_ne!(has_row, UNREACHED.contains(rejection), "{rejection:?}");
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
