//! The hub over real HTTP: links, registrations, notices, directory, pairing, and what outlives a restart.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "it/confirmations.rs"]
mod confirmations;
#[path = "it/directory.rs"]
mod directory;
#[path = "it/harness.rs"]
mod harness;
#[path = "it/notices.rs"]
mod notices;
#[path = "it/pairing.rs"]
mod pairing;
#[path = "it/terminals.rs"]
mod terminals;

use axum::http::Method;
use harness::{Actor, Network, Terminal, code_of, hub_and_issuer, to_json};
use serde_json::{Value, json};

#[tokio::test]
async fn a_restart_keeps_links_notices_and_directory() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let terminal = Terminal::linked("71000001", &hub).await;
    assert_eq!(issuer.notice(&hub, &terminal, 1, 1).await.status, 200);
    let before = hub.directory("view=all").await;
    hub.stop().await;

    let hub = network.start().await;
    let after = hub.directory("view=all").await;
    assert_eq!((&after["head"], &after["version"]), (&before["head"], &before["version"]));
    assert_eq!(after["entries"], before["entries"]);
    let registered = terminal.register(&hub, &terminal.statement()).await;
    assert_eq!(registered.status, 201, "{}", code_of(&registered));
    let mut events = terminal.events(&hub, None).await;
    assert_eq!(notices::next(&mut events).await.number, 1);
    drop(events);
    hub.stop().await;
}

#[tokio::test]
async fn a_folder_has_one_hub() {
    let network = Network::new();
    let hub = network.start().await;
    let config =
        warifu_hub::Config { listen: "127.0.0.1:0".parse().unwrap(), ..Default::default() };
    let second = warifu_hub::start(config, network.folder.path()).await;
    assert!(format!("{:#}", second.unwrap_err()).contains("another running instance"));
    hub.stop().await;
}

#[tokio::test]
async fn two_folders_of_settings_have_no_data_in_common() {
    let network = Network::new();
    let hub = network.start().await;
    let other = tempfile::tempdir().unwrap();
    for file in ["network.json", "hub.key"] {
        std::fs::copy(network.folder.path().join(file), other.path().join(file)).unwrap();
    }
    let config = || warifu_hub::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: network.folder.path().join("data"),
        ..Default::default()
    };
    let second = warifu_hub::start(config(), other.path()).await;
    assert!(format!("{:#}", second.unwrap_err()).contains("another running instance"));
    hub.stop().await;
    warifu_hub::start(config(), other.path()).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn pages_probes_and_the_document_are_public() {
    let network = Network::new();
    let hub = network.start().await;
    let get = async |path: &str| hub.unsigned(Method::GET, path, None).await;
    for (path, holds) in [
        ("/", network.id.to_string()),
        ("/wallet", "warifu terminal link".to_owned()),
        ("/till", "warifu reader pair".to_owned()),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, 200);
        assert!(String::from_utf8_lossy(&answer.body).contains(&holds), "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
    let document: Value = get("/openapi.json").await.json().unwrap();
    assert_eq!(document["openapi"].as_str().unwrap().get(..3), Some("3.1"));
    assert_eq!(code_of(&get("/v1/nowhere").await), "not_found");
    let wrong = hub.unsigned(Method::PUT, "/v1/codes", Some(b"{}".to_vec())).await;
    assert_eq!(code_of(&wrong), "method_not_allowed");

    // Probes are not behind the edge: plain HTTP, unsigned.
    let probe = async |path: &str| plain_get(hub.running.local_addr, path).await;
    assert!(probe("/healthz").await.contains("200 OK"));
    assert!(probe("/readyz").await.contains("200 OK"));
    assert!(probe("/metrics").await.contains("http_requests_total"));
    hub.stop().await;
}

async fn plain_get(addr: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn calls_that_need_a_signature_say_so() {
    let (_network, hub, _issuer) = hub_and_issuer(|_| {}).await;
    let pairing = "/v1/pairings/par_00000000000000000000000000";
    let link = Terminal::new("71000001").link_request();
    let asking =
        json!({"key": link.key, "name": "Till", "proof": warifu_proto::base64url::encode([1; 32])});
    let empty_entry = json!({"entry": {"kind": "reader", "body": "", "key": link.key.thumbprint(),
                             "signature": warifu_proto::base64url::encode([1; 64])}});
    let signature = warifu_proto::base64url::encode([1; 64]);
    let calls = [
        (Method::POST, "/v1/links", Some(to_json(&link))),
        (
            Method::DELETE,
            "/v1/links/crd_00000000000000000000000000",
            Some(to_json(&json!({"at_ms": 1, "signature": signature}))),
        ),
        (
            Method::POST,
            "/v1/notices",
            Some(to_json(&json!({"credential_id": "crd_00000000000000000000000000",
            "notice_id": "ntc_00000000000000000000000000", "number": 1, "sealed": ""}))),
        ),
        (Method::GET, "/v1/events", None),
        (
            Method::POST,
            "/v1/confirmations",
            Some(to_json(&json!({"credential_id": "crd_00000000000000000000000000",
            "payment_id": "pay_00000000000000000000000000", "verdict": "confirm", "signature": signature}))),
        ),
        (
            Method::POST,
            "/v1/pairings",
            Some(to_json(
                &json!({"pairing_id": "par_00000000000000000000000000", "expires_ms": 1}),
            )),
        ),
        (Method::POST, pairing, Some(to_json(&asking))),
        (Method::GET, pairing, None),
        (Method::PUT, pairing, Some(to_json(&empty_entry))),
        (Method::DELETE, pairing, None),
    ];
    let stranger = Actor::new();
    for (method, path, body) in calls {
        let answer = hub.unsigned(method.clone(), path, body.clone()).await;
        assert_eq!(code_of(&answer), "unsigned", "{method} {path}");
        if method != Method::POST
            || matches!(path, "/v1/notices" | "/v1/notices/batch" | "/v1/confirmations")
        {
            let answer = stranger.call_by_key(&hub, method.clone(), path, body).await;
            assert_eq!(code_of(&answer), "key_unknown", "{method} {path}");
        }
    }
    hub.stop().await;
}
