//! The life of a payment: every command in every state, against the table and its picture.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use warifu_core::account::AccountStanding;
use warifu_core::decide::{
    Capture, Command, Confirm, Decision, OldPayment, Refund, Refusal, Release, Reverse,
    StandAccount, StandCredential,
};
use warifu_core::entry::Fact;
use warifu_core::life::TRANSITIONS;
use warifu_core::limits::Limits;
use warifu_core::partition::WINDOW;
use warifu_core::payment::Payment;
use warifu_proto::id::ReaderId;
use warifu_proto::message::{AccountKind, Capture as When, PaymentStatus, ReversalReason};
use warifu_proto::notice::Verdict;
use warifu_proto::rejection::Rejection;

use crate::bench::{Bench, Terminal, code, digest, merchant, money, raw, request};

pub(crate) fn reader() -> ReaderId {
    ReaderId::from_raw(raw(0xcafe))
}

/// A linked terminal with 1 000 yen.
pub(crate) fn scene() -> (Bench, Terminal) {
    let mut bench = Bench::new();
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    bench.top_up(account, 1_000, "JPY");
    let terminal = bench.link(account, 1);
    (bench, terminal)
}

/// Shows a new code and has it paid; how it stands then.
pub(crate) fn paid(
    bench: &mut Bench,
    terminal: &Terminal,
    name: &str,
    minor: u64,
    when: When,
    limits: Limits,
) -> Payment {
    bench.wait_ms(1);
    let at = bench.state.sequence() + 1;
    let digits = code(u16::try_from(at % 10_000).unwrap(), at);
    let sequence = next_code(bench, terminal);
    bench.register(terminal, &digits, sequence);
    let mut pay = bench.pay(name, &digits, money(minor, "JPY"));
    (pay.capture, pay.limits) = (when, limits);
    bench.write(&Command::Pay(pay));
    bench.last_payment().clone()
}

/// The sequence of a terminal's next code.
pub(crate) fn next_code(bench: &Bench, terminal: &Terminal) -> u32 {
    bench.state.credential(terminal.number).unwrap().usage.sequence_highest + 1
}

pub(crate) fn asks() -> Limits {
    Limits { confirm_above_minor: Some(0), ..Limits::default() }
}

pub(crate) fn capture(name: &str, first_sequence: u64, minor: u64) -> Command {
    Command::Capture(Capture {
        merchant: merchant(1),
        reader: reader(),
        request: request(name),
        digest: digest(&format!("capture {first_sequence} {minor}")),
        first_sequence,
        amount: money(minor, "JPY"),
        old: None,
    })
}

pub(crate) fn refund(name: &str, first_sequence: u64, minor: u64) -> Command {
    Command::Refund(Refund {
        merchant: merchant(1),
        reader: reader(),
        request: request(name),
        digest: digest(&format!("refund {first_sequence} {minor}")),
        first_sequence,
        amount: money(minor, "JPY"),
        old: None,
    })
}

pub(crate) fn release(first_sequence: u64) -> Command {
    Command::Release(Release { merchant: merchant(1), reader: reader(), first_sequence, old: None })
}

pub(crate) fn reverse(name: &str, reason: ReversalReason, day: u32) -> Command {
    Command::Reverse(Reverse {
        merchant: merchant(1),
        reader: reader(),
        may_reverse_any: false,
        request: request(name),
        first_sequence: None,
        reason,
        business_day: day,
        old: None,
    })
}

pub(crate) fn confirm(
    bench: &Bench,
    terminal: &Terminal,
    first_sequence: u64,
    verdict: Verdict,
) -> Command {
    Command::Confirm(Confirm {
        credential: terminal.credential,
        first_sequence,
        verdict,
        hold_until: bench.now.plus_ms(7 * 86_400_000),
    })
}

/// Lets time end what it can.
pub(crate) fn due(bench: &mut Bench) -> usize {
    let mut ended = 0;
    while let Some(decision) = bench.state.decide_due(bench.now).unwrap() {
        let Decision::Commit(fact) = decision else { panic!("{decision:?}") };
        bench.apply(*fact);
        ended += 1;
    }
    ended
}

