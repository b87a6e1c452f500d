//! A small universe in which commands collide: three accounts of two kinds and two currencies, four terminals, two
//! merchants, three locators, and clocks that jump. Every command that is decided is compared with the [`Oracle`].

use std::collections::BTreeMap;

use proptest::prelude::*;
use warifu_core::decide::{Command, Decision, Refusal, Register, Standing};
use warifu_core::entry::{Entry, Fact};
use warifu_proto::code::{Code, Locator};
use warifu_proto::id::AccountId;
use warifu_proto::limits::MINOR_MAX;
use warifu_proto::message::AccountKind;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::rejection::Rejection;

use crate::bench::{
    Bench, Terminal, code, currency, digest, key, merchant, money, request, top_up, unlink,
};
use crate::oracle::{Ask, Event, Happened, Oracle, Verdict};

/// One step of a random run.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Time passes; the clock may also be set back a little.
    Clock(i64),
    TopUp {
        account: usize,
        amount: u64,
        right_currency: bool,
        request: u8,
    },
    Register(Registration),
    /// The how-manieth statement so far, again.
    RegisterAgain(usize),
    Unlink {
        terminal: usize,
        by_its_key: bool,
    },
    Pay(Payment),
    /// The how-manieth payment so far, again, or another under the same id.
    PayAgain {
        which: usize,
        changed: bool,
    },
    Commit,
    /// The commit failed: everything since the last one is undone.
    Undo,
}

#[derive(Debug, Clone)]
pub(crate) struct Registration {
    terminal: usize,
    digits: u8,
    /// Added to the highest sequence that this terminal has sent.
    step: i32,
    lifetime_s: u16,
    cap_minor: u64,
    skew_ms: i64,
    flaw: Flaw,
}

#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    Partition,
    Currency,
    Key,
}

#[derive(Debug, Clone)]
pub(crate) struct Payment {
    merchant: u64,
    request: u8,
    scanned: Scanned,
    amount: u64,
    right_currency: bool,
    in_time: bool,
    waits: bool,
    standings: (bool, bool),
}

/// What the cashier scans.
#[derive(Debug, Clone)]
enum Scanned {
    /// What was registered so many registrations ago.
    Shown(usize),
    /// A terminal's digits, registered or not.
    Digits(usize, u8),
    /// A guess in that slot.
    Guess(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![
        4 => 0_i64..3_000,
        2 => Just(5_000_i64),
        1 => prop_oneof![Just(60_000_i64), Just(300_000), Just(420_000), Just(1_000_000)],
        1 => -2_000_i64..0,
    ];
    let top_up = (
        0_usize..3,
        prop_oneof![1_u64..2_000, Just(MINOR_MAX)],
        prop::bool::weighted(0.8),
        0_u8..8,
    );
    prop_oneof![
        5 => clock.prop_map(Step::Clock),
        2 => top_up.prop_map(|(account, amount, right_currency, request)| Step::TopUp { account, amount, right_currency, request }),
        8 => registration().prop_map(Step::Register),
        2 => any::<usize>().prop_map(Step::RegisterAgain),
        1 => (0_usize..8, any::<bool>()).prop_map(|(terminal, by_its_key)| Step::Unlink { terminal, by_its_key }),
        12 => payment().prop_map(Step::Pay),
        3 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(which, changed)| Step::PayAgain { which, changed }),
        2 => Just(Step::Commit),
        1 => Just(Step::Undo),
    ]
}

fn registration() -> impl Strategy<Value = Registration> {
    let flaw = prop_oneof![40 => Just(Flaw::None), 1 => Just(Flaw::Partition), 1 => Just(Flaw::Currency), 1 => Just(Flaw::Key)];
    let step = prop_oneof![8 => Just(1), 2 => 2_i32..20, 3 => -18_i32..=0];
    let lifetime =
        prop_oneof![10 => Just(60_u16), 2 => Just(0), 2 => Just(300), 1 => Just(1), 1 => Just(301)];
    let skew = prop_oneof![30 => Just(0_i64), 1 => Just(120_000), 1 => Just(-120_000), 1 => Just(120_001), 1 => Just(-120_001)];
    let cap = prop_oneof![4 => Just(0_u64), 1 => 1_u64..400];
    (0_usize..4, 0_u8..6, step, lifetime, cap, skew, flaw).prop_map(
        |(terminal, digits, step, lifetime_s, cap_minor, skew_ms, flaw)| Registration {
            terminal,
            digits,
            step,
            lifetime_s,
            cap_minor,
            skew_ms,
            flaw,
        },
    )
}

