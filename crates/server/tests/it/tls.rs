//! TLS from listener to client, with a certificate authority of our own.

use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use warifu_server::chance;
use warifu_server::client::{CallError, Client, Peer, http_client};
use warifu_server::serve::{self, BindError, TlsFiles};

use crate::rig::{SECOND, Server, Setup};

#[tokio::test]
async fn the_client_trusts_its_ca_file_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let files = TlsFiles { cert: dir.path().join("own.pem"), key: dir.path().join("own.key") };
    std::fs::write(&files.cert, own.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();

    let server = Server::start(Setup { tls: Some(files.clone()), ..Setup::default() }).await;
    let peer = Peer { url: format!("https://{}", server.addr), key: server.key.public().clone() };
    let identity = Arc::new(chance::key());
    server.ring.add(identity.public());
    let call = async |http| {
        let client = Client::new(Arc::clone(&identity), http);
        client.call(&peer, Method::GET, "/me", None, 5 * SECOND, HeaderMap::new()).await
    };
    let answer = call(http_client(Some(&ca_file)).unwrap()).await.unwrap();
    assert!(answer.is_ok());
    assert_eq!(server.sessions.len(), 1);
    // A handshake that fails has sent nothing.
    let error = call(http_client(None).unwrap()).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    // Files that can't be used are named.
    for (files, name) in [
        (TlsFiles { cert: dir.path().join("none"), ..files.clone() }, "none"),
        (TlsFiles { key: dir.path().join("none"), ..files.clone() }, "none"),
        (TlsFiles { cert: files.key.clone(), ..files.clone() }, "own.key"),
        (TlsFiles { key: files.cert.clone(), ..files.clone() }, "own.pem"),
        (TlsFiles { cert: ca_file.clone(), ..files.clone() }, "ca.pem"),
    ] {
        let error = serve::bind("127.0.0.1:0".parse().unwrap(), Some(files)).await.unwrap_err();
        assert!(matches!(error, BindError::Tls(..)));
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(http_client(Some(&dir.path().join("none"))).is_err());
    assert!(http_client(Some(&files.key)).is_err());
    server.stop().await;
}
