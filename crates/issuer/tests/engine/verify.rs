//! `verify` finds nothing in sound files, whatever happened in them and while they are being written, and finds every kind
//! of damage.

use std::path::Path;

use rusqlite::Connection;
use warifu_core::account::AccountStanding;
use warifu_core::decide::{Capture as CaptureWish, Limit, Release, StandAccount, Unlink};
use warifu_core::entry::{Entry, Fact};
use warifu_issuer::engine::chain;
use warifu_issuer::store::{Batch, EntryBytes, Head};
use warifu_issuer::verify::{Report, verify};
use warifu_issuer::views::Views;

use super::life::{held, refund, reverse, settle};
use super::*;

fn checked(folder: &Path) -> Report {
    verify(folder, prefix(), &vault(), &mut |_| ()).unwrap()
}

#[track_caller]
fn clean(folder: &Path) -> Report {
    let report = checked(folder);
    assert!(report.is_clean(), "{:#?}", report.differences);
    report
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets everything happen that can, once; then stops, with index, views and snapshots at the end.
fn lived(folder: &Path) {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder, prefix()).unwrap());
    let engine = Arc::new(start(&store));
    let views = Views::spawn(Arc::clone(&engine), folder, prefix()).unwrap();
    let payer = Payer::open(&engine, "lived", 1_000);
    let other = Payer::open(&engine, "other", 50);
    let reader = ReaderId::from_raw([4; 16]);
    let mut code = payer.register(&engine);
    let paid = payment(decide(&engine, pay("paid", &code, 100, 0))).payment;
    settle(&engine, refund("refund", paid.first_sequence, 30)).unwrap();
    settle(&engine, refund("refund2", paid.first_sequence, 20)).unwrap();
    settle(&engine, reverse("paid")).unwrap();
    settle(&engine, reverse("tomb")).unwrap();
    code = payer.register(&engine);
    payment(decide(&engine, pay("tomb", &code, 5, 0)));
    payment(decide(&engine, pay("after-tomb", &code, 5, 0)));
    code = payer.register(&engine);
    let hold = payment(decide(&engine, held("hold", &code, 200, 60_000))).payment;
    let capture = CaptureWish {
        merchant: merchant(),
        reader,
        request: RequestId::parse("capture").unwrap(),
        digest: [1; 16],
        first_sequence: hold.first_sequence,
        amount: Money::new(150, yen().code).unwrap(),
        old: None,
    };
    decide(&engine, Command::Capture(capture)).unwrap();
    code = payer.register(&engine);
    let hold = payment(decide(&engine, held("hold2", &code, 70, 60_000))).payment;
    let release =
        Release { merchant: merchant(), reader, first_sequence: hold.first_sequence, old: None };
    decide(&engine, Command::Release(release)).unwrap();
    code = payer.register(&engine);
    payment(decide(&engine, held("hold3", &code, 70, 1)));
    code = payer.register(&engine);
    payment(decide(&engine, held("hold4", &code, 70, 60_000)));
    let limits = Limits { payment_max_minor: Some(7), ..Limits::default() };
    decide(&engine, Command::Limit(Limit { account: payer.account, limits: Some(limits) }))
        .unwrap();
    code = payer.register(&engine);
    payment(decide(&engine, pay("limited", &code, 8, 0)));
    payment(decide(&engine, pay("unknown", &unknown_code(), 8, 0)));
    for standing in [AccountStanding::Frozen, AccountStanding::Active, AccountStanding::Closed] {
        let stand = StandAccount { account: other.account, standing };
        decide(&engine, Command::StandAccount(stand)).unwrap();
    }
    decide(&engine, Command::Unlink(Unlink { credential: other.credential, signed_by: None }))
        .unwrap();
    settled(&engine, &views);
}

/// Stops an engine when index and views are at the end.
fn settled(engine: &Engine, views: &Views) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait_for("views and index catch up", || {
        let end = *engine.committed().borrow();
        runtime.block_on(views.position()).unwrap() == end && engine.indexed() == end
    });
    views.stop();
    engine.stop();
}

