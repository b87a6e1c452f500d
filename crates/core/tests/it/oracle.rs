//! What must happen, said without the rules: a list of what has happened so far, and questions that read it from its
//! beginning each time. It shares no code with `warifu_core`; it knows nothing of slots, windows or counters.
//!
//! Memory is bounded there and not here. Where a slot has seen so much that spent codes may have been forgotten, or a
//! terminal so many codes that one had to give way, the oracle is not sure: then only safety is checked (whatever is
//! approved may be approved), not the exact answer.

use std::collections::BTreeSet;

use warifu_core::entry::Fact;
use warifu_proto::registration::Statement;
use warifu_proto::rejection::Rejection;

use crate::universe::Refused;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    TopUp {
        name: String,
        account: usize,
        amount: u64,
        code: &'static str,
    },
    Register {
        terminal: usize,
        right_place: bool,
        right_key: bool,
        digits: String,
        statement: Statement,
    },
    Unlink {
        terminal: usize,
        right_key: bool,
    },
    Pay {
        merchant: u64,
        name: String,
        compared: String,
        digits: String,
        amount: u64,
        code: &'static str,
        waits: bool,
        refused_first: Option<Rejection>,
    },
}

/// What was written.
#[derive(Debug, Clone)]
pub(crate) enum Happened {
    TopUp { name: String, account: usize, amount: u64, code: &'static str },
    Registered { terminal: usize, digits: String, statement: Statement },
    Withdrawn { terminal: usize, sequence: u32 },
    Unlinked { terminal: usize },
    Paid(Paid),
}

#[derive(Debug, Clone)]
pub(crate) struct Paid {
    merchant: u64,
    name: String,
    compared: String,
    digits: String,
    amount: u64,
    code: &'static str,
    rejection: Option<Rejection>,
    /// Whose code was consumed, and its sequence.
    consumed: Option<(usize, u32)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at_ms: u64,
    pub(crate) sequence: u64,
    pub(crate) happened: Happened,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Writes,
    Repeats(u64),
    RegisteredBefore(u64, u64),
    UnlinkedBefore,
    Waits,
    Refuses(Refused),
    Decided { rejection: Option<Rejection>, terminal: Option<usize>, notice: u64 },
}

/// What may come of a command.
#[derive(Debug)]
pub(crate) enum Expected {
    /// One of these.
    OneOf(Vec<Verdict>),
    /// Any declined payment, or one of these.
    NoneButDeclinedOr(Vec<Verdict>),
}

impl Verdict {
    /// What kind of an answer, for counting.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Writes => "writes".to_owned(),
            Self::Repeats(_) => "repeats".to_owned(),
            Self::RegisteredBefore(..) => "registered before".to_owned(),
            Self::UnlinkedBefore => "unlinked before".to_owned(),
            Self::Waits => "waits".to_owned(),
            Self::Refuses(refusal) => format!("{refusal:?}"),
            Self::Decided { rejection: Some(rejection), .. } => rejection.name().to_owned(),
            Self::Decided { rejection: None, .. } => "approved".to_owned(),
        }
    }
}

impl Expected {
    /// Whether the exact answer was known, for counting.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::OneOf(_) => "surely",
            Self::NoneButDeclinedOr(_) => "perhaps",
        }
    }

    pub(crate) fn check(&self, got: &Verdict) {
        let is_fine = match self {
            Self::OneOf(verdicts) => verdicts.contains(got),
            Self::NoneButDeclinedOr(verdicts) => {
                let is_declined =
                    matches!(got, Verdict::Decided { rejection: Some(_), .. } | Verdict::Waits);
                is_declined || verdicts.contains(got)
            }
        };
        assert!(is_fine, "{got:?} instead of {self:?}");
    }
}

impl Happened {
    pub(crate) fn of(ask: Ask, fact: &Fact) -> Self {
        match (ask, fact) {
            (Ask::TopUp { name, account, amount, code }, Fact::ToppedUp(_)) => {
                Self::TopUp { name, account, amount, code }
            }
            (Ask::Register { terminal, digits, statement, .. }, Fact::Registered(_)) => {
                Self::Registered { terminal, digits, statement }
            }
            (Ask::Register { terminal, statement, .. }, Fact::Withdrawn(_)) => {
                Self::Withdrawn { terminal, sequence: statement.sequence }
            }
            (Ask::Unlink { terminal, .. }, Fact::Unlinked(_)) => Self::Unlinked { terminal },
            (
                Ask::Pay { merchant, name, compared, digits, amount, code, .. },
                Fact::Decided(it),
            ) => {
                let consumed = it.matched.filter(|matched| matched.notice_number != 0);
                let consumed = consumed.map(|matched| {
                    (usize::try_from(matched.credential_number).unwrap(), matched.code_sequence)
                });
                Self::Paid(Paid {
                    merchant,
                    name,
                    compared,
                    digits,
                    amount,
                    code,
                    rejection: it.rejection,
                    consumed,
                })
            }
            (ask, fact) => panic!("{ask:?} became {fact:?}"),
        }
    }
}