fn payment() -> impl Strategy<Value = Payment> {
    let amount = prop_oneof![12 => 1_u64..500, 2 => 500_u64..3_000, 1 => Just(MINOR_MAX)];
    let scanned = prop_oneof![
        10 => (0_usize..8).prop_map(Scanned::Shown),
        2 => (0_usize..4, 0_u8..6).prop_map(|(terminal, number)| Scanned::Digits(terminal, number)),
        2 => (0_u8..3).prop_map(Scanned::Guess),
    ];
    let often = prop::bool::weighted;
    let how = (often(0.93), often(0.95), often(0.2), (often(0.97), often(0.97)));
    (1_u64..3, 0_u8..60, scanned, amount, how).prop_map(
        |(merchant, request, scanned, amount, (right_currency, in_time, waits, standings))| {
            Payment {
                merchant,
                request,
                scanned,
                amount,
                right_currency,
                in_time,
                waits,
                standings,
            }
        },
    )
}

/// A random run.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..90)
}

/// The universe as it stands.
#[derive(Debug)]
pub(crate) struct Universe {
    pub(crate) bench: Bench,
    oracle: Oracle,
    accounts: Vec<(AccountId, &'static str)>,
    terminals: Vec<Terminal>,
    sent: Vec<Statement>,
    sequences: Vec<i64>,
    shown: Vec<(usize, Code)>,
    paid: Vec<(Payment, Code, &'static str)>,
    /// What came of the commands so far, and how often the exact answer was known.
    pub(crate) seen: BTreeMap<String, u32>,
    /// What there was at the last commit: state by hash, entries, events.
    committed: ([u8; 32], usize, usize),
}

impl Universe {
    pub(crate) fn new() -> Self {
        let mut bench = Bench::new();
        let mut oracle = Oracle::default();
        let kinds = [
            (AccountKind::Prepaid, "JPY", 0),
            (AccountKind::Prepaid, "EUR", 0),
            (AccountKind::Credit, "EUR", 1_000),
        ];
        let mut accounts = Vec::new();
        for (kind, code, limit) in kinds {
            accounts.push((bench.open(kind, code, limit), code));
            oracle.floors.push((code, -i128::from(limit)));
        }
        let mut terminals = Vec::new();
        for (at, account) in [0, 1, 2, 2].into_iter().enumerate() {
            terminals.push(bench.link(accounts[account].0, at + 1));
            oracle.account_of.push(account);
        }
        bench.undo.committed();
        let committed = ([0; 32], 0, 0);
        let (sent, shown, paid, sequences) = (Vec::new(), Vec::new(), Vec::new(), vec![100; 4]);
        let mut universe = Self {
            bench,
            oracle,
            accounts,
            terminals,
            sent,
            sequences,
            shown,
            paid,
            seen: BTreeMap::new(),
            committed,
        };
        for account in 0..3 {
            universe.top_up(account, 3_000, true, 100);
        }
        universe.commit();
        universe
    }

    /// Does one step, and checks everything that must be true after it.
    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Clock(ms) if *ms < 0 => {
                let earlier = self.bench.now.as_ms() - ms.unsigned_abs();
                self.bench.now = warifu_proto::time::Timestamp::from_ms(earlier);
            }
            Step::Clock(ms) => self.bench.wait_ms(ms.unsigned_abs()),
            Step::TopUp { account, amount, right_currency, request } => {
                self.top_up(*account, *amount, *right_currency, *request)
            }
            Step::Register(it) => self.register(it),
            Step::RegisterAgain(which) => {
                if let Some(statement) = pick(&self.sent, *which).cloned() {
                    self.send(statement, Flaw::None);
                }
            }
            Step::Unlink { terminal, by_its_key } => self.unlink(*terminal, *by_its_key),
            Step::Pay(it) => {
                let (digits, own) = self.scan(&it.scanned);
                let code = if it.right_currency { own } else { "CHF" };
                self.paid.push((it.clone(), digits.clone(), code));
                self.pay(it, &digits, it.amount, code);
            }
            Step::PayAgain { which, changed } => {
                if let Some((payment, digits, code)) = pick(&self.paid, *which).cloned() {
                    let amount = payment.amount - u64::from(*changed && payment.amount > 1);
                    self.pay(&payment, &digits, amount, code);
                }
            }
            Step::Commit => self.commit(),
            Step::Undo => self.undo(),
        }
        self.check();
    }

