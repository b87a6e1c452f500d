//! Listening and serving: TCP or TLS, HTTP/1.1, bounded in connections and in time, drained at the end.
//!
//! Limits: [`CONNECTIONS_MAX`] connections, [`HANDSHAKE_TIMEOUT`] for TLS, [`HEADER_TIMEOUT`] from the first byte of a
//! request to the end of its header, [`IDLE_TIMEOUT`] between requests, [`DRAIN`] at the end.

mod socket;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Uri, header};
use axum::response::Response;
use futures_util::StreamExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::telemetry;
use socket::{Socket, Watched};

/// Connections at the same time when nobody says otherwise. More wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the header of a request may take.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests. Clients let go earlier (60 s), so that no request meets a
/// closing connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long calls may go on after the stop signal.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Largest header of a request, in bytes.
const HEADER_MAX_BYTES: usize = 32 * 1024;
/// How often the samples behind the histograms are folded into their buckets, so that they don't pile up unread.
const UPKEEP: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Plain HTTP to the world.
    #[error(
        "{0} is not a loopback address: give TLS files, or set behind_tls_proxy = true where a proxy ends TLS in front of this server"
    )]
    PlainHttp(SocketAddr),
    /// The TLS files can't be used.
    #[error("cannot use the TLS file {}: {}", .0.display(), .1)]
    Tls(PathBuf, String),
    /// The address can't be had.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// A socket that listens and does not serve yet.
pub struct Bound {
    listener: TcpListener,
    local_addr: SocketAddr,
    tls: Option<TlsAcceptor>,
    connections_max: usize,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Listens, with TLS if its files are given. Plain HTTP is for loopback addresses only.
///
/// # Errors
/// In the order of [`BindError`].
pub async fn bind(listen: SocketAddr, tls: Option<TlsFiles>) -> Result<Bound, BindError> {
    if tls.is_none() && !listen.ip().to_canonical().is_loopback() {
        return Err(BindError::PlainHttp(listen));
    }
    let tls = tls.map(|files| tls::acceptor(&files)).transpose()?;
    bind_any(listen, tls).await
}

/// Listens with plain HTTP on any address: for where the configuration says `behind_tls_proxy = true`.
///
/// # Errors
/// [`BindError::Listen`].
pub async fn bind_behind_tls_proxy(listen: SocketAddr) -> Result<Bound, BindError> {
    bind_any(listen, None).await
}

async fn bind_any(listen: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Bound, BindError> {
    let failed = |error| BindError::Listen(listen, error);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let local_addr = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, local_addr, tls, connections_max: CONNECTIONS_MAX })
}

impl Bound {
    /// Where it listens: with the real port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// At most so many connections at the same time.
    #[must_use]
    pub fn connections_max(mut self, max: usize) -> Self {
        self.connections_max = max.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Serves until `shutdown` is ready, then lets the calls in progress end, for at most [`DRAIN`].
    ///
    /// # Errors
    /// None today: what goes wrong with one connection ends that one.
    pub async fn serve(
        self,
        router: axum::Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let upkeep = tokio::spawn(fold_samples());
        let places = Arc::new(Semaphore::new(self.connections_max));
        let ((stop, stopped), (cut, to_cut)) = (watch::channel(()), watch::channel(()));
        tokio::select! {
            () = shutdown => {}
            () = self.accept(&router, &places, Ends { stopped, to_cut }) => {}
        }
        drop((self.listener, router));
        // Tells every connection to end after the call it is in.
        drop(stop);
        let all = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN, places.acquire_many(all)).await.is_err() {
            tracing::warn!("calls in progress are cut off after {} seconds", DRAIN.as_secs());
            drop(cut);
            // Nothing of a connection lives on behind us: what it held, such as a folder's lock, is free.
            drop(places.acquire_many(all).await);
        }
        upkeep.abort();
        Ok(())
    }

    async fn accept(&self, router: &axum::Router, places: &Arc<Semaphore>, ends: Ends) {
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(places).acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let router = router.clone();
                    let connection = Connection { from, stopped: ends.stopped.clone() };
                    let work = connection.run(stream, self.tls.clone(), router);
                    tokio::spawn(until_cut(work, ends.to_cut.clone(), place));
                }
                // Of one connection that broke while waiting: the next one.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// How connections learn of the end: by the ends of these channels. Nothing is ever sent.
struct Ends {
    /// After the call in progress.
    stopped: watch::Receiver<()>,
    /// At once.
    to_cut: watch::Receiver<()>,
}

async fn until_cut(
    work: impl Future<Output = ()>,
    mut to_cut: watch::Receiver<()>,
    place: OwnedSemaphorePermit,
) {
    tokio::select! {
        () = work => {}
        _ended = to_cut.changed() => {}
    }
    drop(place);
}

fn is_of_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn fold_samples() {
    let metrics = telemetry::metrics_handle();
    let mut every = tokio::time::interval(UPKEEP);
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}

/// Whether a call may spend its time waiting for news.
pub(crate) fn asks_to_wait(method: &Method, uri: &Uri) -> bool {
    method == Method::GET && uri.query().is_some_and(|it| it.contains("wait_ms="))
}

/// Ready when the server stops: calls that only wait are answered then, so that nobody waits for them.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(watch::Receiver<()>);

impl Stopping {
    pub(crate) async fn stopped(mut self) {
        // Nothing is ever sent: the sender's end is the signal.
        drop(self.0.changed().await);
    }
}

/// Ends a stream of events when the server stops; it would end never else.
fn until_stopped(response: Response, stopping: &Stopping) -> Response {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if !content_type.is_some_and(|it| it.as_bytes().starts_with(b"text/event-stream")) {
        return response;
    }
    response.map(|body| {
        let events = body.into_data_stream();
        Body::from_stream(events.take_until(Box::pin(stopping.clone().stopped())))
    })
}

struct Connection {
    from: SocketAddr,
    stopped: watch::Receiver<()>,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, tls: Option<TlsAcceptor>, router: axum::Router) {
        // Answers are single writes that must not wait for an acknowledgement; where it fails they only wait.
        drop(stream.set_nodelay(true));
        match tls {
            None => self.http(stream, router).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
                let shaken = tokio::select! {
                    shaken = handshake => shaken,
                    _ended = self.stopped.changed() => return,
                };
                match shaken {
                    Ok(Ok(stream)) => self.http(stream, router).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
                }
            }
        }
    }

    async fn http<S>(mut self, stream: S, router: axum::Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let watched = Arc::new(Watched::new(Stopping(self.stopped.clone())));
        let io = TokioIo::new(Socket::new(stream, Arc::clone(&watched)));
        let from = self.from;
        let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
            let (router, watched) = (router.clone(), Arc::clone(&watched));
            request.extensions_mut().insert(ConnectInfo(from));
            if asks_to_wait(request.method(), request.uri()) {
                request.extensions_mut().insert(watched.stopping.clone());
            }
            async move {
                watched.request_began();
                let response = tower::ServiceExt::oneshot(router, request).await?;
                watched.request_ended(response.headers());
                Ok::<_, std::convert::Infallible>(until_stopped(response, &watched.stopping))
            }
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // Of hyper's two uses of it, waiting for a header and receiving it, only the first is left to it.
                .header_read_timeout(IDLE_TIMEOUT)
                .max_buf_size(HEADER_MAX_BYTES)
                .serve_connection(io, service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ended = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection broke");
        }
    }
}
