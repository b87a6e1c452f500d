//! Laws 1 to 7 over random lives of payments: whatever is asked in whatever order, and whenever the clock strikes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warifu_core::account::AccountStanding;
use warifu_core::decide::{Command, Decision, StandAccount, StandCredential};
use warifu_core::limits::Limits;
use warifu_core::partition::Partition;
use warifu_core::payment::Payment;
use warifu_core::undo::UndoLog;
use warifu_proto::message::{AccountKind, Capture, PaymentStatus, ReversalReason};
use warifu_proto::notice::Verdict;

use crate::bench::{Bench, PARTITION, Terminal, code, money, vault};
use crate::life::{capture, confirm, due, next_code, refund, release, reverse};

#[derive(Debug, Clone)]
enum Step {
    Pay { terminal: usize, minor: u64, later: bool, asks: bool },
    Capture(usize, u64),
    Refund(usize, u64),
    Release(usize),
    Reverse(usize),
    ReverseFirst,
    Confirm(usize, bool),
    Wait(u64),
    Due,
    Freeze(usize, bool),
    Suspend(usize, bool),
    TopUp(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0_usize..12;
    prop_oneof![
        5 => (0_usize..3, 1_u64..400, any::<bool>(), any::<bool>())
            .prop_map(|(terminal, minor, later, asks)| Step::Pay { terminal, minor, later, asks }),
        2 => (which(), 1_u64..400).prop_map(|(at, minor)| Step::Capture(at, minor)),
        3 => (which(), 1_u64..300).prop_map(|(at, minor)| Step::Refund(at, minor)),
        1 => which().prop_map(Step::Release),
        2 => which().prop_map(Step::Reverse),
        1 => Just(Step::ReverseFirst),
        2 => (which(), any::<bool>()).prop_map(|(at, yes)| Step::Confirm(at, yes)),
        2 => prop_oneof![Just(1), Just(30_000), Just(61_000), Just(86_400_000), Just(8 * 86_400_000)]
            .prop_map(Step::Wait),
        2 => Just(Step::Due),
        1 => (0_usize..2, any::<bool>()).prop_map(|(at, is)| Step::Freeze(at, is)),
        1 => (0_usize..3, any::<bool>()).prop_map(|(at, is)| Step::Suspend(at, is)),
        1 => (1_u64..500).prop_map(Step::TopUp),
    ]
}

/// A world of two payers, one of them on credit, with three terminals.
struct World {
    bench: Bench,
    terminals: Vec<Terminal>,
    accounts: Vec<warifu_proto::id::AccountId>,
    /// First sequences and request ids.
    payments: Vec<(u64, String)>,
    /// Request ids whose reversal was acknowledged.
    reversed: BTreeSet<String>,
    count: u64,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new();
        let prepaid = bench.open(AccountKind::Prepaid, "JPY", 0);
        bench.top_up(prepaid, 1_000, "JPY");
        let credit = bench.open(AccountKind::Credit, "JPY", 700);
        let terminals = vec![bench.link(prepaid, 1), bench.link(prepaid, 2), bench.link(credit, 3)];
        let accounts = vec![prepaid, credit];
        let (payments, reversed) = (Vec::new(), BTreeSet::new());
        Self { bench, terminals, accounts, payments, reversed, count: 0 }
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("n{}", self.count)
    }

