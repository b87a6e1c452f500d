//! The client against the server: sessions, altered answers, errors told apart, streams.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use warifu_proto::key::Thumbprint;
use warifu_server::chance;
use warifu_server::client::{Answer, CallError, Client, EventsError, Peer};

use crate::rig::{Alter, Echo, Hand, SECOND, Server, Setup, client_of, proxy};

async fn me(client: &Client, peer: &Peer) -> Result<Answer, CallError> {
    client.call(peer, Method::GET, "/me", None, 5 * SECOND, HeaderMap::new()).await
}

fn kind(error: &CallError) -> &'static str {
    match error {
        CallError::Unreachable { .. } => "unreachable",
        CallError::TimedOut { .. } => "timed out",
        CallError::Broken { .. } => "broken",
        CallError::Unverified { .. } => "unverified",
    }
}

#[tokio::test]
async fn calls_go_in_one_session_which_a_restart_forgets() {
    let server = Server::start(Setup::default()).await;
    let (client, peer) = (server.client(), server.peer());
    for _ in 0..3 {
        let who: Thumbprint = me(&client, &peer).await.unwrap().json().unwrap();
        assert_eq!(who, client.identity().thumbprint());
    }
    assert_eq!(server.sessions.len(), 1);
    let echo = Echo { text: "hi".to_owned(), count: Some(3) };
    let body = serde_json::to_vec(&echo).unwrap();
    let answer =
        client.call(&peer, Method::POST, "/echo", Some(body), SECOND, HeaderMap::new()).await;
    assert_eq!(answer.unwrap().json::<Echo>().unwrap(), echo);

    let setup = Setup {
        key: Arc::clone(&server.key),
        ring: Arc::clone(&server.ring),
        listen: server.addr,
        ..Setup::default()
    };
    server.stop().await;
    let error = me(&client, &peer).await.unwrap_err();
    assert_eq!(kind(&error), "unreachable", "{error}");
    let server = Server::start(setup).await;
    // Unknown there: signed with the key at once, and the next call opens another session.
    assert!(me(&client, &peer).await.unwrap().is_ok());
    assert_eq!(server.sessions.len(), 0);
    assert!(me(&client, &peer).await.unwrap().is_ok());
    assert!(me(&client, &peer).await.unwrap().is_ok());
    assert_eq!(server.sessions.len(), 1);

    // A session dies with its key.
    server.ring.remove(client.identity().public());
    let answer = me(&client, &peer).await.unwrap();
    assert_eq!(answer.problem().unwrap().code, "key_unknown");
    assert_eq!(server.sessions.len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn concurrent_first_calls_open_one_session() {
    let server = Server::start(Setup::default()).await;
    let (client, peer) = (server.client(), server.peer());
    let calls = (0..20).map(|_| me(&client, &peer));
    for answer in futures_util::future::join_all(calls).await {
        assert!(answer.unwrap().is_ok());
    }
    assert_eq!(server.sessions.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_opens_no_session_is_called_by_key() {
    let server = Server::start(Setup::default()).await;
    // Not in the ring, so it gets no session; its call carries its key.
    let client = client_of(chance::key());
    let body = serde_json::json!({ "key": client.identity().public() }).to_string().into_bytes();
    let answer = client
        .call(&server.peer(), Method::POST, "/carry", Some(body), SECOND, HeaderMap::new())
        .await
        .unwrap();
    assert_eq!(answer.body, "true");
    assert!(server.sessions.is_empty());
    server.stop().await;
}

fn flip(bytes: Vec<u8>, what: &[u8], with: &[u8]) -> Vec<u8> {
    match bytes.windows(what.len()).position(|it| it == what) {
        Some(at) => [&bytes[..at], with, &bytes[at + what.len()..]].concat(),
        None => bytes,
    }
}

#[tokio::test]
async fn altered_answers_are_no_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap();
    let further_authorities = vec![near.to_string()];
    let server = Server::start(Setup { further_authorities, ..Setup::default() }).await;
    let alter: Arc<Mutex<Alter>> = Arc::new(Mutex::new(|it| it));
    let proxied = tokio::spawn(proxy(listener, server.addr, Arc::clone(&alter)));
    let (client, unsure) = (server.client(), server.client());
    let peer = Peer { url: format!("http://{near}"), key: server.key.public().clone() };
    assert!(me(&client, &peer).await.unwrap().is_ok());
    assert_eq!(server.sessions.len(), 1);

    let alterations: [(&str, Alter); 7] = [
        ("a byte of the body", |mut it| {
            let last = it.len() - 1;
            it[last] ^= 1;
            it
        }),
        ("the status", |it| flip(it, b"200 OK", b"201 OK")),
        ("the digest", |it| flip(it, b"content-digest: sha-256=:", b"content-digest: sha-255=:")),
        ("no digest", |it| flip(it, b"content-digest:", b"content-dig:")),
        ("no signature", |it| flip(it, b"signature:", b"autograph:")),
        ("no input", |it| flip(it, b"signature-input:", b"signature-put:")),
        ("when", |it| flip(it, b";created=", b";created=1")),
    ];
    for (what, altered) in alterations {
        *alter.lock().unwrap() = altered;
        let error = me(&client, &peer).await.expect_err(what);
        assert_eq!(kind(&error), "unverified", "{what}: {error}");
        // Likewise signed by the key, and not signed at all.
        let (get, none) = (Method::GET, HeaderMap::new());
        let by_key =
            client.call_signed_by_key(&peer, get.clone(), "/me", None, SECOND, none.clone()).await;
        assert_eq!(kind(&by_key.expect_err(what)), "unverified", "{what}");
        let unsigned = client.call_unsigned(&peer, get, "/who", None, SECOND, none).await;
        assert_eq!(kind(&unsigned.expect_err(what)), "unverified", "{what}");
    }
    // Where the session's opening is altered, nobody believes in a session.
    *alter.lock().unwrap() = |it| flip(it, b"\"session_id\":\"ses_0", b"\"session_id\":\"ses_1");
    assert!(me(&unsure, &peer).await.unwrap().is_ok());
    assert!(me(&unsure, &peer).await.unwrap().is_ok());
    assert_eq!(server.sessions.len(), 2);

    *alter.lock().unwrap() = |_| Vec::new();
    assert_eq!(kind(&me(&client, &peer).await.unwrap_err()), "broken");
    proxied.abort();
    server.stop().await;
}

#[tokio::test]
async fn an_answer_counts_for_its_own_request_only() {
    let server = Server::start(Setup::default()).await;
    let client = server.client();
    // Another server's key, however honest its answer.
    let peer = Peer { key: chance::key().public().clone(), ..server.peer() };
    assert_eq!(kind(&me(&client, &peer).await.unwrap_err()), "unverified");
    // The answer to one request does not answer another: see also the nonce in every signature.
    let answer = client
        .call_unsigned(&server.peer(), Method::GET, "/who?", None, SECOND, HeaderMap::new())
        .await;
    assert_eq!(answer.unwrap().body, "null");
    server.stop().await;
}

#[tokio::test]
async fn errors_say_whether_anything_was_sent() {
    let client = client_of(chance::key());
    let key = chance::key().public().clone();
    let call = |url: String, deadline| {
        let (client, peer) = (&client, Peer { url, key: key.clone() });
        async move {
            let answer = client
                .call_signed_by_key(&peer, Method::GET, "/", None, deadline, HeaderMap::new())
                .await;
            answer.unwrap_err()
        }
    };
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = call(format!("http://{closed}"), SECOND).await;
    assert_eq!(kind(&error), "unreachable");
    assert!(error.to_string().contains("refused"), "{error}");
    for url in ["http://192.0.2.1:1", "http://pay.example.com", "ftp://127.0.0.1", "nonsense", ""] {
        let error = call(url.to_owned(), SECOND).await;
        assert_eq!(kind(&error), "unreachable", "{url}");
    }
    let plain = call("http://pay.example.com".to_owned(), SECOND).await.to_string();
    assert!(plain.contains("loopback") && plain.contains("https://"), "{plain}");
    let unknown = call("https://no-such-host.invalid".to_owned(), 5 * SECOND).await;
    assert_eq!(kind(&unknown), "unreachable", "{unknown}");

    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", deaf.local_addr().unwrap());
    let began = Instant::now();
    assert_eq!(kind(&call(url.clone(), Duration::from_millis(300)).await), "timed out");
    assert!(began.elapsed() < SECOND);

    let hangs_up = tokio::spawn(async move {
        loop {
            let (mut stream, _) = deaf.accept().await.unwrap();
            let mut some = [0; 64];
            drop(stream.read(&mut some).await);
        }
    });
    assert_eq!(kind(&call(url, SECOND).await), "broken");
    hangs_up.abort();
}

#[tokio::test]
async fn answers_are_bounded_and_put_together() {
    let server = Server::start(Setup::default()).await;
    let (client, peer) = (server.client(), server.peer());
    let get = |path: &'static str| {
        client.call(&peer, Method::GET, path, None, 5 * SECOND, HeaderMap::new())
    };
    let error = get("/big").await.unwrap_err();
    assert_eq!(kind(&error), "broken");
    assert!(error.to_string().contains("too large"), "{error}");
    let pieces = get("/pieces").await.unwrap();
    assert_eq!(pieces.body.len(), 600_000);
    server.stop().await;
}

#[tokio::test]
async fn streams_are_signed_and_read_event_by_event() {
    let server = Server::start(Setup::default()).await;
    let (client, peer) = (server.client(), server.peer());
    let open = |last: Option<&'static str>, silence| {
        client.events(&peer, "/events", last, SECOND, silence)
    };
    let mut events = open(Some("41"), SECOND).await.unwrap();
    for n in ["42", "43"] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.id.as_deref(), event.event.as_str()), (Some(n), "notice"));
        assert_eq!(event.data, format!("line {n}\nmore"));
    }
    // Heartbeats keep the stream alive beyond the silence that is allowed.
    let quiet = tokio::time::timeout(SECOND / 2, events.next()).await;
    assert!(quiet.is_err());
    let mut impatient = open(None, Duration::from_millis(30)).await.unwrap();
    let ended = async {
        while let Some(event) = impatient.next().await {
            if let Err(error) = event {
                return kind(&error);
            }
        }
        "ended"
    };
    assert_eq!(ended.await, "timed out");

    let stranger = client_of(chance::key());
    match stranger.events(&peer, "/events", None, SECOND, SECOND).await {
        Err(EventsError::Refused(answer)) => {
            assert_eq!(answer.problem().unwrap().code, "key_unknown");
        }
        other => panic!("{:?}", other.err()),
    }
    let wrong = Peer { key: chance::key().public().clone(), ..peer.clone() };
    match client.events(&wrong, "/events", None, SECOND, SECOND).await {
        Err(EventsError::Call(error)) => assert_eq!(kind(&error), "unverified"),
        other => panic!("{:?}", other.err()),
    }
    // A stop ends streams and waiting calls at once instead of waiting for them.
    let waiting =
        client.call(&peer, Method::GET, "/wait?wait_ms=60000", None, 5 * SECOND, HeaderMap::new());
    let stopping = async {
        tokio::time::sleep(SECOND / 5).await;
        let began = Instant::now();
        server.stop().await;
        began.elapsed()
    };
    let (waited, took) = tokio::join!(waiting, stopping);
    assert_eq!(waited.unwrap().problem().unwrap().code, "not_accepted");
    assert!(took < 2 * SECOND, "{took:?}");
    assert!(events.next().await.is_none_or(|it| it.is_err()));
}

