//! The reader's journal: SQLite, every commit synced, one row per attempt and one per change of a payment. Both are in
//! it before their request leaves, and stay open until they have ended.
//!
//! Laws, kept by the database as well where it can: of the attempts of one order at most one is paid or may turn out to
//! be (`attempt_claim`); no row is ever deleted; one that has ended is never made open again, but for a paid one that
//! the cashier takes back; one that is being reversed never becomes a paid one. The code's digits go when the request
//! is never sent again (`secure_delete`: they are overwritten, not only unlinked).

mod changes;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use warifu_proto::id::PaymentId;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_reader::{Record, Standing};
use warifu_server::db::{self, Durability};

pub(crate) use self::changes::BegunChange;
use crate::fail::Failure;
use crate::paths;

const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE attempt (
        request_id TEXT PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        is_open    INTEGER NOT NULL CHECK (is_open IN (0, 1)),
        record     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX attempt_open ON attempt (created_ms) WHERE is_open = 1;
    CREATE INDEX attempt_time ON attempt (created_ms);
",
    // Of an order that was paid twice by an older version, the later one claims it.
    "
    ALTER TABLE attempt ADD COLUMN order_id TEXT;
    ALTER TABLE attempt ADD COLUMN claims INTEGER NOT NULL DEFAULT 0 CHECK (claims IN (0, 1));
    UPDATE attempt SET order_id = json_extract(record, '$.order_id');
    UPDATE attempt SET claims = 1 WHERE request_id IN (
        SELECT request_id FROM (
            SELECT request_id, row_number() OVER (
                PARTITION BY order_id ORDER BY is_paid DESC, created_ms DESC, request_id DESC
            ) AS place
            FROM (
                SELECT request_id, order_id, created_ms, is_open,
                    ifnull(json_extract(record, '$.standing.payment.status') IN ('approved', 'held'), 0) AS is_paid
                FROM attempt WHERE order_id IS NOT NULL
            )
            WHERE is_open = 1 OR is_paid = 1
        )
        WHERE place = 1
    );
    CREATE INDEX attempt_order ON attempt (order_id, created_ms) WHERE order_id IS NOT NULL;
    CREATE UNIQUE INDEX attempt_claim ON attempt (order_id) WHERE claims = 1;
    CREATE TABLE change (
        request_id TEXT PRIMARY KEY,
        till_id    TEXT NOT NULL UNIQUE,
        attempt    TEXT NOT NULL REFERENCES attempt (request_id),
        created_ms INTEGER NOT NULL,
        is_open    INTEGER NOT NULL CHECK (is_open IN (0, 1)),
        change     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX change_open ON change (created_ms) WHERE is_open = 1;
    CREATE INDEX change_attempt ON change (attempt, created_ms);
",
];

/// Most rows that one question about orders gives.
const LIST_MAX: u32 = 1_000;

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    db: Mutex<Connection>,
}

/// What beginning an attempt found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is new, and in the journal now.
    New,
    /// There is one with its id already; nothing was written.
    Known(Box<Record>),
    /// Its order is paid by another attempt, or may turn out to be; nothing was written.
    Claimed(Box<Record>),
}

