//! Every command but paying: each refusal, in order of precedence. A row that is refused breaks every later check too.

use warifu_core::decide::{Command, Decision, OpenAccount, Refusal, Unlink};
use warifu_proto::code::Locator;
use warifu_proto::id::{AccountId, CredentialId, InvitationId};
use warifu_proto::limits::{INVITATION_LIFETIME_MS, MINOR_MAX};
use warifu_proto::message::AccountKind;

use crate::bench::{
    Bench, Terminal, code, currency, digest, invite, key, link, money, prefix, raw, request,
    top_up, unlink,
};

/// What a decision comes to, for the last column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Writes,
    Repeats,
    RegisteredBefore,
    LinkedBefore,
    UnlinkedBefore,
    Refuses(Refusal),
}
use Outcome::{LinkedBefore, Refuses, RegisteredBefore, Repeats, UnlinkedBefore, Writes};

type Row = (&'static str, fn(&mut Bench) -> Command, Outcome);

fn check((what, prepare, outcome): Row) {
    let mut bench = Bench::new();
    let command = prepare(&mut bench);
    let before = bench.hash();
    let decision = bench.decide(&command);
    let got = match decision.clone() {
        Ok(Decision::Commit(_)) => Writes,
        Ok(Decision::Repeat { .. }) => Repeats,
        Ok(Decision::RegisteredBefore { .. }) => RegisteredBefore,
        Ok(Decision::LinkedBefore { .. }) => LinkedBefore,
        Ok(Decision::UnlinkedBefore) => UnlinkedBefore,
        Ok(
            Decision::LookUp
            | Decision::Wait
            | Decision::Unchanged { .. }
            | Decision::AccountUnchanged { .. }
            | Decision::CredentialUnchanged { .. }
            | Decision::ReversedBefore
            | Decision::NotInMemory,
        ) => panic!("{what}: {decision:?}"),
        Err(refusal) => Refuses(refusal),
    };
    assert_eq!(got, outcome, "{what}");
    assert_eq!(bench.hash(), before, "{what}: deciding changes nothing");
    if outcome == Writes {
        bench.write(&command);
    }
}

fn open(name: &str, account: u64, kind: AccountKind, credit_limit_minor: u64) -> Command {
    Command::OpenAccount(OpenAccount {
        request: request(name),
        digest: digest(&format!("{account} {kind:?} {credit_limit_minor}")),
        account: AccountId::from_raw(raw(account)),
        kind,
        currency: currency("EUR"),
        credit_limit_minor,
    })
}

#[test]
fn opening_an_account() {
    use AccountKind::{Credit, Prepaid};
    let rows: [Row; 7] = [
        ("repeated", |b| b.wrote(open("a", 1, Prepaid, 0)), Repeats),
        (
            "the id was used for another",
            |b| {
                b.wrote(open("a", 1, Credit, 5));
                open("a", 1, Credit, MINOR_MAX + 1)
            },
            Refuses(Refusal::RequestIdConflict),
        ),
        (
            "the account's id exists",
            |b| {
                b.wrote(open("a", 1, Credit, 5));
                open("b", 1, Credit, MINOR_MAX + 1)
            },
            Refuses(Refusal::RequestIdConflict),
        ),
        (
            "a limit too large",
            |_| open("a", 1, Credit, MINOR_MAX + 1),
            Refuses(Refusal::BalanceTooLarge),
        ),
        ("the largest limit", |_| open("a", 1, Credit, MINOR_MAX), Writes),
        ("prepaid has no limit to be too large", |_| open("a", 1, Prepaid, u64::MAX), Writes),
        ("new", |_| open("a", 1, Prepaid, 0), Writes),
    ];
    rows.into_iter().for_each(check);
}

#[test]
fn topping_up() {
    let rows: [Row; 7] = [
        (
            "repeated",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                b.wrote(top_up("t", account, money(5, "JPY")))
            },
            Repeats,
        ),
        (
            "the id was used for another",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                b.wrote(top_up("t", account, money(5, "JPY")));
                top_up("t", AccountId::from_raw(raw(99)), money(5, "JPY"))
            },
            Refuses(Refusal::RequestIdConflict),
        ),
        (
            "no such account",
            |_| top_up("t", AccountId::from_raw(raw(99)), money(5, "JPY")),
            Refuses(Refusal::AccountUnknown),
        ),
        (
            "another currency",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                b.top_up(account, MINOR_MAX, "JPY");
                top_up("t", account, money(1, "EUR"))
            },
            Refuses(Refusal::CurrencyMismatch),
        ),
        (
            "a balance too large",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                b.top_up(account, MINOR_MAX, "JPY");
                top_up("t", account, money(1, "JPY"))
            },
            Refuses(Refusal::BalanceTooLarge),
        ),
        (
            "the largest balance",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                b.top_up(account, 1, "JPY");
                top_up("t", account, money(MINOR_MAX - 1, "JPY"))
            },
            Writes,
        ),
        (
            "settling credit",
            |b| {
                let account = b.open(AccountKind::Credit, "JPY", 500);
                top_up("t", account, money(5, "JPY"))
            },
            Writes,
        ),
    ];
    rows.into_iter().for_each(check);
}