/// File, damage, and what is told of it.
const DAMAGES: [(&str, &str, &str); 37] = [
    ("views.db", "UPDATE account SET kind = 'credit'", "views: account"),
    ("views.db", "UPDATE account SET currency = 'XTS'", "views: account"),
    ("views.db", "UPDATE account SET exponent = exponent + 1", "views: account"),
    ("views.db", "UPDATE account SET opened_at_ms = opened_at_ms + 1", "views: account"),
    ("views.db", "UPDATE invitation SET account_number = account_number + 1", "views: invitation"),
    ("views.db", "UPDATE account SET balance_minor = balance_minor + 1", "views: account"),
    ("views.db", "UPDATE account SET reserved_minor = 0", "views: account"),
    (
        "views.db",
        "UPDATE payment SET status = 'approved' WHERE status = 'reversed'",
        "views: payment",
    ),
    ("views.db", "UPDATE payment SET refunded_minor = captured_minor", "views: payment"),
    (
        "views.db",
        "DELETE FROM change WHERE position = (SELECT min(position) FROM change)",
        "is missing from the feed",
    ),
    ("views.db", "DELETE FROM change", "is missing from the feed"),
    ("views.db", "UPDATE change SET merchant_id = 'mer_0000000000e008000000000000'", "a change of"),
    ("views.db", "UPDATE change SET position = position + 1000", "a change of"),
    (
        "views.db",
        "UPDATE change SET payment_id = (SELECT min(payment_id) FROM payment)",
        "a change of",
    ),
    ("views.db", "UPDATE payment SET position = position + 1000", "has another position"),
    (
        "views.db",
        "UPDATE payment SET merchant_id = 'mer_0000000000e008000000000000'",
        "has another merchant",
    ),
    (
        "views.db",
        "UPDATE payment SET reader_id = 'rdr_0000000000e008000000000000'",
        "has another merchant, reader",
    ),
    (
        "views.db",
        "UPDATE payment SET request_id = request_id || 'x'",
        "currency or time of decision",
    ),
    ("views.db", "UPDATE payment SET currency = 'EUR'", "currency or time of decision"),
    (
        "views.db",
        "UPDATE payment SET decided_at_ms = decided_at_ms + 1",
        "currency or time of decision",
    ),
    (
        "views.db",
        "UPDATE payment SET account_id = (SELECT max(account_id) FROM account)",
        "has another account",
    ),
    ("views.db", "UPDATE payment SET account_id = NULL", "has another account"),
    (
        "views.db",
        "UPDATE payment SET rejection = 'code_used' WHERE rejection = 'code_unknown'",
        "has another status or rejection",
    ),
    (
        "views.db",
        "UPDATE payment SET payment_id = replace(payment_id, 'pay_0', 'pay_1') WHERE request_id = 'limited'",
        "has another id",
    ),
    (
        "views.db",
        "UPDATE payment SET payment_id = 'none' WHERE request_id = 'limited'",
        "payment none is not in the journal",
    ),
    ("views.db", "DELETE FROM payment WHERE request_id = 'limited'", "payments of"),
    ("views.db", "UPDATE merchant_balance SET minor = minor + 1", "views: merchants"),
    ("views.db", "UPDATE credential SET standing = 'active'", "views: terminal"),
    ("index.db", "DELETE FROM request WHERE request = 'refund'", "request ids of"),
    (
        "index.db",
        "UPDATE request SET sequence = sequence + 1 WHERE request = 'paid'",
        "request id paid",
    ),
    ("index.db", "UPDATE change SET last_sequence = last_sequence - 1", "changed last at"),
    ("index.db", "UPDATE place SET position = position + 1", "lies at"),
    (
        "snapshots.db",
        "UPDATE snapshot SET body = CAST(body || x'00' AS BLOB) WHERE partition = 7",
        "snapshot of partition 07",
    ),
    (
        "snapshots.db",
        "UPDATE snapshot SET chain = zeroblob(32) WHERE partition = 7",
        "snapshot of partition 07",
    ),
    (
        "snapshots.db",
        "UPDATE snapshot SET sequence = sequence - 1 WHERE partition = 7",
        "snapshot of partition 07",
    ),
    ("snapshots.db", "UPDATE snapshot SET position = position + 1", "its end is lost"),
    (
        "journal.db",
        "DROP TRIGGER frame_is_never_deleted; DELETE FROM frame WHERE position = (SELECT max(position) FROM frame)",
        "views",
    ),
];

