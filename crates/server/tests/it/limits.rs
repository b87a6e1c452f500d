//! Slow and huge requests, and where a server listens.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warifu_proto::limits::BODY_MAX_BYTES;
use warifu_server::serve::{self, BindError};

use crate::rig::{Hand, Raw, SECOND, Server, Setup};

async fn read_all(stream: &mut TcpStream) -> Raw {
    let mut answer = Vec::new();
    tokio::time::timeout(15 * SECOND, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    Raw::read(&answer)
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read() {
    let server = Server::start(Setup::default()).await;
    let hand = Hand::new(&server, "POST", "/anyone", "x");
    // Announced: the answer comes before any of it.
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(hand.head(10_000_000).as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(answer.problem().code, "too_large");
    assert!(hand.base(&answer).is_ok());
    drop(stream);

    // Sent whole by somebody who reads only afterwards: the answer must still be there.
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(hand.head(10_000_000).as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 10_000_000]).await.unwrap();
    assert_eq!(read_all(&mut stream).await.problem().code, "too_large");
    drop(stream);

    // Not announced: refused as soon as it is too large.
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = hand.head(0).replace("connection: close", "transfer-encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..=BODY_MAX_BYTES / 1000 {
        stream.write_all(format!("3e8\r\n{}\r\n", "x".repeat(1000)).as_bytes()).await.unwrap();
    }
    assert_eq!(read_all(&mut stream).await.problem().code, "too_large");
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn the_largest_body_is_taken_however_it_arrives() {
    let server = Server::start(Setup::default()).await;
    let text = "x".repeat(BODY_MAX_BYTES - r#"{"text":""}"#.len());
    let body = format!(r#"{{"text":"{text}"}}"#);
    let hand = Hand::new(&server, "POST", "/anyone", &body);
    assert_eq!(hand.checked(&server).await.status, 200);
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = hand.head(0).replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in body.as_bytes().chunks(10_000) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_all(&mut stream).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn slow_bodies_and_slow_headers_end_after_ten_seconds() {
    let server = Server::start(Setup::default()).await;
    let hand = Hand::new(&server, "POST", "/anyone", "x");
    let began = Instant::now();
    let slow_body = async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(hand.head(100).as_bytes()).await.unwrap();
        stream.write_all(b"{").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert_eq!(answer.problem().code, "not_accepted");
    };
    let slow_first_header = async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0);
    };
    let slow_second_header = async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET /who HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        assert!(stream.read(&mut answer).await.unwrap() > 100);
        stream.write_all(b"GET / HT").await.unwrap();
        assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0);
    };
    tokio::join!(slow_body, slow_first_header, slow_second_header);
    let took = began.elapsed();
    assert!(took > 9 * SECOND && took < 14 * SECOND, "{took:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_never_ends_holds_no_place_among_the_calls() {
    let server = Server::start(Setup { max_in_flight: 1, ..Setup::default() }).await;
    let unfinished = Hand::new(&server, "POST", "/anyone", "x");
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(unfinished.head(100).as_bytes()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    tokio::time::sleep(SECOND / 5).await;
    let hand = Hand::new(&server, "GET", "/who", "");
    assert_eq!(hand.checked(&server).await.status, 200);
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn plain_http_is_for_loopback_only() {
    let world = "0.0.0.0:0".parse().unwrap();
    let error = serve::bind(world, None).await.unwrap_err();
    assert!(matches!(error, BindError::PlainHttp(_)));
    assert!(error.to_string().contains("behind_tls_proxy"), "{error}");
    assert!(serve::bind("[::ffff:192.0.2.1]:0".parse().unwrap(), None).await.is_err());
    assert!(serve::bind_behind_tls_proxy(world).await.is_ok());
    let taken = serve::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let error = serve::bind(taken.local_addr(), None).await.unwrap_err();
    assert!(matches!(error, BindError::Listen(..)));
}

#[tokio::test]
async fn connections_are_capped_and_the_next_one_gets_the_free_place() {
    let bound = serve::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap().connections_max(1);
    let addr = bound.local_addr();
    let router = axum::Router::new().route("/", axum::routing::get(async || "hi"));
    let served = tokio::spawn(async move { bound.serve(router, std::future::pending()).await });
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = TcpStream::connect(addr).await.unwrap();
    first.write_all(request).await.unwrap();
    let mut buffer = [0; 1024];
    assert!(first.read(&mut buffer).await.unwrap() > 0);
    let mut second = TcpStream::connect(addr).await.unwrap();
    second.write_all(request).await.unwrap();
    let early = tokio::time::timeout(SECOND / 5, second.read(&mut buffer)).await;
    assert!(early.is_err());
    drop(first);
    let read = tokio::time::timeout(SECOND, second.read(&mut buffer)).await.unwrap();
    assert!(read.unwrap() > 0);
    served.abort();
}
