//! A network of its own for every test: a registrar's key, a hub on a free port with files in a temporary folder,
//! fake issuers behind the real edge, and callers that sign as the real ones do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warifu_hub::{Config, NetworkFile, Running};
use warifu_proto::code::{Locator, Prefix};
use warifu_proto::directory::{Entry, EntryKind};
use warifu_proto::id::{
    CredentialId, HubId, InvitationId, IssuerId, MerchantId, NetworkId, NoticeId, PaymentId,
    ReaderId,
};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::message::{
    AccountAbout, AccountKind, CodeAnswer, CodeRequest, ConfirmationAnswer, ConfirmationRequest,
    IssuerAbout, LimitsAbout, LinkAnswer, LinkRequest, LinkedAccount, UnlinkAnswer, UnlinkRequest,
};
use warifu_proto::notice::Verdict;
use warifu_proto::problem::ProblemCode;
use warifu_proto::registration::Statement;
use warifu_server::client::{Answer, Client, Events, Peer, http_client};
use warifu_server::edge::{self, Caller, Edge, EdgeParts, KeyRing, RawBody};
use warifu_server::json::Strict;
use warifu_server::problem::{ApiProblem, ApiResult};
use warifu_server::session::Sessions;
use warifu_server::{chance, clock, keyfile, serve};

/// Long enough for a loaded machine, short enough to notice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// All accounts of the fake issuers are in this partition.
pub(crate) const PARTITION: u8 = 7;

/// A network without anybody in it.
pub(crate) struct Network {
    pub(crate) folder: TempDir,
    pub(crate) id: NetworkId,
    pub(crate) registrar: PrivateKey,
    pub(crate) hub_key: Arc<PrivateKey>,
}

/// A hub that runs, and an unknown caller's client.
pub(crate) struct Hub {
    pub(crate) running: Running,
    pub(crate) peer: Peer,
    nobody: Client,
}

impl Network {
    pub(crate) fn new() -> Self {
        let network = Self {
            folder: tempfile::tempdir().unwrap(),
            id: chance::id(clock::now()),
            registrar: chance::key(),
            hub_key: Arc::new(chance::key()),
        };
        let file =
            NetworkFile { network_id: network.id, registrar: network.registrar.public().clone() };
        let text = serde_json::to_vec(&file).unwrap();
        std::fs::write(network.folder.path().join("network.json"), text).unwrap();
        keyfile::create(network.folder.path().join("hub.key"), &network.hub_key).unwrap();
        network
    }

    pub(crate) async fn start(&self) -> Hub {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut Config)) -> Hub {
        let mut config =
            Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        change(&mut config);
        let running = warifu_hub::start(config, self.folder.path()).await.unwrap();
        let peer = Peer { url: running.url.clone(), key: self.hub_key.public().clone() };
        Hub { running, peer, nobody: client(Arc::new(chance::key())) }
    }

    /// An entry by the registrar.
    pub(crate) fn entry(&self, kind: EntryKind, body: Value) -> Entry {
        sign(self.id, kind, body, &self.registrar)
    }

    pub(crate) fn merchant(&self, id: MerchantId, key: &PrivateKey, revision: u64) -> Entry {
        let mut body = common(&id.to_string(), revision, "active");
        extend(&mut body, json!({"name": "Aoba Bakery", "category": "5462", "key": key.public()}));
        self.entry(EntryKind::Merchant, body)
    }
}

pub(crate) fn sign(network: NetworkId, kind: EntryKind, body: Value, key: &PrivateKey) -> Entry {
    Entry::sign(network, kind, serde_json::to_vec(&body).unwrap(), key)
}

pub(crate) fn reader(
    network: NetworkId,
    merchant: MerchantId,
    signer: &PrivateKey,
    key: &PublicKey,
) -> Entry {
    let id: ReaderId = chance::id(clock::now());
    let mut body = common(&id.to_string(), 1, "active");
    extend(&mut body, json!({"merchant_id": merchant, "name": "Till 1", "key": key, "rights": []}));
    sign(network, EntryKind::Reader, body, signer)
}

pub(crate) fn common(id: &str, revision: u64, status: &str) -> Value {
    json!({"id": id, "revision": revision, "status": status, "not_before_ms": 0,
           "not_after_ms": 9_000_000_000_000_u64})
}

pub(crate) fn extend(body: &mut Value, with: Value) {
    body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
}

pub(crate) fn hub_entry(network: &Network) -> Entry {
    let id: HubId = chance::id(clock::now());
    let mut body = common(&id.to_string(), 1, "active");
    extend(&mut body, json!({"url": "http://127.0.0.1:1", "key": network.hub_key.public()}));
    network.entry(EntryKind::Hub, body)
}