type Begin = fn(&mut Bench, &Terminal) -> u64;

/// A payment in each state that a payment can be in, under the request id "p".
fn states() -> Vec<(PaymentStatus, Begin)> {
    vec![
        (PaymentStatus::Approved, |b, t| {
            paid(b, t, "p", 100, When::Now, Limits::default()).first_sequence
        }),
        (PaymentStatus::Held, |b, t| {
            paid(b, t, "p", 100, When::Later, Limits::default()).first_sequence
        }),
        (PaymentStatus::AwaitingPayer, |b, t| {
            paid(b, t, "p", 100, When::Now, asks()).first_sequence
        }),
        (PaymentStatus::AwaitingPayer, |b, t| {
            paid(b, t, "p", 100, When::Later, asks()).first_sequence
        }),
        (PaymentStatus::Declined, |b, t| {
            paid(b, t, "p", 5_000, When::Now, Limits::default()).first_sequence
        }),
        (PaymentStatus::Reversed, |b, t| {
            let first = paid(b, t, "p", 100, When::Now, Limits::default()).first_sequence;
            b.write(&reverse("p", ReversalReason::Timeout, 0));
            first
        }),
        (PaymentStatus::Released, |b, t| {
            let first = paid(b, t, "p", 100, When::Later, Limits::default()).first_sequence;
            b.write(&release(first));
            first
        }),
        (PaymentStatus::Expired, |b, t| {
            let first = paid(b, t, "p", 100, When::Later, Limits::default()).first_sequence;
            b.wait_ms(7 * 86_400_000);
            assert_eq!(due(b), 1);
            first
        }),
    ]
}