impl Journal {
    /// Opens or makes the file, for its owner only.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| paths::cannot("opened", path, &error))?;
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::usage(format_args!("the journal {} can't be used", paths::shown(path)))
                .because(error)
        };
        let db = db::open(path, Durability::Full).map_err(|error| failed(&error))?;
        db.pragma_update(None, "secure_delete", true).map_err(|error| failed(&error))?;
        db::migrate(&db, MIGRATIONS).map_err(|error| failed(&error))?;
        Ok(Self { db: Mutex::new(db) })
    }

    /// Writes a new attempt, unless its id is known or its order is claimed.
    pub(crate) fn begin(&self, record: &Record) -> Result<Begun, Failure> {
        self.write(|db| {
            if let Some(known) = find(db, &record.request_id)? {
                return Ok(Begun::Known(Box::new(known)));
            }
            if let Some(claimer) = claimer(db, record)? {
                return Ok(Begun::Claimed(Box::new(claimer)));
            }
            insert(db, record)?;
            Ok(Begun::New)
        })
    }

    /// Writes how an attempt stands now.
    ///
    /// Refused when that can't follow from how it stands in the journal.
    pub(crate) fn put(&self, record: &Record) -> Result<(), Failure> {
        self.write(|db| {
            let known = find(db, &record.request_id)?;
            match known {
                None => return insert(db, record),
                Some(known) if known == *record => return Ok(()),
                Some(known) if may_follow(&known.standing, &record.standing) => {}
                Some(_) => return Err(broken(&"the attempt has ended otherwise")),
            }
            db.prepare_cached(
                "UPDATE attempt SET created_ms = ?2, is_open = ?3, record = ?4, claims = ?5
                 WHERE request_id = ?1",
            )
            .and_then(|mut it| {
                it.execute(params![
                    record.request_id.as_str(),
                    ms(record.created_at),
                    record.standing.is_open(),
                    text(record),
                    record.order_id.is_some() && record.standing.claims_order(),
                ])
            })
            .map(drop)
            .map_err(|error| cannot_write(&error))
        })
    }

    /// One attempt.
    pub(crate) fn find(&self, request_id: &RequestId) -> Result<Option<Record>, Failure> {
        find(&self.db(), request_id)
    }

    /// The attempt that made a payment.
    pub(crate) fn find_payment(&self, payment_id: PaymentId) -> Result<Option<Record>, Failure> {
        one(
            &self.db(),
            "SELECT record FROM attempt WHERE json_extract(record, '$.standing.payment.payment_id') = ?1",
            &payment_id.to_string(),
        )
    }

    /// The attempts of an order, the oldest first. Of very many the one that claims it and the latest.
    pub(crate) fn of_order(&self, order_id: &str) -> Result<Vec<Record>, Failure> {
        list(
            &self.db(),
            "SELECT record FROM (
                SELECT record, created_ms, request_id FROM attempt WHERE order_id = ?1
                ORDER BY claims DESC, created_ms DESC, request_id DESC LIMIT ?2
             ) ORDER BY created_ms, request_id",
            params![order_id, LIST_MAX],
        )
    }

    /// All that have not ended, the oldest first.
    pub(crate) fn open_ones(&self) -> Result<Vec<Record>, Failure> {
        let sql = "SELECT record FROM attempt WHERE is_open = 1 ORDER BY created_ms";
        list(&self.db(), sql, params![])
    }

    /// The latest first.
    pub(crate) fn latest(&self, count: u32) -> Result<Vec<Record>, Failure> {
        let sql = "SELECT record FROM attempt ORDER BY created_ms DESC LIMIT ?1";
        list(&self.db(), sql, params![count])
    }

    /// Those begun since then, the latest first.
    pub(crate) fn since(&self, since: Timestamp) -> Result<Vec<Record>, Failure> {
        let sql =
            "SELECT record FROM attempt WHERE created_ms >= ?1 ORDER BY created_ms DESC LIMIT ?2";
        list(&self.db(), sql, params![ms(since), LIST_MAX])
    }

    /// How many have not ended, changes included, and when the oldest of them began.
    pub(crate) fn unresolved(&self) -> Result<(u32, Option<Timestamp>), Failure> {
        let sql = "SELECT count(*), min(created_ms) FROM (
                SELECT created_ms FROM attempt WHERE is_open = 1
                UNION ALL SELECT created_ms FROM change WHERE is_open = 1
            )";
        self.db()
            .prepare_cached(sql)
            .and_then(|mut it| {
                it.query_row([], |row| {
                    let oldest: Option<u64> = row.get(1)?;
                    Ok((row.get(0)?, oldest.map(Timestamp::from_ms)))
                })
            })
            .map_err(|error| broken(&error))
    }

    // Held for one transaction, never across an await.
    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let db = self.db();
        let transaction = Transaction::new_unchecked(&db, TransactionBehavior::Immediate)
            .map_err(|error| cannot_write(&error))?;
        let done = work(&transaction)?;
        transaction.commit().map_err(|error| cannot_write(&error))?;
        Ok(done)
    }
}

/// Whether a row may change from one standing to the other: the laws above.
fn may_follow(old: &Standing, new: &Standing) -> bool {
    match old {
        // The id was never bound.
        Standing::Refused { .. } | Standing::NotTaken | Standing::Open | Standing::Unknown => true,
        Standing::Reversing { told, .. } => {
            !new.may_be_paid() && (!new.is_paid() || told.is_some())
        }
        Standing::Decided { .. } if old.is_paid() => match new {
            Standing::Reversing { told, .. } => told.is_some(),
            // A refund, capture or release was done.
            Standing::Decided { .. } => true,
            _ => false,
        },
        Standing::Decided { .. } | Standing::Reversed { .. } => false,
    }
}

fn insert(db: &Connection, record: &Record) -> Result<(), Failure> {
    db.prepare_cached(
        "INSERT INTO attempt (request_id, created_ms, is_open, record, order_id, claims)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .and_then(|mut it| {
        it.execute(params![
            record.request_id.as_str(),
            ms(record.created_at),
            record.standing.is_open(),
            text(record),
            record.order_id,
            record.order_id.is_some() && record.standing.claims_order(),
        ])
    })
    .map(drop)
    .map_err(|error| cannot_write(&error))
}