pub(crate) fn client(identity: Arc<PrivateKey>) -> Client {
    Client::new(identity, http_client(None).unwrap())
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// The problem's code, or the status of what is none.
pub(crate) fn code_of(answer: &Answer) -> String {
    answer.problem().map_or_else(|| answer.status.as_u16().to_string(), |it| it.code)
}

impl Hub {
    pub(crate) async fn stop(self) {
        self.running.shutdown().await.unwrap();
    }

    pub(crate) async fn unsigned(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.nobody
            .call_unsigned(&self.peer, method, path, body, PATIENCE, HeaderMap::new())
            .await
            .unwrap()
    }

    pub(crate) async fn publish(&self, entries: &[Entry]) -> Value {
        let body = to_json(&json!({"entries": entries}));
        let answer = self.unsigned(Method::POST, "/v1/directory/entries", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", code_of(&answer));
        answer.json().unwrap()
    }

    pub(crate) async fn directory(&self, query: &str) -> Value {
        let answer = self.unsigned(Method::GET, &format!("/v1/directory?{query}"), None).await;
        assert_eq!(answer.status, 200, "{}", code_of(&answer));
        answer.json().unwrap()
    }
}

/// Somebody with a key who calls the hub.
pub(crate) struct Actor {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) client: Client,
}

impl Actor {
    pub(crate) fn new() -> Self {
        Self::with_key(Arc::new(chance::key()))
    }

    pub(crate) fn with_key(key: Arc<PrivateKey>) -> Self {
        Self { client: client(Arc::clone(&key)), key }
    }

    /// In a session.
    pub(crate) async fn call(
        &self,
        hub: &Hub,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.client.call(&hub.peer, method, path, body, PATIENCE, HeaderMap::new()).await.unwrap()
    }

    /// With the key itself.
    pub(crate) async fn call_by_key(
        &self,
        hub: &Hub,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.client
            .call_signed_by_key(&hub.peer, method, path, body, PATIENCE, HeaderMap::new())
            .await
            .unwrap()
    }
}

/// A terminal, linked or not.
pub(crate) struct Terminal {
    pub(crate) actor: Actor,
    pub(crate) credential: CredentialId,
    pub(crate) prefix: Prefix,
    pub(crate) invitation: InvitationId,
    pub(crate) sequence: AtomicU64,
}

impl Terminal {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            actor: Actor::new(),
            credential: CredentialId::from_raw([0; 16]),
            prefix: Prefix::parse(prefix).unwrap(),
            invitation: chance::id(clock::now()),
            sequence: AtomicU64::new(1),
        }
    }

    pub(crate) fn link_request(&self) -> LinkRequest {
        LinkRequest {
            prefix: self.prefix,
            invitation_id: self.invitation,
            key: self.actor.key.public().clone(),
            label: "My phone".to_owned(),
            proof: [3; 32],
        }
    }

    pub(crate) async fn try_link(&self, hub: &Hub) -> Answer {
        let body = Some(to_json(&self.link_request()));
        self.actor.call_by_key(hub, Method::POST, "/v1/links", body).await
    }

    pub(crate) async fn linked(prefix: &str, hub: &Hub) -> Self {
        let mut terminal = Self::new(prefix);
        let answer = terminal.try_link(hub).await;
        assert_eq!(answer.status, 201, "{}", code_of(&answer));
        terminal.credential = answer.json::<LinkAnswer>().unwrap().credential_id;
        terminal
    }

    pub(crate) fn statement(&self) -> Statement {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        Statement {
            prefix: self.prefix,
            locator: Locator::from_number(u32::from(PARTITION) * 10_000 + 1_234).unwrap(),
            lifetime_s: 60,
            sequence: u32::try_from(sequence).unwrap(),
            credential: self.credential,
            tag: chance::bytes(),
            issued_at: clock::now(),
            currency_number: 392,
            cap_minor: 0,
        }
    }

    pub(crate) async fn register(&self, hub: &Hub, statement: &Statement) -> Answer {
        let registration = statement.sign(&self.actor.key).encode();
        let body = to_json(&CodeRequest { registration });
        hub.unsigned(Method::POST, "/v1/codes", Some(body)).await
    }

    pub(crate) async fn unlink(&self, hub: &Hub) -> Answer {
        let at = clock::now();
        let signed = warifu_proto::link::unlink_message(self.credential, at);
        let signature = self.actor.key.sign(&signed);
        let body = to_json(&UnlinkRequest { at_ms: at.as_ms(), signature });
        let path = format!("/v1/links/{}", self.credential);
        self.actor.call(hub, Method::DELETE, &path, Some(body)).await
    }

    /// Says yes or no. The signature is made of chance: the hub can't tell.
    pub(crate) fn word(&self, payment: PaymentId, verdict: Verdict) -> Vec<u8> {
        to_json(&ConfirmationRequest {
            credential_id: self.credential,
            payment_id: payment,
            verdict,
            signature: chance::bytes(),
        })
    }

    pub(crate) async fn confirm(&self, hub: &Hub, payment: PaymentId, verdict: Verdict) -> Answer {
        let body = self.word(payment, verdict);
        self.actor.call(hub, Method::POST, "/v1/confirmations", Some(body)).await
    }

    pub(crate) async fn events(&self, hub: &Hub, last: Option<&str>) -> Events {
        self.actor.client.events(&hub.peer, "/v1/events", last, PATIENCE, PATIENCE).await.unwrap()
    }
}

