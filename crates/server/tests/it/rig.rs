//! A server with a few routes, a caller that writes its requests by hand, and a proxy that alters answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::signature::{
    ReceivedSignature, RequestTarget, SigningKey, content_digest, content_digest_matches,
    sign_request,
};
use warifu_server::client::{Client, Peer, http_client};
use warifu_server::edge::{self, Caller, Edge, EdgeParts, KeyRing, MaybeCaller};
use warifu_server::json::{Query, Strict};
use warifu_server::problem::ApiProblem;
use warifu_server::serve::{self, TlsFiles};
use warifu_server::session::Sessions;
use warifu_server::{chance, clock};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Keys that may call; `POST /carry` may bring its own.
#[derive(Default)]
pub(crate) struct Ring(Mutex<HashMap<Thumbprint, PublicKey>>);

impl Ring {
    pub(crate) fn add(&self, key: &PublicKey) {
        self.0.lock().unwrap().insert(key.thumbprint(), key.clone());
    }

    pub(crate) fn remove(&self, key: &PublicKey) {
        self.0.lock().unwrap().remove(&key.thumbprint());
    }
}

impl KeyRing for Ring {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        self.0.lock().unwrap().get(thumbprint).cloned()
    }

    fn takes_carried_key(&self, method: &str, path: &str) -> bool {
        method == "POST" && (path == "/carry" || path == "/v1/sessions")
    }
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Echo {
    pub(crate) text: String,
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wait {
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Carry {
    key: PublicKey,
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/echo", post(async |_: Caller, Strict(it): Strict<Echo>| Json(it)))
        .route("/anyone", post(async |Strict(it): Strict<Echo>| Json(it)))
        .route("/who", get(async |MaybeCaller(it): MaybeCaller| Json(it)))
        .route("/who-else", get(async |it: Option<Caller>| Json(it.map(|it| it.0))))
        .route("/me", get(async |Caller(it): Caller| Json(it)))
        .route(
            "/carry",
            post(async |Caller(who): Caller, Strict(it): Strict<Carry>| {
                Json(who == it.key.thumbprint())
            }),
        )
        .route(
            "/wait",
            get(async |Query(it): Query<Wait>| {
                tokio::time::sleep(Duration::from_millis(it.wait_ms.unwrap_or(400))).await;
                "waited"
            }),
        )
        .route("/panic", get(panics))
        .route("/problem", get(problem))
        .route("/text-error", get(async || (axum::http::StatusCode::CONFLICT, "secret")))
        .route("/number/{n}", get(async |axum::extract::Path(n): axum::extract::Path<u8>| Json(n)))
        .route("/events", get(events))
        .route("/big", get(async || vec![b'x'; 9 * 1024 * 1024]))
        .route("/pieces", get(async || "piece ".repeat(100_000)))
}

async fn panics() -> &'static str {
    panic!("on purpose, in a test")
}

async fn problem() -> ApiProblem {
    ApiProblem::new(ProblemCode::TooManyMisses, "Wait.")
        .retry_after_s(60)
        .caused_by(anyhow::anyhow!("a private cause"))
}

async fn events(
    _: Caller,
    headers: axum::http::HeaderMap,
) -> Sse<impl futures_util::Stream<Item = Result<Event, std::convert::Infallible>>> {
    use futures_util::StreamExt;
    let last: u64 =
        headers.get("last-event-id").and_then(|it| it.to_str().unwrap().parse().ok()).unwrap_or(0);
    let event = |n: u64| {
        let data = format!("line {n}\nmore");
        Ok(Event::default().id(n.to_string()).event("notice").data(data))
    };
    let first = [event(last + 1), event(last + 2)];
    let endless = futures_util::stream::iter(first).chain(futures_util::stream::pending());
    Sse::new(endless).keep_alive(KeepAlive::new().interval(Duration::from_millis(100)))
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) sessions: Arc<Sessions>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

pub(crate) struct Setup {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) listen: SocketAddr,
    pub(crate) further_authorities: Vec<String>,
    pub(crate) max_in_flight: usize,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) routes: Router,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            key: Arc::new(chance::key()),
            ring: Arc::default(),
            listen: "127.0.0.1:0".parse().unwrap(),
            further_authorities: Vec::new(),
            max_in_flight: 100,
            tls: None,
            routes: routes(),
        }
    }
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let Setup { key, ring, listen, mut further_authorities, max_in_flight, tls, routes } =
            setup;
        let bound = serve::bind(listen, tls).await.unwrap();
        let addr = bound.local_addr();
        further_authorities.push(addr.to_string());
        let sessions = Arc::new(Sessions::new());
        let edge = Edge::new(EdgeParts {
            key: Arc::clone(&key),
            authorities: further_authorities,
            ring: Arc::<Ring>::clone(&ring),
            sessions: Arc::clone(&sessions),
            max_in_flight,
        });
        let router = edge::apply(routes, Arc::new(edge));
        let router = router.merge(warifu_server::telemetry::health_routes(|| Ok(())));
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            bound.serve(router, async { drop(stopped.await) }).await.unwrap();
        });
        Self { addr, key, ring, sessions, stop, served }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer { url: self.url(), key: self.key.public().clone() }
    }

    /// A client with a new key that the server takes.
    pub(crate) fn client(&self) -> Client {
        let key = chance::key();
        self.ring.add(key.public());
        client_of(key)
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }
}