fn find(db: &Connection, request_id: &RequestId) -> Result<Option<Record>, Failure> {
    one(db, "SELECT record FROM attempt WHERE request_id = ?1", request_id.as_str())
}

/// Who has the order of this one.
fn claimer(db: &Connection, record: &Record) -> Result<Option<Record>, Failure> {
    let Some(order_id) = &record.order_id else { return Ok(None) };
    one(db, "SELECT record FROM attempt WHERE order_id = ?1 AND claims = 1", order_id)
}

fn one<T: serde::de::DeserializeOwned>(
    db: &Connection,
    sql: &str,
    by: &str,
) -> Result<Option<T>, Failure> {
    let text: Option<String> = db
        .prepare_cached(sql)
        .and_then(|mut it| it.query_row([by], |row| row.get(0)).optional())
        .map_err(|error| broken(&error))?;
    text.map(|text| read(&text)).transpose()
}

fn list<T: serde::de::DeserializeOwned>(
    db: &Connection,
    sql: &str,
    by: impl rusqlite::Params,
) -> Result<Vec<T>, Failure> {
    let mut statement = db.prepare_cached(sql).map_err(|error| broken(&error))?;
    let rows =
        statement.query_map(by, |row| row.get::<_, String>(0)).map_err(|error| broken(&error))?;
    rows.map(|text| text.map_err(|error| broken(&error)).and_then(|it| read(&it))).collect()
}

fn ms(at: Timestamp) -> i64 {
    i64::try_from(at.as_ms()).unwrap_or(i64::MAX)
}

