//! The registrar's folder: its key, `network.json`, and `entries.jsonl`, one signed entry a line in the order
//! of signing. The file is the registrar's whole memory; hubs only hold copies.
//!
//! Law: an entry is on disk before anybody hears of it; lines are only ever appended; one process at a time.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use warifu_proto::directory::{
    BODY_MAX_BYTES, Common, Directory, Entry, EntryKind, Hub, Issuer, Merchant, Record,
    RegionalCurrency, Status, Taken,
};
use warifu_proto::id::{CurrencyId, Id, Kind};
use warifu_proto::key::PrivateKey;
use warifu_proto::time::Timestamp;
use warifu_server::folder::FolderLock;
use warifu_server::{chance, keyfile};

use crate::card::Card;
use crate::fail::Failure;
use crate::network::Network;
use crate::paths;

const KEY: &str = "registrar.key";
const ENTRIES: &str = "entries.jsonl";

/// How long before its signing an entry holds, in milliseconds: clocks differ by less than five minutes.
const BACKDATED_MS: u64 = 5 * 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// For how long and how a subject takes part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Whether it takes part.
    pub(crate) status: Status,
    /// Days until the entry must be renewed.
    pub(crate) valid_days: u16,
}

impl Standing {
    /// Whoever is asked for nothing else: active for a year.
    pub(crate) const ACTIVE_FOR_A_YEAR: Self = Self { status: Status::Active, valid_days: 365 };

    /// What an entry's body begins with.
    pub(crate) fn common<K: Kind>(self, id: Id<K>, revision: u64, now: Timestamp) -> Common<K> {
        let not_before = now.as_ms().saturating_sub(BACKDATED_MS);
        let not_after = now.plus_ms(u64::from(self.valid_days).saturating_mul(DAY_MS));
        Common {
            id,
            revision,
            status: self.status,
            not_before_ms: not_before,
            not_after_ms: not_after.as_ms(),
        }
    }
}

/// A regional currency as the registrar is asked for it.
#[derive(Debug, Clone)]
pub(crate) struct CurrencyWish {
    /// Code, number and exponent, checked together.
    pub(crate) currency: warifu_proto::currency::Currency,
    /// For people.
    pub(crate) name: String,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Registrar {
    dir: PathBuf,
    network: Network,
    key: PrivateKey,
    entries: Vec<Entry>,
    directory: Directory,
    _lock: FolderLock,
}

impl Registrar {
    /// Makes a folder with a new key and a new network.
    pub(crate) fn init(dir: &Path, now: Timestamp) -> Result<Self, Failure> {
        paths::prepare(dir, &[KEY, Network::FILE, ENTRIES])?;
        let key = chance::key();
        let network = Network { network_id: chance::id(now), registrar: key.public().clone() };
        keyfile::create(dir.join(KEY), &key)?;
        paths::write_new(&dir.join(ENTRIES), "")?;
        paths::write_new_json(&dir.join(Network::FILE), &network)?;
        Self::open(dir)
    }

    /// Opens a folder, checking every entry in it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let init = format!("warifu registrar init --dir {}", paths::shown(dir));
        let network = Network::read(&paths::existing(dir, Network::FILE, &init)?)?;
        let key = keyfile::read(paths::existing(dir, KEY, &init)?)?;
        if *key.public() != network.registrar {
            return Err(Failure::usage(format_args!(
                "{KEY} is not the key that {} names",
                paths::shown_in(dir, Network::FILE)
            ))
            .next("put back the files of one network: they belong together"));
        }
        let lock = FolderLock::take(dir)
            .map_err(|error| Failure::usage("the folder is in use").because(&error))?;
        let mut registrar = Self {
            dir: dir.to_owned(),
            directory: Directory::new(network.network_id, network.registrar.clone()),
            network,
            key,
            entries: Vec::new(),
            _lock: lock,
        };
        registrar.load()?;
        Ok(registrar)
    }

    fn load(&mut self) -> Result<(), Failure> {
        let path = self.dir.join(ENTRIES);
        let text = paths::read_text(&path)?;
        // A line that a crash cut short was never heard of by anybody.
        let whole = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
        if whole < text.len() {
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(u64::try_from(whole).unwrap_or_default()))
                .map_err(|error| paths::cannot("written", &path, &error))?;
        }
        for (index, line) in text.get(..whole).unwrap_or_default().lines().enumerate() {
            let bad = |error: &(dyn std::error::Error + 'static)| {
                let place = format!("line {} of {}", index.saturating_add(1), path.display());
                Failure::usage(format_args!("{place} is not an entry of this network"))
                    .because(error)
                    .next("restore the file from a backup: it is only ever appended to")
            };
            let entry: Entry = serde_json::from_str(line).map_err(|error| bad(&error))?;
            self.directory.take(&entry).map_err(|error| bad(&error))?;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// What is public of it.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// What was signed, as everybody sees it.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Of each subject its latest entry, in the order of signing.
    pub(crate) fn latest(&self) -> Vec<Entry> {
        let mut seen = std::collections::BTreeSet::new();
        let mut latest: Vec<Entry> = self
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.read().is_ok_and(|record| seen.insert(record.revision().0)))
            .cloned()
            .collect();
        latest.reverse();
        latest
    }

