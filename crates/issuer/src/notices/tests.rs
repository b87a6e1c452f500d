use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use warifu_proto::directory::{Entry as Listed, EntryKind};
use warifu_proto::id::{CredentialId, MerchantId, NetworkId};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::notice;
use warifu_proto::problem::ProblemCode;
use warifu_proto::rejection::Rejection;
use warifu_server::client::http_client;
use warifu_server::edge::{self, Caller, Edge, EdgeParts, KeyRing};
use warifu_server::json::Strict;
use warifu_server::problem::ApiProblem;
use warifu_server::serve;
use warifu_server::session::Sessions;

use super::*;
use crate::views::fixture::{Payer, model, prefix, scan, start, unknown_code, until};

const BAKERY: MerchantId = MerchantId::from_raw([3; 16]);
const UNLISTED: MerchantId = MerchantId::from_raw([5; 16]);

/// What a hub got, and what it says.
#[derive(Default)]
struct Got {
    taken: Vec<NoticeRequest>,
    /// Every call, in order of arrival: the taken ones as well.
    calls: usize,
    /// Says this instead, one a call.
    says: VecDeque<ProblemCode>,
    /// Finds calls with these in them wrong.
    wrong: BTreeSet<CredentialId>,
    /// Knows nothing of these.
    never: BTreeSet<CredentialId>,
}

struct Ring(PublicKey);

impl KeyRing for Ring {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        (self.0.thumbprint() == *thumbprint).then(|| self.0.clone())
    }
}

type Inbox = Arc<Mutex<Got>>;

async fn take(
    State(inbox): State<Inbox>,
    _: Caller,
    Strict(request): Strict<NoticesRequest>,
) -> Response {
    let mut inbox = inbox.lock().unwrap();
    inbox.calls += 1;
    let is_wrong = request.notices.iter().any(|it| inbox.wrong.contains(&it.credential_id));
    if let Some(code) = inbox.says.pop_front().or(is_wrong.then_some(ProblemCode::Malformed)) {
        return ApiProblem::new(code, "as the test wishes").into_response();
    }
    let mut results = Vec::new();
    for notice in request.notices {
        if inbox.never.contains(&notice.credential_id) {
            results.push(NoticeResult::CredentialUnknown);
        } else {
            results.push(NoticeResult::Stored);
            inbox.taken.push(notice);
        }
    }
    axum::Json(NoticesAnswer { results }).into_response()
}

/// A hub that takes notices of one issuer.
struct Hub {
    inbox: Inbox,
    peer: Peer,
    task: tokio::task::JoinHandle<()>,
}

impl Hub {
    async fn start(issuer: &PrivateKey) -> Self {
        Self::start_at(issuer, Arc::new(chance::key()), "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(issuer: &PrivateKey, key: Arc<PrivateKey>, at: SocketAddr) -> Self {
        let bound = serve::bind(at, None).await.unwrap();
        let addr = bound.local_addr();
        let peer = Peer { url: format!("http://{addr}"), key: key.public().clone() };
        let parts = EdgeParts {
            key,
            authorities: vec![addr.to_string()],
            ring: Arc::new(Ring(issuer.public().clone())),
            sessions: Arc::new(Sessions::new()),
            max_in_flight: 100,
        };
        let inbox = Inbox::default();
        let routes = axum::Router::new()
            .route("/v1/notices/batch", axum::routing::post(take))
            .with_state(Arc::clone(&inbox));
        let router = edge::apply(routes, Arc::new(Edge::new(parts)));
        let task =
            tokio::spawn(async move { bound.serve(router, std::future::pending()).await.unwrap() });
        Self { inbox, peer, task }
    }

    fn taken(&self) -> Vec<NoticeRequest> {
        self.inbox.lock().unwrap().taken.clone()
    }

    async fn has(&self, count: usize) {
        until("the hub gets all notices", async || self.taken().len() >= count).await;
    }
}

/// A directory with the bakery in it.
fn directory() -> Arc<Directory> {
    let (registrar, network) = (chance::key(), NetworkId::from_raw([1; 16]));
    let mut directory = Directory::new(network, registrar.public().clone());
    let body = serde_json::json!({
        "id": BAKERY, "revision": 1, "status": "active", "not_before_ms": 0, "not_after_ms": 9_999_999_999_999_u64,
        "name": "Aoba Bakery", "category": "5462", "key": chance::key().public(),
    });
    let entry =
        Listed::sign(network, EntryKind::Merchant, serde_json::to_vec(&body).unwrap(), &registrar);
    directory.take(&entry).unwrap();
    Arc::new(directory)
}

/// An issuer with what notices need.
struct Issuer {
    engine: Arc<Engine>,
    key: Arc<PrivateKey>,
    folder: tempfile::TempDir,
    directory: Arc<Directory>,
}

impl Issuer {
    fn start() -> Self {
        let (engine, folder) = (start(&model()), tempfile::tempdir().unwrap());
        Self { engine, key: Arc::new(chance::key()), folder, directory: directory() }
    }