#[test]
fn sound_files_agree_and_every_kind_of_damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    lived(folder.path());
    let report = clean(folder.path());
    for what in ["entries", "snapshots", "changed payments", "view rows", "index rows"] {
        assert!(report.checked.get(what).is_some_and(|it| *it > 0), "{what}: {report:?}");
    }
    for (file, damage, told) in DAMAGES {
        let copy = copied(folder.path());
        let database = Connection::open(copy.path().join(file)).unwrap();
        database.execute_batch(damage).unwrap();
        drop(database);
        let report = checked(copy.path());
        let found = report.differences.iter().any(|it| it.contains(told));
        assert!(found, "{damage}\\n{:#?}", report.differences);
    }
    clean(folder.path());
}

/// A journal of the same entries, some of them changed, that an engine has taken for its own: chains, snapshots, index and
/// views are all as they should be.
fn rewritten(of: &Path, mut change: impl FnMut(&mut Entry)) -> tempfile::TempDir {
    let from = SqliteStore::open(of, prefix()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let mut head = Head {
        partition: PARTITION,
        sequence: 0,
        chain: chain::start(&to.journal_id(), PARTITION),
    };
    for frame in from.read(1, usize::MAX).unwrap() {
        let mut batch = Batch { before: vec![head], ..Batch::default() };
        for it in &frame.entries {
            let mut entry = Entry::decode(&it.bytes).unwrap();
            change(&mut entry);
            let mut bytes = warifu_core::layout::Writer::default();
            entry.encode(&mut bytes);
            let (partition, sequence) = (entry.partition, entry.sequence);
            head = Head { partition, sequence, chain: chain::next(&head.chain, &bytes.0) };
            batch.entries.push(EntryBytes { partition, sequence, bytes: bytes.0 });
        }
        batch.after.push(head);
        to.append(batch).unwrap();
    }
    let engine = Arc::new(start(&to));
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    settled(&engine, &views);
    folder
}

type Change = fn(&mut Entry);

#[test]
fn a_code_that_could_not_pay_is_found_though_the_issuer_took_it() {
    let folder = tempfile::tempdir().unwrap();
    lived(folder.path());
    clean(rewritten(folder.path(), |_| ()).path());
    let changes: [(Change, &str); 2] = [
        (
            |it| {
                if let Fact::Registered(code) = &mut it.fact {
                    code.expires_at = it.at;
                }
            },
            "it had expired",
        ),
        (
            |it| {
                if let Fact::Registered(code) = &mut it.fact {
                    code.cap_minor = 1;
                }
            },
            "its cap was lower",
        ),
    ];
    for (change, told) in changes {
        let report = checked(rewritten(folder.path(), change).path());
        // Every difference, and nothing else, is that.
        let all_told = report.differences.iter().all(|it| it.ends_with(told));
        assert!(!report.is_clean() && all_told, "{:#?}", report.differences);
    }
}

#[test]
fn every_changed_bit_of_the_journal_is_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    lived(folder.path());
    for at in 0..60 {
        let copy = copied(folder.path());
        let journal = Connection::open(copy.path().join("journal.db")).unwrap();
        journal.execute_batch("DROP TRIGGER frame_is_never_changed").unwrap();
        let (position, mut body): (i64, Vec<u8>) = journal
            .query_row(
                "SELECT position, body FROM frame ORDER BY position LIMIT 1 OFFSET ?1",
                [at % 30],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        let place = usize::try_from(at * 7919).unwrap() % body.len();
        body[place] ^= 1 << (at % 8);
        journal
            .execute(
                "UPDATE frame SET body = ?1 WHERE position = ?2",
                rusqlite::params![body, position],
            )
            .unwrap();
        drop(journal);
        assert!(!checked(copy.path()).is_clean(), "bit {} of byte {place} of {position}", at % 8);
    }
}

#[test]
fn a_folder_that_is_being_written_agrees_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let engine = Arc::new(start(&store));
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    let payer = Payer::open(&engine, "live", 1_000_000);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let code = payer.register(&engine);
                let paid =
                    payment(decide(&engine, pay(&format!("p{number}"), &code, 5, 0))).payment;
                settle(&engine, refund(&format!("r{number}"), paid.first_sequence, 2)).unwrap();
            }
        });
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(50));
            clean(folder.path());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(clean(folder.path()).checked["payments"] > 10);
    views.stop();
    engine.stop();
}

/// The files of a stopped issuer, elsewhere.
fn copied(of: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    to
}
