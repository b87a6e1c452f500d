use super::*;
use warifu_proto::key::PrivateKey;

const NETWORK: NetworkId = NetworkId::from_raw([1; 16]);

fn private(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number; 32]).unwrap()
}

fn entry(kind: EntryKind, signer: &PrivateKey, body: serde_json::Value) -> Entry {
    Entry::sign(NETWORK, kind, serde_json::to_vec(&body).unwrap(), signer)
}

fn id(kind: &str, number: u32) -> String {
    format!("{kind}_{number:026}")
}

fn merchant(number: u32, revision: u64) -> Entry {
    let body = serde_json::json!({
        "id": id("mer", number), "revision": revision, "status": "active",
        "not_before_ms": 0, "not_after_ms": 9_000_000_000_000_u64,
        "name": "Bakery", "category": "5462", "key": private(7).public(),
    });
    entry(EntryKind::Merchant, &private(1), body)
}

fn issuer(prefix: &str, status: &str, revision: u64) -> Entry {
    let body = serde_json::json!({
        "id": id("iss", prefix.parse().unwrap()), "revision": revision, "status": status,
        "not_before_ms": 0, "not_after_ms": 9_000_000_000_000_u64,
        "name": "Aoba Pay", "prefix": prefix, "key": private(6).public(), "currencies": ["JPY"],
        "endpoints": [{"url": "http://127.0.0.1:1", "from": 0, "to": 99}],
    });
    entry(EntryKind::Issuer, &private(1), body)
}

fn reader(number: u32, signer: u8) -> Entry {
    let body = serde_json::json!({
        "id": id("rdr", number), "revision": 1, "status": "active",
        "not_before_ms": 0, "not_after_ms": 9_000_000_000_000_u64,
        "merchant_id": id("mer", 1), "name": "Till", "key": private(8).public(), "rights": [],
    });
    entry(EntryKind::Reader, &private(signer), body)
}

async fn open(folder: &tempfile::TempDir) -> Arc<Feed> {
    let store = Store::open(&folder.path().join("hub.db"), NETWORK).unwrap();
    let feed = Feed::load(store, NETWORK, private(1).public().clone()).await.unwrap();
    Arc::new(feed)
}

#[tokio::test]
async fn news_is_taken_once_and_the_rest_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    let forged = Entry { signature: [1; 64], ..merchant(2, 1) };
    let report = feed
        .take(vec![
            reader(1, 7),
            merchant(1, 1),
            reader(1, 7),
            merchant(1, 1),
            forged,
            reader(2, 1),
        ])
        .await
        .unwrap();
    assert_eq!((report.taken, report.known), (2, 1));
    let places: Vec<usize> = report.refused.iter().map(|(index, _)| *index).collect();
    assert_eq!(places, [0, 4, 5]);
    // The same body with another signature says nothing new.
    let report = feed.take(vec![merchant(1, 1)]).await.unwrap();
    assert_eq!((report.taken, report.known), (0, 1));
    assert_eq!(feed.now().version, 2);
    assert!(feed.now().key(&private(7).thumbprint()).is_some());
}

#[tokio::test]
async fn nothing_behind_a_forged_entry_is_looked_at_and_nothing_of_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    let forged = Entry { signature: [1; 64], ..merchant(2, 1) };
    let entries = vec![reader(1, 7), merchant(1, 1), forged, merchant(3, 1), merchant(1, 1)];
    let report = feed.take(entries.clone()).await.unwrap();
    assert_eq!((report.taken, report.known), (1, 0));
    let refused: Vec<(usize, bool)> =
        report.refused.iter().map(|(index, why)| (*index, why == UNCHECKED)).collect();
    // A reader without its merchant may be an honest mistake.
    assert_eq!(refused, [(0, false), (2, false), (3, true), (4, true)]);
    let rest = refused.iter().map(|(index, _)| entries[*index].clone());
    let rest = rest.filter(|it| it.signature != [1; 64]).collect();
    let report = feed.take(rest).await.unwrap();
    assert_eq!((report.taken, report.known, report.refused.len()), (2, 1, 0));
}

#[tokio::test]
async fn few_unsigned_calls_wait_and_members_never_stand_behind_more() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    let busy = feed.work.lock().await;
    let waiting: Vec<_> = (1..)
        .map_while(|number| {
            let (turn, feed) = (feed.turn()?, Arc::clone(&feed));
            let call = async move { feed.take_within(turn, vec![merchant(number, 1)]).await };
            Some(tokio::spawn(call))
        })
        .collect();
    assert_eq!(waiting.len(), UNSIGNED_MAX);
    let member = {
        let feed = Arc::clone(&feed);
        tokio::spawn(async move { feed.take(vec![merchant(100, 1)]).await })
    };
    tokio::task::yield_now().await;
    // Who hangs up does not make room: the work goes on.
    waiting[0].abort();
    tokio::task::yield_now().await;
    assert!(feed.turn().is_none());
    drop(busy);
    assert_eq!(member.await.unwrap().unwrap().taken, 1);
    assert!(feed.turn().is_some());
    assert_eq!(feed.now().version, UNSIGNED_MAX as u64 + 1);
}