#[test]
fn inviting() {
    let rows: [Row; 3] = [
        (
            "no such account",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                let (invitation, secret) = b.invite(account);
                invite(AccountId::from_raw(raw(99)), invitation, secret)
            },
            Refuses(Refusal::AccountUnknown),
        ),
        (
            "the drawn id exists",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                let (invitation, _) = b.invite(account);
                invite(account, invitation, [1; 32])
            },
            Refuses(Refusal::InvitationUnknown),
        ),
        (
            "new",
            |b| {
                let account = b.open(AccountKind::Prepaid, "JPY", 0);
                invite(account, InvitationId::from_raw(raw(50)), [1; 32])
            },
            Writes,
        ),
    ];
    rows.into_iter().for_each(check);
}

/// An account, an invitation, and the wish of terminal 1 to use it.
fn invited(bench: &mut Bench) -> (InvitationId, [u8; 32], Command) {
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    let (invitation, secret) = bench.invite(account);
    (invitation, secret, link(invitation, &secret, &key(1), CredentialId::from_raw(raw(50))))
}

const UNKNOWN: Outcome = Refuses(Refusal::InvitationUnknown);

const LINKS: &[Row] = &[
    (
        "unknown",
        |_| {
            link(InvitationId::from_raw(raw(9)), &[1; 32], &key(1), CredentialId::from_raw(raw(50)))
        },
        UNKNOWN,
    ),
    (
        "expired, and used by the same terminal",
        |b| {
            let (.., command) = invited(b);
            b.write(&command);
            b.wait_ms(INVITATION_LIFETIME_MS);
            command
        },
        UNKNOWN,
    ),
    (
        "used by another, with a proof that would hold",
        |b| {
            let (invitation, secret, command) = invited(b);
            b.write(&command);
            link(invitation, &secret, &key(2), CredentialId::from_raw(raw(51)))
        },
        UNKNOWN,
    ),
    (
        "used by the same terminal with a wrong proof",
        |b| {
            let (invitation, _, command) = invited(b);
            b.write(&command);
            link(invitation, &[0; 32], &key(1), CredentialId::from_raw(raw(51)))
        },
        UNKNOWN,
    ),
    (
        "used by the same terminal and unlinked since",
        |b| {
            let (.., command) = invited(b);
            b.write(&command);
            b.write(&Command::Unlink(Unlink {
                credential: CredentialId::from_raw(raw(50)),
                signed_by: None,
            }));
            command
        },
        UNKNOWN,
    ),
    (
        "used by the same terminal, which drew another id",
        |b| {
            let (invitation, secret, command) = invited(b);
            b.write(&command);
            b.wait_ms(INVITATION_LIFETIME_MS - 1);
            link(invitation, &secret, &key(1), CredentialId::from_raw(raw(51)))
        },
        LinkedBefore,
    ),
    (
        "a proof by another secret",
        |b| {
            let (invitation, ..) = invited(b);
            link(invitation, &[0; 32], &key(1), CredentialId::from_raw(raw(50)))
        },
        Refuses(Refusal::ProofInvalid),
    ),
    (
        "a proof for another key",
        |b| {
            let (.., command) = invited(b);
            let Command::Link(mut it) = command else { panic!() };
            it.key = key(2);
            Command::Link(it)
        },
        Refuses(Refusal::ProofInvalid),
    ),
    (
        "a proof for another issuer",
        |b| {
            let (.., command) = invited(b);
            let Command::Link(mut it) = command else { panic!() };
            it.prefix = warifu_proto::code::Prefix::parse("71000002").unwrap();
            Command::Link(it)
        },
        Refuses(Refusal::ProofInvalid),
    ),
    (
        "the drawn id exists",
        |b| {
            let account = b.open(AccountKind::Prepaid, "JPY", 0);
            let terminal = b.link(account, 3);
            let (invitation, secret) = b.invite(account);
            link(invitation, &secret, &key(1), terminal.credential)
        },
        UNKNOWN,
    ),
    (
        "in the last millisecond",
        |b| {
            let (.., command) = invited(b);
            b.wait_ms(INVITATION_LIFETIME_MS - 1);
            command
        },
        Writes,
    ),
];

