//! The hub put together: state, routes, start and stop.
//!
//! Law: what the hub remembers is in the store (directory, links, notices) or can be lost (pairings, rates, breakers,
//! sessions). It needs no restart for anything that the directory says.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::{delete, get, post};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use warifu_server::client::{Client, http_client};
use warifu_server::edge::{self, Edge, EdgeParts};
use warifu_server::folder::FolderLock;
use warifu_server::serve::{self, Bound, TlsFiles};
use warifu_server::session::Sessions;
use warifu_server::{keyfile, telemetry};

use crate::config::Config;
use crate::directory::feed::Feed;
use crate::events::Streams;
use crate::forward::Forwarder;
use crate::pairing::mailbox::Mailbox;
use crate::receive::rate::Rates;
use crate::receive::under_way::UnderWay;
use crate::ring::Ring;
use crate::store::Store;
use crate::terminals::Terminals;
use crate::{directory, events, notices, openapi, pages, pairing, receive};

/// How often the gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// The most that one issuer may have here, so that none takes memory and disk of the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) links: u64,
    pub(crate) notice_bytes: u64,
}

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) feed: Arc<Feed>,
    pub(crate) terminals: Arc<Terminals>,
    pub(crate) forwarder: Forwarder,
    pub(crate) rates: Mutex<Rates>,
    /// Apart from those of registrations: a payer who has just shown codes can still say yes or no.
    pub(crate) confirmation_rates: Mutex<Rates>,
    pub(crate) under_way: UnderWay,
    pub(crate) mailbox: Mutex<Mailbox>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) share: Share,
    stop: watch::Sender<bool>,
}

impl App {
    /// Ready once the hub is to stop: who waits for news stops waiting. (Waiting reads and event streams are ended by
    /// the shell.)
    pub(crate) async fn stopping(&self) {
        stopped(self.stop.subscribe()).await;
    }

    fn set_gauges(&self) {
        let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let version = usize::try_from(self.feed.now().version).unwrap_or(usize::MAX);
        metrics::gauge!("warifu_hub_directory_version").set(number(version));
        metrics::gauge!("warifu_hub_links").set(number(self.terminals.count()));
        metrics::gauge!("warifu_hub_event_streams").set(number(self.streams.count()));
    }
}

/// Every route with its method, the shell's included; the test of the OpenAPI document goes by it.
#[cfg(test)]
pub(crate) const ROUTES: &[(&str, &str)] = &[
    ("/", "get"),
    ("/wallet", "get"),
    ("/till", "get"),
    ("/openapi.json", "get"),
    ("/v1/directory", "get"),
    ("/v1/directory/entries", "post"),
    ("/v1/codes", "post"),
    ("/v1/confirmations", "post"),
    ("/v1/links", "post"),
    ("/v1/links/{crd}", "delete"),
    ("/v1/notices", "post"),
    ("/v1/notices/batch", "post"),
    ("/v1/events", "get"),
    ("/v1/pairings", "post"),
    ("/v1/pairings/{par}", "post"),
    ("/v1/pairings/{par}", "get"),
    ("/v1/pairings/{par}", "put"),
    ("/v1/pairings/{par}", "delete"),
    ("/v1/sessions", "post"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
];

fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(pages::root))
        .route("/wallet", get(pages::wallet))
        .route("/till", get(pages::till))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/directory", get(directory::read))
        .route("/v1/directory/entries", post(directory::publish))
        .route("/v1/codes", post(receive::codes::register))
        .route("/v1/confirmations", post(receive::confirmations::confirm))
        .route("/v1/links", post(receive::links::link))
        .route("/v1/links/{crd}", delete(receive::links::unlink))
        .route("/v1/notices", post(notices::leave))
        .route("/v1/notices/batch", post(notices::leave_batch))
        .route("/v1/events", get(events::events))
        .route("/v1/pairings", post(pairing::open))
        .route(
            "/v1/pairings/{par}",
            post(pairing::ask).get(pairing::look).put(pairing::answer).delete(pairing::refuse),
        )
        .with_state(app)
}

/// A hub that runs in this process. Dropping it stops it as well, without waiting.
#[derive(Debug)]
pub struct Running {
    /// Its public address, as settings or the bound port say.
    pub url: String,
    /// Where it listens.
    pub local_addr: SocketAddr,
    app: Arc<App>,
    serving: JoinHandle<std::io::Result<()>>,
    gauges: JoinHandle<()>,
    _lock: FolderLock,
}

