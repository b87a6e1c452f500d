use super::*;
use warifu_proto::directory::EntryKind;
use warifu_proto::key::PrivateKey;

const NETWORK: NetworkId = NetworkId::from_raw([1; 16]);
const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("hub.db"), NETWORK).unwrap();
    (folder, store)
}

fn credential(number: u8) -> CredentialId {
    CredentialId::from_raw([number; 16])
}

fn a_link(number: u8, key: u8) -> Link {
    Link {
        credential: credential(number),
        key: PrivateKey::from_bytes(&[key; 32]).unwrap().public().into(),
        prefix: Prefix::parse("71000001").unwrap(),
        partition: 7,
        invitation: InvitationId::from_raw([number; 16]),
        linked_at: NOW,
        ended_at: None,
    }
}

async fn put_notice(store: &Store, notice: NoticeRequest) -> Result<NoticeStored, StoreError> {
    let prefix = Prefix::parse("71000001").unwrap();
    store.put_notices(vec![prefix], u64::MAX, vec![notice]).await.map(|stored| stored.unwrap()[0])
}

fn notice(number: u64) -> NoticeRequest {
    let raw = u128::from(number).to_be_bytes();
    NoticeRequest {
        credential_id: credential(1),
        notice_id: NoticeId::from_raw(raw),
        number,
        sealed: raw.to_vec(),
    }
}

async fn numbers(store: &Store, after: u64) -> Vec<u64> {
    let found = store.notices_after(credential(1), after, 5_000).await.unwrap();
    found.iter().map(|it| it.number).collect()
}

#[tokio::test]
async fn links_come_back_after_opening_again() {
    let (folder, store) = store();
    assert_eq!(store.put_link(a_link(1, 1)).await.unwrap(), LinkStored::Stored);
    assert_eq!(store.put_link(a_link(1, 1)).await.unwrap(), LinkStored::Stored);
    assert_eq!(store.put_link(a_link(2, 2)).await.unwrap(), LinkStored::Stored);
    store.end_link(credential(2), NOW).await.unwrap();
    drop(store);
    let store = Store::open(&folder.path().join("hub.db"), NETWORK).unwrap();
    let mut links = store.links().await.unwrap();
    links.sort_by_key(|it| it.credential);
    assert_eq!(links, [a_link(1, 1), Link { ended_at: Some(NOW), ..a_link(2, 2) }]);
    let long_after = NOW.plus_ms(ENDED_KEPT_MS + 1);
    store.end_link(credential(9), long_after).await.unwrap();
    assert_eq!(store.links().await.unwrap(), [a_link(1, 1)]);
}

#[tokio::test]
async fn an_issuer_cannot_take_the_credential_of_another_nor_a_key_twice() {
    let (_folder, store) = store();
    store.put_link(a_link(1, 1)).await.unwrap();
    let foreign = Link { prefix: Prefix::parse("71000002").unwrap(), ..a_link(1, 3) };
    assert_eq!(store.put_link(foreign).await.unwrap(), LinkStored::Taken);
    assert_eq!(store.put_link(a_link(2, 1)).await.unwrap(), LinkStored::Taken);
    assert_eq!(store.links().await.unwrap(), [a_link(1, 1)]);
    assert_eq!(store.put_link(a_link(1, 3)).await.unwrap(), LinkStored::Stored);
    assert_eq!(store.links().await.unwrap(), [a_link(1, 3)]);
}

#[tokio::test]
async fn notices_are_kept_in_order_until_acknowledged() {
    let (_folder, store) = store();
    assert_eq!(put_notice(&store, notice(1)).await.unwrap(), NoticeStored::Unlinked);
    store.put_link(a_link(1, 1)).await.unwrap();
    for number in [2, 1, 3, 4] {
        let stored = put_notice(&store, notice(number)).await.unwrap();
        assert_eq!(stored, NoticeStored::Stored { dropped: 0 });
    }
    assert_eq!(put_notice(&store, notice(2)).await.unwrap(), NoticeStored::Same);
    let other = NoticeRequest { sealed: vec![9], ..notice(2) };
    assert_eq!(put_notice(&store, other).await.unwrap(), NoticeStored::Conflict);
    assert_eq!(numbers(&store, 0).await, [1, 2, 3, 4]);
    assert_eq!(numbers(&store, 2).await, [3, 4]);
    store.acknowledge(credential(1), 2).await.unwrap();
    assert_eq!(numbers(&store, 0).await, [3, 4]);
    assert_eq!(put_notice(&store, notice(1)).await.unwrap(), NoticeStored::Same);
    assert_eq!(numbers(&store, 0).await, [3, 4]);
    // A number that was never given out acknowledges no future ones.
    store.acknowledge(credential(1), u64::MAX).await.unwrap();
    assert_eq!(numbers(&store, 0).await, [0; 0]);
    assert_eq!(put_notice(&store, notice(5)).await.unwrap(), NoticeStored::Stored { dropped: 0 });
    assert_eq!(numbers(&store, 0).await, [5]);
}