/// A registration that happened: which event, when, and what it said.
#[derive(Debug, Clone, Copy)]
struct Registered<'a> {
    index: usize,
    at_ms: u64,
    terminal: usize,
    digits: &'a str,
    statement: &'a Statement,
}

/// Everything that happened, and what accounts there are.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) events: Vec<Event>,
    /// Currency and floor of each account.
    pub(crate) floors: Vec<(&'static str, i128)>,
    /// Account of each terminal.
    pub(crate) account_of: Vec<usize>,
}

impl Oracle {
    pub(crate) fn balance(&self, account: usize) -> i128 {
        let change = |event: &Event| match &event.happened {
            Happened::TopUp { account: of, amount, .. } if *of == account => i128::from(*amount),
            Happened::Paid(Paid {
                rejection: None, consumed: Some((terminal, _)), amount, ..
            }) if self.account_of[*terminal] == account => -i128::from(*amount),
            _ => 0,
        };
        self.events.iter().map(change).sum()
    }

    pub(crate) fn owed(&self, merchant: u64, code: &str) -> i128 {
        let paid = |event: &Event| match &event.happened {
            Happened::Paid(paid)
                if paid.merchant == merchant && paid.code == code && paid.rejection.is_none() =>
            {
                i128::from(paid.amount)
            }
            _ => 0,
        };
        self.events.iter().map(paid).sum()
    }

    pub(crate) fn expect(&self, ask: &Ask, now: u64) -> Expected {
        let verdicts = match ask {
            Ask::TopUp { name, account, amount, code } => {
                vec![self.expect_top_up(name, *account, *amount, code)]
            }
            Ask::Register { terminal, right_place, right_key, statement, .. } => {
                self.expect_register(*terminal, (*right_place, *right_key), statement, now)
            }
            Ask::Unlink { terminal, right_key } => {
                vec![match (right_key, self.is_unlinked(*terminal)) {
                    (false, _) => Verdict::Refuses(Refused::SignatureInvalid),
                    (true, true) => Verdict::UnlinkedBefore,
                    (true, false) => Verdict::Writes,
                }]
            }
            Ask::Pay { .. } => return self.expect_pay(ask, now),
        };
        Expected::OneOf(verdicts)
    }

    fn expect_top_up(&self, name: &str, account: usize, amount: u64, code: &str) -> Verdict {
        let before = self.events.iter().find_map(|event| match &event.happened {
            Happened::TopUp { name: other, account, amount, code } if other == name => {
                Some((event.sequence, *account, *amount, *code))
            }
            _ => None,
        });
        if let Some((sequence, of, was, currency)) = before {
            let same = (of, was, currency) == (account, amount, code);
            return if same {
                Verdict::Repeats(sequence)
            } else {
                Verdict::Refuses(Refused::RequestIdConflict)
            };
        }
        if self.floors[account].0 != code {
            return Verdict::Refuses(Refused::CurrencyMismatch);
        }
        if self.balance(account) + i128::from(amount) > 999_999_999_999_999 {
            return Verdict::Refuses(Refused::BalanceTooLarge);
        }
        Verdict::Writes
    }

