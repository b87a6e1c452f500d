//! The second way: books that are kept from the facts alone. They know the laws (debits equal credits, a code pays once, no
//! refund above what was taken, a floor, gap-free counts) and nothing of how decisions are made or state is kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use warifu_core::account::AccountStanding;
use warifu_core::entry::{Changed, Decided, Entry, Fact, Holder, Leg, Side};
use warifu_core::life::{Change, TRANSITIONS};
use warifu_core::partition::OPERATOR;
use warifu_core::payment::{Payment, Question};
use warifu_proto::code::Prefix;
use warifu_proto::id::{InvitationId, MerchantId};
use warifu_proto::message::{Capture, PaymentStatus};
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::Report;
use super::codes::Codes;
use super::marks::{RequestKey, change_mark, mark, payment_mark, request_key};

/// What is known of a change: where it lies in the journal, and a mark of whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeLine {
    pub(super) position: u64,
    pub(super) mark: u64,
}

/// What is known of a payment: what can change of it, and marks of what can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaymentLine {
    /// Of the entry that began it, in the journal.
    pub(super) position: u64,
    pub(super) status: PaymentStatus,
    pub(super) rejection: Option<Rejection>,
    question: Question,
    capture: Capture,
    pub(super) amount_minor: u64,
    pub(super) captured_minor: u64,
    pub(super) refunded_minor: u64,
    pub(super) credential: Option<u32>,
    pub(super) business_day: u32,
    pub(super) last_sequence: u64,
    pub(super) mark: u64,
    digest_mark: u64,
}

impl PaymentLine {
    fn of(it: &Payment, position: u64) -> Self {
        Self {
            position,
            status: it.status,
            rejection: it.rejection,
            question: it.question,
            capture: it.capture,
            amount_minor: it.amount_minor,
            captured_minor: it.captured_minor,
            refunded_minor: it.refunded_minor,
            credential: it.credential_number,
            business_day: it.business_day,
            last_sequence: it.last_sequence,
            mark: payment_mark(
                it.merchant,
                it.reader,
                it.request.as_str(),
                it.currency.as_str(),
                it.decided_at,
            ),
            digest_mark: mark(&[&it.digest]),
        }
    }

    fn reserved(&self) -> u64 {
        let is_open = matches!(self.status, PaymentStatus::Held | PaymentStatus::AwaitingPayer);
        if is_open { self.amount_minor } else { 0 }
    }

    fn net(&self) -> i128 {
        i128::from(self.captured_minor) - i128::from(self.refunded_minor)
    }

    /// What it uses of its day's limits.
    fn counted(&self) -> u64 {
        match self.status {
            PaymentStatus::Approved => self.captured_minor,
            _ => self.reserved(),
        }
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct AccountLine {
    pub(super) balance_minor: i128,
    pub(super) reserved_minor: u64,
    pub(super) floor_minor: i64,
    pub(super) currency: u16,
    pub(super) opened_at: Timestamp,
    pub(super) standing: AccountStanding,
    pub(super) day: u32,
    pub(super) spent_minor: u64,
    pub(super) count: u32,
    pub(super) credentials: i64,
}

#[derive(Debug, Default, Clone)]
pub(super) struct CredentialLine {
    pub(super) account: u32,
    pub(super) notices: u64,
    pub(super) unasked_day: u32,
    pub(super) unasked_count: u32,
    pub(super) offline_minor: u64,
    pub(super) offline_count: u32,
    pub(super) is_suspended: bool,
    pub(super) is_unlinked: bool,
}

/// The books of one partition.
#[derive(Debug, Default)]
pub(super) struct Book {
    sequence: u64,
    at: Timestamp,
    business_day: u32,
    pub(super) accounts: Vec<AccountLine>,
    pub(super) credentials: Vec<CredentialLine>,
    pub(super) invitations: HashMap<InvitationId, u32>,
    /// By currency number.
    pub(super) merchants: BTreeMap<(MerchantId, u16), i128>,
    pub(super) world: BTreeMap<u16, i128>,
    pub(super) payments: HashMap<u64, PaymentLine>,
    used_codes: HashSet<(u32, u32)>,
    codes: Codes,
}

/// All books.
#[derive(Debug)]
pub(super) struct Books {
    prefix: Prefix,
    pub(super) partitions: BTreeMap<u8, Book>,
    /// All changes of payments, in order of their positions.
    pub(super) changes: Vec<ChangeLine>,
    /// Where each request was answered, and whether by a tombstone.
    pub(super) requests: HashMap<RequestKey, (u8, u64, bool)>,
    /// The first entry of each partition in each commit, with the commit's position.
    pub(super) places: HashMap<(u8, u64), u64>,
    last_frame: BTreeMap<u8, u64>,
}

impl Books {
    /// Before the first entry.
    pub(super) fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            partitions: BTreeMap::new(),
            changes: Vec::new(),
            requests: HashMap::new(),
            places: HashMap::new(),
            last_frame: BTreeMap::new(),
        }
    }

