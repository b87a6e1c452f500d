//! Wires in front of real servers over real sockets.

use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use warifu_server::client::http_client;

use super::*;

/// What a server saw.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    hosts: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A server that answers with the request's body, number and target; `/v1/events` never ends.
async fn server() -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (at, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
    let counts = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counts.connections.fetch_add(1, Ordering::SeqCst);
            let counts = Arc::clone(&counts);
            let service = service_fn(move |request| answer(Arc::clone(&counts), request));
            tokio::spawn(async move {
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    (at, seen)
}

async fn answer(
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let number = seen.requests.fetch_add(1, Ordering::SeqCst);
    let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
    seen.hosts.lock().unwrap().push(host);
    if request.uri().path() == "/v1/events" {
        let events = stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Frame::data(Bytes::from(format!("data: {count}\n\n")))), count + 1))
        });
        return Ok(Response::new(BodyExt::boxed(StreamBody::new(events))));
    }
    let target = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let said = format!("{number} {target} {}", String::from_utf8_lossy(&body));
    Ok(Response::builder()
        .header("x-signed", "as it was")
        .body(Full::new(Bytes::from(said)).boxed())
        .unwrap())
}

/// An issuer behind a wire with this plan, already on.
struct Bench {
    url: String,
    seen: Arc<Seen>,
    faults: Arc<Faults>,
    told: mpsc::Receiver<Injected>,
    kills: Arc<AtomicUsize>,
    http: reqwest::Client,
    _wire: Wire,
}

impl Bench {
    async fn with(spec: &str) -> Self {
        let (to, seen) = server().await;
        let (faults, told) = Faults::new(spec.parse().unwrap());
        let socket = Socket::open().await.unwrap();
        let url = socket.url();
        let kills = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&kills);
        let kill: Kill = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let wire = socket.connect(Server::Issuer, to, &faults, kill);
        faults.begin();
        let http = http_client(None).unwrap();
        Self { url, seen, faults, told, kills, http, _wire: wire }
    }

    /// What comes back; nothing when the connection closes.
    async fn call(&self, path: &str) -> Option<String> {
        let sent = self.http.post(format!("{}{path}", self.url)).body("body").send().await;
        let answer = sent.ok()?;
        assert_eq!(answer.headers()["x-signed"], "as it was");
        Some(answer.text().await.unwrap())
    }

    fn injected(&self, direction: Direction, fault: Fault) -> u64 {
        self.faults.report().of(Hop::ReaderIssuer, direction, fault)
    }
}

#[tokio::test]
async fn everything_passes_unaltered_on_one_connection() {
    let bench = Bench::with("seed=1").await;
    for number in 0..5 {
        let said = bench.call("/v1/payments?request_id=a%20b&route=").await.unwrap();
        assert_eq!(said, format!("{number} /v1/payments?request_id=a%20b&route= body"));
    }
    assert_eq!(bench.seen.connections.load(Ordering::SeqCst), 1, "the connection is kept");
    // What is signed is the wire's address, so that is what the server must see.
    let host = bench.url.trim_start_matches("http://").to_owned();
    assert!(bench.seen.hosts.lock().unwrap().iter().all(|it| *it == host));
    assert_eq!(bench.faults.report().calls(Hop::ReaderIssuer), 5);
}

#[tokio::test]
async fn a_lost_request_never_arrives() {
    let mut bench = Bench::with("reader-issuer.request:drop=1").await;
    assert_eq!(bench.call("/v1/payments").await, None);
    assert_eq!(bench.seen.requests(), 0);
    assert_eq!(bench.injected(Direction::Request, Fault::Drop), 1);
    let told = bench.told.recv().await.unwrap();
    assert_eq!(
        (told.hop, told.direction, told.fault),
        (Hop::ReaderIssuer, Direction::Request, Fault::Drop)
    );
}

#[tokio::test]
async fn a_lost_answer_was_given() {
    let bench = Bench::with("reader-issuer.answer:drop=1").await;
    assert_eq!(bench.call("/v1/reversals").await, None);
    assert_eq!(bench.seen.requests(), 1);
    assert_eq!(bench.injected(Direction::Answer, Fault::Drop), 1);
}

#[tokio::test]
async fn a_late_request_arrives_though_nobody_waits_any_more() {
    let bench = Bench::with("reader-issuer.request:delay=1@400,seed=5").await;
    let began = Instant::now();
    let call = bench.call("/v1/payments");
    let gone = tokio::time::timeout(Duration::from_millis(20), call).await;
    assert!(gone.is_err() && bench.seen.requests() == 0);
    while bench.seen.requests() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.injected(Direction::Request, Fault::Delay), 1);
}

#[tokio::test]
async fn a_doubled_request_arrives_twice_and_one_answer_comes_back() {
    for direction in Direction::ALL {
        let bench = Bench::with(&format!("*.{direction}:duplicate=1")).await;
        assert!(bench.call("/v1/payments").await.is_some());
        assert_eq!(bench.seen.requests(), 2);
        assert_eq!(bench.injected(direction, Fault::Duplicate), 1);
    }
}

#[tokio::test]
async fn a_kill_comes_after_the_answer_and_before_the_caller_has_it() {
    let bench = Bench::with("*:kill=1").await;
    assert_eq!(bench.call("/v1/payments").await, None);
    assert_eq!((bench.seen.requests(), bench.kills.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(bench.faults.report().total(Fault::Kill), 1);
}

#[tokio::test]
async fn healing_ends_it_and_setting_up_is_never_touched() {
    let bench = Bench::with("*:drop=1").await;
    assert!(bench.call("/v1/directory").await.is_some());
    assert!(bench.call("/admin/v1/payments").await.is_some());
    assert_eq!(bench.call("/v1/payments").await, None);
    bench.faults.heal();
    assert!(bench.call("/v1/payments").await.is_some());
    assert_eq!(bench.faults.report().line(), "drop 1, delay 0, duplicate 0, kill 0 in 1 calls");
    assert_eq!(bench.faults.report().object()["reader-issuer"]["request"]["drop"], 1);
}

#[tokio::test]
async fn streams_pass_piece_by_piece() {
    let bench = Bench::with("*:delay=1@5,*:duplicate=1").await;
    let answer = bench.http.get(format!("{}/v1/events", bench.url)).send().await.unwrap();
    let mut pieces = answer.bytes_stream();
    for number in 0..3 {
        let piece = tokio::time::timeout(Duration::from_secs(20), pieces.next()).await;
        assert_eq!(piece.unwrap().unwrap().unwrap(), format!("data: {number}\n\n"));
    }
}

#[tokio::test]
async fn the_same_seed_does_the_same_to_the_same_calls() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bench = Bench::with("*:drop=0.3,*:duplicate=0.2,seed=42").await;
        let mut answered = Vec::new();
        for _ in 0..40 {
            answered.push(bench.call("/v1/payments").await.is_some());
        }
        assert!(answered.contains(&true) && answered.contains(&false));
        runs.push((answered, bench.seen.requests(), bench.faults.report()));
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_server_that_is_away_is_a_closed_connection() {
    let (faults, _told) = Faults::new(Plan::default());
    let socket = Socket::open().await.unwrap();
    let url = socket.url();
    let nobody = Socket::open().await.unwrap().address;
    let _wire = socket.connect(Server::Issuer, nobody, &faults, Arc::new(|| ()));
    assert!(http_client(None).unwrap().get(format!("{url}/healthz")).send().await.is_err());
}
