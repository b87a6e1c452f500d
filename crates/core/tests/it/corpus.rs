//! The corpus: entries as each release has written them. A state must be what it was, in every later version.
//!
//! `tests/corpus/v1.entries` holds the entries of one fixed run, each after its length in four bytes (big-endian).
//! `v1.state` says what they come to: the state hash, then every balance and payment in words. The vault's key is
//! [`crate::bench::vault`]'s.
//!
//! **To add a version** (a new kind of entry, or a new version of one): never change entries that were released. Write a
//! run like [`everything`] that makes every entry of the new release, name it `v2` beside `v1`, add it to [`RELEASES`]
//! and run the tests once with `WARIFU_WRITE_CORPUS=1`: files that are missing are written, files that are there never.
//! Where today's encoder or rules no longer make the bytes of an older release, set its `is_current` to false: it is
//! replayed for ever all the same.
//!
//! **A new layout of the snapshot** changes every hash and nothing else. Delete the `.state` files, write them again in
//! the same way, and see in the difference that only first lines have changed.
//!
//! Before the first release `v1` is not fixed yet: delete both of its files and write them again.

#![expect(
    clippy::disallowed_methods,
    reason = "the corpus lies in files; the rules never see them"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use warifu_core::entry::{Entry, Fact};
use warifu_core::partition::Partition;
use warifu_core::undo::UndoLog;
use warifu_proto::message::AccountKind;
use warifu_proto::rejection::Rejection;

use crate::bench::{Bench, PARTITION, code, money, unlink, vault};

struct Release {
    name: &'static str,
    run: fn() -> Vec<Entry>,
    /// Whether today's encoder still writes these bytes.
    is_current: bool,
}

const RELEASES: &[Release] = &[Release { name: "v1", run: everything, is_current: true }];

fn path(name: &str, extension: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(format!("{name}.{extension}"))
}

/// A fixed run through every fact and everything that can become of a payment.
pub(crate) fn everything() -> Vec<Entry> {
    let mut bench = Bench::new();
    let prepaid = bench.open(AccountKind::Prepaid, "JPY", 0);
    let credit = bench.open(AccountKind::Credit, "EUR", 50_000);
    bench.top_up(prepaid, 10_000, "JPY");
    bench.top_up(credit, 123, "EUR");
    let first = bench.link(prepaid, 1);
    let second = bench.link(credit, 2);
    let gone = bench.link(credit, 3);
    bench.invite(prepaid);
    bench.wait_ms(1_000);
    bench.register(&first, &code(1, 1), 1_000);
    assert_eq!(bench.paid("approved", &code(1, 1), money(1_200, "JPY")), None);
    declined_by_the_code(&mut bench, &first, &second);
    declined_by_the_account(&mut bench, &first, &second);
    lived_on(&mut bench, &first);
    bench.register(&gone, &code(7, 7), 5);
    bench.write(&unlink(&gone));
    bench.wait_ms(1);
    assert_eq!(bench.paid("unlinked", &code(7, 7), money(1, "EUR")), Some(Rejection::CodeRetired));
    // Late, overtaken, and in its last place of the window.
    bench.register(&first, &code(2, 9), 2_000);
    bench.register(&first, &code(2, 10), 1_985);
    // Two days and many slots later everything old is swept.
    bench.wait_ms(2 * 86_400_000);
    bench.register(&first, &code(1, 11), 2_001);
    assert_eq!(bench.paid("last", &code(1, 11), money(1, "JPY")), None);
    bench.invite(prepaid);
    bench.entries
}