#[test]
fn every_command_in_every_state_does_what_the_table_says_and_nothing_else() {
    type Do = fn(&Bench, &Terminal, u64) -> Command;
    let commands: [(&str, Do); 7] = [
        ("captured", |_, _, first| capture("c", first, 40)),
        ("released", |_, _, first| release(first)),
        ("refunded", |_, _, first| refund("r", first, 40)),
        ("reversed", |_, _, _| reverse("p", ReversalReason::Timeout, 0)),
        ("reversed", |b, _, _| {
            let day = u32::try_from(b.now.as_ms() / 86_400_000).unwrap();
            reverse("p", ReversalReason::Cashier, day)
        }),
        ("confirmed", |b, t, first| confirm(b, t, first, Verdict::Confirm)),
        ("refused", |b, t, first| confirm(b, t, first, Verdict::Refuse)),
    ];
    let mut seen = BTreeSet::new();
    for (status, begin) in states() {
        for (name, command) in &commands {
            let (mut bench, terminal) = scene();
            let first = begin(&mut bench, &terminal);
            assert_eq!(bench.state.payment(first).unwrap().status, status);
            let command = command(&bench, &terminal, first);
            let allowed: Vec<_> =
                TRANSITIONS.iter().filter(|it| (it.0, it.1) == (status, *name)).collect();
            match bench.decide(&command) {
                Ok(Decision::Commit(_)) => {
                    bench.write(&command);
                    let after = bench.state.payment(first).unwrap();
                    assert!(allowed.iter().any(|it| it.2 == after.status), "{name}: {after:?}");
                    seen.insert((status, *name, after.status));
                }
                // Nothing is to be done: what was wished is so already, or there is nothing to undo.
                Ok(Decision::Unchanged { payment }) => {
                    assert!(allowed.is_empty(), "{status:?} {name}");
                    assert_eq!(payment.status, status);
                }
                Err(Refusal::PaymentState) => assert!(allowed.is_empty(), "{status:?} {name}"),
                other => panic!("{status:?} {name}: {other:?}"),
            }
        }
        // Time, and a payer who was stopped meanwhile.
        let (mut bench, terminal) = scene();
        let first = begin(&mut bench, &terminal);
        bench.wait_ms(8 * 86_400_000);
        due(&mut bench);
        let after = bench.state.payment(first).unwrap().status;
        if after != status {
            let name = if status == PaymentStatus::Held { "expired" } else { "timed_out" };
            seen.insert((status, name, after));
        }
        let (mut bench, terminal) = scene();
        let first = begin(&mut bench, &terminal);
        let suspend = StandCredential { credential: terminal.credential, is_suspended: true };
        bench.write(&Command::StandCredential(suspend));
        let command = confirm(&bench, &terminal, first, Verdict::Confirm);
        if let Ok(Decision::Commit(_)) = bench.decide(&command) {
            bench.write(&command);
            let after = bench.state.payment(first).unwrap();
            assert_eq!(after.rejection, Some(Rejection::CredentialSuspended));
            seen.insert((status, "stopped", after.status));
        }
    }
    assert_eq!(seen, TRANSITIONS.iter().copied().collect::<BTreeSet<_>>());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test reads the page; what it tests may not")]
fn the_picture_is_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/payment-life.md");
    let page = fs::read_to_string(page).unwrap();
    let diagram = page.split("```mermaid").nth(1).unwrap().split("```").next().unwrap();
    let status = |name: &str| match name {
        "approved" => PaymentStatus::Approved,
        "held" => PaymentStatus::Held,
        "awaiting_payer" => PaymentStatus::AwaitingPayer,
        "declined" => PaymentStatus::Declined,
        "reversed" => PaymentStatus::Reversed,
        "released" => PaymentStatus::Released,
        "expired" => PaymentStatus::Expired,
        other => panic!("no such state: {other}"),
    };
    let (mut arrows, mut begins, mut ends) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in diagram.lines().filter(|it| it.contains("-->")) {
        let (from, to) = line.split_once("-->").unwrap();
        let (to, name) = to.split_once(':').unwrap_or((to, ""));
        match (from.trim(), to.trim()) {
            ("[*]", to) => drop(begins.insert(status(to))),
            (from, "[*]") => drop(ends.insert(status(from))),
            (from, to) => drop(arrows.insert((status(from), name.trim(), status(to)))),
        }
    }
    assert_eq!(arrows, TRANSITIONS.iter().copied().collect::<BTreeSet<_>>());
    let froms: BTreeSet<_> = TRANSITIONS.iter().map(|it| it.0).collect();
    let all = [
        PaymentStatus::Approved,
        PaymentStatus::Held,
        PaymentStatus::AwaitingPayer,
        PaymentStatus::Declined,
        PaymentStatus::Reversed,
        PaymentStatus::Released,
        PaymentStatus::Expired,
    ];
    let last: BTreeSet<_> = all.into_iter().filter(|it| !froms.contains(it)).collect();
    assert_eq!(ends, last, "what nothing leads out of is final");
    let first = [
        PaymentStatus::Approved,
        PaymentStatus::Held,
        PaymentStatus::AwaitingPayer,
        PaymentStatus::Declined,
    ];
    assert_eq!(begins, BTreeSet::from(first));
}

fn balance(bench: &Bench) -> (i64, u64) {
    let account = bench.state.account(0).unwrap();
    (account.balance_minor, account.reserved_minor)
}

