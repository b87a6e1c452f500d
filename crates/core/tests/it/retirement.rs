//! What ends a code before its lifetime does, and what doesn't. "Newer" is the higher sequence: registrations may
//! overtake each other between terminal and issuer.

use warifu_core::credential::CODES_MAX;
use warifu_proto::message::AccountKind;
use warifu_proto::rejection::Rejection;

use crate::bench::{Bench, Terminal, code, money, unlink};

/// A terminal with money; its code number n lies in slot n.
fn scene() -> (Bench, Terminal) {
    let mut bench = Bench::new();
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    bench.top_up(account, 1_000_000, "JPY");
    let terminal = bench.link(account, 1);
    (bench, terminal)
}

impl Bench {
    fn shows(&mut self, terminal: &Terminal, number: u16, sequence: u32) {
        self.register(terminal, &code(number, u64::from(number)), sequence);
    }

    /// What a payment with code number n would come to now; it is not made.
    fn would(&mut self, number: u16) -> Option<Rejection> {
        let mark = self.undo.len();
        let name = format!("try-{}-{number}", self.state.sequence());
        let rejection = self.paid(&name, &code(number, u64::from(number)), money(1, "JPY"));
        self.undo.undo(&mut self.state, mark);
        self.entries.pop();
        rejection
    }
}

const RETIRED: Option<Rejection> = Some(Rejection::CodeRetired);

/// What happens to codes 1 (sequence 100) and 2 (sequence 101, unless said otherwise), and then whether each pays.
type Row = (&'static str, fn(&mut Bench, &Terminal), [Option<Rejection>; 2]);

fn check((what, happens, outcomes): Row) {
    let (mut bench, terminal) = scene();
    happens(&mut bench, &terminal);
    assert_eq!([bench.would(1), bench.would(2)], outcomes, "{what}");
}

const ROWS: &[Row] = &[
    (
        "a newer code, just now",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
        },
        [None, None],
    ),
    (
        "a newer code, 4 999 ms ago",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.wait_ms(4_999);
        },
        [None, None],
    ),
    (
        "a newer code, 5 s ago",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.wait_ms(5_000);
        },
        [RETIRED, None],
    ),
    (
        "the older one's registration was overtaken",
        |b, t| {
            b.shows(t, 2, 101);
            b.wait_ms(3_000);
            b.shows(t, 1, 100);
            b.wait_ms(1_999);
        },
        [None, None],
    ),
    (
        "the older one's registration was overtaken, and the newer came 5 s ago",
        |b, t| {
            b.shows(t, 2, 101);
            b.wait_ms(3_000);
            b.shows(t, 1, 100);
            b.wait_ms(2_000);
        },
        [RETIRED, None],
    ),
    (
        "the older one's registration was overtaken by more than 5 s",
        |b, t| {
            b.shows(t, 2, 101);
            b.wait_ms(5_000);
            b.shows(t, 1, 100);
        },
        [RETIRED, None],
    ),
    (
        "the older one comes after a newer one that was retired too",
        |b, t| {
            b.shows(t, 2, 101);
            b.wait_ms(3_000);
            b.shows(t, 3, 102);
            b.wait_ms(2_000);
            b.shows(t, 1, 100);
        },
        [RETIRED, None],
    ),
    (
        "a withdrawal",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.withdraw(t, 102);
        },
        [RETIRED, RETIRED],
    ),
    (
        "a withdrawal between them that came late ends the older only",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 102);
            b.withdraw(t, 101);
        },
        [RETIRED, None],
    ),
    (
        "a withdrawal ends what it overtook",
        |b, t| {
            b.withdraw(t, 102);
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
        },
        [RETIRED, RETIRED],
    ),
    (
        "a withdrawal does not end what comes after it",
        |b, t| {
            b.shows(t, 1, 100);
            b.withdraw(t, 101);
            b.shows(t, 2, 102);
        },
        [RETIRED, None],
    ),
    (
        "a newer sibling pays",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.paid("p", &code(2, 2), money(1, "JPY"));
        },
        [RETIRED, Some(Rejection::CodeUsed)],
    ),
    (
        "an older sibling pays",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.paid("p", &code(1, 1), money(1, "JPY"));
        },
        [Some(Rejection::CodeUsed), RETIRED],
    ),
    (
        "a sibling is consumed by a refusal",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.paid("p", &code(1, 1), money(1_000_001, "JPY"));
        },
        [Some(Rejection::CodeUsed), RETIRED],
    ),
    (
        "a newer one pays before the older one's registration arrives",
        |b, t| {
            b.shows(t, 2, 101);
            b.paid("p", &code(2, 2), money(1, "JPY"));
            b.shows(t, 1, 100);
        },
        [RETIRED, Some(Rejection::CodeUsed)],
    ),
    (
        "the next code after a payment",
        |b, t| {
            b.shows(t, 1, 100);
            b.paid("p", &code(1, 1), money(1, "JPY"));
            b.shows(t, 2, 101);
        },
        [Some(Rejection::CodeUsed), None],
    ),
    (
        "the link ends",
        |b, t| {
            b.shows(t, 1, 100);
            b.shows(t, 2, 101);
            b.write(&unlink(t));
        },
        [RETIRED, RETIRED],
    ),
];

