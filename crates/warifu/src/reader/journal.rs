//! The reader's journal: SQLite, every commit synced, one row per attempt. An attempt is in it before its request
//! leaves, and stays without an outcome until somebody has found out.
//!
//! Law: a row that has an outcome is never made open again, and no row is ever deleted. The code's digits go when the
//! outcome comes (`secure_delete`: they are overwritten, not only unlinked).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use warifu_proto::request_id::RequestId;
use warifu_reader::Record;
use warifu_server::db::{self, Durability};

use crate::fail::Failure;
use crate::paths;

const MIGRATIONS: &[&str] = &["
    CREATE TABLE attempt (
        request_id TEXT PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        is_open    INTEGER NOT NULL CHECK (is_open IN (0, 1)),
        record     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX attempt_open ON attempt (created_ms) WHERE is_open = 1;
    CREATE INDEX attempt_time ON attempt (created_ms);
"];

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    db: Connection,
}

/// What beginning an attempt found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is new, and in the journal now.
    New,
    /// There is one with its id already; nothing was written.
    Known(Box<Record>),
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
        Ok(Self { db })
    }

    /// Writes a new attempt, unless its id is known.
    pub(crate) fn begin(&self, record: &Record) -> Result<Begun, Failure> {
        let inserted = self
            .db
            .prepare_cached(
                "INSERT INTO attempt (request_id, created_ms, is_open, record) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (request_id) DO NOTHING",
            )
            .and_then(|mut it| it.execute(row(record)))
            .map_err(|error| cannot_write(&error))?;
        if inserted == 1 {
            return Ok(Begun::New);
        }
        let known = self.find(&record.request_id)?;
        known.map(|it| Begun::Known(Box::new(it))).ok_or_else(|| broken(&"an attempt vanished"))
    }

    /// Writes how an attempt stands now. One that has its outcome keeps it, but for a new attempt under an id that
    /// was never bound.
    pub(crate) fn put(&self, record: &Record) -> Result<(), Failure> {
        self.db
            .prepare_cached(
                "INSERT INTO attempt (request_id, created_ms, is_open, record) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (request_id) DO UPDATE
                 SET created_ms = excluded.created_ms, is_open = excluded.is_open, record = excluded.record
                 WHERE is_open = 1 OR json_extract(record, '$.standing.is') IN ('refused', 'not_taken')",
            )
            .and_then(|mut it| it.execute(row(record)))
            .map(drop)
            .map_err(|error| cannot_write(&error))
    }

    /// One attempt.
    pub(crate) fn find(&self, request_id: &RequestId) -> Result<Option<Record>, Failure> {
        let text: Option<String> = self
            .db
            .prepare_cached("SELECT record FROM attempt WHERE request_id = ?1")
            .and_then(|mut it| it.query_row([request_id.as_str()], |row| row.get(0)).optional())
            .map_err(|error| broken(&error))?;
        text.map(|text| read(&text)).transpose()
    }

    /// All that have no outcome, the oldest first.
    pub(crate) fn open_ones(&self) -> Result<Vec<Record>, Failure> {
        self.list(
            "SELECT record FROM attempt WHERE is_open = 1 ORDER BY created_ms LIMIT ?1",
            u32::MAX,
        )
    }

    /// The latest first.
    pub(crate) fn latest(&self, count: u32) -> Result<Vec<Record>, Failure> {
        self.list("SELECT record FROM attempt ORDER BY created_ms DESC LIMIT ?1", count)
    }

    fn list(&self, sql: &str, count: u32) -> Result<Vec<Record>, Failure> {
        let mut statement = self.db.prepare_cached(sql).map_err(|error| broken(&error))?;
        let rows = statement
            .query_map(params![count], |row| row.get::<_, String>(0))
            .map_err(|error| broken(&error))?;
        rows.map(|text| text.map_err(|error| broken(&error)).and_then(|it| read(&it))).collect()
    }
}

fn row(record: &Record) -> (String, i64, bool, String) {
    (
        record.request_id.to_string(),
        i64::try_from(record.created_at.as_ms()).unwrap_or(i64::MAX),
        record.standing.is_open(),
        serde_json::to_string(record).expect("a record has only text keys"),
    )
}

fn read(text: &str) -> Result<Record, Failure> {
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
        journal.put(&record("a", json!({"is": "unknown"}))).unwrap();
        let id = RequestId::parse("a").unwrap();
        let kept = journal.find(&id).unwrap().unwrap();
        assert!(matches!(kept.standing, Standing::Decided { .. }));
        assert_eq!(kept.code, None);

        journal.begin(&record("b", json!({"is": "not_taken"}))).unwrap();
        journal.put(&record("b", open())).unwrap();
        assert_eq!(journal.open_ones().unwrap().len(), 1, "an id that was never bound can be used");
    }

    #[test]
    fn a_file_that_is_no_journal_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        assert!(Journal::open(&path).unwrap_err().message.contains("can't be used"));
    }
}