/// Everything that can happen to a payment after it was decided, and to its payer.
fn lived_on(bench: &mut Bench, terminal: &crate::bench::Terminal) {
    use warifu_core::account::AccountStanding;
    use warifu_core::decide::{Command, Limit, StandAccount, StandCredential};
    use warifu_core::limits::Limits;
    use warifu_proto::message::{Capture, ReversalReason};
    use warifu_proto::notice::Verdict;

    use crate::life::{asks, capture, confirm, due, paid, refund, release, reverse};
    let none = Limits::default();
    let account = bench.state.account(0).unwrap().id;
    let first = paid(bench, terminal, "l1", 30, Capture::Now, none).first_sequence;
    bench.write(&refund("l1-back", first, 10));
    bench.write(&reverse("l1", ReversalReason::Timeout, 0));
    let first = paid(bench, terminal, "l2", 30, Capture::Later, none).first_sequence;
    bench.write(&capture("l2-take", first, 20));
    let first = paid(bench, terminal, "l3", 30, Capture::Later, none).first_sequence;
    bench.write(&release(first));
    paid(bench, terminal, "l4", 30, Capture::Later, none);
    for (name, verdict) in [("l5", Verdict::Confirm), ("l6", Verdict::Refuse)] {
        let first = paid(bench, terminal, name, 30, Capture::Now, asks()).first_sequence;
        let word = confirm(bench, terminal, first, verdict);
        bench.write(&word);
    }
    paid(bench, terminal, "l7", 30, Capture::Now, asks());
    let first = paid(bench, terminal, "l8", 30, Capture::Now, asks()).first_sequence;
    let stand = |is_suspended| {
        let credential = terminal.credential;
        Command::StandCredential(StandCredential { credential, is_suspended })
    };
    bench.write(&stand(true));
    paid(bench, terminal, "l9", 1, Capture::Now, none);
    let word = confirm(bench, terminal, first, Verdict::Confirm);
    bench.write(&word);
    bench.write(&stand(false));
    for standing in [AccountStanding::Frozen, AccountStanding::Active] {
        bench.write(&Command::StandAccount(StandAccount { account, standing }));
        paid(bench, terminal, &format!("l10-{standing:?}"), 1, Capture::Now, none);
    }
    bench.write(&reverse("l11", ReversalReason::Timeout, 0));
    paid(bench, terminal, "l11", 1, Capture::Now, none);
    let limits = |payment, day, count| Limits {
        payment_max_minor: payment,
        day_max_minor: day,
        day_count_max: count,
        ..Limits::default()
    };
    paid(bench, terminal, "l12", 2, Capture::Now, limits(Some(1), None, None));
    paid(bench, terminal, "l13", 2, Capture::Now, limits(None, Some(1), None));
    paid(bench, terminal, "l14", 2, Capture::Now, limits(None, None, Some(0)));
    let own = Some(limits(Some(1), None, None));
    bench.write(&Command::Limit(Limit { account, limits: own }));
    bench.write(&Command::Limit(Limit { account, limits: None }));
    crate::long_codes::two(bench, terminal);
    let poor = bench.open(AccountKind::Prepaid, "JPY", 0);
    let phone = bench.link(poor, 5);
    let standing = AccountStanding::Closed;
    bench.write(&Command::StandAccount(StandAccount { account: poor, standing }));
    paid(bench, &phone, "l15", 1, Capture::Now, none);
    bench.wait_ms(60_000);
    due(bench);
    bench.wait_ms(7 * 86_400_000);
    due(bench);
}

fn declined_by_the_code(
    bench: &mut Bench,
    first: &crate::bench::Terminal,
    second: &crate::bench::Terminal,
) {
    use warifu_core::decide::{Command, Standing};
    let used = bench.paid("used", &code(1, 1), money(1, "JPY"));
    assert_eq!(used, Some(Rejection::CodeUsed));
    let mut late = bench.pay("late", &code(1, 1), money(1, "JPY"));
    late.deadline_at = bench.now;
    let mut reader = bench.pay("reader", &code(1, 1), money(1, "JPY"));
    reader.reader_standing = Standing::Suspended;
    let mut merchant = bench.pay("merchant", &code(1, 1), money(1, "JPY"));
    merchant.merchant_standing = Standing::Suspended;
    for pay in [late, reader, merchant] {
        bench.write(&Command::Pay(pay));
    }
    bench.register(first, &code(1, 2), 1_001);
    bench.register(second, &code(1, 3), 1);
    for guess in 0..10 {
        let unknown =
            bench.paid(&format!("unknown-{guess}"), &code(1, 100 + guess), money(1, "JPY"));
        assert_eq!(unknown, Some(Rejection::CodeUnknown));
    }
    assert_eq!(bench.paid("guessed", &code(1, 2), money(1, "JPY")), Some(Rejection::CodeRetired));
    bench.register(first, &code(2, 4), 1_002);
    bench.withdraw(first, 1_003);
    assert_eq!(bench.paid("withdrawn", &code(2, 4), money(1, "JPY")), Some(Rejection::CodeRetired));
    bench.register(first, &code(2, 5), 1_004);
    bench.wait_ms(60_000);
    assert_eq!(bench.paid("expired", &code(2, 5), money(1, "JPY")), Some(Rejection::CodeExpired));
}

