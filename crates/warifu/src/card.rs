//! Cards: what an applicant's `init` writes and the registrar signs, once it knows who handed it over. A card
//! is an entry's body without revision, status and validity.
//!
//! Law: a card is checked whole before it is signed; all faults are told at once.

use serde::{Deserialize, Serialize};
use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::{Directory, Endpoint, EntryKind, Status};
use warifu_proto::id::{HubId, IssuerId, MerchantId};
use warifu_proto::key::PublicKey;
use warifu_proto::limits::{NAME_MAX, PARTITIONS};
use warifu_proto::message::check_text;

/// `*.card.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Card {
    /// `hub.card.json`.
    Hub(HubCard),
    /// `issuer.card.json`.
    Issuer(IssuerCard),
    /// `merchant.card.json`.
    Merchant(MerchantCard),
}

/// A hub that wants to belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubCard {
    /// Chosen by itself.
    pub(crate) id: HubId,
    /// Where it is reached.
    pub(crate) url: String,
    /// Its key.
    pub(crate) key: PublicKey,
}

/// An issuer that wants to belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerCard {
    /// Chosen by itself.
    pub(crate) id: IssuerId,
    /// For people.
    pub(crate) name: String,
    /// The first digits of its codes.
    pub(crate) prefix: Prefix,
    /// Its key.
    pub(crate) key: PublicKey,
    /// What it keeps accounts in.
    pub(crate) currencies: Vec<CurrencyCode>,
    /// Where it is reached, by partition.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A merchant that wants to belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MerchantCard {
    /// Chosen by itself.
    pub(crate) id: MerchantId,
    /// For people.
    pub(crate) name: String,
    /// ISO 18245, four digits.
    pub(crate) category: String,
    /// Its key.
    pub(crate) key: PublicKey,
}

impl Card {
    /// What it wants to be.
    pub(crate) fn kind(&self) -> EntryKind {
        match self {
            Self::Hub(_) => EntryKind::Hub,
            Self::Issuer(_) => EntryKind::Issuer,
            Self::Merchant(_) => EntryKind::Merchant,
        }
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Hub(card) => card.id.to_string(),
            Self::Issuer(card) => card.id.to_string(),
            Self::Merchant(card) => card.id.to_string(),
        }
    }

    /// The applicant's key.
    pub(crate) fn key(&self) -> &PublicKey {
        match self {
            Self::Hub(card) => &card.key,
            Self::Issuer(card) => &card.key,
            Self::Merchant(card) => &card.key,
        }
    }

    /// Everything that keeps the card from being signed into this directory.
    pub(crate) fn faults(&self, directory: &Directory) -> Vec<String> {
        let mut faults = match self {
            Self::Hub(card) => card.faults(directory),
            Self::Issuer(card) => card.faults(directory),
            Self::Merchant(card) => card.faults(),
        };
        if let Some(owner) = owner_of_key(self.key(), &self.id(), directory) {
            faults.push(format!("key: is the key of {owner} already"));
        }
        faults
    }
}

impl HubCard {
    fn faults(&self, directory: &Directory) -> Vec<String> {
        let mut faults: Vec<String> = url_fault("url", &self.url).into_iter().collect();
        let taken = directory.hubs().find(|hub| {
            hub.common.id != self.id && hub.common.status != Status::Revoked && hub.url == self.url
        });
        if let Some(hub) = taken {
            faults.push(format!("url: is the address of {} already", hub.common.id));
        }
        faults
    }
}

impl IssuerCard {
    fn faults(&self, directory: &Directory) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(bad) = check_text("name", &self.name, NAME_MAX) {
            faults.push(format!("name: {}", bad.why));
        }
        let own = self.prefix.to_string();
        let overlap = directory.issuers().find(|other| {
            let others = other.prefix.to_string();
            other.common.id != self.id
                && other.common.status != Status::Revoked
                && (own.starts_with(&others) || others.starts_with(&own))
        });
        if let Some(other) = overlap {
            faults.push(format!(
                "prefix: {own} overlaps with {}, the prefix of {} ({})",
                other.prefix, other.name, other.common.id
            ));
        }
        faults.extend(currency_faults(&self.currencies, directory));
        faults.extend(endpoint_faults(&self.endpoints));
        faults
    }
}

impl MerchantCard {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(bad) = check_text("name", &self.name, NAME_MAX) {
            faults.push(format!("name: {}", bad.why));
        }
        if let Err(fault) = check_category(&self.category) {
            faults.push(format!("category: {fault}"));
        }
        faults
    }
}

fn currency_faults(currencies: &[CurrencyCode], directory: &Directory) -> Vec<String> {
    let mut faults = Vec::new();
    if currencies.is_empty() {
        faults.push("currencies: must name at least one".to_owned());
    }
    for (place, code) in currencies.iter().enumerate() {
        if currencies.iter().take(place).any(|earlier| earlier == code) {
            faults.push(format!("currencies: {code} is named twice"));
        }
        if directory.currency(*code).is_none() {
            faults.push(format!(
                "currencies: {code} is neither of ISO 4217 nor one that this registrar gave out \
                 (`warifu registrar currency add {code} …`)"
            ));
        }
    }
    faults
}