#[test]
fn refunds_never_exceed_what_was_captured_and_a_reversal_takes_the_remainder() {
    let (mut bench, terminal) = scene();
    let hold = paid(&mut bench, &terminal, "p", 100, When::Later, Limits::default());
    assert_eq!(balance(&bench), (1_000, 100));
    assert_eq!(bench.run(&capture("c0", hold.first_sequence, 101)), Err(Refusal::AmountTooLarge));
    bench.write(&capture("c", hold.first_sequence, 80));
    assert_eq!(balance(&bench), (920, 0));
    for (name, minor, left) in [("r1", 50, 970), ("r2", 10, 980)] {
        bench.write(&refund(name, hold.first_sequence, minor));
        assert_eq!(balance(&bench), (left, 0));
    }
    assert_eq!(bench.run(&refund("r3", hold.first_sequence, 21)), Err(Refusal::AmountTooLarge));
    assert!(matches!(
        bench.run(&refund("r1", hold.first_sequence, 50)),
        Ok(Decision::Repeat { .. })
    ));
    assert_eq!(bench.run(&refund("r1", hold.first_sequence, 49)), Err(Refusal::RequestIdConflict));
    assert_eq!(bench.run(&refund("p", hold.first_sequence, 1)), Err(Refusal::RequestIdConflict));
    bench.write(&reverse("p", ReversalReason::Timeout, 0));
    let end = bench.state.payment(hold.first_sequence).unwrap();
    assert_eq!((end.captured_minor, end.refunded_minor, balance(&bench)), (60, 60, (1_000, 0)));
    assert_eq!(bench.run(&refund("r4", hold.first_sequence, 1)), Err(Refusal::PaymentState));
    assert!(matches!(
        bench.run(&reverse("p", ReversalReason::Timeout, 0)),
        Ok(Decision::Unchanged { .. })
    ));
    assert!(bench.state.imbalance().values().all(|it| *it == 0));
}

#[test]
fn a_reversal_before_arrival_binds_the_id_for_ever() {
    let (mut bench, terminal) = scene();
    bench.write(&reverse("p", ReversalReason::Timeout, 0));
    assert_eq!(bench.run(&reverse("p", ReversalReason::Timeout, 0)), Ok(Decision::ReversedBefore));
    let late = paid(&mut bench, &terminal, "p", 100, When::Now, Limits::default());
    assert_eq!(late.rejection, Some(Rejection::ReversedBeforeArrival));
    assert!(matches!(
        bench.run(&reverse("p", ReversalReason::Timeout, 0)),
        Ok(Decision::Unchanged { .. })
    ));
    assert_eq!(balance(&bench), (1_000, 0));
    // Known of elsewhere: in another partition, or from long ago.
    let mut pay = bench.pay("q", &code(1, 1), money(5, "JPY"));
    pay.is_reversed = true;
    bench.write(&Command::Pay(pay));
    assert_eq!(bench.last_payment().rejection, Some(Rejection::ReversedBeforeArrival));
}

#[test]
fn who_may_reverse_and_until_when() {
    let (mut bench, terminal) = scene();
    let paid = paid(&mut bench, &terminal, "p", 100, When::Now, Limits::default());
    let other = |any: bool| {
        let Command::Reverse(mut it) = reverse("p", ReversalReason::Timeout, 0) else { panic!() };
        (it.reader, it.may_reverse_any) = (ReaderId::from_raw(raw(0xbeef)), any);
        Command::Reverse(it)
    };
    assert_eq!(bench.run(&other(false)), Err(Refusal::NotYours));
    assert!(matches!(bench.decide(&other(true)), Ok(Decision::Commit(_))));
    let tomorrow = paid.business_day + 1;
    let late = reverse("p", ReversalReason::Cashier, tomorrow);
    assert_eq!(bench.run(&late), Err(Refusal::UseRefund));
    let timeout = reverse("p", ReversalReason::Timeout, tomorrow);
    assert!(matches!(bench.decide(&timeout), Ok(Decision::Commit(_))));
    let Command::Refund(mut theirs) = refund("r", paid.first_sequence, 1) else { panic!() };
    theirs.merchant = merchant(2);
    assert_eq!(bench.run(&Command::Refund(theirs)), Err(Refusal::PaymentUnknown));
    assert_eq!(bench.run(&refund("r", paid.first_sequence + 99, 1)), Err(Refusal::PaymentUnknown));
    let Command::Refund(mut euros) = refund("r", paid.first_sequence, 1) else { panic!() };
    euros.amount = money(1, "EUR");
    assert_eq!(bench.run(&Command::Refund(euros)), Err(Refusal::CurrencyMismatch));
}