#[test]
fn linking() {
    LINKS.iter().copied().for_each(check);
}

fn linked(bench: &mut Bench) -> Terminal {
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    bench.link(account, 1)
}

#[test]
fn unlinking() {
    let rows: [Row; 5] = [
        (
            "unknown",
            |_| {
                let credential = CredentialId::from_raw(raw(9));
                Command::Unlink(Unlink { credential, signed_by: Some([0; 64]) })
            },
            Refuses(Refusal::CredentialUnknown),
        ),
        (
            "signed by another, and unlinked",
            |b| {
                let mut terminal = linked(b);
                b.write(&unlink(&terminal));
                terminal.key = key(2);
                unlink(&terminal)
            },
            Refuses(Refusal::SignatureInvalid),
        ),
        ("again", |b| unlinked(b), UnlinkedBefore),
        ("by the terminal", |b| unlink(&linked(b)), Writes),
        (
            "by the operator",
            |b| {
                let credential = linked(b).credential;
                Command::Unlink(Unlink { credential, signed_by: None })
            },
            Writes,
        ),
    ];
    rows.into_iter().for_each(check);
}

fn unlinked(bench: &mut Bench) -> Command {
    let command = unlink(&linked(bench));
    bench.write(&command);
    command
}

/// What can be wrong with a registration, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    Unlinked,
    Partition,
    Currency,
    Signature,
    Sequence,
    Lifetime,
    Clock,
}

/// A registration with that flaw and all that come after it.
fn flawed(bench: &mut Bench, first: Flaw) -> Command {
    let terminal = linked(bench);
    bench.register(&terminal, &code(1, 1), 100);
    let has = |flaw| flaw >= first;
    let mut statement = terminal.statement(&code(1, 2), 101, bench.now);
    if has(Flaw::Unlinked) {
        bench.write(&unlink(&terminal));
    }
    if has(Flaw::Partition) {
        statement.locator = Locator::from_number(80_001).unwrap();
    }
    if has(Flaw::Currency) {
        statement.currency_number = 978;
    }
    if has(Flaw::Sequence) {
        statement.sequence = 100;
    }
    if has(Flaw::Lifetime) {
        statement.lifetime_s = 301;
    }
    if has(Flaw::Clock) {
        statement.issued_at = bench.now.plus_ms(120_001);
    }
    let Command::Register(mut command) = terminal.register(statement) else { panic!() };
    if has(Flaw::Signature) {
        command.signed_by = key(2).xy();
    }
    Command::Register(command)
}

