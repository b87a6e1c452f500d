//! The directory: who belongs to the network. Entries are signed by who may say so; a hub only hands them out.
//!
//! ```text
//! signature over  "warifu/directory/v1\n" ‖ network id (16) ‖ kind ‖ "\n" ‖ body bytes
//! signer          the registrar for hubs, issuers, merchants, currencies; a merchant's key for its readers
//! head            SHA-256(previous head ‖ kind ‖ "\n" ‖ body ‖ signer thumbprint (32) ‖ signature (64)), 32 zero bytes at first
//! ```
//!
//! [`Directory`] is the checked copy that everybody keeps. It takes entries in the order of the feed, ignores what
//! is wrongly signed or older, and works on when the hub is away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::code::Prefix;
use crate::currency::{Currency, CurrencyCode};
use crate::id::{CurrencyId, HubId, Id, IssuerId, Kind, MerchantId, NetworkId, ReaderId};
use crate::key::{PrivateKey, PublicKey, Signature, Thumbprint};
use crate::time::Timestamp;
use crate::{Malformed, base64url, mac};

/// What an entry speaks of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A first settlement server.
    Hub,
    /// A second settlement server.
    Issuer,
    /// Who is paid.
    Merchant,
    /// A device of a merchant.
    Reader,
    /// A regional currency.
    Currency,
}

impl EntryKind {
    /// The word in the signature and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Issuer => "issuer",
            Self::Merchant => "merchant",
            Self::Reader => "reader",
            Self::Currency => "currency",
        }
    }
}

/// A signed entry as it travels. Its body is kept as bytes, because the bytes are what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it speaks of.
    pub kind: EntryKind,
    /// JSON, base64url.
    #[serde(with = "base64url::bytes")]
    #[schema(value_type = String)]
    pub body: Vec<u8>,
    /// Who signed.
    #[schema(value_type = String)]
    pub key: Thumbprint,
    /// 64 bytes, base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// Longest body of an entry, in bytes.
pub const BODY_MAX_BYTES: usize = 4096;

impl Entry {
    /// Signs a body.
    pub fn sign(network: NetworkId, kind: EntryKind, body: Vec<u8>, key: &PrivateKey) -> Self {
        let signature = key.sign(&signed_bytes(network, kind, &body));
        Self { kind, body, key: key.thumbprint(), signature }
    }

    /// Whether the signature is this key's.
    pub fn is_signed_by(&self, network: NetworkId, key: &PublicKey) -> bool {
        self.key == key.thumbprint()
            && key.verifies(&signed_bytes(network, self.kind, &self.body), &self.signature)
    }

    /// The head of the feed after this entry.
    pub fn head_after(&self, head: &[u8; 32]) -> [u8; 32] {
        mac::sha256(&[
            head,
            self.kind.as_str().as_bytes(),
            b"\n",
            &self.body,
            &self.key.0,
            &self.signature,
        ])
    }

    /// Reads the body.
    ///
    /// # Errors
    /// When it is too long, or not the JSON of its kind. Unknown fields are ignored.
    pub fn read(&self) -> Result<Record, Malformed> {
        const BAD: Malformed =
            Malformed::new("directory entry", "its body is not what its kind needs");
        if self.body.len() > BODY_MAX_BYTES {
            return Err(Malformed::new("directory entry", "its body is longer than 4096 bytes"));
        }
        let record = match self.kind {
            EntryKind::Hub => serde_json::from_slice(&self.body).map(Record::Hub),
            EntryKind::Issuer => serde_json::from_slice(&self.body).map(Record::Issuer),
            EntryKind::Merchant => serde_json::from_slice(&self.body).map(Record::Merchant),
            EntryKind::Reader => serde_json::from_slice(&self.body).map(Record::Reader),
            EntryKind::Currency => serde_json::from_slice(&self.body).map(Record::Currency),
        };
        record.map_err(|_| BAD)
    }
}