    /// Checks a card, signs it with the next revision and keeps the entry.
    pub(crate) fn sign_card(
        &mut self,
        card: &Card,
        standing: Standing,
        now: Timestamp,
    ) -> Result<Entry, Failure> {
        let faults = card.faults(&self.directory);
        if !faults.is_empty() {
            return Err(Failure::usage(format_args!(
                "the card can't be signed:\n  {}",
                faults.join("\n  ")
            ))
            .next("have its owner correct the card, or make another with `init`"));
        }
        let revision = self.next_revision(&card.id(), standing.status)?;
        let body = match card.clone() {
            Card::Hub(card) => body(&Hub {
                common: standing.common(card.id, revision, now),
                url: card.url,
                key: card.key,
            }),
            Card::Issuer(card) => body(&Issuer {
                common: standing.common(card.id, revision, now),
                name: card.name,
                prefix: card.prefix,
                key: card.key,
                currencies: card.currencies,
                endpoints: card.endpoints,
            }),
            Card::Merchant(card) => body(&Merchant {
                common: standing.common(card.id, revision, now),
                name: card.name,
                category: card.category,
                key: card.key,
            }),
        };
        self.sign(card.kind(), body)
    }

    /// Gives out a regional currency, or renews the entry of one.
    pub(crate) fn sign_currency(
        &mut self,
        wish: CurrencyWish,
        standing: Standing,
        now: Timestamp,
    ) -> Result<Entry, Failure> {
        let CurrencyWish { currency, name } = wish;
        let known = self.currencies().find(|it| it.code == currency.code);
        if let Some(known) = known
            .as_ref()
            .filter(|it| (it.number, it.exponent) != (currency.number, currency.exponent))
        {
            return Err(Failure::usage(format_args!(
                "{} was given out with number {} and exponent {}, and amounts were written with them",
                known.code, known.number, known.exponent
            ))
            .next("take another code"));
        }
        let id: CurrencyId = known.map_or_else(|| chance::id(now), |it| it.common.id);
        if let Some(other) =
            self.currencies().find(|it| it.number == currency.number && it.common.id != id)
        {
            return Err(Failure::usage(format_args!(
                "number {} is that of {} already",
                other.number, other.code
            ))
            .next("take another number in 1000 to 65535"));
        }
        let revision = self.next_revision(&id.to_string(), standing.status)?;
        let record = RegionalCurrency {
            common: standing.common(id, revision, now),
            name,
            code: currency.code,
            number: currency.number,
            exponent: currency.exponent,
        };
        self.sign(EntryKind::Currency, body(&record))
    }

    /// Regional currencies, each in its latest entry.
    fn currencies(&self) -> impl Iterator<Item = RegionalCurrency> {
        self.latest().into_iter().filter_map(|entry| match entry.read() {
            Ok(Record::Currency(currency)) => Some(currency),
            _ => None,
        })
    }

    fn next_revision(&self, id: &str, wanted: Status) -> Result<u64, Failure> {
        let record = self
            .entries
            .iter()
            .rev()
            .find_map(|entry| entry.read().ok().filter(|record| record.revision().0 == id));
        let Some(record) = record else { return Ok(1) };
        if status(&record) == Status::Revoked && wanted != Status::Revoked {
            return Err(Failure::usage(format_args!("{id} is revoked, and that is for ever"))
                .next("have its owner make a new card, with a new id and key"));
        }
        Ok(record.revision().1.saturating_add(1))
    }

    fn sign(&mut self, kind: EntryKind, body: Vec<u8>) -> Result<Entry, Failure> {
        if body.len() > BODY_MAX_BYTES {
            return Err(Failure::usage(format_args!(
                "the entry would have {} bytes, and an entry has at most {BODY_MAX_BYTES}",
                body.len()
            )));
        }
        let entry = Entry::sign(self.network.network_id, kind, body, &self.key);
        let mut directory = self.directory.clone();
        match directory.take(&entry) {
            Ok(Taken::New) => {}
            Ok(Taken::Same) => return Ok(entry),
            Err(error) => return Err(Failure::usage("the entry can't be signed").because(&error)),
        }
        self.append(&entry)?;
        self.directory = directory;
        self.entries.push(entry.clone());
        Ok(entry)
    }

    fn append(&self, entry: &Entry) -> Result<(), Failure> {
        let path = self.dir.join(ENTRIES);
        let line = serde_json::to_string(entry).expect("an entry has only text keys");
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(format!("{line}\n").as_bytes())?;
                file.sync_all()
            })
            .map_err(|error| paths::cannot("written", &path, &error))
    }
}

fn body(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("our records have only text keys")
}

/// Whether a record's subject takes part.
pub(crate) fn status(record: &Record) -> Status {
    match record {
        Record::Hub(it) => it.common.status,
        Record::Issuer(it) => it.common.status,
        Record::Merchant(it) => it.common.status,
        Record::Reader(it) => it.common.status,
        Record::Currency(it) => it.common.status,
    }
}
