//! Following the directory, against a hub of a few lines that can lie.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use warifu_proto::directory::{Entry, EntryKind};
use warifu_proto::id::{
    HubId, HubKind, IssuerId, IssuerKind, Kind, MerchantKind, NetworkId, ReaderKind,
};
use warifu_proto::key::PrivateKey;
use warifu_proto::message::DirectoryPage;
use warifu_server::follow::{DirectoryFollower, FollowError, FollowParts, View};
use warifu_server::json::Query;
use warifu_server::{chance, clock};

use crate::rig::{SECOND, Server, Setup};

#[derive(Deserialize)]
struct Asked {
    view: View,
    after: u64,
    wait_ms: Option<u64>,
}

struct Feed {
    network: NetworkId,
    registrar: PrivateKey,
    entries: Mutex<Vec<Entry>>,
    /// What the hub says the head is, if not the truth.
    lie: Mutex<Option<[u8; 32]>>,
}

impl Feed {
    fn new() -> Arc<Self> {
        let network = chance::id(clock::now());
        let (entries, lie) = (Mutex::default(), Mutex::default());
        Arc::new(Self { network, registrar: chance::key(), entries, lie })
    }

    fn add(&self, kind: EntryKind, body: &serde_json::Value, key: &PrivateKey) {
        let entry = Entry::sign(self.network, kind, body.to_string().into_bytes(), key);
        self.entries.lock().unwrap().push(entry);
    }

    fn add_hub(&self, key: &PrivateKey) -> HubId {
        let (id, common) = common::<HubKind>(1, "active");
        let body = merged(common, json!({ "url": "http://hub", "key": key.public() }));
        self.add(EntryKind::Hub, &body, &self.registrar);
        id
    }

    fn add_issuer(
        &self,
        prefix: &str,
        status: &str,
        revision: u64,
        signer: &PrivateKey,
    ) -> IssuerId {
        let (id, common) = common::<IssuerKind>(revision, status);
        self.add(EntryKind::Issuer, &issuer(common, prefix), signer);
        id
    }
}

fn issuer(common: serde_json::Value, prefix: &str) -> serde_json::Value {
    let about = json!({ "name": "Aoba Pay", "prefix": prefix, "key": chance::key().public(),
        "currencies": ["JPY"], "endpoints": [{ "url": "http://issuer", "from": 0, "to": 99 }] });
    merged(common, about)
}

fn common<K: Kind>(revision: u64, status: &str) -> (warifu_proto::id::Id<K>, serde_json::Value) {
    let id = chance::id::<K>(clock::now());
    let not_after_ms = clock::now().as_ms() + 1_000_000;
    let common = json!({ "id": id, "revision": revision, "status": status, "not_before_ms": 0,
        "not_after_ms": not_after_ms });
    (id, common)
}

fn merged(mut one: serde_json::Value, two: serde_json::Value) -> serde_json::Value {
    let serde_json::Value::Object(two) = two else { panic!("an object") };
    one.as_object_mut().unwrap().extend(two);
    one
}

async fn page(State(feed): State<Arc<Feed>>, Query(asked): Query<Asked>) -> Json<DirectoryPage> {
    let after = usize::try_from(asked.after).unwrap();
    let wait = Duration::from_millis(asked.wait_ms.unwrap_or_default());
    let until = tokio::time::Instant::now() + wait;
    while feed.entries.lock().unwrap().len() <= after && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all = feed.entries.lock().unwrap().clone();
    // Two a page, so that there are several.
    let end = all.len().min(after + 2);
    let head = all[..end].iter().fold([0; 32], |head, it| it.head_after(&head));
    Json(DirectoryPage {
        network_id: feed.network,
        registrar: feed.registrar.public().clone(),
        version: end as u64,
        head: feed.lie.lock().unwrap().unwrap_or(head),
        as_of_ms: clock::now().as_ms(),
        entries: all
            .get(after..end)
            .unwrap_or_default()
            .iter()
            .filter(|it| asked.view == View::All || it.kind != EntryKind::Merchant)
            .cloned()
            .collect(),
    })
}

async fn serve(feed: &Arc<Feed>, key: &Arc<PrivateKey>) -> Server {
    let routes = Router::new().route("/v1/directory", get(page)).with_state(Arc::clone(feed));
    Server::start(Setup { routes, key: Arc::clone(key), ..Setup::default() }).await
}

