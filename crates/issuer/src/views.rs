//! SQL tables for people: accounts, payments, what merchants are owed. They follow the journal like any other reader,
//! may lag, and can be thrown away: without `views.db` they are made again from the first entry. Nothing in the engine
//! reads them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, Transaction, params};
use warifu_core::account::AccountStanding;
use warifu_core::entry::{Changed, Decided, Entry, Fact, Holder, Leg, Side};
use warifu_core::payment::{Payment, PaymentPlace, payment_id};
use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{AccountId, MerchantId, PaymentId};
use warifu_proto::message::PaymentStatus;
use warifu_proto::time::Timestamp;
use warifu_server::db::{self, Durability};

use crate::engine::Engine;
use crate::store::{Frame, Store};

const TABLES: &[&str] = &["
    CREATE TABLE cursor (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL) STRICT;
    INSERT INTO cursor VALUES (1, 0);
    CREATE TABLE account (partition INTEGER NOT NULL, number INTEGER NOT NULL, account_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
        currency TEXT NOT NULL, exponent INTEGER NOT NULL, floor_minor INTEGER NOT NULL CHECK (floor_minor <= 0), balance_minor INTEGER NOT NULL,
        reserved_minor INTEGER NOT NULL CHECK (reserved_minor >= 0), standing TEXT NOT NULL, credentials INTEGER NOT NULL, opened_at_ms INTEGER NOT NULL, PRIMARY KEY (partition, number),
        CHECK (balance_minor - reserved_minor >= floor_minor)) STRICT, WITHOUT ROWID;
    CREATE TABLE credential (partition INTEGER NOT NULL, number INTEGER NOT NULL, account_number INTEGER NOT NULL, credential_id TEXT NOT NULL, standing TEXT NOT NULL, PRIMARY KEY (partition, number)) STRICT, WITHOUT ROWID;
    CREATE TABLE invitation (invitation BLOB PRIMARY KEY, account_number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE merchant_balance (merchant_id TEXT NOT NULL, currency TEXT NOT NULL, minor INTEGER NOT NULL, PRIMARY KEY (merchant_id, currency)) STRICT, WITHOUT ROWID;
    CREATE TABLE payment (position INTEGER PRIMARY KEY, payment_id TEXT NOT NULL UNIQUE, merchant_id TEXT NOT NULL, reader_id TEXT NOT NULL, request_id TEXT NOT NULL,
        account_id TEXT, amount_minor INTEGER NOT NULL CHECK (amount_minor > 0), currency TEXT NOT NULL, status TEXT NOT NULL, rejection TEXT,
        captured_minor INTEGER NOT NULL CHECK (captured_minor BETWEEN 0 AND amount_minor), refunded_minor INTEGER NOT NULL CHECK (refunded_minor BETWEEN 0 AND captured_minor),
        decided_at_ms INTEGER NOT NULL, business_day INTEGER NOT NULL) STRICT;
    CREATE INDEX payment_by_merchant ON payment (merchant_id, position);
    -- What the merchant's feed has beyond the decisions, which lie in `payment`.
    CREATE TABLE change (merchant_id TEXT NOT NULL, position INTEGER NOT NULL, payment_id TEXT NOT NULL, PRIMARY KEY (merchant_id, position)) STRICT, WITHOUT ROWID;
"];
/// How much of the journal goes into one transaction, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Entries that are not worth a transaction of their own under load: they go with what comes in [`IDLE`].
const TOGETHER: u64 = 4096;
/// How often the journal is looked at.
const IDLE: Duration = Duration::from_millis(20);

/// The views of an issuer, following.
#[derive(Debug)]
pub struct Views {
    reader: Arc<Mutex<Connection>>,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Some rows, and where to go on.
#[derive(Debug)]
pub struct Listed<T> {
    /// In order.
    pub rows: Vec<T>,
    /// What `after` takes next; nothing at the end.
    pub next: Option<String>,
}

/// An account as people see it.
#[derive(Debug)]
pub struct AccountRow {
    /// Its id.
    pub account_id: AccountId,
    /// Where it lives.
    pub partition: u8,
    /// `prepaid` or `credit`.
    pub kind: String,
    /// Its currency.
    pub currency: String,
    /// Digits of the minor unit.
    pub exponent: u8,
    /// What its balance never goes below.
    pub floor_minor: i64,
    /// What it holds.
    pub balance_minor: i64,
    /// What of it is reserved.
    pub reserved_minor: u64,
    /// `active`, `frozen` or `closed`.
    pub standing: String,
    /// Terminals that were linked to it.
    pub credentials: u32,
}

/// A terminal's link as people see it.
#[derive(Debug)]
pub struct CredentialRow {
    /// Its id.
    pub credential_id: String,
    /// Whose money.
    pub account_id: String,
    /// `active`, `suspended` or `unlinked`.
    pub standing: String,
}

/// One event of a merchant's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRow {
    /// Position of its entry in the journal.
    pub position: u64,
    /// Whose money.
    pub account: Option<AccountId>,
}

/// A payment as people see it.
#[derive(Debug)]
pub struct PaymentRow {
    /// Its id.
    pub payment_id: String,
    /// The reader's id.
    pub request_id: String,
    /// Where it stands.
    pub status: String,
    /// How much was asked.
    pub amount_minor: u64,
    /// How much was taken.
    pub captured_minor: u64,
    /// How much was given back.
    pub refunded_minor: u64,
    /// In which currency.
    pub currency: String,
    /// Who was to be paid.
    pub merchant_id: MerchantId,
    /// Whose money.
    pub account_id: Option<String>,
    /// Why it was declined.
    pub rejection: Option<String>,
    /// When.
    pub decided_at: Timestamp,
}

impl Views {
    /// Opens or makes them in the data folder, and follows the engine's journal.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn spawn(engine: Arc<Engine>, data: &Path, prefix: Prefix) -> anyhow::Result<Self> {
        let path = data.join("views.db");
        let mut writer = open(&path)?;
        if position(&writer)? > *engine.committed().borrow() {
            tracing::warn!(
                "the views are ahead of the journal, which was replaced: they are made again"
            );
            drop(writer);
            remove(&path)?;
            writer = open(&path)?;
        }
        let reader = Arc::new(Mutex::new(db::open(&path, Durability::Normal)?));
        let stopping = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("views".to_owned()).spawn(move || {
            let store = engine.store();
            let committed = engine.committed();
            // How far the views have got is known after the first look.
            let mut reached = None;
            while !stopped.load(Ordering::Acquire) {
                if reached != Some(*committed.borrow()) {
                    match follow(&mut writer, store.as_ref(), prefix, READ_BYTES) {
                        Ok(position) => reached = Some(position),
                        Err(error) => {
                            tracing::error!(
                                error = format!("{error:#}"),
                                "the views could not be written; trying again"
                            );
                            std::thread::sleep(Duration::from_secs(1));
                        }
                    }
                }
                // After every part: a long journal takes minutes, and somebody may watch, or wish to stop.
                let behind = committed.borrow().saturating_sub(reached.unwrap_or_default());
                metrics::gauge!("warifu_view_lag_entries")
                    .set(u32::try_from(behind).unwrap_or(u32::MAX));
                if behind < TOGETHER {
                    std::thread::sleep(IDLE);
                }
            }
        })?;
        Ok(Self { reader, stopping, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the following.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|it| it.join().is_err()) {
            tracing::error!("the thread of the views panicked");
        }
    }

    /// Position of the last entry that the views show.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn position(&self) -> anyhow::Result<u64> {
        self.read(position).await
    }

    /// Accounts by partition and number, after the place that a former page named.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn accounts(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> anyhow::Result<Listed<AccountRow>> {
        let after = after.unwrap_or(-1);
        self.read(move |views| {
            let mut select = views.prepare_cached(
                "SELECT partition, number, account_id, kind, currency, exponent, floor_minor, balance_minor, reserved_minor, standing, credentials FROM account
                 WHERE (partition, number) > (?1, ?2) ORDER BY partition, number LIMIT ?3",
            )?;
            let (partition, number) = if after < 0 { (-1, 0) } else { (after >> 32, after & 0xffff_ffff) };
            let mut last = None;
            let rows = select.query_map(params![partition, number, limit], |row| {
                last = Some((row.get::<_, i64>(0)? << 32) | row.get::<_, i64>(1)?);
                Ok(AccountRow {
                    account_id: parse(&row.get::<_, String>(2)?)?,
                    partition: row.get(0)?,
                    kind: row.get(3)?,
                    currency: row.get(4)?,
                    exponent: row.get(5)?,
                    floor_minor: row.get(6)?,
                    balance_minor: row.get(7)?,
                    reserved_minor: row.get(8)?,
                    standing: row.get(9)?,
                    credentials: row.get(10)?,
                })
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let next = last.filter(|_| rows.len() == limit).map(|it| it.to_string());
            Ok(Listed { rows, next })
        })
        .await
    }

    /// Payments, newest first, before the place that a former page named; of one merchant or of all.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn payments(
        &self,
        after: Option<i64>,
        limit: usize,
        merchant: Option<MerchantId>,
    ) -> anyhow::Result<Listed<PaymentRow>> {
        let after = after.unwrap_or(i64::MAX);
        self.read(move |views| {
            // Two statements: one for both could not use the merchant's index.
            let of_merchant = if merchant.is_some() { "merchant_id = ?2" } else { "?2 IS NULL" };
            let mut select = views.prepare_cached(&format!(
                "SELECT position, payment_id, request_id, status, amount_minor, currency, merchant_id, account_id, rejection, decided_at_ms, captured_minor, refunded_minor FROM payment
                 WHERE position < ?1 AND {of_merchant} ORDER BY position DESC LIMIT ?3",
            ))?;
            let mut last = None;
            let rows = select.query_map(params![after, merchant.map(|it| it.to_string()), limit], |row| {
                last = Some(row.get::<_, i64>(0)?);
                let merchant: String = row.get(6)?;
                Ok(PaymentRow {
                    payment_id: row.get(1)?,
                    request_id: row.get(2)?,
                    status: row.get(3)?,
                    amount_minor: row.get(4)?,
                    currency: row.get(5)?,
                    merchant_id: MerchantId::parse(&merchant).map_err(not_an_id)?,
                    account_id: row.get(7)?,
                    rejection: row.get(8)?,
                    decided_at: Timestamp::from_ms(row.get(9)?),
                    captured_minor: row.get(10)?,
                    refunded_minor: row.get(11)?,
                })
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let next = last.filter(|_| rows.len() == limit).map(|it| it.to_string());
            Ok(Listed { rows, next })
        })
        .await
    }

    /// Terminals by partition and number, after the place that a former page named; of one account or of all.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn credentials(
        &self,
        after: Option<i64>,
        limit: usize,
        account: Option<AccountId>,
    ) -> anyhow::Result<Listed<CredentialRow>> {
        let after = after.unwrap_or(-1);
        self.read(move |views| {
            let mut select = views.prepare_cached(
                "SELECT credential.partition, credential.number, credential_id, account_id, credential.standing FROM credential
                 JOIN account ON account.partition = credential.partition AND account.number = credential.account_number
                 WHERE (credential.partition, credential.number) > (?1, ?2) AND (?3 IS NULL OR account_id = ?3)
                 ORDER BY credential.partition, credential.number LIMIT ?4",
            )?;
            let (partition, number) = if after < 0 { (-1, 0) } else { (after >> 32, after & 0xffff_ffff) };
            let mut last = None;
            let account = account.map(|it| it.to_string());
            let rows = select.query_map(params![partition, number, account, limit], |row| {
                last = Some((row.get::<_, i64>(0)? << 32) | row.get::<_, i64>(1)?);
                Ok(CredentialRow {
                    credential_id: row.get(2)?,
                    account_id: row.get(3)?,
                    standing: row.get(4)?,
                })
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let next = last.filter(|_| rows.len() == limit).map(|it| it.to_string());
            Ok(Listed { rows, next })
        })
        .await
    }

    /// Events of a merchant after a position, in order, and where to go on: everything up to there is among them.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn events(
        &self,
        merchant: MerchantId,
        after: u64,
        limit: usize,
    ) -> anyhow::Result<(Vec<EventRow>, u64)> {
        self.read(move |views| {
            // In this order: what is viewed up to here is there.
            let viewed = position(views)?;
            let mut select = views.prepare_cached(
                "SELECT position, account_id FROM payment WHERE merchant_id = ?1 AND position > ?2 AND position <= ?3
                 UNION ALL SELECT change.position, account_id FROM change JOIN payment USING (payment_id)
                 WHERE change.merchant_id = ?1 AND change.position > ?2 AND change.position <= ?3 ORDER BY 1 LIMIT ?4",
            )?;
            let rows = select.query_map(params![merchant.to_string(), after, viewed, limit], |row| {
                let account: Option<String> = row.get(1)?;
                let account = account.map(|it| AccountId::parse(&it)).transpose();
                Ok(EventRow { position: row.get(0)?, account: account.map_err(not_an_id)? })
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let next = rows.last().filter(|_| rows.len() == limit).map_or(viewed, |it| it.position);
            Ok((rows, next))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let reader = Arc::clone(&self.reader);
        let read = move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tokio::task::spawn_blocking(read).await.context("reading a view panicked")??)
    }
}

fn parse(text: &str) -> rusqlite::Result<AccountId> {
    AccountId::parse(text).map_err(not_an_id)
}

fn not_an_id(error: warifu_proto::Malformed) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

impl Drop for Views {
    fn drop(&mut self) {
        // The thread holds the engine: it must not outlive those who could stop it.
        self.stop();
    }
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let writer = db::open(path, Durability::Normal)
        .with_context(|| format!("cannot open {}", path.display()))?;
    db::migrate(&writer, TABLES)?;
    // In KiB: each payment meets its account and its terminal, wherever in their tables these lie.
    writer.pragma_update(None, "cache_size", -32_768)?;
    Ok(writer)
}

/// Removes a database with its log.
fn remove(path: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", file.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn position(views: &Connection) -> rusqlite::Result<u64> {
    views.prepare_cached("SELECT position FROM cursor")?.query_row([], |row| row.get(0))
}

/// Shows the next part of the journal in one transaction, and says up to where the views are now.
fn follow(
    writer: &mut Connection,
    store: &dyn Store,
    prefix: Prefix,
    bytes_max: usize,
) -> anyhow::Result<u64> {
    let position = position(writer)?;
    let frames = store.read(position + 1, bytes_max)?;
    let Some(last) = frames.last() else { return Ok(position) };
    let reached = last.last_position();
    let transaction = writer.transaction()?;
    let mut owed = Owed::default();
    for frame in &frames {
        view_frame(&transaction, frame, prefix, &mut owed)?;
    }
    owed.write(&transaction)?;
    transaction.prepare_cached("UPDATE cursor SET position = ?1")?.execute([reached])?;
    transaction.commit()?;
    Ok(reached)
}

/// What came to merchants in one transaction. Many payments of a moment are the same merchant's.
#[derive(Default)]
struct Owed(BTreeMap<(MerchantId, CurrencyCode), i64>);

impl Owed {
    fn add(&mut self, merchant: (MerchantId, CurrencyCode), minor: i64) -> anyhow::Result<()> {
        let sum = self.0.entry(merchant).or_default();
        *sum = sum.checked_add(minor).context("a merchant is owed too much")?;
        Ok(())
    }

    fn write(self, to: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut add = to.prepare_cached(
            "INSERT INTO merchant_balance VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET minor = minor + excluded.minor",
        )?;
        for ((merchant, currency), minor) in self.0 {
            add.execute(params![merchant.to_string(), currency.as_str(), minor])?;
        }
        Ok(())
    }
}

fn view_frame(
    to: &Transaction<'_>,
    frame: &Frame,
    prefix: Prefix,
    owed: &mut Owed,
) -> anyhow::Result<()> {
    for (position, bytes) in (frame.position..).zip(&frame.entries) {
        let entry = Entry::decode(&bytes.bytes)?;
        let partition = entry.partition;
        match &entry.fact {
            Fact::AccountOpened(it) => {
                let kind = serde_json::to_value(it.kind)?;
                to.prepare_cached(
                    "INSERT INTO account VALUES (?1, (SELECT coalesce(max(number) + 1, 0) FROM account WHERE partition = ?1), ?2, ?3, ?4, ?5, ?6, 0, 0, 'active', 0, ?7)",
                )?
                .execute(params![
                    partition,
                    it.account.to_string(),
                    kind.as_str(),
                    it.currency.code.as_str(),
                    it.currency.exponent,
                    it.floor_minor,
                    entry.at.as_ms()
                ])?;
            }
            Fact::ToppedUp(it) => post(to, partition, &it.legs, None, owed)?,
            Fact::Invited(it) => {
                to.prepare_cached("INSERT INTO invitation VALUES (?1, ?2)")?
                    .execute(params![it.invitation.raw(), it.account_number])?;
            }
            Fact::Linked(it) => {
                to.prepare_cached(
                    "INSERT INTO credential SELECT ?1, (SELECT coalesce(max(number) + 1, 0) FROM credential WHERE partition = ?1), account_number, ?3, 'active' FROM invitation WHERE invitation = ?2",
                )?
                .execute(params![partition, it.invitation.raw(), it.credential.to_string()])?;
                to.prepare_cached("UPDATE account SET credentials = credentials + 1 WHERE partition = ?1 AND number = (SELECT account_number FROM invitation WHERE invitation = ?2)")?
                    .execute(params![partition, it.invitation.raw()])?;
            }
            Fact::Unlinked(it) => {
                to.prepare_cached("UPDATE account SET credentials = credentials - 1 WHERE partition = ?1 AND number = (SELECT account_number FROM credential WHERE partition = ?1 AND number = ?2)")?
                    .execute(params![partition, it.credential_number])?;
                stand_credential(to, partition, it.credential_number, "unlinked")?;
            }
            Fact::CredentialStood(it) => {
                let standing = if it.is_suspended { "suspended" } else { "active" };
                stand_credential(to, partition, it.credential_number, standing)?;
            }
            Fact::AccountStood(it) => {
                post(to, partition, &it.legs, None, owed)?;
                let standing = standing_name(it.standing);
                to.prepare_cached(
                    "UPDATE account SET standing = ?3 WHERE partition = ?1 AND number = ?2",
                )?
                .execute(params![partition, it.account_number, standing])?;
            }
            Fact::Registered(_) | Fact::Withdrawn(_) | Fact::Tombstone(_) | Fact::Limited(_) => {}
            Fact::Changed(it) => view_change(to, position, prefix, partition, it, owed)?,
            Fact::Decided(it) => {
                post(to, partition, &it.legs, Some((it.merchant, it.currency)), owed)?;
                let reserved = Payment::left_by(&entry).map_or(0, |it| it.reserved_minor());
                if let (Some(matched), 1..) = (it.matched, reserved) {
                    let reserved = i64::try_from(reserved)?;
                    reserve(to, partition, matched.credential_number, reserved)?;
                }
                let place = PaymentPlace { partition, first_sequence: entry.sequence };
                view_payment(to, position, payment_id(prefix, place, entry.at), it, &entry)?;
            }
        }
    }
    Ok(())
}

fn view_payment(
    to: &Transaction<'_>,
    position: u64,
    id: PaymentId,
    it: &Decided,
    entry: &Entry,
) -> rusqlite::Result<usize> {
    to.prepare_cached(
        "INSERT INTO payment VALUES (?1, ?2, ?3, ?4, ?5,
            (SELECT account_id FROM account WHERE partition = ?6 AND number = (SELECT account_number FROM credential WHERE partition = ?6 AND number = ?7)),
            ?8, ?9, ?10, ?11, ?14, 0, ?12, ?13)",
    )?
    .execute(params![
        position,
        id.to_string(),
        it.merchant.to_string(),
        it.reader.to_string(),
        it.request.as_str(),
        entry.partition,
        it.matched.map(|it| it.credential_number),
        it.amount_minor,
        it.currency.as_str(),
        status_name(it.status),
        it.rejection.map(|it| it.name()),
        entry.at.as_ms(),
        it.business_day,
        if it.status == PaymentStatus::Approved { it.amount_minor } else { 0 }
    ])
}

/// A status as the views write it.
pub(crate) fn status_name(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Approved => "approved",
        PaymentStatus::Held => "held",
        PaymentStatus::AwaitingPayer => "awaiting_payer",
        PaymentStatus::Declined => "declined",
        PaymentStatus::Reversed => "reversed",
        PaymentStatus::Released => "released",
        PaymentStatus::Expired => "expired",
        PaymentStatus::Unknown => "unknown",
    }
}

/// A standing as the views write it.
pub(crate) fn standing_name(standing: AccountStanding) -> &'static str {
    match standing {
        AccountStanding::Active => "active",
        AccountStanding::Frozen => "frozen",
        AccountStanding::Closed => "closed",
    }
}

fn view_change(
    to: &Transaction<'_>,
    position: u64,
    prefix: Prefix,
    partition: u8,
    it: &Changed,
    owed: &mut Owed,
) -> anyhow::Result<()> {
    let payment = &it.payment;
    let id = payment.id(prefix, partition).to_string();
    let was_open: bool = to
        .prepare_cached(
            "SELECT status IN ('held', 'awaiting_payer') FROM payment WHERE payment_id = ?1",
        )?
        .query_row([&id], |row| row.get(0))?;
    if let (true, false, Some(credential)) =
        (was_open, payment.is_open(), payment.credential_number)
    {
        reserve(to, partition, credential, -i64::try_from(payment.amount_minor)?)?;
    }
    post(to, partition, &it.legs, Some((payment.merchant, payment.currency)), owed)?;
    to.prepare_cached("UPDATE payment SET status = ?2, rejection = ?3, captured_minor = ?4, refunded_minor = ?5 WHERE payment_id = ?1")?
        .execute(params![
            id,
            status_name(payment.status),
            payment.rejection.map(|it| it.name()),
            payment.captured_minor,
            payment.refunded_minor
        ])?;
    to.prepare_cached("INSERT INTO change VALUES (?1, ?2, ?3)")?.execute(params![
        payment.merchant.to_string(),
        position,
        id
    ])?;
    Ok(())
}

fn stand_credential(
    to: &Transaction<'_>,
    partition: u8,
    number: u32,
    standing: &str,
) -> rusqlite::Result<usize> {
    to.prepare_cached("UPDATE credential SET standing = ?3 WHERE partition = ?1 AND number = ?2")?
        .execute(params![partition, number, standing])
}

/// Reserves money of a credential's account, or sets it free.
fn reserve(
    to: &Transaction<'_>,
    partition: u8,
    credential_number: u32,
    minor: i64,
) -> rusqlite::Result<usize> {
    to.prepare_cached("UPDATE account SET reserved_minor = reserved_minor + ?3 WHERE partition = ?1 AND number = (SELECT account_number FROM credential WHERE partition = ?1 AND number = ?2)")?
        .execute(params![partition, credential_number, minor])
}

fn post(
    to: &Transaction<'_>,
    partition: u8,
    legs: &[Leg],
    merchant: Option<(MerchantId, CurrencyCode)>,
    owed: &mut Owed,
) -> anyhow::Result<()> {
    for leg in legs {
        let amount = i64::try_from(leg.amount_minor)?;
        let change = match leg.side {
            Side::Debit => -amount,
            Side::Credit => amount,
        };
        match (leg.holder, merchant) {
            (Holder::Account(number), _) => {
                to.prepare_cached("UPDATE account SET balance_minor = balance_minor + ?3 WHERE partition = ?1 AND number = ?2")?
                    .execute(params![partition, number, change])?;
            }
            (Holder::Merchant, Some(merchant)) => owed.add(merchant, change)?,
            (Holder::Merchant | Holder::World, _) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
