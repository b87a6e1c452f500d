//! The second settlement server: accounts, the journal, the decision, the ledger.
//!
//! A reader's call comes in at `api`, becomes a command of `warifu-core`, is decided by the [`engine`]'s lane, written by
//! a [`store`], and answered. [`views`], [`notices`] and the index only follow the journal.
//!
//! Law: what was answered `approved` is on disk before the answer leaves, and is never un-answered.

mod api;
mod app;
pub mod config;
pub mod engine;
mod misses;
pub mod notices;
mod openapi;
pub mod store;
pub mod texts;
pub mod verify;
pub mod views;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use anyhow::Context as _;
use serde::Deserialize;
use warifu_core::vault::Vault;
use warifu_proto::code::Prefix;
use warifu_proto::id::NetworkId;
use warifu_proto::key::PublicKey;
use warifu_proto::mac;
use warifu_server::client::{Client, http_client};
use warifu_server::edge::{Edge, EdgeParts, authority_of};
use warifu_server::follow::{DirectoryFollower, FollowParts, View};
use warifu_server::serve::{self, TlsFiles};
use warifu_server::session::Sessions;
use warifu_server::{edge, keyfile, telemetry};
use zeroize::Zeroizing;

use app::App;
pub use config::{Config, InitFacts, default_config_text};
use engine::{Engine, EngineConfig};

/// `network.json`: what the registrar hands to everybody.
#[derive(Debug, Clone, Deserialize)]
struct Network {
    network_id: NetworkId,
    registrar: PublicKey,
}

/// An issuer that is up.
#[derive(Debug)]
pub struct Running {
    /// Under which address others call it.
    pub url: String,
    /// Where it listens.
    pub local_addr: SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    served: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Ends it: calls under way are answered, a last snapshot is taken.
    ///
    /// # Errors
    /// When serving had failed.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.served.await.context("the issuer's task panicked")?
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When serving fails.
    pub async fn ended(self) -> anyhow::Result<()> {
        self.served.await.context("the issuer's task panicked")?
    }
}

/// Runs an issuer until told to stop.
///
/// # Errors
/// When it can't start (see [`start`]) or serving fails.
pub async fn run(
    config: Config,
    dir: &Path,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let running = start(config, dir).await?;
    tracing::info!(url = running.url, "the issuer is up");
    shutdown.await;
    running.shutdown().await
}

/// Starts an issuer: recovers its journal, follows the directory, listens.
///
/// # Errors
/// When the settings are wrong, the folder is in use or can't be written, a key is missing, the journal is damaged, or
/// the address is taken. Each says what to do.
pub async fn start(config: Config, dir: &Path) -> anyhow::Result<Running> {
    let faults = config.faults();
    anyhow::ensure!(faults.is_empty(), "the settings have faults: {}", faults.join("; "));
    let at = |file: &Path| dir.join(file);
    let key = Arc::new(keyfile::read(at(&config.key_file))?);
    let vault_key = keyfile::read_secret(at(&config.vault_key_file))?;
    let network = read_network(&at(&config.network_file))?;
    let registrar = network.registrar.thumbprint();

    let (bound, url) = listen(&config, dir).await?;
    let local_addr = bound.local_addr();
    let authority = authority_of(&url).with_context(|| format!("url `{url}` is no address"))?;

    let http = http_client(config.ca_file.as_deref().map(at).as_deref())?;
    let data = at(&config.data);
    let (engine, texts) =
        open_books(&data, config.prefix, Arc::new(Vault::new(*vault_key))).await?;
    let directory = Arc::new(
        DirectoryFollower::open(FollowParts {
            folder: data.join("directory"),
            hub_url: config.hub.clone(),
            view: View::All,
            registrar,
            network: Some((network.network_id, network.registrar)),
            http: http.clone(),
        })
        .await?,
    );
    let following = Arc::clone(&directory).spawn();
    let views = Arc::new(views::Views::spawn(Arc::clone(&engine), &data, config.prefix)?);
    let client = Arc::new(Client::new(Arc::clone(&key), http));
    let notices = notices::Notices::spawn(
        Arc::clone(&engine),
        &data,
        config.prefix,
        client,
        Arc::clone(&directory),
    )?;

    let ring = Arc::new(app::Ring {
        operator: config.operator_key.clone(),
        directory: Arc::clone(&directory),
    });
    let edge = Arc::new(Edge::new(EdgeParts {
        key: Arc::clone(&key),
        authorities: vec![authority],
        ring,
        sessions: Arc::new(Sessions::new()),
        max_in_flight: config.in_flight_max,
    }));
    let app = Arc::new(App {
        key,
        engine: Arc::clone(&engine),
        directory,
        texts,
        views: Arc::clone(&views),
        registrar,
        time_zone: jiff::tz::TimeZone::get(&config.time_zone)?,
        digest_key: Zeroizing::new(mac::hmac_sha256(
            vault_key.as_slice(),
            &[b"warifu/request-digest/v1\n"],
        )),
        data,
        questions: notices.questions(),
        verifying: Arc::default(),
        misses: Mutex::default(),
        keys: RwLock::new(HashMap::new()),
        config,
    });
    let health = {
        let engine = Arc::clone(&engine);
        telemetry::health_routes(move || {
            engine.trouble().map_or(Ok(()), |trouble| Err(trouble.to_owned()))
        })
    };
    let router = edge::apply(api::routes(app), edge).merge(health);
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let served = tokio::spawn(async move {
        let told = async move {
            // A dropped sender means that nobody is left to stop it by hand: it ends too.
            drop(stopped.wait_for(|stop| *stop).await);
        };
        let served = bound.serve(router, told).await;
        following.abort();
        notices.stop().await;
        tokio::task::spawn_blocking(move || {
            views.stop();
            engine.stop();
        })
        .await?;
        served.context("serving failed")
    });
    Ok(Running { url, local_addr, stop, served })
}

/// Binds the address; says under which one others call.
async fn listen(config: &Config, dir: &Path) -> anyhow::Result<(serve::Bound, String)> {
    let at = |file: &Path| dir.join(file);
    let tls = match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: at(cert), key: at(key) }),
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let bound = if config.behind_tls_proxy {
        serve::bind_behind_tls_proxy(config.listen).await?
    } else {
        serve::bind(config.listen, tls).await?
    };
    let url = config.url.clone().unwrap_or_else(|| format!("{scheme}://{}", bound.local_addr()));
    Ok((bound, url))
}

/// Recovers the journal and starts the engine, off the async workers: reading takes its time.
async fn open_books(
    data: &Path,
    prefix: Prefix,
    vault: Arc<Vault>,
) -> anyhow::Result<(Arc<Engine>, Arc<texts::Texts>)> {
    // Before anything is counted.
    telemetry::metrics_handle();
    let data = data.to_owned();
    tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let store = engine::open_store(&data, prefix)?;
        let texts = Arc::new(texts::Texts::open(&data)?);
        Ok((Arc::new(Engine::start(EngineConfig::new(prefix), store, vault)?), texts))
    })
    .await
    .context("the recovery panicked")?
}

fn read_network(path: &Path) -> anyhow::Result<Network> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read {}: copy the network.json that the registrar handed out to it",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a network.json", path.display()))
}
