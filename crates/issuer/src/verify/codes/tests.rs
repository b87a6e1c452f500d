use warifu_core::decide::{
    Command, Decision, Invite, Link, LongCode, OpenAccount, Pay, Register, Standing, TopUp,
};
use warifu_core::entry::{Entry, Fact, Matched, Offline};
use warifu_core::limits::Limits;
use warifu_core::partition::Partition;
use warifu_core::place::id_in;
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{CredentialId, MerchantId, ReaderId};
use warifu_proto::key::PrivateKey;
use warifu_proto::link::LinkKeys;
use warifu_proto::message::{AccountKind, Capture, PaymentStatus};
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::request_id::RequestId;
use zeroize::Zeroizing;

use super::super::Report;
use super::super::books::Books;
use super::{Codes, Decided, Kept, Locator, Registered, Rejection, Timestamp, Withdrawn};

/// What happens; times are seconds.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A code of this sequence arrives and lives a minute; it pays 100 at most.
    Arrives(u32, u64),
    /// The payer leaves the screen: all up to this sequence are withdrawn.
    Leaves(u32, u64),
    /// So many payments find nothing under the locator.
    Guesses(u32),
    /// A payment of this much by the code of this sequence.
    Pays(u32, u64, u64),
    /// The same, declined in a way that consumes the code.
    Declined(u32, u64),
    /// The same, by a code that carries its registration and lives until 60.
    Carries(u32, u64),
}
use Step::*;

fn locator() -> Locator {
    Locator::from_number(70_001).unwrap()
}

fn decided(sequence: Option<u32>, amount_minor: u64, rejection: Option<Rejection>) -> Decided {
    Decided {
        merchant: MerchantId::from_raw([3; 16]),
        reader: ReaderId::from_raw([4; 16]),
        request: RequestId::parse("any").unwrap(),
        digest: [0; 16],
        amount_minor,
        currency: CurrencyCode::parse("JPY").unwrap(),
        locator: locator(),
        business_day: 0,
        capture: Capture::Now,
        status: PaymentStatus::Approved,
        rejection,
        expires_at: None,
        matched: sequence.map(|code_sequence| Matched {
            credential_number: 5,
            code_sequence,
            notice_number: 1,
            balance_minor: 0,
        }),
        offline: None,
        legs: Vec::new(),
    }
}

fn take(codes: &mut Codes, step: Step) -> Kept {
    let second = |at: u64| Timestamp::from_ms(at * 1000);
    match step {
        Arrives(code_sequence, at) => {
            let (tag, digest, expires_at) = ([0; 16], [0; 16], second(at + 60));
            let it = Registered {
                credential_number: 5,
                locator: locator(),
                code_sequence,
                tag,
                digest,
                expires_at,
                cap_minor: 100,
            };
            codes.registered(&it, second(at));
        }
        Leaves(code_sequence, at) => {
            let it = Withdrawn { credential_number: 5, code_sequence, digest: [0; 16] };
            codes.withdrawn(&it, second(at));
        }
        Guesses(times) => (0..times).for_each(|_| {
            let it = decided(None, 1, Some(Rejection::CodeUnknown));
            codes.decided(&it, second(0)).unwrap();
        }),
        Pays(sequence, at, amount) => {
            return codes.decided(&decided(Some(sequence), amount, None), second(at));
        }
        Declined(sequence, at) => {
            let it = decided(Some(sequence), 1, Some(Rejection::InsufficientFunds));
            return codes.decided(&it, second(at));
        }
        Carries(sequence, at) => {
            let mut it = decided(Some(sequence), 1, None);
            let (tag, digest) = ([0; 16], [0; 16]);
            it.offline = Some(Offline { tag, digest, expires_at: second(60), cap_minor: 100 });
            return codes.decided(&it, second(at));
        }
    }
    Ok(())
}

/// Only the last step may be one that the laws forbid.
#[track_caller]
fn check(steps: &[Step], told: &str) {
    let mut codes = Codes::default();
    let (last, before) = steps.split_last().unwrap();
    for step in before {
        take(&mut codes, *step).unwrap();
    }
    let why = take(&mut codes, *last).err().unwrap_or_default();
    let why = why.trim_start_matches("paid by a code that could not pay: ");
    assert_eq!(why, told, "{steps:?}");
}

#[test]
fn a_code_pays_within_its_life_and_cap() {
    check(&[Arrives(1, 0), Pays(1, 59, 100)], "");
    check(&[Arrives(1, 0), Pays(1, 60, 100)], "it had expired");
    check(&[Arrives(1, 0), Pays(1, 59, 101)], "its cap was lower");
    check(&[Pays(1, 0, 1)], "it was never registered");
    check(&[Arrives(1, 0), Pays(2, 0, 1)], "it was never registered");
    check(&[Guesses(10), Arrives(1, 0), Guesses(9), Pays(1, 1, 1)], "");
    check(&[Arrives(1, 0), Guesses(10), Pays(1, 1, 1)], "it was guessed at too often");
}

