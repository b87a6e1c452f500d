//! The HTTP client that all calls of a process share: HTTP/1.1, rustls with aws-lc, no redirects, no proxies, no
//! repeats behind our back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, redirect, retry};

/// How long connecting may take. A till can wait two seconds for a network, not twenty.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an unused connection is kept: less than servers keep theirs, so that no request meets a closing one.
const IDLE: Duration = Duration::from_secs(60);

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The file with further roots can't be used.
    #[error("cannot use the CA file {path}: {why}", path = .0.display(), why = .1)]
    CaFile(PathBuf, String),
    /// The TLS library refused.
    #[error("cannot set up the HTTP client")]
    Build(#[source] reqwest::Error),
}

/// The HTTP client that all calls of a process share. It trusts the system's roots, and those in `ca_file` (PEM).
///
/// # Errors
/// When the CA file can't be used.
pub fn http_client(ca_file: Option<&Path>) -> Result<reqwest::Client, HttpClientError> {
    // Fails when one is installed already, which is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let own = ca_file.map(roots_of).transpose()?.unwrap_or_default();
    // A system without any roots (a bare container) can still use its own ones, and loopback.
    builder().tls_certs_merge(own.clone()).build().or_else(|error| {
        tracing::warn!(%error, "the system's TLS roots can't be used");
        builder().tls_certs_only(own).build().map_err(HttpClientError::Build)
    })
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .user_agent(concat!("warifu/", env!("CARGO_PKG_VERSION")))
}

fn roots_of(path: &Path) -> Result<Vec<Certificate>, HttpClientError> {
    let bad = |why: String| HttpClientError::CaFile(path.to_owned(), why);
    let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
    if roots.is_empty() { Err(bad("it holds no certificate".to_owned())) } else { Ok(roots) }
}