    fn notices(&self, hub: impl Fn() -> Option<Peer> + Send + Sync + 'static) -> Notices {
        let directory = Arc::clone(&self.directory);
        let sources =
            Sources { directory: Arc::new(move || Arc::clone(&directory)), hub: Arc::new(hub) };
        let client = Arc::new(Client::new(Arc::clone(&self.key), http_client(None).unwrap()));
        Notices::spawn_from(Arc::clone(&self.engine), self.folder.path(), prefix(), client, sources)
            .unwrap()
    }

    fn notices_to(&self, hub: &Hub) -> Notices {
        let peer = hub.peer.clone();
        self.notices(move || Some(peer.clone()))
    }

    fn cursor(&self) -> u64 {
        let cursor = Connection::open(self.folder.path().join("notices.db")).unwrap();
        cursor.query_row("SELECT position FROM cursor", [], |row| row.get(0)).unwrap()
    }

    async fn all_done(&self) {
        until("the cursor reaches the end", async || {
            self.cursor() == *self.engine.committed().borrow()
        })
        .await;
    }
}

fn open(payer: &Payer, it: &NoticeRequest) -> NoticeText {
    let plain =
        notice::open(&payer.keys.seal_key, it.credential_id, it.number, &it.sealed).unwrap();
    serde_json::from_slice(&plain).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payer_is_told_what_became_of_each_code_and_only_the_payer_can_read_it() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let engine = &issuer.engine;
    let payer = Payer::open(engine, 7, 1_000).await;
    let paid = payer.pay(engine, BAKERY, "a", 300).await.payment;
    payer.pay(engine, UNLISTED, "b", 701).await;
    scan(engine, 7, BAKERY, "c", &unknown_code(7), 5).await;
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    let taken = hub.taken();
    assert_eq!(
        taken.iter().map(|it| (it.credential_id, it.number)).collect::<Vec<_>>(),
        [(payer.credential, 1), (payer.credential, 2)]
    );

    let [first, second] = [open(&payer, &taken[0]), open(&payer, &taken[1])];
    let sum = |minor| Some(Sum { minor, currency: paid.currency });
    let expected = NoticeText {
        expires_at: None,
        kind: "paid".to_owned(),
        payment_id: paid.id(prefix(), 7),
        merchant: MerchantAbout { id: BAKERY, name: "Aoba Bakery".to_owned() },
        amount: Money::new(300, paid.currency).unwrap(),
        status: PaymentStatus::Approved,
        reason: None,
        balance: sum(700),
        at: paid.decided_at,
    };
    assert_eq!(first, expected);
    assert_eq!(
        (second.kind.as_str(), second.status, second.balance),
        ("declined", PaymentStatus::Declined, sum(700))
    );
    assert_eq!(
        second.reason.as_deref(),
        Some(Rejection::InsufficientFunds.payer(Language::English))
    );
    assert_eq!(
        second.merchant.name,
        UNLISTED.to_string(),
        "a merchant that is in no directory is named by its id"
    );

    // Neither another link nor another number opens it.
    let stranger = Payer::open(engine, 7, 1).await;
    assert!(notice::open(&stranger.keys.seal_key, payer.credential, 1, &taken[0].sealed).is_err());
    assert!(notice::open(&payer.keys.seal_key, payer.credential, 2, &taken[0].sealed).is_err());
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was_and_repeats_carry_the_same_id() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let payer = Payer::open(&issuer.engine, 7, 1_000).await;
    payer.pay(&issuer.engine, BAKERY, "a", 1).await;
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    notices.stop().await;
    payer.pay(&issuer.engine, BAKERY, "b", 1).await;
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    notices.stop().await;
    let once = hub.taken();
    assert_eq!(once.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2], "none was sent twice");