#[test]
fn what_ends_a_code() {
    // A newer one, 5 s after its arrival, in whatever order they arrived.
    check(&[Arrives(1, 0), Arrives(2, 3), Pays(1, 7, 1)], "");
    check(&[Arrives(1, 0), Arrives(2, 3), Pays(1, 8, 1)], "it was retired");
    check(&[Arrives(1, 0), Arrives(2, 3), Pays(2, 60, 1)], "");
    check(&[Arrives(2, 3), Arrives(1, 6), Pays(1, 7, 1)], "");
    check(&[Arrives(2, 3), Arrives(1, 6), Pays(1, 8, 1)], "it was retired");
    check(&[Arrives(2, 3), Arrives(1, 9), Pays(1, 9, 1)], "it was retired");
    // A withdrawal of a higher sequence, at once.
    check(&[Arrives(1, 0), Leaves(2, 1), Arrives(3, 1), Pays(3, 2, 1)], "");
    check(&[Arrives(1, 0), Leaves(2, 1), Pays(1, 1, 1)], "it was retired");
    check(&[Leaves(2, 1), Arrives(1, 1), Pays(1, 1, 1)], "it was retired");
    // A decision that consumes another one, with the highest sequence seen.
    check(&[Arrives(1, 0), Arrives(2, 1), Pays(1, 2, 1), Pays(2, 2, 1)], "it was retired");
    check(
        &[Arrives(1, 0), Arrives(3, 1), Declined(1, 2), Arrives(2, 2), Pays(2, 2, 1)],
        "it was retired",
    );
    check(&[Arrives(1, 0), Declined(1, 1), Arrives(2, 1), Pays(2, 1, 1)], "");
}

#[test]
fn a_code_that_carries_its_registration() {
    check(&[Carries(1, 60)], "");
    check(&[Carries(1, 61)], "it had expired");
    check(&[Arrives(2, 0), Carries(1, 4)], "");
    check(&[Arrives(2, 0), Carries(1, 5)], "it was retired");
    check(&[Leaves(2, 0), Carries(1, 1)], "it was retired");
    check(&[Arrives(1, 0), Carries(2, 1), Pays(1, 1, 1)], "it was retired");
}

/// A partition, one terminal, and the books beside them.
struct World {
    vault: Vault,
    partition: Partition,
    books: Books,
    report: Report,
    now: Timestamp,
    keys: LinkKeys,
    credential: CredentialId,
    shown: Vec<(Code, Statement)>,
    requests: u32,
    /// Payments that were approved, and those of them by a code that carried its registration.
    approved: (u32, u32),
}