fn text(object: &impl serde::Serialize) -> String {
    serde_json::to_string(object).expect("our objects have only text keys")
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| broken(&error))
}
fn cannot_write(error: &rusqlite::Error) -> Failure {
    Failure::usage("the journal can't be written")
        .because(error)
        .next("make room on the disk, and check who may write to the folder")
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format_args!("the journal can't be read: {error}"))
        .next("keep the folder as it is, and ask the merchant's support before selling on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::{Value, json};
    use warifu_reader::Standing;

    fn record(id: &str, standing: Value) -> Record {
        serde_json::from_value(json!({
            "request_id": id, "route": "7100000107", "issuer": "iss_01h455vb4pex5vsknk084sn02q",
            "code": "710000010728921840110704", "amount": {"minor": 1200, "currency": "JPY"},
            "capture": "now", "order_id": null, "description": null, "deadline_ms": 10_000,
            "created_at": "2026-11-22T00:00:00.000Z", "standing": standing,
        }))
        .unwrap()
    }

    fn open() -> Value {
        json!({"is": "open"})
    }

    #[test]
    fn attempts_come_back_and_are_never_begun_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let first = record("a", open());
        {
            let journal = Journal::open(&path).unwrap();
            assert_eq!(journal.begin(&first).unwrap(), Begun::New);
            assert_eq!(journal.begin(&record("b", open())).unwrap(), Begun::New);
        }
        let journal = Journal::open(&path).unwrap();
        let again = journal.begin(&record("a", json!({"is": "not_taken"}))).unwrap();
        assert_eq!(again, Begun::Known(Box::new(first)));
        assert_eq!(journal.open_ones().unwrap().len(), 2);
        assert_eq!(journal.latest(1).unwrap().len(), 1);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "codes are in it");
        }
    }

    #[test]
    fn an_outcome_stays_and_takes_the_code_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        journal.begin(&record("a", open())).unwrap();
        let payment = json!({
            "payment_id": "pay_01h455vb4pex5vsknk084sn02q", "request_id": "a", "status": "approved",
            "amount": {"minor": 1200, "currency": "JPY"},
            "captured": {"minor": 1200, "currency": "JPY"}, "refunded": {"minor": 0, "currency": "JPY"},
            "account_hint": "", "decided_at": "2026-11-22T00:00:00.000Z", "sequence": "1",
        });
        let mut decided = record("a", json!({"is": "decided", "payment": payment}));
        decided.code = None;
        journal.put(&decided).unwrap();
        assert!(journal.open_ones().unwrap().is_empty());
        // A slower process that still thinks it open changes nothing.
        journal.put(&record("a", json!({"is": "unknown"}))).unwrap_err();
        let id = RequestId::parse("a").unwrap();
        let kept = journal.find(&id).unwrap().unwrap();
        assert!(matches!(kept.standing, Standing::Decided { .. }));
        assert_eq!(kept.code, None);

        journal.begin(&record("b", json!({"is": "not_taken"}))).unwrap();
        journal.put(&record("b", open())).unwrap();
        assert_eq!(journal.open_ones().unwrap().len(), 1, "an id that was never bound can be used");
    }

    fn of_order(id: &str, standing: Value) -> Record {
        Record { order_id: Some("A-17".to_owned()), ..record(id, standing) }
    }

    fn paid() -> Value {
        let payment = json!({
            "payment_id": "pay_01h455vb4pex5vsknk084sn02q", "request_id": "a", "status": "approved",
            "amount": {"minor": 1200, "currency": "JPY"},
            "captured": {"minor": 1200, "currency": "JPY"}, "refunded": {"minor": 0, "currency": "JPY"},
            "account_hint": "", "decided_at": "2026-11-22T00:00:00.000Z", "sequence": "1",
        });
        json!({"is": "decided", "payment": payment})
    }

    #[test]
    fn an_order_is_paid_by_one_attempt_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal.db")).unwrap();
        let reversing = || json!({"is": "reversing", "reason": "timeout"});
        assert_eq!(journal.begin(&of_order("a", open())).unwrap(), Begun::New);
        let Begun::Claimed(by) = journal.begin(&of_order("b", open())).unwrap() else {
            panic!("the order is being paid")
        };
        assert_eq!(by.request_id.as_str(), "a");
        // One that is being reversed never becomes a paid one, so it is in nobody's way.
        journal.put(&of_order("a", reversing())).unwrap();
        assert_eq!(journal.begin(&of_order("b", open())).unwrap(), Begun::New);
        journal.put(&of_order("a", paid())).unwrap_err();
        journal.put(&of_order("a", open())).unwrap_err();
        journal.put(&of_order("b", paid())).unwrap();
        assert!(matches!(journal.begin(&of_order("c", open())).unwrap(), Begun::Claimed(_)));
        // What the cashier takes back may turn out to stand.
        let mut taken_back = reversing();
        taken_back["told"] = paid()["payment"].clone();
        journal.put(&of_order("b", taken_back)).unwrap();
        assert!(matches!(journal.begin(&of_order("c", open())).unwrap(), Begun::Claimed(_)));
        journal.put(&of_order("b", json!({"is": "reversed"}))).unwrap();
        assert_eq!(journal.begin(&of_order("c", open())).unwrap(), Begun::New);
        let ids: Vec<_> = journal.of_order("A-17").unwrap();
        let ids: Vec<_> = ids.iter().map(|it| it.request_id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let (count, oldest) = journal.unresolved().unwrap();
        assert_eq!(
            (count, oldest.unwrap().to_string()),
            (2, "2026-11-22T00:00:00.000Z".to_owned())
        );
        assert_eq!(journal.since(Timestamp::from_ms(0)).unwrap().len(), 3);
    }

    #[test]
    fn a_journal_of_an_older_version_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let old = Connection::open(&path).unwrap();
        db::migrate(&old, &MIGRATIONS[..1]).unwrap();
        for it in
            [of_order("a", paid()), of_order("b", paid()), of_order("c", json!({"is": "unknown"}))]
        {
            old.execute(
                "INSERT INTO attempt VALUES (?1, ?2, ?3, ?4)",
                params![
                    it.request_id.as_str(),
                    ms(it.created_at),
                    it.standing.is_open(),
                    text(&it)
                ],
            )
            .unwrap();
        }
        drop(old);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.of_order("A-17").unwrap().len(), 3);
        let Begun::Claimed(by) = journal.begin(&of_order("d", open())).unwrap() else {
            panic!("the order is paid")
        };
        assert_eq!(by.request_id.as_str(), "b", "the later of the paid ones");
        // The one without an answer can still be ended, whatever it turns out to be.
        journal.put(&of_order("c", json!({"is": "reversed"}))).unwrap();
    }

    #[test]
    fn the_payment_of_an_order_is_found_among_very_many_attempts() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal.db")).unwrap();
        journal
            .write(|db| {
                for number in 0..LIST_MAX {
                    let failed = record(&format!("a{number:04}"), json!({"is": "not_taken"}));
                    insert(db, &Record { order_id: Some("A-17".to_owned()), ..failed })?;
                }
                Ok(())
            })
            .unwrap();
        let last = Record { order_id: Some("A-17".to_owned()), ..record("z", open()) };
        assert_eq!(journal.begin(&last).unwrap(), Begun::New);
        assert!(journal.of_order("A-17").unwrap().contains(&last), "who asks must hear of it");
    }

    #[test]
    fn a_file_that_is_no_journal_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        assert!(Journal::open(&path).unwrap_err().message.contains("can't be used"));
    }
}