/// A registration after one of sequence 100, changed.
fn changed(bench: &mut Bench, change: fn(&mut warifu_proto::registration::Statement)) -> Command {
    let terminal = linked(bench);
    bench.register(&terminal, &code(1, 1), 100);
    let mut statement = terminal.statement(&code(1, 2), 101, bench.now);
    change(&mut statement);
    terminal.register(statement)
}

#[test]
fn registering_each_flaw_in_order() {
    let rows: [Row; 8] = [
        (
            "unknown",
            |_| {
                let mut other = Bench::new();
                flawed(&mut other, Flaw::Partition)
            },
            Refuses(Refusal::CredentialUnknown),
        ),
        ("unlinked", |b| flawed(b, Flaw::Unlinked), Refuses(Refusal::CredentialUnknown)),
        (
            "another partition",
            |b| flawed(b, Flaw::Partition),
            Refuses(Refusal::RegistrationMismatch),
        ),
        ("another currency", |b| flawed(b, Flaw::Currency), Refuses(Refusal::RegistrationMismatch)),
        ("another key", |b| flawed(b, Flaw::Signature), Refuses(Refusal::SignatureInvalid)),
        ("a used sequence", |b| flawed(b, Flaw::Sequence), Refuses(Refusal::SequenceUsed)),
        ("too long", |b| flawed(b, Flaw::Lifetime), Refuses(Refusal::LifetimeTooLong)),
        ("a wrong clock", |b| flawed(b, Flaw::Clock), Refuses(Refusal::ClockSkew)),
    ];
    rows.into_iter().for_each(check);
}

#[test]
fn registering_at_the_edges() {
    let rows: [Row; 13] = [
        ("as it should be", |b| changed(b, |_| ()), Writes),
        ("longest lifetime", |b| changed(b, |it| it.lifetime_s = 300), Writes),
        (
            "clock fast, just within",
            |b| changed(b, |it| it.issued_at = it.issued_at.plus_ms(120_000)),
            Writes,
        ),
        (
            "clock slow, just within",
            |b| {
                changed(b, |it| {
                    it.issued_at =
                        warifu_proto::time::Timestamp::from_ms(it.issued_at.as_ms() - 120_000);
                })
            },
            Writes,
        ),
        (
            "clock slow",
            |b| {
                changed(b, |it| {
                    it.issued_at =
                        warifu_proto::time::Timestamp::from_ms(it.issued_at.as_ms() - 120_001);
                })
            },
            Refuses(Refusal::ClockSkew),
        ),
        ("fifteen below the highest", |b| changed(b, |it| it.sequence = 85), Writes),
        (
            "sixteen below the highest",
            |b| changed(b, |it| it.sequence = 84),
            Refuses(Refusal::SequenceUsed),
        ),
        ("sequence 0", |b| changed(b, |it| it.sequence = 0), Refuses(Refusal::SequenceUsed)),
        ("the greatest sequence", |b| changed(b, |it| it.sequence = u32::MAX), Writes),
        ("a withdrawal", |b| changed(b, |it| it.lifetime_s = 0), Writes),
        (
            "a withdrawal with a wrong clock",
            |b| {
                changed(b, |it| {
                    it.lifetime_s = 0;
                    it.issued_at = it.issued_at.plus_ms(120_001);
                })
            },
            Refuses(Refusal::ClockSkew),
        ),
        (
            "a withdrawal of a used sequence",
            |b| {
                changed(b, |it| {
                    it.lifetime_s = 0;
                    it.sequence = 100;
                })
            },
            Refuses(Refusal::SequenceUsed),
        ),
        (
            "the same sequence for another code",
            |b| changed(b, |it| it.sequence = 100),
            Refuses(Refusal::SequenceUsed),
        ),
    ];
    rows.into_iter().for_each(check);
}