#[test]
fn the_first_word_of_the_payer_stands_and_a_late_one_is_none() {
    let (mut bench, terminal) = scene();
    let asked = paid(&mut bench, &terminal, "p", 100, When::Later, asks());
    assert_eq!(balance(&bench), (1_000, 100));
    let yes = confirm(&bench, &terminal, asked.first_sequence, Verdict::Confirm);
    let no = confirm(&bench, &terminal, asked.first_sequence, Verdict::Refuse);
    bench.write(&yes);
    let held = bench.state.payment(asked.first_sequence).unwrap();
    assert_eq!((held.status, balance(&bench)), (PaymentStatus::Held, (1_000, 100)));
    assert!(matches!(bench.run(&yes), Ok(Decision::Unchanged { .. })));
    assert_eq!(bench.run(&no), Err(Refusal::PaymentState));
    bench.write(&capture("c", asked.first_sequence, 100));
    assert_eq!(balance(&bench), (900, 0));

    let asked = paid(&mut bench, &terminal, "q", 100, When::Now, asks());
    bench.wait_ms(60_000);
    // Too late already, though the entry that says so is not written yet.
    let yes = confirm(&bench, &terminal, asked.first_sequence, Verdict::Confirm);
    assert_eq!(bench.run(&yes), Err(Refusal::PaymentState));
    assert_eq!(due(&mut bench), 1);
    let over = bench.state.payment(asked.first_sequence).unwrap();
    assert_eq!((over.rejection, balance(&bench)), (Some(Rejection::PayerTimeout), (900, 0)));
}

#[test]
fn what_is_reserved_counts_for_the_floor_and_the_days_limits_and_comes_back() {
    let (mut bench, terminal) = scene();
    let limits = Limits { day_max_minor: Some(900), ..Limits::default() };
    let hold = paid(&mut bench, &terminal, "p", 800, When::Later, limits);
    let over = paid(&mut bench, &terminal, "q", 101, When::Now, limits);
    assert_eq!(over.rejection, Some(Rejection::OverDailyLimit));
    let over = paid(&mut bench, &terminal, "r", 201, When::Now, Limits::default());
    assert_eq!(over.rejection, Some(Rejection::InsufficientFunds));
    // Part of a hold frees the rest, of the day's limit as well.
    bench.write(&capture("c", hold.first_sequence, 300));
    assert_eq!(bench.state.account(0).unwrap().day.spent_minor, 300);
    let fits = paid(&mut bench, &terminal, "s", 600, When::Now, limits);
    assert_eq!(fits.status, PaymentStatus::Approved);
    bench.write(&reverse("s", ReversalReason::Timeout, 0));
    let day = bench.state.account(0).unwrap().day;
    assert_eq!((day.spent_minor, day.count), (300, 1));
    // A refund gives no limit back, and another day begins anew.
    bench.write(&refund("back", hold.first_sequence, 300));
    assert_eq!(bench.state.account(0).unwrap().day.spent_minor, 300);
    bench.wait_ms(86_400_000);
    let next = paid(&mut bench, &terminal, "t", 900, When::Now, limits);
    assert_eq!(next.status, PaymentStatus::Approved);
    bench.write(&reverse("p", ReversalReason::Timeout, 0));
    assert_eq!(bench.state.account(0).unwrap().day.spent_minor, 900, "it counted on its own day");
}

#[test]
fn closing_pays_out_and_is_final() {
    let (mut bench, terminal) = scene();
    let account = bench.state.account(0).unwrap().id;
    let stand = |standing| Command::StandAccount(StandAccount { account, standing });
    let hold = paid(&mut bench, &terminal, "p", 100, When::Later, Limits::default());
    let kept = paid(&mut bench, &terminal, "q", 10, When::Now, Limits::default());
    assert_eq!(bench.run(&stand(AccountStanding::Closed)), Err(Refusal::AccountInUse));
    bench.write(&release(hold.first_sequence));
    bench.write(&stand(AccountStanding::Frozen));
    let frozen = paid(&mut bench, &terminal, "r", 1, When::Now, Limits::default());
    assert_eq!(frozen.rejection, Some(Rejection::AccountFrozen));
    bench.write(&stand(AccountStanding::Closed));
    assert_eq!(balance(&bench), (0, 0));
    assert!(matches!(
        bench.run(&stand(AccountStanding::Closed)),
        Ok(Decision::AccountUnchanged { account_number: 0 })
    ));
    assert_eq!(bench.run(&stand(AccountStanding::Active)), Err(Refusal::AccountClosed));
    assert_eq!(bench.run(&refund("back", kept.first_sequence, 1)), Err(Refusal::AccountClosed));
    let closed = paid(&mut bench, &terminal, "s", 1, When::Now, Limits::default());
    assert_eq!(closed.rejection, Some(Rejection::AccountClosed));
    // A reversal has no exception.
    bench.write(&reverse("q", ReversalReason::Timeout, 0));
    assert_eq!(balance(&bench), (10, 0));
    assert!(bench.state.imbalance().values().all(|it| *it == 0));
}