fn signed_bytes(network: NetworkId, kind: EntryKind, body: &[u8]) -> Vec<u8> {
    [b"warifu/directory/v1\n".as_slice(), &network.raw(), kind.as_str().as_bytes(), b"\n", body]
        .concat()
}

/// Whether somebody takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Yes.
    Active,
    /// Not for the time being.
    Suspended,
    /// Never again.
    Revoked,
}

/// What every body begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Common<K: Kind> {
    /// Whose entry this is.
    pub id: Id<K>,
    /// Only grows; a lower one is older.
    pub revision: u64,
    /// Whether it takes part.
    pub status: Status,
    /// From when the entry holds.
    pub not_before_ms: u64,
    /// Until when the entry holds.
    pub not_after_ms: u64,
}

impl<K: Kind> Common<K> {
    /// Whether the entry speaks for its subject at that time.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.status == Status::Active
            && (self.not_before_ms..self.not_after_ms).contains(&now.as_ms())
    }
}

/// A hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hub {
    /// Id, revision, standing.
    #[serde(flatten)]
    pub common: Common<crate::id::HubKind>,
    /// Where it listens.
    pub url: String,
    /// Its key.
    pub key: PublicKey,
}

/// A part of an issuer's partitions and where they live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub url: String,
    /// First partition.
    pub from: u8,
    /// Last partition.
    pub to: u8,
}

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Id, revision, standing.
    #[serde(flatten)]
    pub common: Common<crate::id::IssuerKind>,
    /// For people.
    pub name: String,
    /// The first digits of its codes.
    pub prefix: Prefix,
    /// Its key.
    pub key: PublicKey,
    /// What it keeps accounts in.
    pub currencies: Vec<CurrencyCode>,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
}

impl Issuer {
    /// Where a partition lives.
    pub fn endpoint(&self, partition: u8) -> Option<&str> {
        self.endpoints
            .iter()
            .find(|it| (it.from..=it.to).contains(&partition))
            .map(|it| it.url.as_str())
    }
}

/// A merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    /// Id, revision, standing.
    #[serde(flatten)]
    pub common: Common<crate::id::MerchantKind>,
    /// For people.
    pub name: String,
    /// ISO 18245, four digits.
    pub category: String,
    /// Its key: signs its readers.
    pub key: PublicKey,
}

/// What a reader may do beyond paying, reading and reversing what it paid itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Capture holds.
    Capture,
    /// Refund payments.
    Refund,
    /// Reverse payments of other readers of the merchant.
    ReverseAny,
    /// Read the merchant's feed.
    Feed,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Id, revision, standing.
    #[serde(flatten)]
    pub common: Common<crate::id::ReaderKind>,
    /// Whose device it is.
    pub merchant_id: MerchantId,
    /// For people.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// What it may do.
    pub rights: Vec<Right>,
}

/// A regional currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionalCurrency {
    /// Id, revision, standing.
    #[serde(flatten)]
    pub common: Common<crate::id::CurrencyKind>,
    /// For people.
    pub name: String,
    /// Its letters.
    pub code: CurrencyCode,
    /// Its number.
    pub number: u16,
    /// Digits of the minor unit.
    pub exponent: u8,
}

/// A body that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A hub.
    Hub(Hub),
    /// An issuer.
    Issuer(Issuer),
    /// A merchant.
    Merchant(Merchant),
    /// A reader.
    Reader(Reader),
    /// A regional currency.
    Currency(RegionalCurrency),
}

impl Record {
    /// The id's text and the revision.
    pub fn revision(&self) -> (String, u64) {
        match self {
            Self::Hub(it) => (it.common.id.to_string(), it.common.revision),
            Self::Issuer(it) => (it.common.id.to_string(), it.common.revision),
            Self::Merchant(it) => (it.common.id.to_string(), it.common.revision),
            Self::Reader(it) => (it.common.id.to_string(), it.common.revision),
            Self::Currency(it) => (it.common.id.to_string(), it.common.revision),
        }
    }
}

