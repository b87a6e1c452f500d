//! The directory as a command reads it: all of it, once, from one hub, nothing kept.
//!
//! Law: nothing in it is believed because the hub says so. Every entry is checked against the registrar's key, and the
//! chain over the feed against its head; the key comes from `network.json`. The answer's own signature adds nothing
//! to that and is not looked at, so a hub's key need not be known beforehand.

use std::collections::BTreeMap;
use std::time::Duration;

use warifu_proto::directory::{Directory, Record, Status};
use warifu_proto::message::DirectoryPage;
use warifu_proto::time::Timestamp;
use warifu_server::client::Peer;
use warifu_server::clock;

use crate::card;
use crate::fail::Failure;
use crate::network::Network;

/// Largest page that is read, in bytes: 500 entries of at most 6 KiB.
const PAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(10);

/// What a hub handed out, checked.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Of everybody the latest entry.
    pub(crate) directory: Directory,
    /// Position in the feed.
    pub(crate) version: u64,
    /// The hub's time.
    pub(crate) as_of: Timestamp,
    /// Entries that do not hold, with the reason.
    pub(crate) ignored: Vec<String>,
    /// Regional currencies, which [`Directory`] only finds by their letters.
    currencies: BTreeMap<String, Record>,
}

impl Fetched {
    /// Everybody in it.
    pub(crate) fn records(&self) -> Vec<Record> {
        let it = &self.directory;
        let hubs = it.hubs().cloned().map(Record::Hub);
        let issuers = it.issuers().cloned().map(Record::Issuer);
        let merchants = it.merchants().cloned().map(Record::Merchant);
        let readers = it.readers().cloned().map(Record::Reader);
        let currencies = self.currencies.values().cloned();
        hubs.chain(issuers).chain(merchants).chain(readers).chain(currencies).collect()
    }

    /// The hub at an address, as the registrar names it.
    pub(crate) fn hub(&self, url: &str) -> Result<Peer, Failure> {
        let now = clock::now();
        let hub = self.directory.hubs().find(|hub| hub.url == url && hub.common.is_active(now));
        let Some(hub) = hub else {
            let known = self.directory.hubs().find(|hub| hub.url == url);
            let standing = match known.map(|hub| hub.common.status) {
                None => {
                    "the registrar has signed no hub with this address, or the hub was not told yet"
                }
                Some(Status::Active) => "the hub's entry has expired",
                Some(Status::Suspended) => "the hub is suspended",
                Some(Status::Revoked) => "the hub is revoked",
            };
            return Err(Failure::refused(format_args!("{url} can't be used: {standing}")).next(
                "ask the registrar: `warifu registrar add hub …`, then `warifu registrar publish`",
            ));
        };
        Ok(Peer { url: hub.url.clone(), key: hub.key.clone() })
    }
}

/// Reads the whole directory from the hub at this address. Without a network the one that the hub names is taken:
/// for showing it, never for relying on it.
pub(crate) async fn fetch(
    http: &reqwest::Client,
    url: &str,
    network: Option<&Network>,
) -> Result<Fetched, Failure> {
    let url = card::parse_url(url).map_err(|why| {
        Failure::usage(format_args!("the hub's address {url} {why}"))
            .next("give an address such as https://hub.example.org")
    })?;
    let mut page = fetch_page(http, &url, 0).await?;
    if let Some(network) = network {
        check_network(&page, network, &url)?;
    }
    let mut fetched = Fetched {
        directory: Directory::new(page.network_id, page.registrar.clone()),
        version: 0,
        as_of: Timestamp::from_ms(page.as_of_ms),
        ignored: Vec::new(),
        currencies: BTreeMap::new(),
    };
    let mut head = [0; 32];
    loop {
        for entry in &page.entries {
            head = entry.head_after(&head);
            match (fetched.directory.take(entry), entry.read()) {
                (Ok(_), Ok(record @ Record::Currency(_))) => {
                    fetched.currencies.insert(record.revision().0, record);
                }
                (Ok(_), _) => {}
                (Err(error), _) => {
                    let kind = entry.kind.as_str();
                    fetched.ignored.push(format!("an entry of kind {kind}: {error}"));
                }
            }
        }
        if head != page.head {
            return Err(Failure::refused(format_args!(
                "the directory at {url} has a gap: its chain does not hold"
            ))
            .next("repeat the command; if it stays so, tell the hub's operator"));
        }
        fetched.version = page.version;
        if page.entries.is_empty() {
            return Ok(fetched);
        }
        page = fetch_page(http, &url, fetched.version).await?;
    }
}

fn check_network(page: &DirectoryPage, network: &Network, url: &str) -> Result<(), Failure> {
    if page.network_id == network.network_id && page.registrar == network.registrar {
        return Ok(());
    }
    Err(Failure::refused(format_args!(
        "{url} is a hub of {}, whose registrar is {}, and not of {}",
        page.network_id,
        page.registrar.thumbprint(),
        network.network_id
    ))
    .next("give the hub of your network, or the network.json of this one"))
}

async fn fetch_page(
    http: &reqwest::Client,
    url: &str,
    after: u64,
) -> Result<DirectoryPage, Failure> {
    let asked = format!("{url}/v1/directory?view=all&after={after}");
    let away = |error: &reqwest::Error| {
        // The address is in the message already, and a reqwest error repeats it.
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), innermost);
        Failure::unreachable(format_args!("the hub at {url} gives no directory: {why}"))
            .next("is the hub running, and is its address right?")
    };
    let mut answer =
        http.get(asked).timeout(DEADLINE).send().await.map_err(|error| away(&error))?;
    if !answer.status().is_success() {
        return Err(Failure::unreachable(format_args!(
            "the hub at {url} gives no directory: it answered with status {}",
            answer.status()
        )));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| away(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > PAGE_MAX_BYTES {
            return Err(Failure::unreachable(format_args!("{url} answers without end")));
        }
    }
    serde_json::from_slice(&body).map_err(|error| {
        Failure::unreachable(format_args!("what answers at {url} is no hub")).because(&error)
    })
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
