//! Compares what was made again with what lies in the files.

use std::collections::BTreeMap;

use rusqlite::Row;
use warifu_core::partition::Partition;
use warifu_proto::id::{InvitationId, MerchantId};
use warifu_proto::time::Timestamp;

use super::books::Books;
use super::files::Files;
use super::marks::request_key;
use super::{Report, Work};
use crate::store::{Frame, Snapshot};
use crate::views::standing_name;

/// The two ways, at the end.
pub(super) fn state(state: &Partition, books: &Books, report: &mut Report) {
    let number = state.number();
    let Some(book) = books.partitions.get(&number) else {
        return report.expect(state.sequence() == 0, || format!("partition {number:02}: no books"));
    };
    let at = |what: String| format!("partition {number:02}: {what}");
    report.expect(
        (state.accounts().len(), state.credentials().len())
            == (book.accounts.len(), book.credentials.len()),
        || at("other numbers of accounts or credentials than in the books".to_owned()),
    );
    for (account, line) in state.accounts().iter().zip(&book.accounts) {
        let day = account.day;
        let agrees = i128::from(account.balance_minor) == line.balance_minor
            && account.reserved_minor == line.reserved_minor
            && account.standing == line.standing
            && (day.day, day.spent_minor, day.count) == (line.day, line.spent_minor, line.count);
        report.expect(agrees, || {
            at(format!(
                "{}: balance {}, reserved {}, day {day:?}; in the books {line:?}",
                account.id, account.balance_minor, account.reserved_minor
            ))
        });
    }
    for (credential, line) in state.credentials().iter().zip(&book.credentials) {
        let usage = &credential.usage;
        let agrees = credential.account_number == line.account
            && usage.notice_number == line.notices
            && (usage.unasked_day, usage.unasked_count) == (line.unasked_day, line.unasked_count)
            && (usage.offline_minor, usage.offline_count)
                == (line.offline_minor, line.offline_count)
            && (usage.is_suspended, usage.is_unlinked) == (line.is_suspended, line.is_unlinked);
        report
            .expect(agrees, || at(format!("{}: {usage:?}; in the books {line:?}", credential.id)));
    }
    let merchants: BTreeMap<_, _> =
        state.merchant_balances().map(|(id, currency, minor)| ((id, currency), minor)).collect();
    report.expect(merchants == book.merchants, || at("merchants have other balances".to_owned()));
    let world: BTreeMap<_, _> = state.world_balances().collect();
    report.expect(world == book.world, || at("the outside world has another balance".to_owned()));
    for first in 1..=state.sequence() {
        let Some(payment) = state.payment(first) else { continue };
        let line = book.payments.get(&first);
        let agrees = line.is_some_and(|line| {
            (line.status, line.captured_minor, line.refunded_minor, line.last_sequence)
                == (
                    payment.status,
                    payment.captured_minor,
                    payment.refunded_minor,
                    payment.last_sequence,
                )
        });
        report
            .expect(agrees, || at(format!("payment {first}: {payment:?}; in the books {line:?}")));
    }
    for (caller, request) in state.requests() {
        let known = state.remembered(caller, request).map(|it| it.sequence);
        let answered = books.requests.get(&request_key(caller, request.as_str()));
        // A tombstone and its payment may lie in two partitions; then the books have the payment.
        let agrees = answered.is_some_and(|(place, at, _)| *place != number || Some(*at) == known);
        report.expect(agrees, || {
            at(format!("request id {request} of {caller}: {known:?}; in the books {answered:?}"))
        });
    }
}