/// What lies between may send a copy of a request with another body, and show its refusal in place of the answer.
#[tokio::test]
async fn the_refusal_of_an_altered_copy_is_no_answer_to_the_request() {
    let server = Server::start(Setup::default()).await;
    let key = chance::key();
    server.ring.add(key.public());
    let good = Hand::new(&server, "POST", "/echo", r#"{"text":"hi"}"#).signed(&key);
    assert_eq!(good.checked(&server).await.status, 200);
    let large = "x".repeat(warifu_proto::limits::BODY_MAX_BYTES + 1);
    let copies = [
        Hand { body: br#"{"text":"ho"}"#.to_vec(), ..good.clone() },
        Hand { body: large.into_bytes(), ..good.clone() },
        Hand { target: "/echo?x", ..good.clone() },
        Hand { host: "elsewhere.example".to_owned(), ..good.clone() },
    ];
    for copy in copies {
        let refusal = copy.send(&server).await;
        assert!((400..500).contains(&refusal.status), "{}", refusal.status);
        assert!(good.base(&refusal).is_err(), "bound to the request that was answered otherwise");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_caller_of_unknown_key_hears_so_before_its_call_is_sent() {
    let server = Server::start(Setup::default()).await;
    let client = client_of(chance::key());
    let call = || {
        let peer = server.peer();
        let client = &client;
        async move {
            client
                .call_by_known_key(&peer, Method::GET, "/me", None, SECOND, HeaderMap::new())
                .await
        }
    };
    for _ in 0..2 {
        assert_eq!(call().await.unwrap().problem().unwrap().code, "key_unknown");
    }
    server.ring.add(client.identity().public());
    assert!(call().await.unwrap().is_ok(), "as soon as it is known");
    // In its session the peer says who it was that it no longer knows.
    server.ring.remove(client.identity().public());
    assert_eq!(call().await.unwrap().problem().unwrap().code, "key_unknown");
    server.stop().await;
}