    /// Takes the entry at a position, of the commit at `frame`, into the books; what breaks a law is a difference.
    pub(super) fn take(&mut self, entry: &Entry, position: u64, frame: u64, report: &mut Report) {
        let (partition, sequence) = (entry.partition, entry.sequence);
        let wrong = |report: &mut Report, why: &str| {
            report.differs(|| format!("entry {sequence} of partition {partition:02}: {why}"));
        };
        if self.last_frame.insert(partition, frame) != Some(frame) {
            self.places.insert((partition, sequence), frame);
        }
        if let Some((caller, request, is_tombstone)) = request_of(&entry.fact) {
            let key = request_key(caller, request.as_str());
            let before = self.requests.insert(key, (partition, sequence, is_tombstone));
            let came_after = matches!(&entry.fact, Fact::Decided(it) if it.rejection == Some(Rejection::ReversedBeforeArrival));
            match before {
                Some((.., true)) if came_after => {}
                None if came_after => wrong(report, "declined for a reversal that never came"),
                None => {}
                Some(_) => wrong(report, "its request id was answered before"),
            }
        }
        if let Fact::Changed(it) = &entry.fact {
            let payment = it.payment.id(self.prefix, partition);
            let mark = change_mark(it.payment.merchant, payment);
            self.changes.push(ChangeLine { position, mark });
        }
        let book = self.partitions.entry(partition).or_default();
        if sequence != book.sequence + 1 {
            wrong(report, "it does not follow on the one before");
        }
        if entry.at < book.at {
            wrong(report, "its time goes back");
        }
        (book.sequence, book.at) = (sequence, entry.at);
        if let Err(why) = book.take(entry, position) {
            wrong(report, why);
        }
    }

    /// How much there was.
    pub(super) fn count(&self, report: &mut Report) {
        report.count("request ids", u64::try_from(self.requests.len()).unwrap_or_default());
        for book in self.partitions.values() {
            report.count("accounts", u64::try_from(book.accounts.len()).unwrap_or_default());
            report.count("credentials", u64::try_from(book.credentials.len()).unwrap_or_default());
            report.count("payments", u64::try_from(book.payments.len()).unwrap_or_default());
            let changed =
                book.payments.iter().filter(|(first, it)| **first != it.last_sequence).count();
            report.count("changed payments", u64::try_from(changed).unwrap_or_default());
        }
    }
}

/// The request that an entry answers, and whether it is a tombstone.
fn request_of(fact: &Fact) -> Option<(MerchantId, &RequestId, bool)> {
    match fact {
        Fact::AccountOpened(it) => Some((OPERATOR, &it.request, false)),
        Fact::ToppedUp(it) => Some((OPERATOR, &it.request, false)),
        Fact::Decided(it) => Some((it.merchant, &it.request, false)),
        Fact::Tombstone(it) => Some((it.merchant, &it.request, true)),
        Fact::Changed(it) => Some((it.payment.merchant, &it.request.as_ref()?.0, false)),
        _ => None,
    }
}

/// Whether an entry keeps the laws, and if not, which it breaks.
pub(super) type Kept = Result<(), &'static str>;