    fn expect_register(
        &self,
        terminal: usize,
        right: (bool, bool),
        statement: &Statement,
        now: u64,
    ) -> Vec<Verdict> {
        let refuse = |refusal| vec![Verdict::Refuses(refusal)];
        if self.is_unlinked(terminal) {
            return refuse(Refused::CredentialUnknown);
        }
        if !right.0 {
            return refuse(Refused::RegistrationMismatch);
        }
        if !right.1 {
            return refuse(Refused::SignatureInvalid);
        }
        if let Some(before) = self.registrations().find(|it| it.statement == statement) {
            let expires = before.at_ms + u64::from(statement.lifetime_s) * 1_000;
            let again = Verdict::RegisteredBefore(before.at_ms, expires);
            let forgotten = Verdict::Refuses(Refused::SequenceUsed);
            return if self.may_have_forgotten(before, now) {
                vec![again, forgotten]
            } else {
                vec![again]
            };
        }
        let withdrawn = self.events.iter().rev().find_map(|event| match event.happened {
            Happened::Withdrawn { terminal: of, sequence } if of == terminal => {
                Some((event.at_ms, sequence))
            }
            _ => None,
        });
        if let Some((at_ms, sequence)) = withdrawn
            && statement.lifetime_s == 0
            && sequence == statement.sequence
        {
            return vec![Verdict::RegisteredBefore(at_ms, at_ms)];
        }
        let seen = self.sequences_before(terminal, self.events.len());
        let highest = i64::from(seen.last().copied().unwrap_or_default());
        let sequence = statement.sequence;
        if sequence == 0 || seen.contains(&sequence) || i64::from(sequence) <= highest - 16 {
            return refuse(Refused::SequenceUsed);
        }
        if statement.lifetime_s > 300 {
            return refuse(Refused::LifetimeTooLong);
        }
        if statement.issued_at.as_ms().abs_diff(now) > 120_000 {
            return refuse(Refused::ClockSkew);
        }
        vec![Verdict::Writes]
    }

    fn expect_pay(&self, ask: &Ask, now: u64) -> Expected {
        let Ask::Pay { merchant, name, compared, digits, amount, code, waits, refused_first } = ask
        else {
            panic!()
        };
        let before = self.events.iter().find_map(|event| match &event.happened {
            Happened::Paid(paid) if paid.merchant == *merchant && paid.name == *name => {
                Some((event.sequence, &paid.compared))
            }
            _ => None,
        });
        if let Some((sequence, was)) = before {
            let verdict = if was == compared {
                Verdict::Repeats(sequence)
            } else {
                Verdict::Refuses(Refused::RequestIdConflict)
            };
            return Expected::OneOf(vec![verdict]);
        }
        let declined = |rejection, terminal| Verdict::Decided {
            rejection: Some(rejection),
            terminal,
            notice: 0,
        };
        if let Some(rejection) = refused_first {
            return Expected::OneOf(vec![declined(*rejection, None)]);
        }
        let candidates: Vec<_> = self.registrations().filter(|it| it.digits == digits).collect();
        let is_sure = candidates.iter().all(|it| !self.may_have_forgotten(*it, now))
            && !self.has_overflowed();
        let payable = candidates.iter().find(|it| self.ends(**it, now).is_empty());
        let mut verdicts = Vec::new();
        if let Some(it) = payable {
            verdicts.push(self.expect_of_account(
                it.terminal,
                it.statement.cap_minor,
                *amount,
                code,
            ));
            // The same digits under another statement of the same terminal: once they have paid, they stay spent.
            let twins = candidates
                .iter()
                .filter(|twin| twin.terminal == it.terminal && self.is_used(**twin));
            let spent: Vec<_> =
                twins.flat_map(|twin| self.ends(*twin, now).into_iter().take(1)).collect();
            if !spent.is_empty() {
                verdicts = spent
                    .into_iter()
                    .map(|rejection| declined(rejection, Some(it.terminal)))
                    .collect();
                if !is_sure {
                    verdicts.push(self.expect_of_account(
                        it.terminal,
                        it.statement.cap_minor,
                        *amount,
                        code,
                    ));
                }
            }
        } else if candidates.is_empty() {
            verdicts.push(if *waits {
                Verdict::Waits
            } else {
                declined(Rejection::CodeUnknown, None)
            });
        } else {
            verdicts.extend(candidates.iter().flat_map(|it| {
                self.ends(*it, now)
                    .into_iter()
                    .take(1)
                    .map(|rejection| declined(rejection, Some(it.terminal)))
            }));
        }
        if is_sure { Expected::OneOf(verdicts) } else { Expected::NoneButDeclinedOr(verdicts) }
    }

    fn expect_of_account(&self, terminal: usize, cap: u64, amount: u64, code: &str) -> Verdict {
        let account = self.account_of[terminal];
        let (currency, floor) = self.floors[account];
        let rejection = if code != currency {
            Some(Rejection::CurrencyMismatch)
        } else if cap != 0 && amount > cap {
            Some(Rejection::OverCodeCap)
        } else if self.balance(account) - i128::from(amount) >= floor {
            None
        } else if floor == 0 {
            Some(Rejection::InsufficientFunds)
        } else {
            Some(Rejection::OverCreditLimit)
        };
        let told = self.events.iter().filter(|event| matches!(&event.happened, Happened::Paid(it) if it.consumed.is_some_and(|by| by.0 == terminal)));
        let notice = u64::try_from(told.count()).unwrap() + 1;
        Verdict::Decided { rejection, terminal: Some(terminal), notice }
    }