#[tokio::test]
async fn pages_follow_each_other_and_their_heads_are_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    let total = 1_203;
    for from in (1..=total).step_by(100) {
        let entries = (from..=total.min(from + 99)).map(|number| merchant(number, 1)).collect();
        feed.take(entries).await.unwrap();
    }
    // From memory near the end, from the log before it, and again after a restart.
    for feed in [Arc::clone(&feed), open(&folder).await] {
        let (mut after, mut head, mut seen) = (0, [0; 32], 0);
        loop {
            let page = feed.page(View::All, after, Duration::ZERO).await.unwrap();
            if page.entries.is_empty() {
                break;
            }
            assert!(page.entries.len() <= PAGE_MAX);
            head = page.entries.iter().fold(head, |head, entry| entry.head_after(&head));
            seen += page.entries.len();
            assert_eq!((page.head, page.version), (head, seen as u64));
            after = page.version;
        }
        assert_eq!(seen, total as usize);
        let issuers = feed.page(View::Issuers, 0, Duration::ZERO).await.unwrap();
        assert_eq!((issuers.version, issuers.entries.len()), (u64::from(total), 0));
        let ahead = feed.page(View::All, 5_000, Duration::from_secs(60)).await.unwrap();
        assert_eq!(ahead.version, u64::from(total), "a follower ahead of the log is told at once");
    }
}

#[tokio::test]
async fn who_waits_is_woken_by_what_its_view_shows() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    let waiting = tokio::spawn({
        let feed = Arc::clone(&feed);
        async move { feed.page(View::Issuers, 0, Duration::from_secs(60)).await.unwrap() }
    });
    feed.take(vec![merchant(1, 1)]).await.unwrap();
    feed.take(vec![issuer("71000001", "active", 1)]).await.unwrap();
    let page = waiting.await.unwrap();
    assert_eq!((page.version, page.entries.len()), (2, 1));
    let none = feed.page(View::All, 2, Duration::from_millis(20)).await.unwrap();
    assert_eq!((none.version, none.entries.len()), (2, 0));
}

#[tokio::test]
async fn a_damaged_log_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    feed.take(vec![merchant(1, 1), merchant(2, 1)]).await.unwrap();
    drop(feed);
    let db = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    db.execute(
        "UPDATE entry SET body = CAST(replace(body, 'Bakery', 'Butchy') AS BLOB) WHERE version = 2",
        [],
    )
    .unwrap();
    drop(db);
    let store = Store::open(&folder.path().join("hub.db"), NETWORK).unwrap();
    let err = Feed::load(store, NETWORK, private(1).public().clone()).await.unwrap_err();
    assert!(err.to_string().contains("entry 2"), "{err:#}");
}

#[tokio::test]
async fn what_is_in_the_log_counts_whatever_the_store_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let feed = open(&folder).await;
    feed.take(vec![merchant(1, 1)]).await.unwrap();
    // On disk already, as after a commit that was called a failure.
    let on_disk = |entry: &Entry| {
        let (version, head) = (feed.now().version + 1, entry.head_after(&feed.now().head));
        rusqlite::Connection::open(folder.path().join("hub.db"))
            .unwrap()
            .execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)",
                rusqlite::params![
                    i64::try_from(version).unwrap(),
                    entry.kind.as_str(),
                    entry.body,
                    entry.key.0,
                    entry.signature,
                    head
                ],
            )
            .unwrap();
    };
    let [two, three] = [merchant(2, 1), merchant(3, 1)];
    on_disk(&two);
    assert_eq!(feed.take(vec![two]).await.unwrap().taken, 1, "it is this very call's");
    assert_eq!(feed.now().version, 2);
    // Another call finds it there: that one fails once, and nobody is stuck behind it.
    on_disk(&three);
    feed.take(vec![merchant(4, 1)]).await.unwrap_err();
    assert_eq!(feed.now().version, 3);
    let report = feed.take(vec![three, merchant(4, 1)]).await.unwrap();
    assert_eq!((report.taken, report.known, feed.now().version), (1, 1, 4));
    assert_eq!(open(&folder).await.now().head, feed.now().head);
}
