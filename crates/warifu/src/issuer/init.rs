//! Making an issuer's folder.

use std::net::SocketAddr;
use std::path::Path;

use warifu_issuer::{InitFacts, default_config_text};
use warifu_proto::code::Prefix;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::directory::Endpoint;
use warifu_proto::limits::{NAME_MAX, PARTITIONS};
use warifu_proto::message::{AccountKind, check_text};
use warifu_proto::time::Timestamp;
use warifu_server::{chance, keyfile};

use crate::card::{Card, IssuerCard};
use crate::fail::Failure;
use crate::network::Network;
use crate::paths;

pub(super) const CONFIG: &str = "issuer.toml";
pub(super) const CARD: &str = "issuer.card.json";
pub(crate) const OPERATOR_KEY: &str = "operator.key";
const KEY: &str = "issuer.key";
const VAULT_KEY: &str = "vault.key";

/// What `issuer init` is asked for.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The folder to make.
    pub(crate) dir: &'a Path,
    /// To which network it belongs.
    pub(crate) network: &'a Network,
    /// For people.
    pub(crate) name: &'a str,
    /// The first digits of its codes.
    pub(crate) prefix: Prefix,
    /// Of its accounts.
    pub(crate) currency: CurrencyCode,
    /// What its accounts are.
    pub(crate) kind: AccountKind,
    /// Its hub's address, as [`crate::card::parse_url`] gives it.
    pub(crate) hub: String,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Under which address others find it, as [`crate::card::parse_url`] gives it.
    pub(crate) url: String,
}

/// Makes an issuer's folder.
pub(crate) fn init(wish: &Wish<'_>, now: Timestamp) -> Result<IssuerCard, Failure> {
    check_text("name", wish.name, NAME_MAX)?;
    let code = wish.currency;
    // A regional currency is known to the registrar, who checks the card; anything else must be ISO's.
    if !code.as_str().starts_with('X') && Currency::iso(code).is_none() {
        return Err(Failure::usage(format_args!("{code} is no currency of ISO 4217"))
            .next("give one such as JPY, or a regional one that the registrar gave out"));
    }
    let dir = wish.dir;
    paths::prepare(dir, &[KEY, VAULT_KEY, OPERATOR_KEY, CARD, CONFIG, Network::FILE])?;
    let (key, operator) = (chance::key(), chance::key());
    let card = IssuerCard {
        id: chance::id(now),
        name: wish.name.to_owned(),
        prefix: wish.prefix,
        key: key.public().clone(),
        currencies: vec![code],
        endpoints: vec![Endpoint { url: wish.url.clone(), from: 0, to: PARTITIONS - 1 }],
    };
    keyfile::create(dir.join(KEY), &key)?;
    keyfile::create_secret(dir.join(VAULT_KEY), &chance::bytes())?;
    keyfile::create(dir.join(OPERATOR_KEY), &operator)?;
    paths::write_new_json(&dir.join(Network::FILE), wish.network)?;
    paths::write_new_json(&dir.join(CARD), &Card::Issuer(card.clone()))?;
    let config = default_config_text(&InitFacts {
        listen: wish.listen,
        url: &wish.url,
        id: card.id,
        name: wish.name,
        prefix: wish.prefix,
        currency: code,
        kind: wish.kind,
        hub: &wish.hub,
        operator_key: operator.public(),
    });
    paths::write_new(&dir.join(CONFIG), &config)?;
    Ok(card)
}