impl Work<'_> {
    /// Snapshots of this very moment.
    pub(super) fn snapshots(&mut self, files: &Files, frame: &Frame) -> anyhow::Result<()> {
        for head in &frame.after {
            let key = (head.partition, head.sequence);
            let former = files.snapshots.range((key.0, 0)..key);
            let position = frame.last_position();
            for ((_, sequence), _) in former.filter(|it| it.1.covers >= position) {
                self.report.expect(false, || {
                    format!("the snapshot of partition {:02} at {sequence} covers position {position}, whose entries it lacks", key.0)
                });
            }
            let Some(line) = files.snapshots.get(&key) else { continue };
            self.snapshots_met.insert(key);
            let Some(folded) = self.folded.get(&head.partition) else { continue };
            if self.broken.contains_key(&head.partition) {
                continue;
            }
            let body: Vec<u8> = files.snapshot_bodies.query_row(
                "SELECT body FROM snapshot WHERE partition = ?1 AND sequence = ?2",
                [i64::from(key.0), i64::try_from(key.1)?],
                |row| row.get(0),
            )?;
            let agrees = line.head == *head
                && Snapshot::hash_of(head, &body) == line.hash
                && folded.state.to_snapshot(self.vault) == body;
            self.report.count("snapshots", 1);
            self.report.expect(agrees, || {
                format!("the snapshot of partition {:02} at {} is not its state", key.0, key.1)
            });
        }
        Ok(())
    }

    /// The index, when the journal has been followed to where it has got. Says whether that is so.
    pub(super) fn index(&mut self, files: &Files, position: u64) -> anyhow::Result<bool> {
        if position != files.indexed {
            return Ok(false);
        }
        let (books, report) = (&self.books, &mut self.report);
        let mut rows = 0;
        for_each(
            &files.index,
            "SELECT caller, request, partition, sequence FROM request",
            |row| {
                let (caller, request): ([u8; 16], String) = (row.get(0)?, row.get(1)?);
                let place: (u8, u64) = (row.get(2)?, row.get(3)?);
                let answered = books
                    .requests
                    .get(&request_key(MerchantId::from_raw(caller), &request))
                    .map(|(partition, sequence, _)| (*partition, *sequence));
                rows += 1;
                report.expect(answered == Some(place), || {
                    format!("index: request id {request} at {place:?}; in the books {answered:?}")
                });
                Ok(())
            },
        )?;
        let known = u64::try_from(books.requests.len())?;
        report.expect(rows == known, || format!("index: {rows} request ids of {known}"));
        report.count("index rows", rows);
        let mut rows = 0;
        for_each(
            &files.index,
            "SELECT partition, first_sequence, last_sequence FROM change",
            |row| {
                let (partition, first, last): (u8, u64, u64) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let line = books.partitions.get(&partition).and_then(|it| it.payments.get(&first));
                rows += 1;
                report.expect(line.is_some_and(|it| it.last_sequence == last), || {
                format!("index: payment {first} of partition {partition:02} changed last at {last}; in the books {line:?}")
            });
                Ok(())
            },
        )?;
        let changed = books
            .partitions
            .values()
            .flat_map(|it| &it.payments)
            .filter(|(first, it)| **first != it.last_sequence)
            .count();
        let known = u64::try_from(changed)?;
        report.expect(rows == known, || format!("index: {rows} changed payments of {known}"));
        report.count("index rows", rows);
        let mut rows = 0;
        for_each(&files.index, "SELECT partition, first_sequence, position FROM place", |row| {
            let (key, position): ((u8, u64), u64) = ((row.get(0)?, row.get(1)?), row.get(2)?);
            let known = books.places.get(&key);
            rows += 1;
            report.expect(known == Some(&position), || {
                format!("index: entry {} of partition {:02} lies at {position}; in the journal at {known:?}", key.1, key.0)
            });
            Ok(())
        })?;
        let known = u64::try_from(books.places.len())?;
        report.expect(rows == known, || format!("index: {rows} places of {known}"));
        report.count("index rows", rows);
        Ok(true)
    }

    /// The views, when the journal has been followed to where they have got. Says whether that is so.
    pub(super) fn views(&mut self, files: &Files, position: u64) -> anyhow::Result<bool> {
        if position != files.viewed {
            return Ok(false);
        }
        self.view_accounts(files)?;
        self.view_invitations(files)?;
        self.view_credentials(files)?;
        self.view_payments(files)?;
        self.view_changes(files)?;
        self.view_merchants(files)?;
        Ok(true)
    }

    fn view_accounts(&mut self, files: &Files) -> anyhow::Result<()> {
        let (books, folded, report) = (&self.books, &self.folded, &mut self.report);
        let mut rows = 0;
        let select = "SELECT partition, number, account_id, balance_minor, reserved_minor, floor_minor, standing, credentials,
            kind, currency, exponent, opened_at_ms FROM account";
        for_each(&files.views, select, |row| {
            let (partition, number): (u8, u32) = (row.get(0)?, row.get(1)?);
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            let line = books.partitions.get(&partition).and_then(|it| it.accounts.get(at));
            let account = folded.get(&partition).and_then(|it| it.state.account(number));
            let id: String = row.get(2)?;
            rows += 1;
            let money: (i64, u64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let (standing, credentials): (String, i64) = (row.get(6)?, row.get(7)?);
            let (kind, code, exponent): (String, String, u8) =
                (row.get(8)?, row.get(9)?, row.get(10)?);
            let opened_at = Timestamp::from_ms(row.get(11)?);
            let agrees = account.is_some_and(|it| {
                it.id.to_string() == id
                    && serde_json::to_value(it.kind).is_ok_and(|it| it == *kind)
                    && (it.currency.code.as_str(), it.currency.exponent) == (&*code, exponent)
            }) && line.is_some_and(|line| {
                (i128::from(money.0), money.1, money.2)
                    == (line.balance_minor, line.reserved_minor, line.floor_minor)
                    && standing == standing_name(line.standing)
                    && (credentials, opened_at) == (line.credentials, line.opened_at)
            });
            report.expect(agrees, || {
                format!("views: account {id}, {kind} in {code} of {exponent} digits since {opened_at}, has {money:?}, {standing}, {credentials} terminals; in the books {line:?}")
            });
            Ok(())
        })?;
        let known: usize = books.partitions.values().map(|it| it.accounts.len()).sum();
        let known = u64::try_from(known)?;
        report.expect(rows == known, || format!("views: {rows} accounts of {known}"));
        report.count("view rows", rows);
        Ok(())
    }

    fn view_invitations(&mut self, files: &Files) -> anyhow::Result<()> {
        let (books, report) = (&self.books, &mut self.report);
        let mut rows = 0;
        for_each(&files.views, "SELECT invitation, account_number FROM invitation", |row| {
            let (id, account): ([u8; 16], u32) = (row.get(0)?, row.get(1)?);
            let id = InvitationId::from_raw(id);
            let known = books.partitions.values().find_map(|it| it.invitations.get(&id));
            rows += 1;
            report.expect(known == Some(&account), || {
                format!("views: invitation {id} to account {account}; in the books {known:?}")
            });
            Ok(())
        })?;
        let known: usize = books.partitions.values().map(|it| it.invitations.len()).sum();
        let known = u64::try_from(known)?;
        report.expect(rows == known, || format!("views: {rows} invitations of {known}"));
        report.count("view rows", rows);
        Ok(())
    }

    fn view_credentials(&mut self, files: &Files) -> anyhow::Result<()> {
        let (books, folded, report) = (&self.books, &self.folded, &mut self.report);
        let mut rows = 0;
        for_each(
            &files.views,
            "SELECT partition, number, account_number, credential_id, standing FROM credential",
            |row| {
                let (partition, number, account): (u8, u32, u32) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let (id, standing): (String, String) = (row.get(3)?, row.get(4)?);
                let at = usize::try_from(number).unwrap_or(usize::MAX);
                let line = books.partitions.get(&partition).and_then(|it| it.credentials.get(at));
                let known = folded.get(&partition).and_then(|it| it.state.credential(number));
                rows += 1;
                let agrees = known.is_some_and(|it| it.id.to_string() == id)
                    && line.is_some_and(|line| {
                        let word = match (line.is_unlinked, line.is_suspended) {
                            (true, _) => "unlinked",
                            (false, true) => "suspended",
                            (false, false) => "active",
                        };
                        line.account == account && standing == word
                    });
                report.expect(agrees, || {
                    format!("views: terminal {id} is {standing}; in the books {line:?}")
                });
                Ok(())
            },
        )?;
        let known: usize = books.partitions.values().map(|it| it.credentials.len()).sum();
        let known = u64::try_from(known)?;
        report.expect(rows == known, || format!("views: {rows} terminals of {known}"));
        report.count("view rows", rows);
        Ok(())
    }

    fn view_merchants(&mut self, files: &Files) -> anyhow::Result<()> {
        // The view knows letters, the books numbers: accounts know both.
        let codes: BTreeMap<u16, String> = self
            .folded
            .values()
            .flat_map(|it| it.state.accounts())
            .map(|it| (it.currency.number, it.currency.code.to_string()))
            .collect();
        let mut known = BTreeMap::<(String, String), i128>::new();
        for ((merchant, currency), minor) in
            self.books.partitions.values().flat_map(|it| &it.merchants)
        {
            let code = codes.get(currency).cloned().unwrap_or_default();
            *known.entry((merchant.to_string(), code)).or_default() += minor;
        }
        let mut viewed = BTreeMap::new();
        for_each(
            &files.views,
            "SELECT merchant_id, currency, minor FROM merchant_balance",
            |row| {
                viewed.insert((row.get(0)?, row.get(1)?), i128::from(row.get::<_, i64>(2)?));
                Ok(())
            },
        )?;
        self.report.count("view rows", u64::try_from(viewed.len())?);
        self.report.expect(viewed == known, || {
            format!("views: merchants have {viewed:?}; in the books {known:?}")
        });
        Ok(())
    }
}

pub(super) fn for_each(
    connection: &rusqlite::Connection,
    select: &str,
    mut row: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare(select)?;
    let mut rows = select.query([])?;
    while let Some(it) = rows.next()? {
        row(it)?;
    }
    Ok(())
}