impl Book {
    fn take(&mut self, entry: &Entry, position: u64) -> Kept {
        match &entry.fact {
            Fact::AccountOpened(it) => self.accounts.push(AccountLine {
                floor_minor: it.floor_minor,
                currency: it.currency.number,
                opened_at: entry.at,
                ..AccountLine::default()
            }),
            Fact::ToppedUp(it) => self.post(&it.legs, None, it.account_number)?,
            Fact::Invited(it) => {
                self.invitations.insert(it.invitation, it.account_number);
            }
            Fact::Linked(it) => {
                let account =
                    *self.invitations.get(&it.invitation).ok_or("linked without an invitation")?;
                self.credentials.push(CredentialLine { account, ..CredentialLine::default() });
                self.account(account)?.credentials += 1;
            }
            Fact::Unlinked(it) => {
                let credential = self.credential(it.credential_number)?;
                credential.is_unlinked = true;
                let account = credential.account;
                self.account(account)?.credentials -= 1;
            }
            Fact::Registered(it) => {
                let credential = self.credential(it.credential_number)?;
                (credential.offline_minor, credential.offline_count) = (0, 0);
                self.codes.registered(it, entry.at);
            }
            Fact::Withdrawn(it) => self.codes.withdrawn(it, entry.at),
            Fact::Tombstone(_) | Fact::Limited(_) => {}
            Fact::CredentialStood(it) => {
                self.credential(it.credential_number)?.is_suspended = it.is_suspended;
            }
            Fact::AccountStood(it) => {
                if !it.legs.is_empty() {
                    self.post(&it.legs, None, it.account_number)?;
                }
                let account = self.account(it.account_number)?;
                if account.standing == AccountStanding::Closed {
                    return Err("a closed account stands otherwise again");
                }
                account.standing = it.standing;
                if it.standing == AccountStanding::Closed
                    && (account.balance_minor != 0 || account.reserved_minor != 0)
                {
                    return Err("closed with money");
                }
            }
            Fact::Decided(it) => return self.decided(it, entry, position),
            Fact::Changed(it) => return self.changed(it),
        }
        Ok(())
    }

    fn decided(&mut self, it: &Decided, entry: &Entry, position: u64) -> Kept {
        if it.business_day < self.business_day {
            return Err("its business day goes back");
        }
        self.business_day = it.business_day;
        let payment = Payment::left_by(entry).ok_or("a decision without a payment")?;
        let line = PaymentLine::of(&payment, position);
        let net = net_of(&it.legs)?;
        if line.net() != net {
            return Err("it moved another amount than it says");
        }
        // Told last: what was moved stays booked, whether or not the code could.
        let could_pay = self.codes.decided(it, entry.at);
        if let Some(matched) = &it.matched {
            let credential = self.credential(matched.credential_number)?;
            let account = credential.account;
            if it.rejection.is_none_or(Rejection::consumes_code) {
                credential.notices += 1;
                if matched.notice_number != credential.notices {
                    return Err("its notice is not the next one");
                }
                if !self.used_codes.insert((matched.credential_number, matched.code_sequence)) {
                    return Err("its code was used before");
                }
            }
            if it.rejection.is_none() {
                self.spend(it, matched.credential_number)?;
                if !it.legs.is_empty() {
                    self.post(&it.legs, Some(it.merchant), account)?;
                }
                let reserved = line.reserved();
                let account = self.account(account)?;
                account.reserved_minor += reserved;
                check_floor(account)?;
            }
            if self.account(account)?.balance_minor != i128::from(matched.balance_minor) {
                return Err("its balance afterwards is another");
            }
        } else if it.rejection.is_none() {
            return Err("paid by nobody");
        }
        self.payments.insert(entry.sequence, line);
        could_pay
    }

    /// Counts a payment that was not declined.
    fn spend(&mut self, it: &Decided, credential_number: u32) -> Kept {
        let credential = self.credential(credential_number)?;
        if credential.is_unlinked || credential.is_suspended {
            return Err("paid by a credential that could not");
        }
        if it.status != PaymentStatus::AwaitingPayer {
            if credential.unasked_day != it.business_day {
                (credential.unasked_day, credential.unasked_count) = (it.business_day, 0);
            }
            credential.unasked_count += 1;
        }
        if it.offline.is_some() {
            credential.offline_minor += it.amount_minor;
            credential.offline_count += 1;
        }
        let account = credential.account;
        let account = self.account(account)?;
        if account.standing != AccountStanding::Active {
            return Err("paid by an account that could not");
        }
        if account.day != it.business_day {
            (account.day, account.spent_minor, account.count) = (it.business_day, 0, 0);
        }
        account.spent_minor += it.amount_minor;
        account.count += 1;
        Ok(())
    }

