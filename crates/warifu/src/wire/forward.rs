//! The proxy under a wire: HTTP/1.1, keep-alive, bodies of answers as streams.
//!
//! A call that the network plays with goes on without its caller: a request that is late arrives even when nobody waits
//! for its answer any more, as on a real network. Limits: requests up to [`REQUEST_MAX_BYTES`]; answers have none.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::fate::{Fate, Leg};
use super::hop::{Direction, Hop, Server};
use super::plan::Fault;
use super::{Faults, Kill};

/// Largest request that is carried, in bytes: more than any server takes.
const REQUEST_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long an unused connection to the server is kept: less than servers keep theirs.
const IDLE: Duration = Duration::from_secs(30);
/// How long a header may take, and a connection be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause after the system refused a connection for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What concerns one connection and not the next (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why a caller gets no answer: its connection closes.
#[derive(Debug)]
enum Lost {
    /// On purpose.
    OnPurpose,
    /// The server can't be reached, or went away.
    AtServer(Box<dyn Error + Send + Sync>),
    /// The request broke off, or is too large.
    BeforeUs(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnPurpose => "lost on purpose",
            Self::AtServer(_) => "the server gave no answer",
            Self::BeforeUs(_) => "the request did not arrive whole",
        })
    }
}

impl Error for Lost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::OnPurpose => None,
            Self::AtServer(cause) | Self::BeforeUs(cause) => Some(cause.as_ref()),
        }
    }
}

/// The end of a wire that is at the server.
pub(super) struct End {
    server: Server,
    to: SocketAddr,
    faults: Arc<Faults>,
    kill: Kill,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl End {
    pub(super) fn new(server: Server, to: SocketAddr, faults: Arc<Faults>, kill: Kill) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self { server, to, faults, kill, client }
    }

    /// Takes connections until it is aborted; then they end too.
    pub(super) async fn accept(self, listener: TcpListener) {
        let end = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(Arc::clone(&end).serve(stream));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // Where it fails, answers only wait a little.
        stream.set_nodelay(true).unwrap_or_default();
        let service = service_fn(move |request| Arc::clone(&self).carry(request));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(error = %innermost(&error), "a connection on the wire closed");
        }
    }

    async fn carry(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Lost> {
        let (mut parts, body) = request.into_parts();
        strip(&mut parts.headers);
        parts.uri = self.uri(parts.uri.path_and_query());
        let body = Limited::new(body, REQUEST_MAX_BYTES).collect().await;
        let body = body.map_err(Lost::BeforeUs)?.to_bytes();
        let hop = Hop::of(self.server, parts.uri.path());
        let request = Request::from_parts(parts, Full::new(body));
        let fate = hop.and_then(|hop| Some((hop, self.faults.next(hop)?)));
        let Some((hop, fate)) = fate else { return self.ask(request).await };
        // A task of its own: the network does not know whether the caller still waits.
        match tokio::spawn(async move { self.play(hop, fate, request).await }).await {
            Ok(answered) => answered,
            Err(_panicked) => Err(Lost::OnPurpose),
        }
    }

    async fn play(
        &self,
        hop: Hop,
        fate: Fate,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Lost> {
        self.travel(hop, Direction::Request, fate.request).await?;
        let answer = if fate.request.is_doubled || fate.answer.is_doubled {
            let (first, second) = tokio::join!(self.ask(request.clone()), self.ask(request));
            // The other one is thrown away unread.
            let (direction, answer) = if fate.answer.is_doubled {
                (Direction::Answer, second)
            } else {
                (Direction::Request, first)
            };
            self.faults.happens(hop, direction, Fault::Duplicate);
            answer?
        } else {
            self.ask(request).await?
        };
        if fate.kills {
            self.faults.happens(hop, Direction::Answer, Fault::Kill);
            (self.kill)();
            return Err(Lost::OnPurpose);
        }
        self.travel(hop, Direction::Answer, fate.answer).await?;
        Ok(answer)
    }

    /// One way: late, or never.
    async fn travel(&self, hop: Hop, direction: Direction, leg: Leg) -> Result<(), Lost> {
        if leg.is_lost {
            self.faults.happens(hop, direction, Fault::Drop);
            return Err(Lost::OnPurpose);
        }
        if let Some(late_by) = leg.late_by {
            self.faults.happens(hop, direction, Fault::Delay);
            tokio::time::sleep(late_by).await;
        }
        Ok(())
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Lost> {
        let answered = self.client.request(request).await;
        let mut answer = answered.map_err(|error| Lost::AtServer(error.into()))?;
        strip(answer.headers_mut());
        Ok(answer)
    }

    /// The target as it was sent, at the server's own address. The header `host` stays: it is what was signed.
    fn uri(&self, target: Option<&PathAndQuery>) -> Uri {
        let mut parts = hyper::http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Authority::try_from(self.to.to_string()).ok();
        parts.path_and_query = Some(target.cloned().unwrap_or(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).unwrap_or_default()
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