fn parts(feed: &Feed, server: &Server, dir: &tempfile::TempDir) -> FollowParts {
    FollowParts {
        folder: dir.path().join("directory"),
        hub_url: server.url(),
        view: View::All,
        registrar: feed.registrar.thumbprint(),
        network: None,
        http: warifu_server::client::http_client(None).unwrap(),
    }
}

#[tokio::test]
async fn it_is_checked_kept_and_served_without_the_hub() {
    let (feed, hub, dir) = (Feed::new(), Arc::new(chance::key()), tempfile::tempdir().unwrap());
    feed.add_hub(&hub);
    let aoba = feed.add_issuer("71000001", "active", 1, &feed.registrar);
    // Not signed by the registrar, by a merchant nobody knows, and unreadable: in the feed, and ignored.
    let forged = feed.add_issuer("71000002", "active", 1, &hub);
    feed.add(EntryKind::Reader, &json!({ "id": "rdr_x" }), &hub);
    let merchant = chance::key();
    let (merchant_id, about) = common::<MerchantKind>(1, "active");
    let about =
        merged(about, json!({ "name": "Bakery", "category": "5462", "key": merchant.public() }));
    feed.add(EntryKind::Merchant, &about, &feed.registrar);
    let (reader_id, about) = common::<ReaderKind>(1, "active");
    let about = merged(
        about,
        json!({ "merchant_id": merchant_id, "name": "Till 1",
        "key": chance::key().public(), "rights": ["refund"] }),
    );
    feed.add(EntryKind::Reader, &about, &merchant);

    let server = serve(&feed, &hub).await;
    let parts = parts(&feed, &server, &dir);
    let follower = DirectoryFollower::open(parts.clone()).await.unwrap();
    follower.refresh_once().await.unwrap();
    let known = |follower: &DirectoryFollower| {
        let directory = follower.current();
        assert_eq!(directory.network(), feed.network);
        assert_eq!(directory.hubs().count(), 1);
        assert_eq!(directory.issuers().map(|it| it.common.id).collect::<Vec<_>>(), [aoba]);
        assert!(directory.issuers().all(|it| it.common.id != forged));
        assert!(directory.reader(reader_id).is_some());
        assert!(follower.as_of().unwrap().as_ms().abs_diff(clock::now().as_ms()) < 5_000);
    };
    known(&follower);

    // The hub goes away: what is known serves on, here and after a restart.
    server.stop().await;
    let error = follower.refresh_once().await.unwrap_err();
    assert!(matches!(&error, FollowError::Call(it) if it.is_unreachable()), "{error}");
    known(&follower);
    drop(follower);
    let follower = DirectoryFollower::open(parts.clone()).await.unwrap();
    known(&follower);

    // A crash in the middle of a write leaves half a line, which is cut off.
    let lines = follower.folder().join("directory.jsonl");
    let whole = std::fs::read(&lines).unwrap();
    std::fs::write(&lines, [whole.as_slice(), b"{\"kind\":\"iss"].concat()).unwrap();
    known(&DirectoryFollower::open(parts.clone()).await.unwrap());
    assert_eq!(std::fs::read(&lines).unwrap(), whole);

    // A line that was altered on disk is not believed, and is read from the feed again.
    let head = follower.folder().join("directory.head.json");
    let text = String::from_utf8(whole.clone()).unwrap();
    std::fs::write(&lines, text.replacen("\"signature\":\"", "\"signature\":\"AAAA", 1)).unwrap();
    let damaged = DirectoryFollower::open(parts.clone()).await.unwrap();
    assert_eq!(damaged.current().hubs().count(), 0);
    assert_eq!(damaged.current().issuers().count(), 1);
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(head).unwrap()).unwrap();
    assert_eq!(read["lines"], 4);
    drop((damaged, follower));
    let setup = Setup {
        routes: Router::new().route("/v1/directory", get(page)).with_state(Arc::clone(&feed)),
        key: Arc::clone(&hub),
        listen: parts.hub_url.strip_prefix("http://").unwrap().parse().unwrap(),
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let follower = DirectoryFollower::open(parts.clone()).await.unwrap();
    follower.refresh_once().await.unwrap();
    known(&follower);

    // The other view is a copy of its own kind: what is known stays.
    let issuers = FollowParts { view: View::Issuers, ..parts.clone() };
    let follower = DirectoryFollower::open(issuers.clone()).await.unwrap();
    follower.refresh_once().await.unwrap();
    known(&follower);
    let fresh = FollowParts { folder: dir.path().join("issuers"), ..issuers };
    let follower = DirectoryFollower::open(fresh).await.unwrap();
    follower.refresh_once().await.unwrap();
    assert_eq!(follower.current().issuers().count(), 1);
    assert_eq!(follower.current().merchants().count(), 0);
    assert!(follower.as_of().is_some());
    server.stop().await;

    // Without a copy, and without a hub, there is nothing to start from, unless the network is known beforehand.
    let elsewhere = FollowParts { folder: dir.path().join("new"), ..parts.clone() };
    let error = DirectoryFollower::open(elsewhere.clone()).await.unwrap_err();
    assert!(matches!(error, FollowError::Call(_)), "{error}");
    let network = Some((feed.network, feed.registrar.public().clone()));
    let follower = DirectoryFollower::open(FollowParts { network, ..elsewhere }).await.unwrap();
    assert_eq!((follower.current().issuers().count(), follower.as_of()), (0, None));
}