fn declined_by_the_account(
    bench: &mut Bench,
    first: &crate::bench::Terminal,
    second: &crate::bench::Terminal,
) {
    let mut sequence = 1_010;
    let mut show = |bench: &mut Bench, terminal: &crate::bench::Terminal, cap_minor| {
        sequence += 1;
        let mut statement = terminal.statement(&code(3, u64::from(sequence)), sequence, bench.now);
        statement.cap_minor = cap_minor;
        bench.write(&terminal.register(statement));
        code(3, u64::from(sequence))
    };
    let digits = show(bench, first, 0);
    assert_eq!(bench.paid("currency", &digits, money(1, "EUR")), Some(Rejection::CurrencyMismatch));
    let digits = show(bench, first, 50);
    assert_eq!(bench.paid("cap", &digits, money(51, "JPY")), Some(Rejection::OverCodeCap));
    let digits = show(bench, first, 0);
    let rejection = bench.paid("funds", &digits, money(1_000_000, "JPY"));
    assert_eq!(rejection, Some(Rejection::InsufficientFunds));
    let digits = show(bench, second, 0);
    let rejection = bench.paid("limit", &digits, money(50_124, "EUR"));
    assert_eq!(rejection, Some(Rejection::OverCreditLimit));
    let digits = show(bench, second, 0);
    assert_eq!(bench.paid("to-the-limit", &digits, money(50_123, "EUR")), None);
}

fn framed(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.to_bytes();
        bytes.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

fn unframed(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (entry, rest) = rest.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        entries.push(Entry::decode(entry).unwrap());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    entries
}

fn replayed(entries: &[Entry]) -> Partition {
    let (vault, mut undo, mut state) = (vault(), UndoLog::default(), Partition::new(PARTITION));
    for entry in entries {
        state.apply(entry, &vault, &mut undo).unwrap();
        undo.committed();
        state.forget();
    }
    assert!(state.imbalance().values().all(|sum| *sum == 0));
    state
}

/// The state hash on the first line; below it what a person can compare.
fn in_words(state: &Partition) -> String {
    let mut text = String::new();
    state.state_hash(&vault()).iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
    text.push('\n');
    for it in state.accounts() {
        writeln!(text, "account {} {} {}", it.id, it.balance_minor, it.currency.code).unwrap();
    }
    for (merchant, currency, minor) in state.merchant_balances() {
        writeln!(text, "merchant {merchant} {minor} {currency}").unwrap();
    }
    for (currency, minor) in state.world_balances() {
        writeln!(text, "world {minor} {currency}").unwrap();
    }
    let payments = (1..=state.sequence()).filter_map(|sequence| state.payment(sequence));
    for it in payments {
        let why = it.rejection.map_or("", Rejection::name);
        let (request, amount, captured) = (&it.request, it.amount_minor, it.captured_minor);
        writeln!(
            text,
            "payment {} {request} {:?} {why} {captured}/{amount}",
            it.first_sequence, it.status
        )
        .unwrap();
    }
    text
}

#[test]
fn every_release_replays_to_the_state_it_had() {
    for release in RELEASES {
        let (entries, state) = (path(release.name, "entries"), path(release.name, "state"));
        if std::env::var_os("WARIFU_WRITE_CORPUS").is_some() {
            if !entries.exists() {
                fs::write(&entries, framed(&(release.run)())).unwrap();
            }
            if !state.exists() {
                let released = unframed(&fs::read(&entries).unwrap());
                fs::write(&state, in_words(&replayed(&released))).unwrap();
            }
        }
        let bytes = fs::read(&entries).unwrap();
        let replayed = in_words(&replayed(&unframed(&bytes)));
        assert_eq!(replayed, fs::read_to_string(&state).unwrap(), "{}", release.name);
        if release.is_current {
            assert!(
                framed(&unframed(&bytes)) == bytes,
                "{}: the encoder writes other bytes",
                release.name
            );
            assert!(
                framed(&(release.run)()) == bytes,
                "{}: the rules decide otherwise",
                release.name
            );
        }
    }
}

#[test]
fn the_corpus_has_every_fact_and_everything_that_becomes_of_a_payment() {
    let bytes = fs::read(path("v1", "entries")).unwrap();
    let (mut kinds, mut outcomes, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in unframed(&bytes) {
        kinds.push(entry.to_bytes().first().copied().unwrap());
        match entry.fact {
            Fact::Decided(it) => outcomes.push(it.rejection),
            Fact::Changed(it) => {
                outcomes.push(it.payment.rejection);
                changes.push(it.change.name());
            }
            _ => {}
        }
    }
    for transition in warifu_core::life::TRANSITIONS {
        assert!(changes.contains(&transition.1), "{transition:?}");
    }
    for kind in 1..=13 {
        assert!(kinds.contains(&kind), "kind {kind}");
    }
    assert!(outcomes.contains(&None));
    for rejection in Rejection::ALL {
        assert!(outcomes.contains(&Some(*rejection)), "{rejection:?}");
    }
}
