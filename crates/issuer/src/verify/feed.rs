//! Compares, row by row, what merchants' feeds and statements are read from: the views' tables `payment` and `change`.

use rusqlite::Row;
use warifu_core::payment::{payment_id, payment_place};
use warifu_proto::id::{MerchantId, PaymentId, ReaderId};
use warifu_proto::time::Timestamp;

use super::Work;
use super::books::PaymentLine;
use super::compare::for_each;
use super::files::Files;
use super::marks::{change_mark, payment_mark};
use crate::views::status_name;

/// A row of `payment`. Numbers are signed as SQLite has them: a negative one is a difference, and no reason to stop.
#[derive(Debug)]
struct PaymentRow {
    position: i64,
    payment_id: String,
    merchant_id: String,
    reader_id: String,
    request_id: String,
    account_id: Option<String>,
    amount_minor: i64,
    currency: String,
    status: String,
    rejection: Option<String>,
    captured_minor: i64,
    refunded_minor: i64,
    decided_at_ms: i64,
    business_day: i64,
}

impl PaymentRow {
    const SELECT: &str = "SELECT position, payment_id, merchant_id, reader_id, request_id, account_id, amount_minor, currency, status, rejection, captured_minor, refunded_minor, decided_at_ms, business_day FROM payment";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            position: row.get(0)?,
            payment_id: row.get(1)?,
            merchant_id: row.get(2)?,
            reader_id: row.get(3)?,
            request_id: row.get(4)?,
            account_id: row.get(5)?,
            amount_minor: row.get(6)?,
            currency: row.get(7)?,
            status: row.get(8)?,
            rejection: row.get(9)?,
            captured_minor: row.get(10)?,
            refunded_minor: row.get(11)?,
            decided_at_ms: row.get(12)?,
            business_day: row.get(13)?,
        })
    }

    fn decided_at(&self) -> Timestamp {
        Timestamp::from_ms(u64::try_from(self.decided_at_ms).unwrap_or(u64::MAX))
    }

    /// The books keep these as a mark only.
    fn mark(&self) -> Option<u64> {
        let merchant = MerchantId::parse(&self.merchant_id).ok()?;
        let reader = ReaderId::parse(&self.reader_id).ok()?;
        let (request, currency) = (&self.request_id, &self.currency);
        Some(payment_mark(merchant, reader, request, currency, self.decided_at()))
    }

    /// The first thing about it that is not as in the books.
    fn difference(
        &self,
        line: &PaymentLine,
        id: PaymentId,
        account: Option<String>,
    ) -> Option<&'static str> {
        let is = |number: i64, known: u64| u64::try_from(number) == Ok(known);
        let checks = [
            (is(self.position, line.position), "position"),
            (
                self.mark() == Some(line.mark),
                "merchant, reader, request id, currency or time of decision",
            ),
            (self.payment_id == id.to_string(), "id"),
            (self.account_id == account, "account"),
            (
                self.status == status_name(line.status)
                    && self.rejection.as_deref() == line.rejection.map(|it| it.name()),
                "status or rejection",
            ),
            (
                is(self.amount_minor, line.amount_minor)
                    && is(self.captured_minor, line.captured_minor)
                    && is(self.refunded_minor, line.refunded_minor),
                "amount",
            ),
            (is(self.business_day, u64::from(line.business_day)), "business day"),
        ];
        checks.into_iter().find(|(agrees, _)| !agrees).map(|(_, what)| what)
    }
}

impl Work<'_> {
    /// Every payment is there once, and every column of it is what the journal says.
    pub(super) fn view_payments(&mut self, files: &Files) -> anyhow::Result<()> {
        let (books, folded, prefix) = (&self.books, &self.folded, self.prefix);
        let report = &mut self.report;
        let mut rows = 0;
        for_each(&files.views, PaymentRow::SELECT, |row| {
            let row = PaymentRow::read(row)?;
            rows += 1;
            let known = PaymentId::parse(&row.payment_id)
                .ok()
                .and_then(|it| payment_place(prefix, it))
                .and_then(|place| {
                    let book = books.partitions.get(&place.partition)?;
                    Some((place, book, book.payments.get(&place.first_sequence)?))
                });
            let Some((place, book, line)) = known else {
                report.differs(|| {
                    format!("views: payment {} is not in the journal: {row:?}", row.payment_id)
                });
                return Ok(());
            };
            // The books count accounts, only the state knows their ids.
            let account = line
                .credential
                .and_then(|it| book.credentials.get(usize::try_from(it).ok()?))
                .and_then(|it| folded.get(&place.partition)?.state.account(it.account))
                .map(|it| it.id.to_string());
            let id = payment_id(prefix, place, row.decided_at());
            if let Some(what) = row.difference(line, id, account) {
                report.differs(|| {
                    format!(
                        "views: payment {} has another {what}: {row:?}; in the books {line:?}",
                        row.payment_id
                    )
                });
            }
            Ok(())
        })?;
        let known: usize = books.partitions.values().map(|it| it.payments.len()).sum();
        let known = u64::try_from(known)?;
        report.expect(rows == known, || format!("views: {rows} payments of {known}"));
        report.count("view rows", rows);
        Ok(())
    }

    /// Every change is in its merchant's feed once, at its position.
    pub(super) fn view_changes(&mut self, files: &Files) -> anyhow::Result<()> {
        let (changes, report) = (&self.books.changes, &mut self.report);
        let mut is_met = vec![false; changes.len()];
        let mut rows = 0;
        let select = "SELECT merchant_id, position, payment_id FROM change";
        for_each(&files.views, select, |row| {
            let (merchant, position, payment): (String, i64, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            rows += 1;
            let agrees = (|| {
                let position = u64::try_from(position).ok()?;
                let at = changes.binary_search_by_key(&position, |it| it.position).ok()?;
                let (merchant, payment) =
                    (MerchantId::parse(&merchant).ok()?, PaymentId::parse(&payment).ok()?);
                let is_it = changes.get(at)?.mark == change_mark(merchant, payment);
                let is_first = !std::mem::replace(is_met.get_mut(at)?, true);
                Some(is_it && is_first)
            })();
            report.expect(agrees == Some(true), || {
                format!("views: the feed of {merchant} has a change of {payment} at position {position}, which the journal has not")
            });
            Ok(())
        })?;
        for (change, _) in changes.iter().zip(is_met).filter(|(_, is_met)| !is_met) {
            report.differs(|| {
                format!(
                    "views: the change at position {} is missing from the feed",
                    change.position
                )
            });
        }
        report.count("view rows", rows);
        Ok(())
    }
}
