//! Refunds, captures and releases in the journal: under their own id, and under the till's.

use rusqlite::{Connection, params};
use warifu_proto::request_id::RequestId;
use warifu_reader::change::{Change, Settled};
use warifu_reader::{Record, Standing};

use super::{Journal, broken, cannot_write, find, list, ms, one, text};
use crate::fail::Failure;

/// What beginning a change found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BegunChange {
    /// It is new, and in the journal now.
    New,
    /// The till has given its id already; nothing was written.
    Known(Box<Change>),
}

impl Journal {
    /// Writes a new change, unless the till's id is known.
    pub(crate) fn begin_change(&self, change: &Change) -> Result<BegunChange, Failure> {
        self.write(|db| {
            if let Some(known) = of_till(db, &change.till_id)? {
                return Ok(BegunChange::Known(Box::new(known)));
            }
            db.prepare_cached(
                "INSERT INTO change (request_id, till_id, attempt, created_ms, is_open, change)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut it| {
                it.execute(params![
                    change.request_id.as_str(),
                    change.till_id,
                    change.attempt.as_str(),
                    ms(change.created_at),
                    change.is_open(),
                    text(change),
                ])
            })
            .map_err(|error| cannot_write(&error))?;
            Ok(BegunChange::New)
        })
    }

    /// Writes how a change stands now, and with it how its payment does. One that has ended stays as it is.
    pub(crate) fn put_change(&self, change: &Change) -> Result<(), Failure> {
        self.write(|db| {
            let written = db
                .prepare_cached(
                    "UPDATE change SET is_open = ?2, change = ?3 WHERE request_id = ?1 AND is_open = 1",
                )
                .and_then(|mut it| {
                    it.execute(params![
                        change.request_id.as_str(),
                        change.is_open(),
                        text(change)
                    ])
                })
                .map_err(|error| cannot_write(&error))?;
            match &change.standing {
                Settled::Done { payment, .. } if written == 1 => {
                    let attempt = find(db, &change.attempt)?;
                    let record = attempt.ok_or_else(|| broken(&"a change has no attempt"))?;
                    after(db, Record { standing: Standing::Decided { payment: payment.clone() }, ..record })
                }
                Settled::Done { .. } | Settled::Open | Settled::Refused { .. } => Ok(()),
            }
        })
    }

    /// The changes of an attempt, the oldest first.
    pub(crate) fn changes_of(&self, attempt: &RequestId) -> Result<Vec<Change>, Failure> {
        list(
            &self.db(),
            "SELECT change FROM change WHERE attempt = ?1 ORDER BY created_ms, request_id",
            params![attempt.as_str()],
        )
    }

    /// The change that the till calls so.
    pub(crate) fn find_change(&self, till_id: &str) -> Result<Option<Change>, Failure> {
        of_till(&self.db(), till_id)
    }

    /// All that have not ended, the oldest first.
    pub(crate) fn open_changes(&self) -> Result<Vec<Change>, Failure> {
        let sql = "SELECT change FROM change WHERE is_open = 1 ORDER BY created_ms";
        list(&self.db(), sql, params![])
    }
}

/// The attempt with its payment as the change left it. While it is being taken back, the reversal has the last word.
fn after(db: &Connection, record: Record) -> Result<(), Failure> {
    db.prepare_cached(
        "UPDATE attempt SET record = ?2, claims = claims AND ?3
         WHERE request_id = ?1 AND json_extract(record, '$.standing.is') = 'decided'",
    )
    .and_then(|mut it| {
        it.execute(params![
            record.request_id.as_str(),
            text(&record),
            record.standing.claims_order()
        ])
    })
    .map(drop)
    .map_err(|error| cannot_write(&error))
}

fn of_till(db: &Connection, till_id: &str) -> Result<Option<Change>, Failure> {
    one(db, "SELECT change FROM change WHERE till_id = ?1", till_id)
}
