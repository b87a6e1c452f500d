//! A reader's folder: `reader.json` (the pairing, no secret), the reader's key, the journal, and the copy of the
//! directory.

use std::path::{Path, PathBuf};

use warifu_proto::id::PairingId;
use warifu_proto::key::PrivateKey;
use warifu_reader::Paired;
use warifu_server::follow::{DirectoryFollower, FollowParts, View};
use warifu_server::{chance, keyfile};

use super::journal::Journal;
use crate::fail::Failure;
use crate::terminal::atomic;
use crate::terminal::folder::no_directory;
use crate::{calls, paths};

const READER: &str = "reader.json";

/// A reader's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Names a folder; nothing is read or made yet.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Its path.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the pairing, if there is one.
    pub(crate) fn pairing(&self) -> Result<Option<Paired>, Failure> {
        let path = self.dir.join(READER);
        if !path.exists() {
            return Ok(None);
        }
        let paired: Paired = paths::read_json(&path, "reader")?;
        if paired.format != Paired::FORMAT {
            return Err(Failure::usage(format_args!(
                "{} was written by a newer warifu",
                paths::shown(&path)
            ))
            .next("install the newer version"));
        }
        Ok(Some(paired))
    }

    /// Reads the pairing that must be there.
    pub(crate) fn paired(&self) -> Result<Paired, Failure> {
        self.pairing()?.ok_or_else(|| {
            let dir = paths::shown(&self.dir);
            Failure::usage(format_args!("{dir} is not paired with a merchant")).next(format_args!(
                "warifu reader pair LINK --dir {dir}   (LINK: `warifu merchant pair`)"
            ))
        })
    }

    /// Puts the pairing on disk.
    pub(super) fn store(&self, paired: &Paired) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(paired).expect("a pairing has only text keys");
        atomic::write(&self.dir.join(READER), &text)
    }

    /// The key for a pairing, made at the first try: a repeated request must come from the same key.
    pub(super) fn key_for(&self, pairing: PairingId) -> Result<PrivateKey, Failure> {
        let path = self.key_path(pairing);
        if !path.exists() {
            let made = chance::key();
            keyfile::create(&path, &made)?;
            return Ok(made);
        }
        Ok(keyfile::read(path)?)
    }

    /// The key of the pairing.
    pub(super) fn key(&self, paired: &Paired) -> Result<PrivateKey, Failure> {
        let path = self.key_path(paired.pairing);
        let key = keyfile::read(&path)?;
        if key.thumbprint() != paired.key {
            return Err(Failure::usage(format_args!(
                "{} is not the key of the reader in this folder",
                paths::shown(&path)
            ))
            .next("restore the folder as a whole, or pair another one"));
        }
        Ok(key)
    }

    fn key_path(&self, pairing: PairingId) -> PathBuf {
        self.dir.join(format!("reader-{pairing}.key"))
    }

    /// Opens the journal.
    pub(super) fn journal(&self) -> Result<Journal, Failure> {
        Journal::open(&self.dir.join("journal.db"))
    }

    /// The checked copy of the directory; asks the hub only when there is none yet.
    pub(super) async fn directory(&self, paired: &Paired) -> Result<DirectoryFollower, Failure> {
        let parts = FollowParts {
            folder: self.dir.join("directory"),
            hub_url: paired.hub_url.clone(),
            view: View::Issuers,
            registrar: paired.registrar,
            network: None,
            http: calls::http()?,
        };
        DirectoryFollower::open(parts).await.map_err(|error| no_directory(&error))
    }
}