#[tokio::test]
async fn news_arrive_while_following_and_the_hub_may_come_back() {
    let (feed, hub, dir) = (Feed::new(), Arc::new(chance::key()), tempfile::tempdir().unwrap());
    feed.add_hub(&hub);
    let server = serve(&feed, &hub).await;
    let follower = DirectoryFollower::open(parts(&feed, &server, &dir)).await.unwrap();
    let mut changes = follower.changes();
    let following = follower.spawn();
    changes.mark_unchanged();
    feed.add_issuer("71000001", "active", 1, &feed.registrar);
    tokio::time::timeout(5 * SECOND, changes.changed()).await.unwrap().unwrap();
    assert_eq!(follower.current().issuers().count(), 1);
    let listen = server.addr;
    server.stop().await;
    feed.add_issuer("71000002", "active", 1, &feed.registrar);
    let routes = Router::new().route("/v1/directory", get(page)).with_state(Arc::clone(&feed));
    let setup = Setup { routes, key: Arc::clone(&hub), listen, ..Setup::default() };
    let server = Server::start(setup).await;
    tokio::time::timeout(8 * SECOND, changes.changed()).await.unwrap().unwrap();
    assert_eq!(follower.current().issuers().count(), 2);
    following.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_suspension_counts_and_comes_again_while_the_copy_cannot_be_written() {
    let (feed, hub, dir) = (Feed::new(), Arc::new(chance::key()), tempfile::tempdir().unwrap());
    feed.add_hub(&hub);
    let (id, about) = common::<IssuerKind>(1, "active");
    let entry = issuer(about.clone(), "71000001");
    feed.add(EntryKind::Issuer, &entry, &feed.registrar);
    let server = serve(&feed, &hub).await;
    let parts = parts(&feed, &server, &dir);
    let follower = DirectoryFollower::open(parts.clone()).await.unwrap();
    follower.refresh_once().await.unwrap();
    let status = |follower: &DirectoryFollower| {
        let directory = follower.current();
        directory
            .issuers()
            .find(|it| it.common.id == id)
            .map(|it| it.common.is_active(clock::now()))
    };
    assert_eq!(status(&follower), Some(true));

    // Nothing can be put in the place of the head: a folder is there.
    let blocked = follower.folder().join("directory.head.json.new");
    std::fs::create_dir(&blocked).unwrap();
    let suspended = merged(entry, json!({ "revision": 2, "status": "suspended" }));
    feed.add(EntryKind::Issuer, &suspended, &feed.registrar);
    for _ in 0..2 {
        let error = follower.refresh_once().await.unwrap_err();
        assert!(matches!(error, FollowError::Io(..)), "{error}");
        assert_eq!(status(&follower), Some(false), "in force at once");
    }
    // A restart knows what the copy knows, and the suspension comes again.
    let again = DirectoryFollower::open(parts.clone()).await.unwrap();
    assert_eq!(status(&again), Some(true));
    std::fs::remove_dir(&blocked).unwrap();
    again.refresh_once().await.unwrap();
    assert_eq!(status(&again), Some(false));
    drop(again);
    server.stop().await;
    assert_eq!(status(&DirectoryFollower::open(parts).await.unwrap()), Some(false));
}

#[tokio::test]
async fn a_wrong_registrar_or_network_is_refused() {
    let (feed, hub, dir) = (Feed::new(), Arc::new(chance::key()), tempfile::tempdir().unwrap());
    feed.add_hub(&hub);
    let server = serve(&feed, &hub).await;
    let good = parts(&feed, &server, &dir);
    let pinned = FollowParts { registrar: chance::key().thumbprint(), ..good.clone() };
    let error = DirectoryFollower::open(pinned.clone()).await.unwrap_err();
    assert!(matches!(error, FollowError::WrongRegistrar), "{error}");
    assert!(!pinned.folder.exists());
    let network = Some((feed.network, chance::key().public().clone()));
    let error = DirectoryFollower::open(FollowParts { network, ..good.clone() }).await.unwrap_err();
    assert!(matches!(error, FollowError::WrongRegistrar), "{error}");
    // Another network of the same registrar.
    let network = Some((NetworkId::from_raw([1; 16]), feed.registrar.public().clone()));
    let follower = DirectoryFollower::open(FollowParts { network, ..good.clone() }).await.unwrap();
    let error = follower.refresh_once().await.unwrap_err();
    assert!(matches!(error, FollowError::WrongNetwork), "{error}");
    // A copy of one network is not continued with another.
    DirectoryFollower::open(good.clone()).await.unwrap();
    let error = DirectoryFollower::open(pinned).await.unwrap_err();
    assert!(matches!(error, FollowError::OtherCopy(_)), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_hub_can_withhold_and_nothing_else() {
    let (feed, hub, dir) = (Feed::new(), Arc::new(chance::key()), tempfile::tempdir().unwrap());
    feed.add_hub(&hub);
    let aoba = feed.add_issuer("71000001", "active", 1, &feed.registrar);
    // Served by somebody who is no hub of the network: entries count by their own signatures, time and position don't.
    let other = serve(&feed, &Arc::new(chance::key())).await;
    let follower = DirectoryFollower::open(parts(&feed, &other, &dir)).await.unwrap();
    assert_eq!((follower.current().issuers().count(), follower.as_of()), (1, None));
    let error = follower.refresh_once().await.unwrap_err();
    assert!(matches!(error, FollowError::HubUnknown), "{error}");
    other.stop().await;
    drop(follower);

    let server = serve(&feed, &hub).await;
    let follower = DirectoryFollower::open(parts(&feed, &server, &dir)).await.unwrap();
    follower.refresh_once().await.unwrap();
    assert!(follower.as_of().is_some());
    // A head that does not follow from the entries is refused, and the feed is read again from its beginning.
    *feed.lie.lock().unwrap() = Some([9; 32]);
    for _ in 0..2 {
        let error = follower.refresh_once().await.unwrap_err();
        assert!(matches!(error, FollowError::Chain), "{error}");
    }
    *feed.lie.lock().unwrap() = None;
    follower.refresh_once().await.unwrap();

    // A feed set up anew, without the suspension that is known here, takes nothing back.
    let suspended = {
        let current = follower.current();
        let known = current.issuers().next().unwrap();
        let about = json!({ "id": aoba, "revision": 2, "status": "suspended", "not_before_ms": 0,
            "not_after_ms": known.common.not_after_ms });
        issuer(about, "71000001")
    };
    feed.add(EntryKind::Issuer, &suspended, &feed.registrar);
    follower.refresh_once().await.unwrap();
    let is_active = |follower: &DirectoryFollower| {
        follower.current().issuers().next().unwrap().common.is_active(clock::now())
    };
    assert!(!is_active(&follower));
    feed.entries.lock().unwrap().truncate(2);
    let error = follower.refresh_once().await.unwrap_err();
    assert!(matches!(error, FollowError::Chain), "{error}");
    follower.refresh_once().await.unwrap();
    assert!(!is_active(&follower));
    drop(follower);
    let follower = DirectoryFollower::open(parts(&feed, &server, &dir)).await.unwrap();
    assert!(!is_active(&follower));
    server.stop().await;
}