    fn commit(&mut self) {
        self.bench.undo.committed();
        self.bench.state.forget();
        self.committed = (self.bench.hash(), self.bench.entries.len(), self.oracle.events.len());
    }

    fn undo(&mut self) {
        let (hash, entries, events) = self.committed;
        self.bench.undo.undo(&mut self.bench.state, 0);
        assert!(self.bench.undo.is_empty());
        assert_eq!(self.bench.hash(), hash, "an undone batch leaves no trace");
        self.bench.entries.truncate(entries);
        self.oracle.events.truncate(events);
    }

    /// Laws 1 and 7, and that the balances are what the events say.
    fn check(&self) {
        for (currency, sum) in self.bench.state.imbalance() {
            assert_eq!(sum, 0, "law 1 in currency {currency}");
        }
        for (at, account) in self.bench.state.accounts().iter().enumerate() {
            assert_eq!(i128::from(account.balance_minor), self.oracle.balance(at), "account {at}");
            assert!(account.balance_minor >= account.floor_minor, "law 7");
        }
        for number in 1..3 {
            for code in ["JPY", "EUR"] {
                let held =
                    self.bench.state.merchant_balances().find(|(who, of, _)| {
                        *who == merchant(number) && *of == currency(code).number
                    });
                assert_eq!(
                    held.map_or(0, |it| it.2),
                    self.oracle.owed(number, code),
                    "merchant {number}"
                );
            }
        }
    }

    /// Decides, compares with the oracle, applies, and remembers what happened.
    fn decide(&mut self, command: &Command, ask: Ask) {
        let now = self.bench.now.max(self.bench.state.time());
        let expected = self.oracle.expect(&ask, now.as_ms());
        let decision = self.bench.run(command);
        let got = match &decision {
            Ok(Decision::Commit(fact)) => match fact.as_ref() {
                Fact::Decided(it) => {
                    let notice = it.matched.map_or(0, |matched| matched.notice_number);
                    Verdict::Decided {
                        rejection: it.rejection,
                        terminal: it.matched.map(|matched| matched.credential_number as usize),
                        notice,
                    }
                }
                _ => Verdict::Writes,
            },
            Ok(Decision::Repeat { sequence }) => Verdict::Repeats(*sequence),
            Ok(Decision::RegisteredBefore { registered_at, expires_at, .. }) => {
                Verdict::RegisteredBefore(registered_at.as_ms(), expires_at.as_ms())
            }
            Ok(Decision::UnlinkedBefore) => Verdict::UnlinkedBefore,
            Ok(Decision::Wait) => Verdict::Waits,
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Verdict::Refuses(*refusal),
        };
        expected.check(&got);
        *self.seen.entry(format!("{} {}", expected.kind(), got.kind())).or_default() += 1;
        if let Ok(Decision::Commit(fact)) = decision {
            let happened = Happened::of(ask, &fact);
            self.oracle.events.push(Event {
                at_ms: now.as_ms(),
                sequence: self.bench.state.sequence(),
                happened,
            });
        }
    }

    fn top_up(&mut self, account: usize, amount: u64, right_currency: bool, name: u8) {
        let (id, own) = self.accounts[account];
        let code = if right_currency { own } else { "CHF" };
        let name = format!("top-up-{name}");
        let ask = Ask::TopUp { name: name.clone(), account, amount, code };
        self.decide(&top_up(&name, id, money(amount, code)), ask);
    }

    fn register(&mut self, it: &Registration) {
        let terminal = &self.terminals[it.terminal];
        let sequence =
            u32::try_from((self.sequences[it.terminal] + i64::from(it.step)).max(0)).unwrap();
        let mut statement =
            terminal.statement(&self.digits(it.terminal, it.digits), sequence, self.bench.now);
        statement.lifetime_s = it.lifetime_s;
        statement.cap_minor = it.cap_minor;
        let now = self.bench.now.max(self.bench.state.time()).as_ms();
        statement.issued_at =
            warifu_proto::time::Timestamp::from_ms(now.saturating_add_signed(it.skew_ms));
        match it.flaw {
            Flaw::Partition => {
                statement.locator =
                    Locator::from_number(80_000 + u32::try_from(statement.locator.slot()).unwrap())
                        .unwrap()
            }
            Flaw::Currency => statement.currency_number = 756,
            Flaw::None | Flaw::Key => {}
        }
        self.sent.push(statement.clone());
        self.shown.push((it.terminal, self.digits(it.terminal, it.digits)));
        self.send(statement, it.flaw);
    }

