//! Journals that were changed, cut short or mixed up: an engine refuses to start on them and says where.

use std::path::Path;

use rusqlite::{Connection, params};

use super::*;

/// The journal's file without its guards.
fn unguarded(folder: &Path) -> Connection {
    let journal = Connection::open(folder.join("journal.db")).unwrap();
    journal
        .execute_batch("DROP TRIGGER frame_is_never_changed; DROP TRIGGER frame_is_never_deleted")
        .unwrap();
    journal
}

fn refusal(folder: &Path, vault: Arc<Vault>) -> String {
    let store = match SqliteStore::open(folder, prefix()) {
        Ok(store) => store,
        Err(error) => return format!("{error:#}"),
    };
    match Engine::start(EngineConfig::new(prefix()), Arc::new(store), vault) {
        Ok(engine) => {
            engine.stop();
            panic!("it started")
        }
        Err(error) => format!("{error:#}"),
    }
}

/// A folder with one payment, the last entry of its journal.
fn paid(stop: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let engine = start(&store);
    let payer = Payer::open(&engine, "damage", 1_000);
    let code = payer.register(&engine);
    payment(decide(&engine, pay("damage", &code, 10, 0)));
    if stop {
        engine.stop();
        return folder;
    }
    // As a crash leaves it: without snapshots.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    engine.stop();
    crashed
}

#[test]
fn every_changed_bit_of_a_frame_is_noticed() {
    let folder = paid(false);
    let store = SqliteStore::open(folder.path(), prefix()).unwrap();
    let good = fold_from_the_beginning(&store, &vault()).unwrap().position;
    let journal = unguarded(folder.path());
    let frames: Vec<(i64, Vec<u8>)> = {
        let mut select = journal
            .prepare("SELECT position, body FROM frame ORDER BY position DESC LIMIT 3")
            .unwrap();
        select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let mut unnoticed = Vec::new();
    for (position, body) in frames {
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 1 << (at % 8);
            journal
                .execute(
                    "UPDATE frame SET body = ?2 WHERE position = ?1",
                    params![position, changed],
                )
                .unwrap();
            if fold_from_the_beginning(&store, &vault()).is_ok() {
                unnoticed.push((position, at));
            }
        }
        journal
            .execute("UPDATE frame SET body = ?2 WHERE position = ?1", params![position, body])
            .unwrap();
    }
    assert_eq!(unnoticed, []);
    assert_eq!(fold_from_the_beginning(&store, &vault()).unwrap().position, good);
}

#[test]
fn a_changed_entry_stops_the_start_and_is_named() {
    let folder = paid(false);
    let journal = unguarded(folder.path());
    let (position, mut body): (i64, Vec<u8>) = journal
        .query_row("SELECT position, body FROM frame ORDER BY position DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    // In the digest of the request: a fact that no rule looks at, so only the chain tells.
    let request = body.windows(6).position(|it| it == b"damage").unwrap();
    body[request + 6] ^= 1;
    journal
        .execute("UPDATE frame SET body = ?2 WHERE position = ?1", params![position, body])
        .unwrap();
    drop(journal);
    let said = refusal(folder.path(), vault());
    assert!(said.contains("partition 07") && said.contains("sequence 6"), "{said}");
}

#[test]
fn a_journal_that_lost_its_end_is_refused_when_a_snapshot_knows_better() {
    let folder = paid(true);
    let journal = unguarded(folder.path());
    journal
        .execute("DELETE FROM frame WHERE position = (SELECT max(position) FROM frame)", [])
        .unwrap();
    drop(journal);
    let said = refusal(folder.path(), vault());
    assert!(said.contains("the end of the journal is lost"), "{said}");
}

#[test]
fn the_same_when_every_partition_has_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let engine = start(&store);
    for partition in 0..100 {
        let open = OpenAccount {
            request: RequestId::parse(&format!("open-{partition}")).unwrap(),
            digest: [1; 16],
            account: id_in(partition, clock::now(), chance::bytes()),
            kind: AccountKind::Prepaid,
            currency: yen(),
            credit_limit_minor: 0,
        };
        ask(&engine, partition, Ask::Decide(Box::new(Command::OpenAccount(open)))).unwrap();
    }
    engine.stop();
    drop((engine, store));
    let journal = unguarded(folder.path());
    journal
        .execute("DELETE FROM frame WHERE position = (SELECT max(position) FROM frame)", [])
        .unwrap();
    drop(journal);
    let said = refusal(folder.path(), vault());
    assert!(said.contains("the end of the journal is lost"), "{said}");
}

#[test]
fn an_older_journal_beside_a_newer_index_is_refused() {
    let folder = paid(true);
    // Somebody restores the journal of a backup, and only that.
    let journal = unguarded(folder.path());
    journal
        .execute("DELETE FROM frame WHERE position = (SELECT max(position) FROM frame)", [])
        .unwrap();
    drop(journal);
    for name in ["snapshots.db", "snapshots.db-wal", "snapshots.db-shm"] {
        let path = folder.path().join(name);
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let index = Connection::open(folder.path().join("index.db")).unwrap();
    let indexed: u64 =
        index.query_row("SELECT position FROM cursor", [], |row| row.get(0)).unwrap();
    index.execute("UPDATE cursor SET position = ?1", [indexed.max(6)]).unwrap();
    drop(index);
    let said = refusal(folder.path(), vault());
    assert!(said.contains("index"), "{said}");
}

#[test]
fn another_vault_key_is_refused_with_and_without_snapshots() {
    for stop in [false, true] {
        let folder = paid(stop);
        let said = refusal(folder.path(), Arc::new(Vault::new([6; 32])));
        assert!(said.contains("vault key"), "{said}");
        // Nothing was harmed by the attempt.
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
        start(&store).stop();
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_journal() {
    let folder = paid(true);
    let store = SqliteStore::open(folder.path(), prefix()).unwrap();
    let before = hashes(&store);
    drop(store);
    // Also the chain: an entry that went on from a wrong one would spoil the journal for ever.
    for damage in ["body = zeroblob(length(body))", "chain = zeroblob(32)"] {
        let snapshots = Connection::open(folder.path().join("snapshots.db")).unwrap();
        snapshots.execute(&format!("UPDATE snapshot SET {damage}"), []).unwrap();
        drop(snapshots);
        let store = SqliteStore::open(folder.path(), prefix()).unwrap();
        let recovered = recover(&store, &vault(), None).unwrap();
        let after = recovered.partitions.values().map(|it| it.state.state_hash(&vault()));
        assert_eq!(after.collect::<Vec<_>>(), before, "{damage}");
        let whole = fold_from_the_beginning(&store, &vault()).unwrap();
        let heads = |it: &Recovered| it.partitions.values().map(|it| it.head).collect::<Vec<_>>();
        assert_eq!(heads(&recovered), heads(&whole), "{damage}");
    }
}