#[test]
fn registering_again() {
    let rows: [Row; 5] = [
        ("at once", |b| registered(b, |_, _| ()), RegisteredBefore),
        (
            "after it expired, which is after the clock window too",
            |b| registered(b, |b, _| b.wait_ms(200_000)),
            RegisteredBefore,
        ),
        (
            "after it paid",
            |b| {
                registered(b, |b, _| {
                    let _declined = b.paid("p", &code(1, 1), money(1, "JPY"));
                })
            },
            RegisteredBefore,
        ),
        (
            "after it was forgotten",
            |b| {
                registered(b, |b, terminal| {
                    b.wait_ms(420_000);
                    b.register(&terminal, &code(1, 2), 101);
                })
            },
            Refuses(Refusal::SequenceUsed),
        ),
        (
            "a withdrawal",
            |b| {
                let terminal = linked(b);
                let mut statement = terminal.statement(&code(1, 1), 100, b.now);
                statement.lifetime_s = 0;
                b.wrote(terminal.register(statement))
            },
            RegisteredBefore,
        ),
    ];
    rows.into_iter().for_each(check);
}

fn registered(bench: &mut Bench, then: fn(&mut Bench, Terminal)) -> Command {
    let terminal = linked(bench);
    let command = terminal.register(terminal.statement(&code(1, 1), 100, bench.now));
    bench.write(&command);
    then(bench, terminal);
    command
}

#[test]
fn a_repeated_registration_gets_the_same_answer() {
    let mut bench = Bench::new();
    let terminal = linked(&mut bench);
    let (at, registered_at) = (bench.now, bench.now);
    let statement = terminal.statement(&code(1, 1), 100, at);
    bench.write(&terminal.register(statement.clone()));
    bench.wait_ms(1_234);
    let withdrawn_at = bench.now;
    let mut withdrawal = terminal.statement(&code(1, 1), 101, bench.now);
    withdrawal.lifetime_s = 0;
    bench.write(&terminal.register(withdrawal.clone()));
    bench.wait_ms(1_234);
    let credential_number = terminal.number;
    for (statement, registered_at, expires_at) in
        [(statement, registered_at, at.plus_ms(60_000)), (withdrawal, withdrawn_at, withdrawn_at)]
    {
        assert_eq!(
            bench.decide(&terminal.register(statement)),
            Ok(Decision::RegisteredBefore { credential_number, registered_at, expires_at })
        );
    }
}

#[test]
fn the_same_terminal_gets_the_same_credential() {
    let mut bench = Bench::new();
    let (invitation, secret, command) = invited(&mut bench);
    bench.write(&command);
    let again = link(invitation, &secret, &key(1), CredentialId::from_raw(raw(51)));
    assert_eq!(bench.decide(&again), Ok(Decision::LinkedBefore { credential_number: 0 }));
    assert!(prefix().begins(&code(1, 1)));
}

impl Bench {
    /// Writes a command and hands it back, to be asked again.
    fn wrote(&mut self, command: Command) -> Command {
        self.write(&command);
        command
    }
}

#[test]
fn every_refusal_has_a_row() {
    // A new refusal does not compile here until somebody has looked for its row.
    let has_row = |refusal| match refusal {
        Refusal::RequestIdConflict | Refusal::BalanceTooLarge => "opening_an_account",
        Refusal::AccountUnknown | Refusal::CurrencyMismatch => "topping_up",
        Refusal::InvitationUnknown | Refusal::ProofInvalid => "linking",
        Refusal::CredentialUnknown
        | Refusal::RegistrationMismatch
        | Refusal::SignatureInvalid
        | Refusal::SequenceUsed
        | Refusal::LifetimeTooLong
        | Refusal::ClockSkew => "registering_each_flaw_in_order",
        Refusal::AccountClosed
        | Refusal::AccountInUse
        | Refusal::PaymentUnknown
        | Refusal::NotYours
        | Refusal::PaymentState
        | Refusal::AmountTooLarge
        | Refusal::UseRefund => "life",
    };
    assert_eq!(has_row(Refusal::ClockSkew), "registering_each_flaw_in_order");
}