#[tokio::test]
async fn the_oldest_notices_go_when_there_are_too_many() {
    let (_folder, store) = store();
    store.put_link(a_link(1, 1)).await.unwrap();
    let all = (1..=NOTICES_MAX).map(|number| put_notice(&store, notice(number)));
    for stored in futures_util::future::join_all(all).await {
        assert_eq!(stored.unwrap(), NoticeStored::Stored { dropped: 0 });
    }
    let one_more = put_notice(&store, notice(NOTICES_MAX + 1)).await.unwrap();
    assert_eq!(one_more, NoticeStored::Stored { dropped: 1 });
    let kept = numbers(&store, 0).await;
    assert_eq!((kept.first(), kept.len()), (Some(&2), 1_000));
    store.end_link(credential(1), NOW).await.unwrap();
    assert_eq!(numbers(&store, 0).await, [0; 0]);
    assert_eq!(put_notice(&store, notice(2_000)).await.unwrap(), NoticeStored::Unlinked);
}

#[tokio::test]
async fn a_share_is_what_the_notices_take_however_they_come_and_go() {
    let (_folder, store) = store();
    let prefix = Prefix::parse("71000001").unwrap();
    let bytes = async || read(&store.reader, move |from| notice_bytes(from, prefix)).await.unwrap();
    store.put_link(a_link(1, 1)).await.unwrap();
    for number in 1..=5 {
        put_notice(&store, notice(number)).await.unwrap();
        put_notice(&store, notice(number)).await.unwrap();
    }
    assert_eq!(bytes().await, 5 * 16, "a repeat takes nothing");
    store.acknowledge(credential(1), 2).await.unwrap();
    assert_eq!(bytes().await, 3 * 16);
    let put = async |most| {
        let stored = store.put_notices(vec![prefix], most, vec![notice(6)]).await.unwrap();
        stored.map(|it| it[0])
    };
    assert_eq!(put(3 * 16).await, None);
    assert_eq!(numbers(&store, 0).await, [3, 4, 5]);
    assert_eq!(put(3 * 16 + 1).await, Some(NoticeStored::Stored { dropped: 0 }));
    // Far ahead: the oldest go, and with them their bytes.
    for number in 2_000..2_000 + NOTICES_MAX {
        put_notice(&store, notice(number)).await.unwrap();
    }
    assert_eq!(bytes().await, 16 * i64::try_from(NOTICES_MAX).unwrap());
    store.end_link(credential(1), NOW).await.unwrap();
    assert_eq!(bytes().await, 0);
}

#[tokio::test]
async fn what_an_older_hub_kept_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    let db = db::open(&path, Durability::Full).unwrap();
    db::migrate(&db, &MIGRATIONS[..1]).unwrap();
    db.execute_batch(
        "INSERT INTO link VALUES (x'01', x'01', x'01', '71000001', 7, x'01', 1, 0, NULL);
         INSERT INTO link VALUES (x'02', x'02', x'02', '71000002', 7, x'01', 1, 0, NULL);
         INSERT INTO notice VALUES (1, x'01', 1, x'01', x'0102'), (2, x'01', 2, x'01', x'010203'),
                                   (3, x'02', 1, x'01', x'01')",
    )
    .unwrap();
    let store = Store::open(&path, NETWORK).unwrap();
    for (prefix, bytes) in [("71000001", 5), ("71000002", 1), ("71000003", 0)] {
        let prefix = Prefix::parse(prefix).unwrap();
        let found = read(&store.reader, move |from| notice_bytes(from, prefix)).await.unwrap();
        assert_eq!(found, bytes);
    }
}