/// What a fake issuer saw and how it behaves.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) seen: Mutex<Vec<(String, Vec<u8>)>>,
    credentials: Mutex<HashMap<Thumbprint, CredentialId>>,
    verdicts: Mutex<HashMap<PaymentId, Verdict>>,
    /// Answered to everything instead of a yes.
    pub(crate) refusal: Mutex<Option<ProblemCode>>,
    pub(crate) delay_ms: AtomicU64,
    about: Mutex<Option<IssuerAbout>>,
}

/// A fake issuer behind the real edge.
pub(crate) struct Issuer {
    pub(crate) actor: Actor,
    pub(crate) id: IssuerId,
    pub(crate) prefix: Prefix,
    pub(crate) addr: SocketAddr,
    pub(crate) script: Arc<Script>,
    hub_key: PublicKey,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

struct OnlyHub(PublicKey);

impl KeyRing for OnlyHub {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        (self.0.thumbprint() == *thumbprint).then(|| self.0.clone())
    }
}

impl Issuer {
    /// Starts it on a free port.
    pub(crate) async fn start(network: &Network, prefix: &str) -> Self {
        let mut issuer = Self {
            actor: Actor::new(),
            id: chance::id(clock::now()),
            prefix: Prefix::parse(prefix).unwrap(),
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            script: Arc::default(),
            hub_key: network.hub_key.public().clone(),
            serving: None,
        };
        *issuer.script.about.lock().unwrap() = Some(IssuerAbout {
            id: issuer.id,
            name: "Aoba Pay".to_owned(),
            prefix: issuer.prefix,
            key: issuer.actor.key.thumbprint(),
        });
        issuer.come_back().await;
        issuer
    }

    /// Serves, on the same port as before if there was one.
    pub(crate) async fn come_back(&mut self) {
        let bound = serve::bind(self.addr, None).await.unwrap();
        self.addr = bound.local_addr();
        let edge = Arc::new(Edge::new(EdgeParts {
            key: Arc::clone(&self.actor.key),
            authorities: vec![self.addr.to_string()],
            ring: Arc::new(OnlyHub(self.hub_key.clone())),
            sessions: Arc::new(Sessions::new()),
            max_in_flight: 1_000,
        }));
        let routes = axum::Router::new()
            .route("/v1/links", axum::routing::post(link))
            .route("/v1/links/{crd}", axum::routing::delete(unlink))
            .route("/v1/codes", axum::routing::post(register))
            .route("/v1/confirmations", axum::routing::post(confirm))
            .with_state(Arc::clone(&self.script));
        let router = edge::apply(routes, edge);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            bound.serve(router, async move { drop(stopped.await) }).await.unwrap();
        });
        self.serving = Some((stop, serving));
    }

    /// Stops serving: calls are refused by the operating system.
    pub(crate) async fn go_away(&mut self) {
        let (stop, serving) = self.serving.take().unwrap();
        stop.send(()).unwrap();
        // Idle connections are not worth waiting for.
        tokio::time::sleep(Duration::from_millis(50)).await;
        serving.abort();
        drop(serving.await);
    }

    pub(crate) fn entry(&self, network: &Network, revision: u64, status: &str) -> Entry {
        let mut body = common(&self.id.to_string(), revision, status);
        extend(
            &mut body,
            json!({
                "name": "Aoba Pay", "prefix": self.prefix, "key": self.actor.key.public(),
                "currencies": ["JPY"],
                "endpoints": [{"url": format!("http://{}", self.addr), "from": 0, "to": 99}],
            }),
        );
        network.entry(EntryKind::Issuer, body)
    }

    pub(crate) fn seen(&self, what: &str) -> Vec<Vec<u8>> {
        let seen = self.script.seen.lock().unwrap();
        seen.iter().filter(|(path, _)| path == what).map(|(_, body)| body.clone()).collect()
    }

    /// Will answer this key's link with that credential.
    pub(crate) fn claims(&self, key: Thumbprint, credential: CredentialId) {
        self.script.credentials.lock().unwrap().insert(key, credential);
    }

    /// A notice outside of any session.
    pub(crate) async fn notice_by_key(
        &self,
        hub: &Hub,
        terminal: &Terminal,
        number: u64,
    ) -> Answer {
        let body = Self::notice_body(terminal, number, 1);
        self.actor.call_by_key(hub, Method::POST, "/v1/notices", Some(body)).await
    }

    pub(crate) async fn notice(
        &self,
        hub: &Hub,
        terminal: &Terminal,
        number: u64,
        text: u8,
    ) -> Answer {
        let body = Self::notice_body(terminal, number, text);
        self.actor.call(hub, Method::POST, "/v1/notices", Some(body)).await
    }

    fn notice_body(terminal: &Terminal, number: u64, text: u8) -> Vec<u8> {
        let mut raw = [text; 16];
        raw[..8].copy_from_slice(&number.to_be_bytes());
        to_json(&json!({
            "credential_id": terminal.credential, "notice_id": NoticeId::from_raw(raw),
            "number": number, "sealed": warifu_proto::base64url::encode([text; 40]),
        }))
    }
}