#[test]
fn open_payments_never_leave_memory_and_old_ones_are_read() {
    let (mut bench, terminal) = scene();
    let hold = paid(&mut bench, &terminal, "hold", 100, When::Later, Limits::default());
    let old = paid(&mut bench, &terminal, "old", 50, When::Now, Limits::default());
    let fill = |bench: &mut Bench, name: &str| {
        for number in 0..WINDOW {
            let unknown = bench.pay(&format!("{name}{number}"), &code(1, 7), money(1, "JPY"));
            bench.write(&Command::Pay(unknown));
            bench.state.forget();
        }
    };
    fill(&mut bench, "f");
    assert_eq!(bench.state.payment(hold.first_sequence), Some(&hold));
    assert_eq!(bench.state.payment(old.first_sequence), None);
    assert_eq!(bench.run(&refund("r", old.first_sequence, 1)), Ok(Decision::NotInMemory));
    let with = |as_of: u64| {
        let Command::Refund(mut it) = refund("r", old.first_sequence, 20) else { panic!() };
        it.old = Some(Box::new(OldPayment { payment: old.clone(), as_of }));
        Command::Refund(it)
    };
    let now = bench.state.sequence();
    assert_eq!(
        bench.run(&with(now - WINDOW)),
        Ok(Decision::NotInMemory),
        "a change may be missing"
    );
    bench.write(&with(now - WINDOW + 1));
    assert_eq!(bench.state.payment(old.first_sequence).unwrap().refunded_minor, 20);
    fill(&mut bench, "g");
    assert_eq!(
        bench.state.payment(old.first_sequence),
        None,
        "a window after its change it leaves"
    );
    bench.wait_ms(8 * 86_400_000);
    assert_eq!(due(&mut bench), 1);
    assert_eq!(bench.state.payment(hold.first_sequence).unwrap().status, PaymentStatus::Expired);
    assert!(
        bench.entries.iter().any(|it| matches!(&it.fact, Fact::Changed(it) if it.reader.is_none()))
    );
}

#[test]
fn a_change_that_is_undone_after_forgetting_leaves_what_forgetting_would_have_left() {
    let (mut bench, terminal) = scene();
    let hold = paid(&mut bench, &terminal, "hold", 100, When::Later, Limits::default());
    let old = paid(&mut bench, &terminal, "old", 50, When::Now, Limits::default());
    for number in 0..WINDOW {
        let unknown = bench.pay(&format!("f{number}"), &code(1, 7), money(1, "JPY"));
        bench.write(&Command::Pay(unknown));
    }
    bench.undo.committed();
    let committed = bench.state.sequence();
    let mut expected = bench.state.clone();
    expected.forget();
    // Decided on what is not committed yet, and then not committed either: only what was before may be forgotten.
    bench.write(&refund("r", old.first_sequence, 20));
    bench.write(&reverse("hold", ReversalReason::Timeout, 0));
    bench.state.forget_with(committed, |_, _| ());
    assert!(bench.state.payment(old.first_sequence).is_some(), "a change of it may be undone");
    bench.undo.undo(&mut bench.state, 0);
    assert_eq!(bench.state.payment(old.first_sequence), None);
    assert_eq!(bench.state.payment(hold.first_sequence), Some(&hold));
    assert_eq!(bench.state.state_hash(&bench.vault), expected.state_hash(&bench.vault));
}