pub(crate) fn client_of(key: PrivateKey) -> Client {
    Client::new(Arc::new(key), http_client(None).unwrap())
}

/// An answer as it came, header names in lower case.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("an answer with a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|it| it.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        assert_eq!(problem.instance.len(), 16);
        problem
    }
}

/// A request written by hand, so that it can be wrong in any way.
#[derive(Clone)]
pub(crate) struct Hand<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The signature to which the answer must be bound.
    pub(crate) signature: Option<Vec<u8>>,
}

impl<'a> Hand<'a> {
    pub(crate) fn new(server: &Server, method: &'a str, target: &'a str, body: &str) -> Self {
        let mut headers = Vec::new();
        if !body.is_empty() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let host = server.addr.to_string();
        Self { method, target, host, headers, body: body.into(), signature: None }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|it| it.0 != name);
        self
    }

    fn target(&self) -> RequestTarget<'_> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        RequestTarget { method: self.method, authority: &self.host, path, query }
    }

    pub(crate) fn signed(self, key: &PrivateKey) -> Self {
        let now_s = clock::now().as_ms() / 1000;
        self.signed_at(SigningKey::Identity(key), now_s)
    }

    pub(crate) fn signed_at(mut self, key: SigningKey<'_>, created_s: u64) -> Self {
        let digest = (!self.body.is_empty()).then(|| content_digest(&self.body));
        let signed = sign_request(&self.target(), digest.as_deref(), key, created_s, "abc");
        if let Some(digest) = digest {
            self.headers.push(("content-digest".to_owned(), digest));
        }
        let received = ReceivedSignature::parse(&signed.signature_input, &signed.signature);
        self.signature = Some(received.unwrap().bytes().to_vec());
        self.header("signature-input", &signed.signature_input)
            .header("signature", &signed.signature)
    }

    pub(crate) fn head(&self, length: usize) -> String {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if length > 0 {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head + "connection: close\r\n\r\n"
    }

    /// Sends it and reads until the server closes.
    pub(crate) async fn send(&self, server: &Server) -> Raw {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let mut bytes = self.head(self.body.len()).into_bytes();
        bytes.extend_from_slice(&self.body);
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(5 * SECOND, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        Raw::read(&answer)
    }

    /// Sends it, and checks that the answer is signed by the server's identity and bound to this request.
    pub(crate) async fn checked(&self, server: &Server) -> Raw {
        let answer = self.send(server).await;
        let base = self.base(&answer);
        let (received, base) = base.unwrap();
        received.verify_with_key(&base, server.key.public()).unwrap();
        answer
    }

    pub(crate) fn base(
        &self,
        answer: &Raw,
    ) -> Result<(ReceivedSignature, String), Box<dyn std::error::Error>> {
        let field = |name: &str| answer.header(name).map(str::to_owned);
        let received = ReceivedSignature::parse(
            answer.header("signature-input").ok_or("no signature-input")?,
            answer.header("signature").ok_or("no signature")?,
        )?;
        let digest = answer.header("content-digest");
        if let Some(digest) = digest {
            assert!(content_digest_matches(digest, &answer.body));
        }
        let bound = self.signature.as_deref().map(|it| ("sig", it));
        let base = received.check_answer(answer.status, digest, &self.target(), bound, field)?;
        Ok((received, base))
    }

    /// The code of the problem that it gets, the answer checked.
    pub(crate) async fn problem(&self, server: &Server) -> String {
        self.checked(server).await.problem().code
    }
}

/// Where the proxy stands and what it makes of an answer.
pub(crate) type Alter = fn(Vec<u8>) -> Vec<u8>;

/// A proxy that hands requests on as they are and alters what comes back. It closes after each answer.
pub(crate) async fn proxy(listener: TcpListener, to: SocketAddr, alter: Arc<Mutex<Alter>>) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let alter = Arc::clone(&alter);
        tokio::spawn(async move {
            let mut far = TcpStream::connect(to).await.unwrap();
            let (mut near_in, mut near_out) = near.split();
            let (mut far_in, mut far_out) = far.split();
            let there = tokio::io::copy(&mut near_in, &mut far_out);
            let back = async {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    let read = far_in.read(&mut buffer).await.unwrap_or(0);
                    if read == 0 {
                        break;
                    }
                    let alter = *alter.lock().unwrap();
                    // One answer is one read here: they are small and written at once.
                    let altered = alter(buffer[..read].to_vec());
                    if near_out.write_all(&altered).await.is_err() || altered.is_empty() {
                        break;
                    }
                }
            };
            tokio::select! { _ = there => {}, () = back => {} }
        });
    }
}