    fn which(&self, at: usize) -> Option<(u64, String)> {
        let last = self.payments.len().checked_sub(1)?;
        self.payments.get(last - at.min(last)).cloned()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Pay { terminal, minor, later, asks } => {
                let name = self.name();
                self.pay(*terminal, &name, *minor, *later, *asks);
            }
            Step::ReverseFirst => {
                // Its payment comes after all, and moves nothing.
                let name = self.name();
                self.bench.write(&reverse(&name, ReversalReason::Timeout, 0));
                self.reversed.insert(name.clone());
                self.pay(0, &name, 10, false, false);
            }
            Step::Wait(ms) => self.bench.wait_ms(*ms),
            Step::Due => drop(due(&mut self.bench)),
            Step::TopUp(minor) => self.bench.top_up(self.accounts[0], *minor, "JPY"),
            Step::Freeze(at, is) => {
                let standing = if *is { AccountStanding::Frozen } else { AccountStanding::Active };
                let account = self.accounts[*at];
                self.ask(&Command::StandAccount(StandAccount { account, standing }));
            }
            Step::Suspend(at, is_suspended) => {
                let credential = self.terminals[*at].credential;
                let is_suspended = *is_suspended;
                self.ask(&Command::StandCredential(StandCredential { credential, is_suspended }));
            }
            Step::Capture(at, minor) => {
                self.change(*at, |_, name, first| capture(name, first, *minor))
            }
            Step::Refund(at, minor) => {
                self.change(*at, |_, name, first| refund(name, first, *minor))
            }
            Step::Release(at) => self.change(*at, |_, _, first| release(first)),
            Step::Confirm(at, yes) => {
                let verdict = if *yes { Verdict::Confirm } else { Verdict::Refuse };
                self.change(*at, |world, _, first| {
                    let payment = world.bench.state.payment(first).unwrap();
                    let number = payment.credential_number.unwrap_or_default();
                    let terminal = &world.terminals[usize::try_from(number).unwrap()];
                    confirm(&world.bench, terminal, first, verdict)
                });
            }
            Step::Reverse(at) => {
                let Some((_, name)) = self.which(*at) else { return };
                self.ask(&reverse(&name, ReversalReason::Timeout, 0));
                self.reversed.insert(name);
            }
        }
    }

    fn pay(&mut self, terminal: usize, name: &str, minor: u64, later: bool, asks: bool) {
        let terminal = self.terminals[terminal].clone();
        let digits = code(1, self.bench.state.sequence());
        let sequence = next_code(&self.bench, &terminal);
        self.bench.register(&terminal, &digits, sequence);
        let mut pay = self.bench.pay(name, &digits, money(minor, "JPY"));
        pay.capture = if later { Capture::Later } else { Capture::Now };
        pay.limits = Limits {
            day_max_minor: Some(900),
            confirm_above_minor: asks.then_some(0),
            ..Limits::default()
        };
        self.bench.write(&Command::Pay(pay));
        self.payments.push((self.bench.state.sequence(), name.to_owned()));
    }

    fn change(&mut self, at: usize, command: impl FnOnce(&Self, &str, u64) -> Command) {
        let Some((first, _)) = self.which(at) else { return };
        let name = self.name();
        let command = command(self, &name, first);
        self.ask(&command);
    }

    /// What is refused leaves no trace; what is written is the same when it is asked again.
    fn ask(&mut self, command: &Command) {
        let before = self.bench.hash();
        match self.bench.run(command) {
            Ok(Decision::Commit(_)) => {
                let again = self.bench.decide(command);
                assert!(!matches!(again, Ok(Decision::Commit(_))), "decided twice: {command:?}");
            }
            Ok(_) | Err(_) => assert_eq!(self.bench.hash(), before),
        }
    }

    fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.payments.iter().filter_map(|(first, _)| self.bench.state.payment(*first))
    }

    fn check(&self) {
        let state = &self.bench.state;
        assert!(state.imbalance().values().all(|it| *it == 0), "law 1");
        let (mut reserved, mut net) = (BTreeMap::<u32, u64>::new(), 0_i128);
        let mut spent = BTreeMap::<u32, (u64, u32)>::new();
        for it in self.payments() {
            assert!(
                it.refunded_minor <= it.captured_minor && it.captured_minor <= it.amount_minor,
                "law 5: {it:?}"
            );
            net += i128::from(it.captured_minor - it.refunded_minor);
            let Some(credential) = it.credential_number else { continue };
            let number = state.credential(credential).unwrap().account_number;
            let open = matches!(it.status, PaymentStatus::Held | PaymentStatus::AwaitingPayer);
            let counted = if open {
                *reserved.entry(number).or_default() += it.amount_minor;
                it.amount_minor
            } else if it.status == PaymentStatus::Approved {
                it.captured_minor
            } else {
                0
            };
            if counted > 0 && it.business_day == state.account(number).unwrap().day.day {
                let day = spent.entry(number).or_default();
                *day = (day.0 + counted, day.1 + 1);
            }
        }
        let merchants: i128 = state.merchant_balances().map(|(.., minor)| minor).sum();
        assert_eq!(merchants, net, "what merchants have is what payments say");
        for (number, account) in (0..).zip(state.accounts()) {
            let held = reserved.get(&number).copied().unwrap_or_default();
            assert_eq!(account.reserved_minor, held);
            let free = account.balance_minor - i64::try_from(held).unwrap();
            assert!(free >= account.floor_minor, "law 7");
            let day = spent.get(&number).copied().unwrap_or_default();
            assert_eq!((account.day.spent_minor, account.day.count), day);
        }
        for (first, name) in &self.payments {
            let payment = state.payment(*first).unwrap();
            if self.reversed.contains(name) {
                let nothing = payment.captured_minor - payment.refunded_minor;
                assert_eq!((nothing, payment.reserved_minor()), (0, 0), "law 6: {payment:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_laws_hold_over_any_life(steps in proptest::collection::vec(step(), 1..70)) {
        let mut world = World::new();
        let undone = world.bench.hash();
        world.bench.undo.committed();
        for step in &steps {
            world.take(step);
            world.check();
        }
        // The journal alone makes the same state, from any snapshot.
        let (vault, mut undo) = (vault(), UndoLog::default());
        let cut = world.bench.entries.len() / 2;
        let mut state = Partition::new(PARTITION);
        for (at, entry) in world.bench.entries.iter().enumerate() {
            let bytes = entry.to_bytes();
            let entry = warifu_core::entry::Entry::decode(&bytes).unwrap();
            prop_assert_eq!(entry.to_bytes(), bytes);
            if at == cut {
                state = Partition::from_snapshot(&state.to_snapshot(&vault), &vault).unwrap();
            }
            state.apply(&entry, &vault, &mut undo).unwrap();
        }
        prop_assert_eq!(state.state_hash(&vault), world.bench.hash());
        prop_assert_eq!(state.next_due(), world.bench.state.next_due());
        // And all of it can be taken back.
        let mut undo = std::mem::take(&mut world.bench.undo);
        undo.undo(&mut world.bench.state, 0);
        prop_assert_eq!(world.bench.hash(), undone);
    }
}