/// Any number below a bound; always the same ones.
fn any(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_ms(1_800_000_000_000);
        let (secret, key) = (Zeroizing::new([6; 32]), key());
        let keys = LinkKeys::derive(&secret, key.thumbprint());
        let mut it = Self {
            vault: Vault::new([5; 32]),
            partition: Partition::new(7),
            books: Books::new(prefix()),
            report: Report::default(),
            now,
            keys,
            credential: id_in(7, now, [1; 8]),
            shown: Vec::new(),
            requests: 0,
            approved: (0, 0),
        };
        let account = id_in(7, now, [2; 8]);
        let (currency, digest) = (yen(), [0; 16]);
        let request = RequestId::parse("open").unwrap();
        it.run(Command::OpenAccount(OpenAccount {
            request,
            digest,
            account,
            kind: AccountKind::Prepaid,
            currency,
            credit_limit_minor: 0,
        }));
        let amount = Money::new(1_000_000, currency.code).unwrap();
        let request = RequestId::parse("top").unwrap();
        it.run(Command::TopUp(TopUp { request, digest, account, amount }));
        let invitation = id_in(7, now, [3; 8]);
        it.run(Command::Invite(Invite { account, invitation, secret }));
        let proof = it.keys.proof(prefix(), invitation, key.thumbprint());
        let (key, credential) = (key.public().clone(), it.credential);
        it.run(Command::Link(Link { prefix: prefix(), invitation, key, proof, credential }));
        it
    }

    fn run(&mut self, command: Command) {
        let Ok(Decision::Commit(fact)) =
            self.partition.decide(&command, true, self.now, &self.vault)
        else {
            return;
        };
        if let Fact::Decided(it) = fact.as_ref().clone()
            && it.rejection.is_none()
        {
            self.approved.0 += 1;
            self.approved.1 += u32::from(it.offline.is_some());
        }
        let sequence = self.partition.sequence() + 1;
        let entry = Entry { partition: 7, sequence, at: self.now, fact: *fact };
        self.partition.apply(&entry, &self.vault, &mut UndoLog::default()).unwrap();
        self.books.take(&entry, sequence, sequence, &mut self.report);
    }

    /// Makes a code under one of two locators, whose registration has not arrived yet.
    fn show(&mut self, lifetime_s: u16, cap_minor: u64) {
        let number = self.shown.len() + 1;
        let code = digits(number % 2, number);
        let statement = Statement {
            prefix: prefix(),
            locator: code.locator(prefix()),
            lifetime_s,
            sequence: u32::try_from(number).unwrap(),
            credential: self.credential,
            tag: tag(&self.keys.code_key, &code),
            issued_at: self.now,
            currency_number: yen().number,
            cap_minor,
        };
        self.shown.push((code, statement));
    }

    fn register(&mut self, statement: Statement) {
        let digest = statement.digest();
        let signed_by = key().public().xy();
        self.run(Command::Register(Register { statement, digest, signed_by }));
    }

    fn pay(&mut self, code: Code, carried: Option<Statement>, minor: u64) {
        self.requests += 1;
        let long_code = carried.map(|statement| LongCode {
            digest: statement.digest(),
            statement,
            signed_by: Some(key().public().xy()),
        });
        self.run(Command::Pay(Box::new(Pay {
            merchant: MerchantId::from_raw([3; 16]),
            merchant_standing: Standing::Active,
            reader: ReaderId::from_raw([4; 16]),
            reader_standing: Standing::Active,
            request: RequestId::parse(&format!("pay-{}", self.requests)).unwrap(),
            digest: [0; 16],
            locator: code.locator(prefix()),
            code,
            amount: Money::new(minor, yen().code).unwrap(),
            deadline_at: Timestamp::MAX,
            wait_until: self.now,
            long_code,
            capture: Capture::Now,
            hold_until: self.now,
            limits: Limits::default(),
            is_reversed: false,
            business_day: 20_000,
        })));
    }

    /// Something happens: mostly to one of the last codes.
    fn step(&mut self, random: &mut u64) {
        let recent = self.shown.len().min(12);
        let back = usize::try_from(any(random, 12)).unwrap().min(recent.saturating_sub(1)) + 1;
        let picked = self.shown.len().checked_sub(back).and_then(|at| self.shown.get(at)).cloned();
        match (any(random, 12), picked) {
            (0..3, _) | (_, None) => {
                let lifetime_s = [1, 3, 20, 300][usize::try_from(any(random, 4)).unwrap()];
                self.show(lifetime_s, [0, 0, 50][usize::try_from(any(random, 3)).unwrap()]);
            }
            (3..6, Some((_, statement))) => self.register(statement),
            (6, _) if any(random, 4) == 0 => {
                self.show(0, 0);
                let (_, statement) = self.shown.last().unwrap().clone();
                self.register(statement);
            }
            (7, Some((_, statement))) => {
                for _ in 0..any(random, 12) {
                    self.requests += 1;
                    let slot = statement.locator.slot();
                    let number = 1_000_000 + usize::try_from(self.requests).unwrap();
                    self.pay(digits(slot, number), None, 1);
                }
            }
            (8, _) => {
                self.now = self.now.plus_ms(
                    [4_999, 5_000, 20_000, 90_000][usize::try_from(any(random, 4)).unwrap()],
                )
            }
            (6 | 9, _) => self.now = self.now.plus_ms(any(random, 4) * 500),
            (10, Some((code, statement))) => self.pay(code, Some(statement), 20 + any(random, 60)),
            (_, Some((code, _))) => self.pay(code, None, 20 + any(random, 60)),
        }
    }
}

fn prefix() -> Prefix {
    Prefix::parse("71000001").unwrap()
}

fn yen() -> Currency {
    Currency::iso(CurrencyCode::parse("JPY").unwrap()).unwrap()
}

fn key() -> PrivateKey {
    PrivateKey::from_bytes(&[9; 32]).unwrap()
}

fn digits(slot: usize, secret: usize) -> Code {
    Code::parse(&format!("7100000107{slot:04}{secret:010}")).unwrap()
}

#[test]
fn nothing_that_the_rules_decide_is_reported() {
    let mut approved = (0, 0);
    for seed in 0..300 {
        let (mut world, mut random) = (World::new(), seed);
        for _ in 0..200 {
            world.step(&mut random);
        }
        assert!(world.report.is_clean(), "seed {seed}: {:#?}", world.report.differences);
        approved = (approved.0 + world.approved.0, approved.1 + world.approved.1);
    }
    assert!(approved.0 > 1_000 && approved.1 > 100, "{approved:?}");
}
