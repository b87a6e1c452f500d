//! The copy of the directory on disk: `directory.jsonl`, one signed entry a line, only ever appended to, and
//! `directory.head.json`, replaced as a whole, which says how many of the lines count and where in the feed they end.
//! A crash between the two leaves lines that do not count yet; they are cut off and fetched again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use warifu_proto::base64url;
use warifu_proto::directory::{Directory, Entry};
use warifu_proto::id::NetworkId;
use warifu_proto::key::PublicKey;

use super::{FollowError, View};

/// Where the copy stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) network_id: NetworkId,
    pub(super) registrar: PublicKey,
    pub(super) view: View,
    /// Position in the feed.
    pub(super) version: u64,
    /// Of the feed's chain.
    #[serde(with = "base64url")]
    pub(super) head: [u8; 32],
    /// When a hub last vouched for it; 0 when none has.
    pub(super) as_of_ms: u64,
    /// How many lines of the file count.
    pub(super) lines: u64,
}

impl Head {
    pub(super) fn new(network_id: NetworkId, registrar: PublicKey, view: View) -> Self {
        Self { network_id, registrar, view, version: 0, head: [0; 32], as_of_ms: 0, lines: 0 }
    }

    /// Begins the feed anew. What is known stays known.
    pub(super) fn rewind(&mut self) {
        self.version = 0;
        self.head = [0; 32];
    }
}

/// The two files.
#[derive(Debug)]
pub(super) struct Copy {
    folder: PathBuf,
    lines: File,
    /// How many bytes of the lines count.
    bytes: u64,
}

impl Copy {
    /// Where the copy in a folder stands, if there is one.
    pub(super) fn head(folder: &Path) -> Result<Option<Head>, FollowError> {
        match std::fs::read(folder.join("directory.head.json")) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| failed(folder)(io::Error::from(error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(folder)(error)),
        }
    }

    /// Opens the lines and takes those that count. If some are missing or not to be believed, the feed begins anew.
    pub(super) fn open(folder: &Path, head: &mut Head) -> Result<(Self, Directory), FollowError> {
        let failed = failed(folder);
        std::fs::create_dir_all(folder).map_err(&failed)?;
        let path = folder.join("directory.jsonl");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(&failed)?,
        };
        let mut directory = Directory::new(head.network_id, head.registrar.clone());
        let counting = usize::try_from(head.lines).unwrap_or(usize::MAX);
        let mut good: Vec<&[u8]> = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n').take(counting) {
            let entry = line.ends_with(b"\n").then(|| serde_json::from_slice::<Entry>(line).ok());
            if entry.flatten().is_some_and(|it| directory.take(&it).is_ok()) {
                good.push(line);
            }
        }
        if good.len() < counting {
            let missing = counting.saturating_sub(good.len());
            tracing::warn!(missing, "the directory's copy is damaged: the feed is read again");
            head.rewind();
            head.lines = u64::try_from(good.len()).unwrap_or(u64::MAX);
        }
        let good = good.concat();
        let bytes = u64::try_from(good.len()).unwrap_or(u64::MAX);
        if good.len() < text.len() {
            replace(folder, "directory.jsonl", &good).map_err(&failed)?;
        }
        let lines = OpenOptions::new().create(true).append(true).open(&path).map_err(&failed)?;
        Ok((Self { folder: folder.to_owned(), lines, bytes }, directory))
    }

    /// Appends entries and then says that they count.
    pub(super) fn append(&mut self, entries: &[Entry], head: &mut Head) -> Result<(), FollowError> {
        let failed = failed(&self.folder);
        let mut added = 0;
        if !entries.is_empty() {
            let mut text = Vec::new();
            for entry in entries {
                serde_json::to_writer(&mut text, entry).map_err(|it| failed(it.into()))?;
                text.push(b'\n');
            }
            // What an append that failed has left would be taken for lines that count.
            self.lines.set_len(self.bytes).map_err(&failed)?;
            self.lines.write_all(&text).map_err(&failed)?;
            self.lines.sync_data().map_err(&failed)?;
            head.lines = head.lines.saturating_add(u64::try_from(entries.len()).unwrap_or(0));
            added = u64::try_from(text.len()).unwrap_or(0);
        }
        let text = serde_json::to_vec(head).map_err(|it| failed(it.into()))?;
        replace(&self.folder, "directory.head.json", &text).map_err(&failed)?;
        self.bytes = self.bytes.saturating_add(added);
        Ok(())
    }
}

/// Replaces a file as a whole: after a crash there is the old one or the new one.
fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn failed(folder: &Path) -> impl Fn(io::Error) -> FollowError + use<> {
    let folder = folder.to_owned();
    move |error| FollowError::Io(folder.clone(), error)
}