    fn send(&mut self, statement: Statement, flaw: Flaw) {
        let at =
            self.terminals.iter().position(|it| it.credential == statement.credential).unwrap();
        let signed_by =
            if matches!(flaw, Flaw::Key) { key(9) } else { self.terminals[at].key.clone() }.xy();
        let digits = (0..6).map(|number| self.digits(at, number));
        let digits = digits
            .into_iter()
            .find(|it| tag(&self.terminals[at].keys.code_key, it) == statement.tag)
            .unwrap();
        let ask = Ask::Register {
            terminal: at,
            right_place: statement.locator.partition() == crate::bench::PARTITION
                && statement.currency_number != 756,
            right_key: !matches!(flaw, Flaw::Key),
            digits: digits.as_str().to_owned(),
            statement: statement.clone(),
        };
        self.sequences[at] = self.sequences[at].max(i64::from(statement.sequence));
        let digest = statement.digest();
        self.decide(&Command::Register(Register { statement, digest, signed_by }), ask);
    }

    fn unlink(&mut self, terminal: usize, by_its_key: bool) {
        // Seldom enough for something to happen before.
        let Some(linked) = self.terminals.get(terminal) else { return };
        let mut linked = linked.clone();
        if !by_its_key {
            linked.key = key(9);
        }
        self.decide(&unlink(&linked), Ask::Unlink { terminal, right_key: by_its_key });
    }

    fn scan(&self, scanned: &Scanned) -> (Code, &'static str) {
        let (terminal, digits) = match scanned {
            Scanned::Shown(ago) => match self.shown.iter().rev().nth(*ago) {
                Some((terminal, digits)) => (*terminal, digits.clone()),
                None => (0, self.digits(0, 0)),
            },
            Scanned::Digits(terminal, number) => (*terminal, self.digits(*terminal, *number)),
            Scanned::Guess(number) => (0, code(slot(*number), 999)),
        };
        (digits, self.oracle.floors[self.oracle.account_of[terminal]].0)
    }

    fn pay(&mut self, it: &Payment, digits: &Code, amount: u64, code: &'static str) {
        let name = format!("pay-{}", it.request);
        let mut pay = self.bench.pay(&name, digits, money(amount, code));
        let now = self.bench.now.max(self.bench.state.time());
        pay.merchant = merchant(it.merchant);
        pay.request = request(&name);
        pay.deadline_at = if it.in_time { now.plus_ms(1) } else { now };
        pay.wait_until = if it.waits { now.plus_ms(1) } else { now };
        let standing = |active| if active { Standing::Active } else { Standing::Suspended };
        (pay.reader_standing, pay.merchant_standing) =
            (standing(it.standings.0), standing(it.standings.1));
        let compared = format!("{} {amount} {code}", digits.as_str());
        pay.digest = digest(&compared);
        let refused_first = match (it.in_time, it.standings) {
            (false, _) => Some(Rejection::DeadlinePassed),
            (true, (false, _)) => Some(Rejection::ReaderSuspended),
            (true, (true, false)) => Some(Rejection::MerchantSuspended),
            (true, (true, true)) => None,
        };
        let ask = Ask::Pay {
            merchant: it.merchant,
            name,
            compared,
            digits: digits.as_str().to_owned(),
            amount,
            code,
            waits: it.waits,
            refused_first,
        };
        self.decide(&Command::Pay(pay), ask);
    }

    /// Digits of a terminal's code: numbers share three slots, and number 0 is the same for the first two terminals.
    fn digits(&self, terminal: usize, number: u8) -> Code {
        let whose =
            if number == 0 && terminal < 2 { 0 } else { u64::try_from(terminal).unwrap() + 1 };
        code(slot(number), whose * 10 + u64::from(number))
    }
}

fn slot(number: u8) -> u16 {
    u16::from(number % 3)
}

fn pick<T>(from: &[T], which: usize) -> Option<&T> {
    from.get(which.checked_rem(from.len())?)
}

/// The entries of a random run.
pub(crate) fn entries() -> impl Strategy<Value = Vec<Entry>> {
    steps().prop_map(|steps| {
        let mut universe = Universe::new();
        steps.iter().for_each(|step| universe.step(step));
        universe.bench.entries
    })
}

/// What the oracle refuses with.
pub(crate) type Refused = Refusal;
