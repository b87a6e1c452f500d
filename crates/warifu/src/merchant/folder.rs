//! The merchant's folder: its key, `merchant.toml`, `network.json`, and the card for the registrar.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use warifu_proto::directory::{Entry, EntryKind, Reader};
use warifu_proto::id::MerchantId;
use warifu_proto::key::PrivateKey;
use warifu_proto::limits::NAME_MAX;
use warifu_proto::message::check_text;
use warifu_proto::time::Timestamp;
use warifu_server::client::Peer;
use warifu_server::config::{self, process_env};
use warifu_server::{chance, keyfile};

use super::pairing::MerchantSide;
use crate::card::{Card, MerchantCard, check_category};
use crate::directory::{self, Fetched};
use crate::fail::Failure;
use crate::network::Network;
use crate::{calls, paths};

pub(super) const CONFIG: &str = "merchant.toml";
pub(super) const CARD: &str = "merchant.card.json";
const KEY: &str = "merchant.key";

/// `merchant.toml`. Paths are taken from its folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Its id in the directory.
    id: MerchantId,
    /// The hub by which readers are paired.
    hub: String,
    /// The network that it belongs to.
    #[serde(default = "default_network")]
    network: PathBuf,
    /// Its private key.
    #[serde(default = "default_key")]
    key: PathBuf,
}

fn default_network() -> PathBuf {
    Network::FILE.into()
}

fn default_key() -> PathBuf {
    KEY.into()
}

fn config_text(id: MerchantId, hub: &str) -> String {
    let hub = toml::Value::from(hub);
    format!(
        r#"# Settings of a Warifu merchant. Paths are taken from this file's folder. Every key can also be given in the
# environment as WARIFU_MERCHANT_<KEY>, such as WARIFU_MERCHANT_HUB.

# Who this is. The registrar signs it together with the key.
id = "{id}"

# The hub by which readers are paired and the directory is read.
hub = {hub}

# The network's file, handed out by its registrar: network id and registrar key.
network = "{network}"

# The merchant's private key (mode 0600). It vouches for the readers: keep it away from tills, and back it up.
key = "{KEY}"
"#,
        network = Network::FILE,
    )
}

/// What `merchant init` is asked for.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The folder to make.
    pub(crate) dir: &'a Path,
    /// To which network it belongs.
    pub(crate) network: &'a Network,
    /// For people.
    pub(crate) name: &'a str,
    /// ISO 18245, four digits.
    pub(crate) category: &'a str,
    /// Its hub's address, as [`crate::card::parse_url`] gives it.
    pub(crate) hub: String,
}

/// Makes a merchant's folder.
pub(crate) fn init(wish: &Wish<'_>, now: Timestamp) -> Result<MerchantCard, Failure> {
    check_text("name", wish.name, NAME_MAX)?;
    check_category(wish.category)
        .map_err(|why| Failure::usage(format_args!("--category {}: it {why}", wish.category)))?;
    let dir = wish.dir;
    paths::prepare(dir, &[KEY, CARD, CONFIG, Network::FILE])?;
    let key = chance::key();
    let card = MerchantCard {
        id: chance::id(now),
        name: wish.name.to_owned(),
        category: wish.category.to_owned(),
        key: key.public().clone(),
    };
    keyfile::create(dir.join(KEY), &key)?;
    paths::write_new_json(&dir.join(Network::FILE), wish.network)?;
    paths::write_new_json(&dir.join(CARD), &Card::Merchant(card.clone()))?;
    paths::write_new(&dir.join(CONFIG), &config_text(card.id, &wish.hub))?;
    Ok(card)
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Merchant {
    dir: PathBuf,
    config: Config,
    network: Network,
    key: Arc<PrivateKey>,
}

impl Merchant {
    /// Opens a folder.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let init = format!("warifu merchant init --dir {} …   (see --help)", paths::shown(dir));
        let path = paths::existing(dir, CONFIG, &init)?;
        let config: Config = config::load(path, "merchant", process_env)?;
        let network = Network::read(&dir.join(&config.network))?;
        let key = Arc::new(keyfile::read(dir.join(&config.key))?);
        Ok(Self { dir: dir.to_owned(), config, network, key })
    }

    /// Its id in the directory.
    pub(crate) fn id(&self) -> MerchantId {
        self.config.id
    }

    /// The directory as its hub hands it out, checked.
    pub(crate) async fn directory(&self) -> Result<Fetched, Failure> {
        directory::fetch(&calls::http()?, &self.config.hub, Some(&self.network)).await
    }

    /// Its hub, as the registrar names it.
    pub(crate) fn hub(&self, fetched: &Fetched) -> Result<Peer, Failure> {
        fetched.hub(&self.config.hub)
    }

    /// Vouches for a reader.
    pub(crate) fn sign_reader(&self, reader: &Reader) -> Entry {
        Entry::sign(self.network.network_id, EntryKind::Reader, calls::body(reader), &self.key)
    }

    /// What pairs readers: reads the directory to know its hub's key.
    pub(crate) async fn side(&self) -> Result<MerchantSide, Failure> {
        let fetched = self.directory().await?;
        let hub = self.hub(&fetched)?;
        let known = fetched.directory.merchant(self.config.id);
        if known.is_none_or(|it| it.key != *self.key.public()) {
            let card = paths::shown_in(&self.dir, CARD);
            return Err(Failure::refused("the hub does not know this merchant yet")
                .next(format_args!("warifu registrar add merchant {card} --dir registrar")));
        }
        MerchantSide::new(self.config.id, &self.network, Arc::clone(&self.key), hub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_settings_are_read_as_they_are() {
        let id = MerchantId::from_raw([7; 16]);
        let config: Config = toml::from_str(&config_text(id, "http://127.0.0.1:7001")).unwrap();
        let want = Config {
            id,
            hub: "http://127.0.0.1:7001".to_owned(),
            network: default_network(),
            key: default_key(),
        };
        assert_eq!(config, want);
    }
}
