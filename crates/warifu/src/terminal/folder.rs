//! A terminal's folder: `link.json` (the link with its keys, mode 0600), the device key, and the copy of the directory.
//!
//! Law: no counter of the link ever goes back on disk, though several commands may run on one folder: each write
//! takes over what is greater in the file, under a lock held for the write only. Who shows codes and who listens
//! to notices hold a lock of their own for life, because the hub keeps one stream per link.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use warifu_proto::id::InvitationId;
use warifu_proto::key::{PrivateKey, Thumbprint};
use warifu_server::folder::{FolderError, FolderLock};
use warifu_server::follow::{DirectoryFollower, FollowError, FollowParts, View};
use warifu_server::{chance, keyfile};
use warifu_terminal::Link;

use super::atomic;
use crate::fail::Failure;
use crate::paths;

const LINK: &str = "link.json";

/// A terminal's folder.
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

    fn link_path(&self) -> PathBuf {
        self.dir.join(LINK)
    }

    /// Reads the link, if there is one.
    pub(crate) fn link(&self) -> Result<Option<Link>, Failure> {
        let path = self.link_path();
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(paths::cannot("read", &path, &error)),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let shown = paths::shown(&path);
            return Err(Failure::usage(format_args!(
                "{shown} can be read by others (mode {mode:04o}), and who reads it can pay"
            ))
            .next(format_args!("chmod 600 {shown}")));
        }
        let link: Link = paths::read_json(&path, "link")?;
        if link.format != Link::FORMAT {
            return Err(Failure::usage(format_args!(
                "{} was written by a newer warifu",
                paths::shown(&path)
            ))
            .next("install the newer version"));
        }
        Ok(Some(link))
    }

    /// Reads the link that must be there.
    pub(crate) fn linked(&self) -> Result<Link, Failure> {
        self.link()?.ok_or_else(|| {
            let dir = paths::shown(&self.dir);
            Failure::usage(format_args!("{dir} is not linked to an account")).next(format_args!(
                "warifu terminal link LINK --dir {dir}   (LINK: `warifu issuer invite`)"
            ))
        })
    }

    /// Puts the link on disk and gives what is there now: counters that are greater there stay, and so does what the
    /// payer said there first.
    pub(crate) fn store(&self, link: &Link) -> Result<Link, Failure> {
        let lock = self.dir.join("link.lock");
        let cannot = |error: &std::io::Error| paths::cannot("locked", &lock, error);
        let file = open_lock(&lock).map_err(|error| cannot(&error))?;
        file.lock().map_err(|error| cannot(&error))?;
        let mut link = link.clone();
        if let Some(on_disk) = self.link()? {
            link.merge(&on_disk);
        }
        let text = serde_json::to_vec_pretty(&link).expect("a link has only text keys");
        atomic::write(&self.link_path(), &text)?;
        Ok(link)
    }

    /// The key for a link, made at the first try: a repeated request must come from the same key.
    pub(crate) fn key_for(&self, invitation: InvitationId) -> Result<PrivateKey, Failure> {
        let path = self.key_path(invitation);
        if !path.exists() {
            let made = chance::key();
            keyfile::create(&path, &made)?;
            return Ok(made);
        }
        Ok(keyfile::read(path)?)
    }

    /// The key of the link.
    pub(crate) fn key(&self, link: &Link) -> Result<PrivateKey, Failure> {
        let path = self.key_path(link.invitation);
        let key = keyfile::read(&path)?;
        if key.thumbprint() != link.device {
            return Err(Failure::usage(format_args!(
                "{} is not the key of the link in this folder",
                paths::shown(&path)
            ))
            .next("restore the folder as a whole, or link again in another one"));
        }
        Ok(key)
    }

    fn key_path(&self, invitation: InvitationId) -> PathBuf {
        self.dir.join(format!("device-{invitation}.key"))
    }

    /// Deletes the link and its key.
    pub(crate) fn forget(&self, link: &Link) -> Result<(), Failure> {
        // The key first: without it the link can do nothing, and the command can be repeated.
        for path in [self.key_path(link.invitation), self.link_path()] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(paths::cannot("deleted", &path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Waits for nobody: the lock of what only one process may do at a time, or nothing when another does it.
    pub(crate) fn only_one(&self, what: Only) -> Result<Option<FolderLock>, Failure> {
        let name = match what {
            Only::Shows => "showing",
            Only::Listens => "listening",
            Only::Answers => "answering",
        };
        match FolderLock::take(self.dir.join(name)) {
            Ok(lock) => Ok(Some(lock)),
            Err(FolderError::InUse(_)) => Ok(None),
            Err(error) => Err(Failure::usage("the folder can't be used").because(&error)),
        }
    }

    /// The checked copy of the directory; asks the hub only when there is none yet. One for each process that may
    /// run on the folder, because a copy has one writer.
    pub(crate) async fn directory(
        &self,
        who: Only,
        hub_url: &str,
        registrar: Thumbprint,
        http: reqwest::Client,
    ) -> Result<DirectoryFollower, FollowError> {
        let copy = match who {
            Only::Shows => "directory",
            Only::Listens => "directory-listening",
            Only::Answers => "directory-answering",
        };
        let parts = FollowParts {
            folder: self.dir.join(copy),
            hub_url: hub_url.to_owned(),
            view: View::Issuers,
            registrar,
            network: None,
            http,
        };
        DirectoryFollower::open(parts).await
    }
}

/// What only one process may do at a time on a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    /// Shows codes: two would take each other's sequences.
    Shows,
    /// Listens to notices: the hub ends the older stream.
    Listens,
    /// Answers a question by a command of its own.
    Answers,
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Says why there is no directory, for readers and terminals.
pub(crate) fn no_directory(error: &FollowError) -> Failure {
    match error {
        FollowError::WrongRegistrar | FollowError::WrongNetwork => {
            Failure::refused("the hub belongs to another network").because(error).next(
                "ask who gave you the link: it names a registrar that this hub does not follow",
            )
        }
        FollowError::HubUnknown => {
            Failure::refused("the hub is not of this network").because(error).next(
                "ask the registrar: `warifu registrar add hub …`, then `warifu registrar publish`",
            )
        }
        FollowError::Call(_) | FollowError::NoPage(_) | FollowError::Chain => {
            Failure::unreachable("the hub gives no directory")
                .because(error)
                .next("is the hub running, and is its address right?")
        }
        FollowError::Io(..) | FollowError::OtherCopy(_) => {
            Failure::usage("the directory can't be used").because(error)
        }
    }
}