#[test]
fn codes_of_one_terminal() {
    ROWS.iter().copied().for_each(check);
}

#[test]
fn the_ninth_code_in_a_burst_ends_the_oldest_only() {
    let (mut bench, terminal) = scene();
    let count = u16::try_from(CODES_MAX).unwrap();
    for number in 1..=count {
        bench.shows(&terminal, number, 100 + u32::from(number));
    }
    for number in 1..=count {
        assert_eq!(bench.would(number), None, "code {number} of eight");
    }
    bench.shows(&terminal, count + 1, 200);
    assert_eq!(bench.would(1), RETIRED);
    for number in 2..=count + 1 {
        assert_eq!(bench.would(number), None, "code {number} of nine");
    }
    // One that is older than all of them, and late: it is the surplus.
    bench.shows(&terminal, 20, 190);
    assert_eq!(bench.would(2), RETIRED);
    let (mut bench, terminal) = scene();
    for number in 1..=count {
        bench.shows(&terminal, number, 100 + u32::from(number));
    }
    bench.shows(&terminal, 20, 99);
    assert_eq!(bench.would(20), RETIRED);
    assert_eq!(bench.would(1), None);
}

#[test]
fn a_code_lives_as_long_as_it_says_and_not_a_millisecond_more() {
    let (mut bench, terminal) = scene();
    bench.shows(&terminal, 1, 100);
    bench.wait_ms(59_999);
    assert_eq!(bench.would(1), None);
    bench.wait_ms(1);
    assert_eq!(bench.would(1), Some(Rejection::CodeExpired));
}

#[test]
fn the_tenth_wrong_secret_ends_every_live_code_of_its_locator_and_no_other() {
    let (mut bench, terminal) = scene();
    let other = {
        let account = bench.open(AccountKind::Prepaid, "JPY", 0);
        bench.top_up(account, 10, "JPY");
        bench.link(account, 2)
    };
    bench.register(&terminal, &code(1, 1), 100);
    bench.register(&other, &code(2, 2), 100);
    for guess in 0..9 {
        let rejection =
            bench.paid(&format!("guess-{guess}"), &code(1, 1_000 + guess), money(1, "JPY"));
        assert_eq!(rejection, Some(Rejection::CodeUnknown));
    }
    // A code that came after the nine is not the one they were aimed at.
    bench.register(&other, &code(1, 7), 101);
    assert_eq!(bench.would(1), None, "after nine");
    bench.paid("guess-9", &code(1, 5_000), money(1, "JPY"));
    assert_eq!(bench.would(1), RETIRED, "after ten");
    assert_eq!(bench.paid("late", &code(1, 7), money(1, "JPY")), None, "one against this one");
    assert_eq!(bench.state.codes_at(2).first().map(|code| code.wrong_secrets), Some(0));
}

#[test]
fn a_repeated_guess_counts_once_and_a_known_code_never() {
    let (mut bench, terminal) = scene();
    let other = {
        let account = bench.open(AccountKind::Prepaid, "JPY", 0);
        bench.link(account, 2)
    };
    bench.register(&terminal, &code(1, 1), 100);
    bench.register(&other, &code(1, 2), 100);
    let guess = warifu_core::decide::Command::Pay(bench.pay("g", &code(1, 3), money(1, "JPY")));
    for _ in 0..20 {
        bench.run(&guess).unwrap();
    }
    for again in 0..20 {
        // Consumed by the first (there is no money), then used: both are determinations, not guesses.
        bench.paid(&format!("used-{again}"), &code(1, 2), money(1, "JPY"));
    }
    assert_eq!(bench.state.codes_at(1).first().map(|code| code.wrong_secrets), Some(1));
    assert_eq!(bench.would(1), None);
}

#[test]
fn the_live_one_of_two_equal_codes_pays() {
    // All 24 digits of two terminals are the same: with random digits that never happens, and if it does, it is settled.
    let (mut bench, first) = scene();
    let second = {
        let account = bench.open(AccountKind::Prepaid, "JPY", 0);
        bench.top_up(account, 10, "JPY");
        bench.link(account, 2)
    };
    bench.register(&first, &code(1, 1), 100);
    bench.wait_ms(60_000);
    bench.register(&second, &code(1, 1), 100);
    assert_eq!(bench.paid("p", &code(1, 1), money(1, "JPY")), None);
    assert_eq!(bench.last_payment().credential_number, Some(second.number));
}

#[test]
fn digits_that_have_paid_do_not_pay_again_under_a_new_statement() {
    let (mut bench, terminal) = scene();
    bench.shows(&terminal, 1, 100);
    assert_eq!(bench.paid("p", &code(1, 1), money(1, "JPY")), None);
    bench.shows(&terminal, 1, 101);
    assert_eq!(bench.would(1), Some(Rejection::CodeUsed));
}

#[test]
fn an_unlinked_terminal_registers_no_more() {
    let (mut bench, terminal) = scene();
    bench.shows(&terminal, 1, 100);
    bench.write(&unlink(&terminal));
    let late = terminal.register(terminal.statement(&code(2, 2), 101, bench.now));
    assert_eq!(bench.decide(&late), Err(warifu_core::decide::Refusal::CredentialUnknown));
    assert_eq!(bench.would(1), RETIRED);
}