    // As after a crash before the cursor was kept.
    let cursor = Connection::open(issuer.folder.path().join("notices.db")).unwrap();
    cursor.execute("UPDATE cursor SET position = 0", []).unwrap();
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    notices.stop().await;
    let again = &hub.taken()[2..];
    for (before, after) in once.iter().zip(again) {
        assert_eq!((before.notice_id, before.number), (after.notice_id, after.number));
        assert_ne!(before.sealed, after.sealed, "a nonce is never used twice");
        assert_eq!(open(&payer, before), open(&payer, after));
    }
    assert_ne!(once[0].notice_id, once[1].notice_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_wait_for_a_hub_that_is_away_however_long() {
    let issuer = Issuer::start();
    let key = Arc::new(chance::key());
    let first = Hub::start_at(&issuer.key, Arc::clone(&key), "127.0.0.1:0".parse().unwrap()).await;
    let peer = first.peer.clone();
    let payer = Payer::open(&issuer.engine, 7, 1_000).await;
    let (is_listed, looked_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (listed, looked) = (Arc::clone(&is_listed), Arc::clone(&looked_up));
    let notices = issuer.notices(move || {
        looked.fetch_add(1, Ordering::SeqCst);
        listed.load(Ordering::SeqCst).then(|| peer.clone())
    });
    let tried_again = async || {
        let before = looked_up.load(Ordering::SeqCst);
        until("it is tried again", async || looked_up.load(Ordering::SeqCst) >= before + 2).await;
    };
    // No hub in the directory yet.
    payer.pay(&issuer.engine, BAKERY, "a", 1).await;
    tried_again().await;
    assert!(first.taken().is_empty() && issuer.cursor() < *issuer.engine.committed().borrow());
    is_listed.store(true, Ordering::SeqCst);
    first.has(1).await;
    issuer.all_done().await;
    // Now it goes away, and comes back without its sessions.
    first.task.abort();
    drop(first.task.await);
    payer.pay(&issuer.engine, BAKERY, "b", 1).await;
    tried_again().await;
    assert!(issuer.cursor() < *issuer.engine.committed().borrow());
    let at = first.peer.url.trim_start_matches("http://").parse().unwrap();
    let second = Hub::start_at(&issuer.key, key, at).await;
    second.has(1).await;
    issuer.all_done().await;
    assert_eq!(second.taken()[0].number, 2);
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_notice_is_left_out_and_stops_nobody() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let forgotten = Payer::open(&issuer.engine, 7, 1_000).await;
    let known = Payer::open(&issuer.engine, 7, 1_000).await;
    hub.inbox.lock().unwrap().never.insert(forgotten.credential);
    for number in 0..3 {
        forgotten.pay(&issuer.engine, BAKERY, &format!("f-{number}"), 1).await;
        known.pay(&issuer.engine, BAKERY, &format!("k-{number}"), 1).await;
    }
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    let taken = hub.taken();
    assert_eq!(
        taken.iter().map(|it| (it.credential_id, it.number)).collect::<Vec<_>>(),
        [1, 2, 3].map(|it| (known.credential, it))
    );
    assert_eq!(hub.inbox.lock().unwrap().calls, 1, "a refused one is not tried again");
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwell_hub_gets_every_notice_in_order_and_what_it_took_only_once() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let mut payers = Vec::new();
    for partition in 0..4 {
        payers.push(Payer::open(&issuer.engine, partition, 1_000).await);
    }
    for number in 0..10 {
        for payer in &payers {
            payer.pay(&issuer.engine, BAKERY, &format!("{}-{number}", payer.partition), 1).await;
        }
    }
    let says = [ProblemCode::NotAccepted, ProblemCode::TooManyMisses, ProblemCode::Internal];
    hub.inbox.lock().unwrap().says.extend(says);
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    let taken = hub.taken();
    assert_eq!(taken.len(), 40);
    for payer in &payers {
        let numbers: Vec<u64> = taken
            .iter()
            .filter(|it| it.credential_id == payer.credential)
            .map(|it| it.number)
            .collect();
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    }
    assert_eq!(hub.inbox.lock().unwrap().calls, 4, "three refusals, and one call for all");
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_ahead_of_a_replaced_journal_misses_nothing_new() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let payer = Payer::open(&issuer.engine, 7, 1_000).await;
    issuer.notices_to(&hub).stop().await;
    let cursor = Connection::open(issuer.folder.path().join("notices.db")).unwrap();
    cursor.execute("UPDATE cursor SET position = 1000", []).unwrap();
    let notices = issuer.notices_to(&hub);
    payer.pay(&issuer.engine, BAKERY, "a", 1).await;
    hub.has(1).await;
    issuer.all_done().await;
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_makes_its_call_wrong_is_left_out_alone() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let odd = Payer::open(&issuer.engine, 7, 1_000).await;
    let even = Payer::open(&issuer.engine, 7, 1_000).await;
    hub.inbox.lock().unwrap().wrong.insert(odd.credential);
    even.pay(&issuer.engine, BAKERY, "a", 1).await;
    odd.pay(&issuer.engine, BAKERY, "b", 1).await;
    even.pay(&issuer.engine, BAKERY, "c", 1).await;
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    let taken: Vec<_> = hub.taken().iter().map(|it| (it.credential_id, it.number)).collect();
    assert_eq!(taken, [(even.credential, 1), (even.credential, 2)]);
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fit_in_a_call_go_in_several() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let payer = Payer::open(&issuer.engine, 7, 1_000).await;
    for number in 0..130 {
        payer.pay(&issuer.engine, BAKERY, &format!("{number}"), 1).await;
    }
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    let numbers: Vec<u64> = hub.taken().iter().map(|it| it.number).collect();
    assert_eq!(numbers, (1..=130).collect::<Vec<_>>());
    assert_eq!(hub.inbox.lock().unwrap().calls, 3, "64, 64 and 2");
    notices.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_go_side_by_side_and_each_payers_in_order() {
    let issuer = Issuer::start();
    let hub = Hub::start(&issuer.key).await;
    let mut payers = Vec::new();
    for _ in 0..6 {
        payers.push(Payer::open(&issuer.engine, 7, 1_000).await);
    }
    for number in 0..50 {
        for (place, payer) in payers.iter().enumerate() {
            payer.pay(&issuer.engine, BAKERY, &format!("{place}-{number}"), 1).await;
        }
    }
    let says = [ProblemCode::NotAccepted, ProblemCode::Internal, ProblemCode::NotAccepted];
    hub.inbox.lock().unwrap().says.extend(says);
    let notices = issuer.notices_to(&hub);
    issuer.all_done().await;
    let taken = hub.taken();
    assert_eq!(taken.len(), 300, "each once, though some calls were refused while others were not");
    for payer in &payers {
        let of_payer = taken.iter().filter(|it| it.credential_id == payer.credential);
        let numbers: Vec<u64> = of_payer.map(|it| it.number).collect();
        assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    }
    notices.stop().await;
}