type Shared = State<Arc<Script>>;

async fn act(script: &Script, path: &str, body: &[u8]) -> ApiResult<()> {
    script.seen.lock().unwrap().push((path.to_owned(), body.to_vec()));
    tokio::time::sleep(Duration::from_millis(script.delay_ms.load(Ordering::Relaxed))).await;
    match *script.refusal.lock().unwrap() {
        Some(code) => Err(ApiProblem::new(code, "as the test wants it")),
        None => Ok(()),
    }
}

async fn link(
    State(script): Shared,
    _hub: Caller,
    RawBody(body): RawBody,
    Strict(request): Strict<LinkRequest>,
) -> ApiResult<Response> {
    act(&script, "link", &body).await?;
    let key = request.key.thumbprint();
    let credential =
        *script.credentials.lock().unwrap().entry(key).or_insert_with(|| chance::id(clock::now()));
    let answer = to_json(&LinkedAccount {
        credential_id: credential,
        partition: PARTITION,
        account: AccountAbout {
            name: "Aoba".to_owned(),
            kind: AccountKind::Prepaid,
            currency: serde_json::from_value(json!("JPY")).unwrap(),
            exponent: 0,
        },
        limits: LimitsAbout::default(),
        issuer: script.about.lock().unwrap().clone().unwrap(),
    });
    let answer = LinkAnswer { credential_id: credential, answer, confirmation: [9; 32] };
    Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
}

async fn unlink(
    State(script): Shared,
    axum::extract::Path(credential): axum::extract::Path<String>,
    _hub: Caller,
    RawBody(body): RawBody,
    Strict(_request): Strict<UnlinkRequest>,
) -> ApiResult<axum::Json<UnlinkAnswer>> {
    act(&script, "unlink", &body).await?;
    let credential_id = CredentialId::parse(&credential)?;
    Ok(axum::Json(UnlinkAnswer { credential_id, status: "unlinked".to_owned() }))
}

async fn register(
    State(script): Shared,
    _hub: Caller,
    RawBody(body): RawBody,
    Strict(_request): Strict<CodeRequest>,
) -> ApiResult<Response> {
    act(&script, "code", &body).await?;
    let now_ms = clock::now().as_ms();
    let answer = CodeAnswer { expires_ms: now_ms + 60_000, now_ms, ack: [5; 16] };
    Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
}

/// The first verdict stands.
async fn confirm(
    State(script): Shared,
    _hub: Caller,
    RawBody(body): RawBody,
    Strict(request): Strict<ConfirmationRequest>,
) -> ApiResult<axum::Json<ConfirmationAnswer>> {
    act(&script, "confirmation", &body).await?;
    let payment_id = request.payment_id;
    let mut verdicts = script.verdicts.lock().unwrap();
    let verdict = *verdicts.entry(payment_id).or_insert(request.verdict);
    Ok(axum::Json(ConfirmationAnswer { payment_id, verdict }))
}

/// A hub with one issuer in its directory.
pub(crate) async fn hub_and_issuer(change: impl FnOnce(&mut Config)) -> (Network, Hub, Issuer) {
    let network = Network::new();
    let hub = network.start_with(change).await;
    let issuer = Issuer::start(&network, "71000001").await;
    let report = hub.publish(&[hub_entry(&network), issuer.entry(&network, 1, "active")]).await;
    assert_eq!(report["taken"], 2);
    (network, hub, issuer)
}