#[tokio::test]
async fn the_log_comes_back_by_view_and_page() {
    let (_folder, store) = store();
    let kinds = [EntryKind::Hub, EntryKind::Merchant, EntryKind::Issuer, EntryKind::Reader];
    let all: Vec<Logged> = (1..)
        .zip(kinds)
        .map(|(version, kind)| Logged {
            version,
            entry: Entry { kind, body: vec![1, 2], key: Thumbprint([3; 32]), signature: [4; 64] },
            head: [5; 32],
        })
        .collect();
    store.log_entries(all.clone()).await.unwrap();
    assert_eq!(store.entries_after(0, false, 10).await.unwrap(), all);
    assert_eq!(store.entries_after(1, false, 2).await.unwrap(), all[1..3]);
    let versions: Vec<u64> =
        store.entries_after(0, true, 10).await.unwrap().iter().map(|it| it.version).collect();
    assert_eq!(versions, [1, 3]);
    // A position is given once.
    assert!(store.log_entries(all[..1].to_vec()).await.is_err());
    assert_eq!(store.entries_after(0, false, 10).await.unwrap().len(), 4);
}

#[tokio::test]
async fn the_issuers_view_reads_no_readers() {
    let (_folder, store) = store();
    let plan = read(&store.reader, |from| {
        // Whatever the plan may look at: it must not need the bound values.
        from.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let mut explain = from.prepare(&format!("EXPLAIN QUERY PLAN {ISSUERS_AFTER}"))?;
        let lines = explain.query_map(params![0, 500], |row| row.get::<_, String>(3))?;
        lines.collect::<rusqlite::Result<Vec<_>>>()
    });
    let plan = plan.await.unwrap();
    assert_eq!(plan, ["SEARCH entry USING INDEX entry_of_issuers (version>?)"]);
}

#[tokio::test]
async fn notices_wait_for_no_page_of_the_directory() {
    let (_folder, store) = store();
    store.put_link(a_link(1, 1)).await.unwrap();
    put_notice(&store, notice(1)).await.unwrap();
    let (begin, begun) = oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let directory = Arc::clone(&store.reader);
    let page = tokio::spawn(async move {
        let long = move |_: &Connection| Ok((begin.send(()).is_ok(), ended.recv().is_ok()));
        read(&directory, long).await
    });
    begun.await.unwrap();
    let found = tokio::time::timeout(std::time::Duration::from_secs(20), numbers(&store, 0));
    assert_eq!(found.await.expect("it waits for the page"), [1]);
    end.send(()).unwrap();
    assert_eq!(page.await.unwrap().unwrap(), (true, true));
}

#[tokio::test]
async fn a_write_that_fails_takes_no_other_with_it() {
    let (_folder, store) = store();
    store.put_link(a_link(1, 1)).await.unwrap();
    let bad = store.write(|to| {
        to.execute("DELETE FROM link", [])?;
        to.execute("INSERT INTO nowhere VALUES (1)", [])
    });
    let (bad, good) = tokio::join!(bad, put_notice(&store, notice(1)));
    assert!(matches!(bad, Err(StoreError::Database(_))));
    assert_eq!(good.unwrap(), NoticeStored::Stored { dropped: 0 });
    assert_eq!(store.links().await.unwrap(), [a_link(1, 1)]);
}

#[tokio::test]
async fn a_transaction_that_sqlite_ends_takes_its_whole_batch_with_it_and_no_later_one() {
    let (_folder, store) = store();
    store.put_link(a_link(1, 1)).await.unwrap();
    // As a full disk does it: the statement fails, and the transaction is gone.
    let ends = || {
        store.write(|to| {
            to.execute("INSERT OR ROLLBACK INTO entry VALUES (1, 'hub', '', '', '', NULL)", [])
        })
    };
    let (open, gate) = std::sync::mpsc::channel::<()>();
    // While it waits, all others gather in one batch behind it.
    let held = store.write(move |_| Ok(gate.recv()));
    let (_, before, ended, after, ()) = tokio::join!(
        held,
        store.put_link(a_link(2, 2)),
        ends(),
        store.put_link(a_link(3, 3)),
        async { open.send(()).unwrap() }
    );
    assert!(matches!(before, Err(StoreError::Undone)), "{before:?}");
    assert!(matches!(after, Err(StoreError::Undone)), "{after:?}");
    let Err(StoreError::Database(why)) = ended else { panic!("{ended:?}") };
    assert!(why.to_string().contains("NOT NULL"), "{why}: the cause, not what followed from it");
    assert_eq!(store.links().await.unwrap(), [a_link(1, 1)]);
    store.put_link(a_link(4, 4)).await.unwrap();
    assert_eq!(store.links().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_file_belongs_to_one_network() {
    let (folder, store) = store();
    drop(store);
    let other = Store::open(&folder.path().join("hub.db"), NetworkId::from_raw([2; 16]));
    let said = other.unwrap_err().to_string();
    assert!(said.contains("net_"), "{said}");
}