impl Running {
    /// Stops taking calls, lets those in progress end for at most ten seconds, and lets go of the folder.
    ///
    /// # Errors
    /// When serving had failed.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        self.begin_shutdown();
        let ended = (&mut self.serving).await;
        ended.context("the hub's server broke down")?.context("the hub could not serve")
    }

    /// Stops taking calls and sends home who waits, without waiting for the end. [`Running::shutdown`] does.
    pub fn begin_shutdown(&self) {
        self.app.stop.send_replace(true);
        self.gauges.abort();
    }

    /// Ready when the hub ended without being asked to.
    async fn ended(&mut self) -> anyhow::Result<()> {
        let ended = (&mut self.serving).await;
        ended.context("the hub's server broke down")?.context("the hub could not serve")?;
        anyhow::bail!("the hub's server ended by itself")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.begin_shutdown();
    }
}

/// Runs a hub in its folder until `shutdown` is ready.
///
/// # Errors
/// When it can't start (settings, key, network file, folder in use, database, address), or breaks down.
pub async fn run(
    config: Config,
    dir: &Path,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut running = start(config, dir).await?;
    tracing::info!(url = %running.url, listen = %running.local_addr, "the hub serves");
    tokio::select! {
        ended = running.ended() => return ended,
        () = shutdown => {}
    }
    running.shutdown().await?;
    tracing::info!("the hub has stopped");
    Ok(())
}

/// Starts a hub in its folder and gives it back running. With port 0 in `listen`, and no `url`, its address is
/// made of the port that it got.
///
/// # Errors
/// As [`run`].
pub async fn start(config: Config, dir: &Path) -> anyhow::Result<Running> {
    config.check()?;
    let network = config.read_network(dir)?;
    let key = Arc::new(keyfile::read(dir.join(&config.key))?);
    let http = http_client(config.ca.as_ref().map(|it| dir.join(it)).as_deref())?;
    let data = dir.join(&config.data);
    // The data's folder and not `dir`: two folders of settings may name the same one.
    let lock = FolderLock::take(&data)?;
    telemetry::metrics_handle();

    let store = Store::open(&data.join("hub.db"), network.network_id)?;
    let feed = Feed::load(store.clone(), network.network_id, network.registrar).await?;
    let app = Arc::new(App {
        terminals: Arc::new(Terminals::new(store.links().await?)),
        feed: Arc::new(feed),
        store,
        forwarder: Forwarder::new(Client::new(Arc::clone(&key), http), config.forward_settings()),
        rates: Mutex::default(),
        confirmation_rates: Mutex::default(),
        under_way: UnderWay::default(),
        mailbox: Mutex::default(),
        streams: Arc::default(),
        share: Share { links: config.links_max, notice_bytes: config.notice_bytes_max },
        stop: watch::Sender::new(false),
    });

    let bound = listen(&config, dir).await?;
    let local_addr = bound.local_addr();
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let url = config.url.clone().unwrap_or_else(|| format!("{scheme}://{local_addr}"));
    let authorities = std::iter::once(url.clone()).chain(config.more_urls.clone()).collect();
    let edge = Arc::new(Edge::new(EdgeParts {
        key,
        authorities,
        ring: Arc::new(Ring { feed: Arc::clone(&app.feed), terminals: Arc::clone(&app.terminals) }),
        sessions: Arc::new(Sessions::new()),
        max_in_flight: config.in_flight_max,
    }));
    let store = app.store.clone();
    let probes = telemetry::health_routes(move || {
        if store.is_open() { Ok(()) } else { Err("the store takes no writes".to_owned()) }
    });
    let router = edge::apply(routes(Arc::clone(&app)), edge).merge(probes);
    let serving = tokio::spawn(bound.serve(router, stopped(app.stop.subscribe())));
    let gauges = tokio::spawn(keep_gauges(Arc::clone(&app)));
    Ok(Running { url, local_addr, app, serving, gauges, _lock: lock })
}

async fn listen(config: &Config, dir: &Path) -> anyhow::Result<Bound> {
    let tls = config.tls_cert.as_ref().zip(config.tls_key.as_ref());
    let tls = tls.map(|(cert, key)| TlsFiles { cert: dir.join(cert), key: dir.join(key) });
    let bound = match tls {
        None if config.behind_tls_proxy => serve::bind_behind_tls_proxy(config.listen).await?,
        tls => serve::bind(config.listen, tls).await?,
    };
    Ok(bound.connections_max(config.connections_max))
}

/// Ready when the hub is to stop, or is gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}

async fn keep_gauges(app: Arc<App>) {
    let mut ticks = tokio::time::interval(GAUGES_EVERY);
    loop {
        ticks.tick().await;
        app.set_gauges();
    }
}