fn endpoint_faults(endpoints: &[Endpoint]) -> Vec<String> {
    let mut faults = Vec::new();
    if endpoints.is_empty() {
        faults.push("endpoints: must name at least one".to_owned());
    }
    for (place, endpoint) in endpoints.iter().enumerate() {
        faults.extend(url_fault("endpoints", &endpoint.url));
        if endpoint.from > endpoint.to || endpoint.to >= PARTITIONS {
            faults.push(format!(
                "endpoints: partitions {} to {} must go up and lie in 0 to 99",
                endpoint.from, endpoint.to
            ));
        }
        let meets = |it: &&Endpoint| it.from <= endpoint.to && endpoint.from <= it.to;
        if let Some(earlier) = endpoints.iter().take(place).find(meets) {
            faults.push(format!(
                "endpoints: partitions {} to {} are also at {}",
                endpoint.from, endpoint.to, earlier.url
            ));
        }
    }
    faults
}

fn owner_of_key(key: &PublicKey, id: &str, directory: &Directory) -> Option<String> {
    if key == directory.registrar() {
        return Some("the registrar".to_owned());
    }
    let hubs = directory.hubs().map(|it| (it.common.id.to_string(), &it.key));
    let issuers = directory.issuers().map(|it| (it.common.id.to_string(), &it.key));
    let merchants = directory.merchants().map(|it| (it.common.id.to_string(), &it.key));
    let mut others = hubs.chain(issuers).chain(merchants);
    others.find(|(other, its)| other != id && *its == key).map(|(other, _)| other)
}

/// Checks an ISO 18245 merchant category.
pub(crate) fn check_category(text: &str) -> Result<(), &'static str> {
    if text.len() == 4 && text.bytes().all(|it| it.is_ascii_digit()) {
        Ok(())
    } else {
        Err("must be the four digits of ISO 18245, such as 5462 for a bakery")
    }
}

/// Reads the address of a server, and gives it as it is signed: scheme, host and port only, lower case,
/// default port left out.
pub(crate) fn parse_url(text: &str) -> Result<String, &'static str> {
    let url = url::Url::parse(text).map_err(|_| "must be a URL such as https://hub.example.org")?;
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if !(url.scheme() == "https" || url.scheme() == "http" && loopback) {
        return Err("must be https, or http on a loopback address such as 127.0.0.1");
    }
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !bare {
        return Err("must be scheme, host and port only");
    }
    Ok(url.origin().ascii_serialization())
}

fn url_fault(field: &str, text: &str) -> Option<String> {
    match parse_url(text) {
        Ok(canonical) if canonical == text => None,
        Ok(canonical) => Some(format!("{field}: must be written {canonical}")),
        Err(why) => Some(format!("{field}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::id::NetworkId;
    use warifu_proto::key::PrivateKey;

    fn key(byte: u8) -> PublicKey {
        PrivateKey::from_bytes(&[byte; 32]).unwrap().public().clone()
    }

    fn empty() -> Directory {
        Directory::new(NetworkId::from_raw([1; 16]), key(1))
    }

    #[test]
    fn addresses_are_https_or_loopback_and_bare() {
        for (text, want) in [
            ("https://hub.example.org", Ok("https://hub.example.org")),
            ("https://HUB.example.org:443/", Ok("https://hub.example.org")),
            ("http://127.0.0.1:7001", Ok("http://127.0.0.1:7001")),
            ("http://[::1]:7001", Ok("http://[::1]:7001")),
            ("http://localhost:7001", Ok("http://localhost:7001")),
            ("http://hub.example.org", Err(())),
            ("ftp://127.0.0.1", Err(())),
            ("https://hub.example.org/api", Err(())),
            ("https://a:b@hub.example.org", Err(())),
            ("https://hub.example.org/?x", Err(())),
            ("hub.example.org", Err(())),
        ] {
            assert_eq!(parse_url(text).map_err(|_| ()), want.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_card_has_the_kind_inside_and_no_other_fields() {
        let card = Card::Hub(HubCard {
            id: HubId::from_raw([2; 16]),
            url: "http://127.0.0.1:7001".to_owned(),
            key: key(2),
        });
        let text = serde_json::to_string(&card).unwrap();
        assert!(text.starts_with(r#"{"kind":"hub","id":"hub_"#), "{text}");
        assert_eq!(serde_json::from_str::<Card>(&text).unwrap(), card);
        let more = text.replacen('{', r#"{"revision":7,"#, 1);
        assert!(serde_json::from_str::<Card>(&more).is_err());
    }

    #[test]
    fn all_faults_of_a_card_are_told_at_once() {
        let endpoint = |from, to| Endpoint { url: "http://127.0.0.1:1".to_owned(), from, to };
        let card = Card::Issuer(IssuerCard {
            id: IssuerId::from_raw([2; 16]),
            name: " ".to_owned(),
            prefix: Prefix::parse("71000001").unwrap(),
            key: key(1),
            currencies: vec![CurrencyCode::parse("XQ1").unwrap()],
            endpoints: vec![endpoint(0, 99), endpoint(50, 100)],
        });
        let faults = card.faults(&empty()).join("\n");
        for word in ["name:", "XQ1", "0 to 99", "also at", "the registrar"] {
            assert!(faults.contains(word), "{word}: {faults}");
        }
    }

    #[test]
    fn a_category_has_four_digits() {
        assert!(check_category("5462").is_ok());
        for bad in ["", "546", "54620", "bake", "５４６２"] {
            assert!(check_category(bad).is_err(), "{bad}");
        }
    }
}