    fn registrations(&self) -> impl Iterator<Item = Registered<'_>> {
        self.events.iter().enumerate().filter_map(|(index, event)| match &event.happened {
            Happened::Registered { terminal, digits, statement } => Some(Registered {
                index,
                at_ms: event.at_ms,
                terminal: *terminal,
                digits,
                statement,
            }),
            _ => None,
        })
    }

    fn is_unlinked(&self, terminal: usize) -> bool {
        self.events.iter().any(
            |event| matches!(event.happened, Happened::Unlinked { terminal: of } if of == terminal),
        )
    }

    /// Sequences that a terminal had used before an event.
    fn sequences_before(&self, terminal: usize, index: usize) -> BTreeSet<u32> {
        let used = self.events.iter().take(index).filter_map(|event| match &event.happened {
            Happened::Registered { terminal: of, statement, .. } if *of == terminal => {
                Some(statement.sequence)
            }
            Happened::Withdrawn { terminal: of, sequence } if *of == terminal => Some(*sequence),
            _ => None,
        });
        used.collect()
    }

    fn is_used(&self, it: Registered<'_>) -> bool {
        let by = Some((it.terminal, it.statement.sequence));
        self.events
            .iter()
            .any(|event| matches!(&event.happened, Happened::Paid(paid) if paid.consumed == by))
    }

    /// Why a registration can't pay at a time, in order of precedence; empty when it can.
    fn ends(&self, it: Registered<'_>, now: u64) -> Vec<Rejection> {
        let mut ends = Vec::new();
        if now >= it.at_ms + u64::from(it.statement.lifetime_s) * 1_000 {
            ends.push(Rejection::CodeExpired);
        }
        if self.is_used(it) {
            ends.push(Rejection::CodeUsed);
        }
        let ended = self
            .events
            .iter()
            .enumerate()
            .any(|(index, event)| self.retires(index, event, it, now));
        let guesses = self.events.iter().skip(it.index).filter(|event| match &event.happened {
            Happened::Paid(paid) => {
                paid.rejection == Some(Rejection::CodeUnknown)
                    && place(&paid.digits) == place(it.digits)
            }
            _ => false,
        });
        if ended || guesses.count() >= 10 {
            ends.push(Rejection::CodeRetired);
        }
        ends
    }

    /// Whether an event, before or after it, has retired a registration.
    fn retires(&self, index: usize, event: &Event, it: Registered<'_>, now: u64) -> bool {
        match &event.happened {
            Happened::Registered { terminal, statement, .. } => {
                *terminal == it.terminal
                    && statement.sequence > it.statement.sequence
                    && now >= event.at_ms + 5_000
            }
            Happened::Withdrawn { terminal, sequence } => {
                *terminal == it.terminal && *sequence > it.statement.sequence
            }
            Happened::Unlinked { terminal } => *terminal == it.terminal,
            Happened::Paid(Paid { consumed: Some((terminal, _)), .. })
                if *terminal == it.terminal =>
            {
                let highest =
                    self.sequences_before(it.terminal, index).last().copied().unwrap_or_default();
                index > it.index || it.statement.sequence <= highest
            }
            Happened::Paid(_) | Happened::TopUp { .. } => false,
        }
    }

    /// Whether memory need not have a registration any more: it is old, or its slot has seen more than eight.
    fn may_have_forgotten(&self, it: Registered<'_>, now: u64) -> bool {
        let in_slot =
            self.registrations().filter(|other| place(other.digits) == place(it.digits)).count();
        now >= it.at_ms + 420_000 || in_slot > 8
    }

    /// Whether a terminal has had more than eight codes that were payable or younger than 5 s, or so many codes in one
    /// slot that one could be forgotten within its 5 s.
    fn has_overflowed(&self) -> bool {
        self.registrations().any(|it| {
            let others = self.registrations().take_while(|other| other.index < it.index);
            let alive = others.filter(|other| {
                other.terminal == it.terminal
                    && (it.at_ms < other.at_ms + 5_000 || it.at_ms < other.at_ms + 300_000)
            });
            alive.count() >= 8 || self.may_have_forgotten(it, it.at_ms)
        })
    }
}

/// Prefix, partition and locator of digits.
fn place(digits: &str) -> &str {
    digits.get(..14).unwrap()
}