    fn changed(&mut self, it: &Changed) -> Kept {
        let first = it.payment.first_sequence;
        let before = *self.payments.get(&first).ok_or("it changes a payment that never was")?;
        let after = PaymentLine::of(&it.payment, before.position);
        let name = it.change.name();
        if !TRANSITIONS.contains(&(before.status, name, after.status)) {
            return Err("its payment could not become that");
        }
        let is_same = (after.mark, after.digest_mark) == (before.mark, before.digest_mark)
            && after.amount_minor == before.amount_minor
            && after.credential == before.credential
            && after.business_day == before.business_day
            && after.capture == before.capture;
        if !is_same {
            return Err("it changes what never changes about a payment");
        }
        let moved = i128::from(it.amount_minor);
        let (captured, refunded) = match it.change {
            Change::Captured => (it.amount_minor, 0),
            Change::Confirmed if after.status == PaymentStatus::Approved => {
                (before.amount_minor, 0)
            }
            Change::Refunded => {
                (before.captured_minor, before.refunded_minor.saturating_add(it.amount_minor))
            }
            Change::Reversed => (before.refunded_minor, before.refunded_minor),
            _ => (0, 0),
        };
        if (after.captured_minor, after.refunded_minor) != (captured, refunded)
            || captured > before.amount_minor
            || refunded > captured
        {
            return Err("it captures or refunds what it may not");
        }
        if after.net() - before.net() != net_of(&it.legs)?
            || (after.net() - before.net()).abs() != moved
        {
            return Err("it moved another amount than it says");
        }
        let number = after.credential.ok_or("it changes nobody's payment")?;
        let credential = self.credential(number)?;
        let account_number = credential.account;
        if it.notice_number != 0 {
            credential.notices += 1;
            if it.notice_number != credential.notices {
                return Err("its notice is not the next one");
            }
        } else if !credential.is_unlinked {
            return Err("its payer was not told");
        }
        let account = self.account(account_number)?;
        let freed = before.reserved() - after.reserved();
        account.reserved_minor =
            account.reserved_minor.checked_sub(freed).ok_or("more set free than was reserved")?;
        if account.day == after.business_day {
            account.spent_minor -=
                account.spent_minor.min(before.counted().saturating_sub(after.counted()));
            account.count -= u32::from(before.counted() > 0 && after.counted() == 0);
        }
        if !it.legs.is_empty() {
            self.post(&it.legs, Some(it.payment.merchant), account_number)?;
        }
        if self.account(account_number)?.balance_minor != i128::from(it.balance_minor) {
            return Err("its balance afterwards is another");
        }
        self.payments.insert(first, after);
        Ok(())
    }

    /// Books the legs of one account's entry: they sum to nothing, and name nobody else.
    fn post(&mut self, legs: &[Leg], merchant: Option<MerchantId>, account_number: u32) -> Kept {
        let currency = self.account(account_number)?.currency;
        let mut sum = 0;
        let mut takes = false;
        for leg in legs {
            let amount = i128::from(leg.amount_minor);
            let change = if leg.side == Side::Debit { -amount } else { amount };
            sum += change;
            match leg.holder {
                Holder::Account(number) if number == account_number => {
                    takes |= change < 0;
                    self.account(number)?.balance_minor += change;
                }
                Holder::Account(_) => return Err("it moves money of another account"),
                Holder::Merchant => {
                    let merchant = merchant.ok_or("it pays a merchant without one")?;
                    *self.merchants.entry((merchant, currency)).or_default() += change;
                }
                Holder::World => *self.world.entry(currency).or_default() += change,
            }
        }
        if takes {
            check_floor(self.account(account_number)?)?;
        }
        if sum == 0 { Ok(()) } else { Err("debits and credits differ") }
    }

    fn account(&mut self, number: u32) -> Result<&mut AccountLine, &'static str> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.accounts.get_mut(at).ok_or("it names an account that never was")
    }

    fn credential(&mut self, number: u32) -> Result<&mut CredentialLine, &'static str> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.credentials.get_mut(at).ok_or("it names a credential that never was")
    }
}

/// No payer's balance goes below its floor, holds counted.
fn check_floor(account: &AccountLine) -> Kept {
    let left = account.balance_minor - i128::from(account.reserved_minor);
    if left >= i128::from(account.floor_minor) { Ok(()) } else { Err("a balance below its floor") }
}

/// What the merchant has more by these legs.
fn net_of(legs: &[Leg]) -> Result<i128, &'static str> {
    let mut net = 0;
    for leg in legs.iter().filter(|it| it.holder == Holder::Merchant) {
        let amount = i128::from(leg.amount_minor);
        net += if leg.side == Side::Credit { amount } else { -amount };
    }
    Ok(net)
}
