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

    /// Writes how a change stands now, and with it how its payment does. One that was done stays as it is.
    pub(crate) fn put_change(&self, change: &Change) -> Result<(), Failure> {
        self.write(|db| {
            let written = db
                .prepare_cached(
                    "UPDATE change SET is_open = ?2, change = ?3 WHERE request_id = ?1
                     AND (is_open = 1 OR json_extract(change, '$.standing.is') = 'refused')",
                )
                .and_then(|mut it| {
                    it.execute(params![change.request_id.as_str(), change.is_open(), text(change)])
                })
                .map_err(|error| cannot_write(&error))?;
            match &change.standing {
                Settled::Done { payment, .. } if written == 1 => {
                    let attempt = find(db, &change.attempt)?;
                    let record = attempt.ok_or_else(|| broken(&"a change has no attempt"))?;
                    after(
                        db,
                        Record {
                            standing: Standing::Decided { payment: payment.clone() },
                            ..record
                        },
                    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn payment(refunded: u64) -> Value {
        json!({
            "payment_id": "pay_01h455vb4pex5vsknk084sn02q", "request_id": "sale", "status": "approved",
            "amount": {"minor": 1200, "currency": "JPY"},
            "captured": {"minor": 1200, "currency": "JPY"},
            "refunded": {"minor": refunded, "currency": "JPY"},
            "account_hint": "", "decided_at": "2026-11-22T00:00:00.000Z", "sequence": "1",
        })
    }

    fn refund(standing: &Value) -> Change {
        serde_json::from_value(json!({
            "request_id": "r", "till_id": "refund:R-1", "attempt": "sale",
            "payment_id": "pay_01h455vb4pex5vsknk084sn02q", "route": "7100000107",
            "deed": {"is": "refund", "amount": {"minor": 500, "currency": "JPY"}, "reason": null},
            "created_at": "2026-11-22T00:00:01.000Z", "standing": standing,
        }))
        .unwrap()
    }

    #[test]
    fn a_refund_is_begun_once_survives_and_changes_its_payment_when_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let sale: Record = serde_json::from_value(json!({
            "request_id": "sale", "route": "7100000107", "issuer": "iss_01h455vb4pex5vsknk084sn02q",
            "code": null, "amount": {"minor": 1200, "currency": "JPY"}, "capture": "now",
            "order_id": "A-17", "description": null, "deadline_ms": 10_000,
            "created_at": "2026-11-22T00:00:00.000Z",
            "standing": {"is": "decided", "payment": payment(0)},
        }))
        .unwrap();
        let open = refund(&json!({"is": "open"}));
        {
            let journal = Journal::open(&path).unwrap();
            journal.begin_change(&open).unwrap_err();
            journal.begin(&sale).unwrap();
            assert_eq!(journal.begin_change(&open).unwrap(), BegunChange::New);
        }
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.open_changes().unwrap(), std::slice::from_ref(&open));
        assert_eq!(journal.unresolved().unwrap().0, 1);
        let known = journal.begin_change(&open).unwrap();
        assert_eq!(known, BegunChange::Known(Box::new(open.clone())));

        let problem = json!({"type": "", "title": "", "status": 403, "detail": "", "code": "forbidden", "instance": ""});
        journal.put_change(&refund(&json!({"is": "refused", "problem": problem}))).unwrap();
        assert!(journal.open_changes().unwrap().is_empty());
        journal.put_change(&open).unwrap();
        let done = refund(&json!({"is": "done", "id": "rfd_1", "payment": payment(500)}));
        journal.put_change(&done).unwrap();
        journal.put_change(&open).unwrap();
        assert_eq!(journal.changes_of(&sale.request_id).unwrap(), [done], "what was done stays");
        let sale = journal.find(&sale.request_id).unwrap().unwrap();
        let Standing::Decided { payment } = sale.standing else { panic!("it is still paid") };
        assert_eq!(payment.refunded.minor, 500);
    }
}