/// Why an entry is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It can't be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A reader's merchant is not in the directory.
    #[error("the reader's merchant is not in the directory")]
    MerchantUnknown,
    /// Signed by somebody who may not.
    #[error("the entry is not signed by who may say so")]
    NotSigned,
    /// An issuer's prefix begins, or is begun by, another issuer's.
    #[error("the prefix overlaps with another issuer's")]
    PrefixTaken,
    /// The reader's id is another merchant's, or its key another reader's.
    #[error("the reader's id or key belongs to another")]
    ReaderTaken,
    /// The same or a higher revision is there already and says something else.
    #[error("a newer or different entry with this revision is there already")]
    Older,
}

/// What taking an entry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is news.
    New,
    /// The very same was there.
    Same,
}

/// The checked copy of a network's directory.
#[derive(Debug, Clone)]
pub struct Directory {
    network: NetworkId,
    registrar: PublicKey,
    hubs: BTreeMap<HubId, Hub>,
    issuers: BTreeMap<IssuerId, Issuer>,
    merchants: BTreeMap<MerchantId, Merchant>,
    readers: BTreeMap<ReaderId, Reader>,
    currencies: BTreeMap<CurrencyId, RegionalCurrency>,
    readers_by_key: BTreeMap<Thumbprint, ReaderId>,
}

impl Directory {
    /// An empty one of a network.
    pub fn new(network: NetworkId, registrar: PublicKey) -> Self {
        Self {
            network,
            registrar,
            hubs: BTreeMap::new(),
            issuers: BTreeMap::new(),
            merchants: BTreeMap::new(),
            readers: BTreeMap::new(),
            currencies: BTreeMap::new(),
            readers_by_key: BTreeMap::new(),
        }
    }

    /// Which network.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Who vouches for everybody.
    pub fn registrar(&self) -> &PublicKey {
        &self.registrar
    }

    /// Takes an entry if it is signed by who may say so and not older than what is there.
    ///
    /// # Errors
    /// In the order of [`EntryError`]; a refused entry changes nothing.
    pub fn take(&mut self, entry: &Entry) -> Result<Taken, EntryError> {
        let record = entry.read()?;
        if matches!(&record, Record::Merchant(it) if it.common.id.raw() == [0; 16]) {
            // An issuer keeps its own request ids under it.
            return Err(
                Malformed::new("directory entry", "a merchant's id must not be all zeros").into()
            );
        }
        let signer = match &record {
            Record::Reader(reader) => {
                &self.merchants.get(&reader.merchant_id).ok_or(EntryError::MerchantUnknown)?.key
            }
            Record::Hub(_) | Record::Issuer(_) | Record::Merchant(_) | Record::Currency(_) => {
                &self.registrar
            }
        };
        if !entry.is_signed_by(self.network, signer) {
            return Err(EntryError::NotSigned);
        }
        match record {
            Record::Hub(hub) => put(&mut self.hubs, hub.common.id, hub, |it| it.common.revision),
            Record::Issuer(issuer) => {
                let overlaps = |other: &Issuer| {
                    let (own, others) = (issuer.prefix.to_string(), other.prefix.to_string());
                    own.starts_with(&others) || others.starts_with(&own)
                };
                if self.issuers.values().any(|other| {
                    other.common.id != issuer.common.id
                        && other.common.status != Status::Revoked
                        && overlaps(other)
                }) {
                    return Err(EntryError::PrefixTaken);
                }
                put(&mut self.issuers, issuer.common.id, issuer, |it| it.common.revision)
            }
            Record::Merchant(merchant) => {
                put(&mut self.merchants, merchant.common.id, merchant, |it| it.common.revision)
            }
            Record::Reader(reader) => {
                let (id, key) = (reader.common.id, reader.key.thumbprint());
                let before = self.readers.get(&id);
                let is_anothers =
                    before.is_some_and(|before| before.merchant_id != reader.merchant_id);
                if is_anothers || self.readers_by_key.get(&key).is_some_and(|holder| *holder != id)
                {
                    return Err(EntryError::ReaderTaken);
                }
                let before = before.map(|it| it.key.thumbprint());
                let taken = put(&mut self.readers, id, reader, |it| it.common.revision)?;
                if let Some(before) = before.filter(|before| *before != key) {
                    self.readers_by_key.remove(&before);
                }
                self.readers_by_key.insert(key, id);
                Ok(taken)
            }
            Record::Currency(currency) => {
                put(&mut self.currencies, currency.common.id, currency, |it| it.common.revision)
            }
        }
    }

    /// All hubs.
    pub fn hubs(&self) -> impl Iterator<Item = &Hub> {
        self.hubs.values()
    }

    /// All issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// All merchants.
    pub fn merchants(&self) -> impl Iterator<Item = &Merchant> {
        self.merchants.values()
    }

    /// All readers.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.readers.values()
    }

    /// The issuer whose prefix begins these digits. Prefixes are prefix-free, so there is at most one.
    pub fn issuer_of(&self, digits: &str) -> Option<&Issuer> {
        self.issuers
            .values()
            .filter(|it| it.prefix.begins(digits))
            .max_by_key(|it| (it.common.status != Status::Revoked, it.prefix.digits()))
    }

    /// A merchant.
    pub fn merchant(&self, id: MerchantId) -> Option<&Merchant> {
        self.merchants.get(&id)
    }

    /// The merchant with this key.
    pub fn merchant_by_key(&self, key: Thumbprint) -> Option<&Merchant> {
        self.merchants.values().find(|it| it.key.thumbprint() == key)
    }

    /// A reader.
    pub fn reader(&self, id: ReaderId) -> Option<&Reader> {
        self.readers.get(&id)
    }

    /// The reader with this key.
    pub fn reader_by_key(&self, key: Thumbprint) -> Option<&Reader> {
        self.readers_by_key.get(&key).and_then(|id| self.readers.get(id))
    }

    /// The hub with this key.
    pub fn hub_by_key(&self, key: Thumbprint) -> Option<&Hub> {
        self.hubs.values().find(|it| it.key.thumbprint() == key)
    }

    /// A currency by its letters: ISO 4217, or one of the registrar's.
    pub fn currency(&self, code: CurrencyCode) -> Option<Currency> {
        Currency::iso(code).or_else(|| {
            let regional = self.currencies.values().find(|it| it.code == code)?;
            Currency::regional(code, regional.number, regional.exponent).ok()
        })
    }
}

fn put<I: Ord, T: PartialEq>(
    table: &mut BTreeMap<I, T>,
    id: I,
    new: T,
    revision: impl Fn(&T) -> u64,
) -> Result<Taken, EntryError> {
    match table.get(&id) {
        Some(old) if *old == new => return Ok(Taken::Same),
        Some(old) if revision(old) >= revision(&new) => return Err(EntryError::Older),
        Some(_) | None => {}
    }
    table.insert(id, new);
    Ok(Taken::New)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_bytes(&[seed; 32]).unwrap()
    }

    fn entry(kind: EntryKind, body: serde_json::Value, signer: &PrivateKey) -> Entry {
        let mut body = body;
        for (name, value) in [
            ("revision", json!(1)),
            ("status", json!("active")),
            ("not_before_ms", json!(0)),
            ("not_after_ms", json!(1_000)),
        ] {
            body.as_object_mut().unwrap().entry(name).or_insert(value);
        }
        Entry::sign(NetworkId::from_raw([9; 16]), kind, serde_json::to_vec(&body).unwrap(), signer)
    }

    fn merchant(id: u8, signer: &PrivateKey) -> Entry {
        let id = MerchantId::from_raw([id; 16]);
        entry(
            EntryKind::Merchant,
            json!({"id": id, "name": "M", "category": "5462", "key": key(id.raw()[0]).public()}),
            signer,
        )
    }

    fn reader(id: u8, of: u8, device: u8, revision: u64, signer: &PrivateKey) -> Entry {
        let (id, of) = (ReaderId::from_raw([id; 16]), MerchantId::from_raw([of; 16]));
        let body = json!({"id": id, "merchant_id": of, "name": "Till", "key": key(device).public(), "rights": ["refund", "later"], "revision": revision});
        entry(EntryKind::Reader, body, signer)
    }

    #[test]
    fn only_who_may_say_so_is_believed() {
        let mut directory = Directory::new(NetworkId::from_raw([9; 16]), key(1).public().clone());
        assert_eq!(
            directory.take(&reader(30, 2, 40, 1, &key(2))),
            Err(EntryError::MerchantUnknown)
        );
        assert_eq!(directory.take(&merchant(2, &key(2))), Err(EntryError::NotSigned));
        assert_eq!(directory.take(&merchant(2, &key(1))), Ok(Taken::New));
        assert_eq!(directory.take(&merchant(2, &key(1))), Ok(Taken::Same));
        assert_eq!(directory.take(&merchant(3, &key(1))), Ok(Taken::New));
        assert_eq!(
            directory.take(&reader(30, 2, 40, 1, &key(1))),
            Err(EntryError::NotSigned),
            "readers are their merchant's"
        );
        assert_eq!(directory.take(&reader(30, 2, 40, 2, &key(2))), Ok(Taken::New));
        assert_eq!(directory.take(&reader(30, 2, 41, 1, &key(2))), Err(EntryError::Older));
        assert_eq!(
            directory.take(&reader(30, 2, 41, 2, &key(2))),
            Err(EntryError::Older),
            "the same revision, changed"
        );
    }

    #[test]
    fn no_merchant_takes_anothers_reader() {
        let mut directory = Directory::new(NetworkId::from_raw([9; 16]), key(1).public().clone());
        for it in [merchant(2, &key(1)), merchant(3, &key(1)), reader(30, 2, 40, 1, &key(2))] {
            assert_eq!(directory.take(&it), Ok(Taken::New));
        }
        assert_eq!(
            directory.take(&reader(30, 3, 41, 2, &key(3))),
            Err(EntryError::ReaderTaken),
            "its id"
        );
        assert_eq!(
            directory.take(&reader(31, 3, 40, 1, &key(3))),
            Err(EntryError::ReaderTaken),
            "its key"
        );
        assert_eq!(
            directory.take(&reader(30, 2, 41, 2, &key(2))),
            Ok(Taken::New),
            "a new key of its own"
        );
        assert!(directory.reader_by_key(key(40).thumbprint()).is_none());
        assert_eq!(
            directory.reader_by_key(key(41).thumbprint()).unwrap().rights,
            [Right::Refund, Right::Unknown]
        );
    }

    #[test]
    fn prefixes_are_prefix_free_and_the_right_issuer_is_found() {
        let mut directory = Directory::new(NetworkId::from_raw([9; 16]), key(1).public().clone());
        let issuer = |id: u8, prefix: &str| {
            let endpoints = json!([{"url": "http://a", "from": 0, "to": 9}, {"url": "http://b", "from": 10, "to": 99}]);
            let body = json!({"id": IssuerId::from_raw([id; 16]), "name": "I", "prefix": prefix, "key": key(5).public(), "currencies": ["JPY"], "endpoints": endpoints});
            entry(EntryKind::Issuer, body, &key(1))
        };
        assert_eq!(directory.take(&issuer(1, "71000001")), Ok(Taken::New));
        assert_eq!(directory.take(&issuer(2, "7100000")), Err(EntryError::PrefixTaken));
        assert_eq!(directory.take(&issuer(2, "71000001")), Err(EntryError::PrefixTaken));
        assert_eq!(directory.take(&issuer(2, "7200")), Ok(Taken::New));
        let found = directory.issuer_of("710000010728921840110704").unwrap();
        assert_eq!((found.endpoint(9), found.endpoint(10)), (Some("http://a"), Some("http://b")));
        assert!(directory.issuer_of("7300").is_none());
        assert!(
            found.common.is_active(Timestamp::from_ms(999))
                && !found.common.is_active(Timestamp::from_ms(1_000))
        );
    }
}
