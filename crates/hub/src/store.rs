//! The hub's tables in one SQLite file: the log of directory entries, links, unacknowledged notices.
//!
//! Law: all writes go through one thread that takes what has arrived, does it in one transaction with
//! `synchronous=FULL`, and answers after the commit: what was answered is on disk, and one flush serves all who
//! waited. Each write stands alone inside (a savepoint), so one that fails takes no other with it. Reads use two
//! more connections on the blocking pool, one for notices alone: nobody's notice waits for a page of the directory,
//! which anybody may ask for. Limits: [`QUEUE_MAX`] writes wait, [`NOTICES_MAX`] notices a credential.
//!
//! Registrations only pass through the hub: nothing of them is here.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, params};
use tokio::sync::{Mutex, mpsc, oneshot};
use warifu_proto::code::Prefix;
use warifu_proto::directory::Entry;
use warifu_proto::id::{CredentialId, InvitationId, NetworkId, NoticeId};
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::message::{NoticeRequest, SealedNotice};
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_server::db::{self, Durability};
use warifu_server::problem::ApiProblem;

mod lane;
mod notices;
mod rows;

use notices::{drop_notices, notice_bytes};
use rows::{from_i64, link, logged};

/// Writes that may wait for the lane. Above it: `not_accepted`, which is then the truth.
pub(crate) const QUEUE_MAX: usize = 4096;
/// Unacknowledged notices kept of one credential; the oldest are dropped.
pub(crate) const NOTICES_MAX: u64 = 1_000;
/// How long an ended link is remembered, so that a repeated unlinking gets its answer.
pub(crate) const ENDED_KEPT_MS: u64 = 24 * 3_600_000;

const MIGRATIONS: &[&str] = &["
    CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

    -- The feed: `version` is the position, from 1 without gaps; `head` is the hash chain after the entry.
    CREATE TABLE entry (
        version INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        body BLOB NOT NULL,
        key BLOB NOT NULL,
        signature BLOB NOT NULL,
        head BLOB NOT NULL
    ) STRICT;

    -- A terminal's key bound to an account. `acked`: the terminal has all notices up to this number.
    CREATE TABLE link (
        credential BLOB PRIMARY KEY,
        key BLOB NOT NULL,
        thumbprint BLOB NOT NULL UNIQUE,
        prefix TEXT NOT NULL,
        partition INTEGER NOT NULL CHECK (partition BETWEEN 0 AND 99),
        invitation BLOB NOT NULL,
        linked_ms INTEGER NOT NULL,
        acked INTEGER NOT NULL DEFAULT 0,
        ended_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX link_ended ON link (ended_ms) WHERE ended_ms IS NOT NULL;

    -- Sealed: the hub sees for whom, a number and a size. In order of arrival, so that those of one call lie side by side:
    -- by credential each would be written to a page of its own.
    CREATE TABLE notice (
        arrival INTEGER PRIMARY KEY,
        credential BLOB NOT NULL REFERENCES link (credential) ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number > 0),
        id BLOB NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX notice_by_number ON notice (credential, number);
", "
    -- The issuers' view: a handful among all the readers. The term is the query's, letter by letter.
    CREATE INDEX entry_of_issuers ON entry (version) WHERE kind IN ('hub', 'issuer', 'currency');
", "
    -- What an issuer's unacknowledged notices take, in bytes: written with every notice that comes or goes.
    CREATE TABLE share (prefix TEXT PRIMARY KEY, notice_bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO share (prefix, notice_bytes)
        SELECT link.prefix, sum(length(notice.sealed)) FROM notice JOIN link USING (credential) GROUP BY link.prefix;
"];

/// A page of the log. Of the issuers' view by its index: texts in place, since no bound value proves the index's term.
const ALL_AFTER: &str = "SELECT version, kind, body, key, signature, head FROM entry
    WHERE version > ? ORDER BY version LIMIT ?";
const ISSUERS_AFTER: &str = "SELECT version, kind, body, key, signature, head FROM entry
    WHERE version > ? AND kind IN ('hub', 'issuer', 'currency') ORDER BY version LIMIT ?";

/// Why the store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing was written, and nothing will be.
    #[error("too many writes are waiting")]
    Busy,
    /// The lane has ended; nothing was written.
    #[error("the store is closed")]
    Closed,
    /// The write was taken and nobody said what became of it.
    #[error("the store ended without an answer")]
    Lost,
    /// Nothing was written: another write of the same transaction made SQLite end it.
    #[error("the database ended the transaction by itself")]
    Undone,
    /// SQLite said no.
    #[error("the database failed")]
    Database(#[source] Arc<rusqlite::Error>),
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        Self::Database(Arc::new(err))
    }
}

impl From<StoreError> for ApiProblem {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Busy | StoreError::Closed => {
                let detail =
                    "the hub's store takes no writes at the moment: repeat the same request";
                Self::new(ProblemCode::NotAccepted, detail).caused_by(err)
            }
            StoreError::Lost | StoreError::Undone | StoreError::Database(_) => Self::internal(err),
        }
    }
}

/// A public key that was checked, unparsed: 96 bytes instead of a kilobyte, and parsing costs a few
/// microseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptKey {
    xy: [u8; 64],
    thumbprint: Thumbprint,
}

impl KeptKey {
    /// The key's name.
    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The key, ready to verify.
    pub(crate) fn parse(&self) -> PublicKey {
        PublicKey::from_xy(&self.xy).expect("a kept key was made of a checked one")
    }
}

impl From<&PublicKey> for KeptKey {
    fn from(key: &PublicKey) -> Self {
        Self { xy: key.xy(), thumbprint: key.thumbprint() }
    }
}

impl std::fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.thumbprint.fmt(f)
    }
}

/// A terminal's key bound to an account, as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) credential: CredentialId,
    pub(crate) key: KeptKey,
    pub(crate) prefix: Prefix,
    pub(crate) partition: u8,
    pub(crate) invitation: InvitationId,
    pub(crate) linked_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
}

/// What storing a link came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkStored {
    /// It is there now.
    Stored,
    /// The credential belongs to another issuer, or the key to another credential.
    Taken,
}

/// What storing a notice came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeStored {
    /// It is there now, and that many older ones had to go.
    Stored { dropped: usize },
    /// It was there, or its terminal has it already.
    Same,
    /// Another one has its number.
    Conflict,
    /// Nobody is linked.
    Unlinked,
}

/// An entry of the feed with the head after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) version: u64,
    pub(crate) entry: Entry,
    pub(crate) head: [u8; 32],
}

/// See the file's head.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    lane: mpsc::Sender<lane::Job>,
    reader: Reader,
    notices: Reader,
}

/// A connection that one read at a time uses.
type Reader = Arc<Mutex<Connection>>;

impl Store {
    /// Opens the file of a network, makes it if there is none, and starts the lane. The lane ends when the last
    /// clone of the store is gone.
    ///
    /// # Errors
    /// When the file can't be opened, is newer than this program, or belongs to another network.
    pub(crate) fn open(path: &Path, network: NetworkId) -> anyhow::Result<Self> {
        let writer = db::open(path, Durability::Full)?;
        db::migrate(&writer, MIGRATIONS)?;
        belongs_to(&writer, network, path)?;
        // 16 MiB: what is unacknowledged is looked up with every notice.
        writer.pragma_update(None, "cache_size", -16_384)?;
        let reader =
            || Ok::<_, rusqlite::Error>(Arc::new(Mutex::new(db::open(path, Durability::Full)?)));
        let (reader, notices) = (reader()?, reader()?);
        let lane = lane::start(writer, QUEUE_MAX)?;
        Ok(Self { lane, reader, notices })
    }

    /// Whether writes can be taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.lane.is_closed()
    }

    /// Appends entries to the feed.
    pub(crate) async fn log_entries(&self, entries: Vec<Logged>) -> Result<(), StoreError> {
        self.write(move |to| {
            let mut insert = to.prepare_cached(
                "INSERT INTO entry (version, kind, body, key, signature, head) VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            for it in &entries {
                insert.execute(params![
                    to_i64(it.version),
                    it.entry.kind.as_str(),
                    it.entry.body,
                    it.entry.key.0,
                    it.entry.signature,
                    it.head
                ])?;
            }
            Ok(())
        })
        .await
    }

    /// At most `limit` entries after a version, of all kinds or of those that say who routes and in what money.
    pub(crate) async fn entries_after(
        &self,
        after: u64,
        issuers_only: bool,
        limit: usize,
    ) -> Result<Vec<Logged>, StoreError> {
        read(&self.reader, move |from| {
            let page = if issuers_only { ISSUERS_AFTER } else { ALL_AFTER };
            let mut select = from.prepare_cached(page)?;
            select.query_map(params![to_i64(after), count(limit)], logged)?.collect()
        })
        .await
    }

    /// All links, ended ones included.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, StoreError> {
        read(&self.reader, |from| {
            let mut select = from.prepare(
                "SELECT credential, key, prefix, partition, invitation, linked_ms, ended_ms FROM link",
            )?;
            select.query_map([], link)?.collect()
        })
        .await
    }

    /// Stores a link; the same credential of the same issuer again replaces what was there.
    pub(crate) async fn put_link(&self, link: Link) -> Result<LinkStored, StoreError> {
        self.write(move |to| {
            let taken: bool = to
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM link WHERE (credential = ?1 AND prefix <> ?2)
                                                          OR (thumbprint = ?3 AND credential <> ?1))",
                )?
                .query_row(
                    params![
                        link.credential.raw(),
                        link.prefix.to_string(),
                        link.key.thumbprint().0
                    ],
                    |row| row.get(0),
                )?;
            if taken {
                return Ok(LinkStored::Taken);
            }
            to.prepare_cached(
                "INSERT INTO link (credential, key, thumbprint, prefix, partition, invitation, linked_ms)
                 VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (credential) DO UPDATE SET key = excluded.key, thumbprint = excluded.thumbprint,
                     partition = excluded.partition, invitation = excluded.invitation, ended_ms = NULL",
            )?
            .execute(params![
                link.credential.raw(),
                link.key.xy,
                link.key.thumbprint().0,
                link.prefix.to_string(),
                link.partition,
                link.invitation.raw(),
                to_i64(link.linked_at.as_ms()),
            ])?;
            Ok(LinkStored::Stored)
        })
        .await
    }

    /// Ends a link, drops its notices, and forgets links that ended long ago.
    pub(crate) async fn end_link(
        &self,
        credential: CredentialId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |to| {
            to.prepare_cached(
                "UPDATE link SET ended_ms = ?2 WHERE credential = ?1 AND ended_ms IS NULL",
            )?
            .execute(params![credential.raw(), to_i64(now.as_ms())])?;
            drop_notices(to, credential.raw(), i64::MAX)?;
            to.prepare_cached("DELETE FROM link WHERE ended_ms < ?")?
                .execute([to_i64(now.as_ms().saturating_sub(ENDED_KEPT_MS))])?;
            Ok(())
        })
        .await
    }

    /// Stores notices of an issuer with these prefixes, all or none: none if so many bytes of one of them wait here
    /// already. Their numbers are at most `i64::MAX`; the caller has checked that.
    pub(crate) async fn put_notices(
        &self,
        prefixes: Vec<Prefix>,
        bytes_max: u64,
        notices: Vec<NoticeRequest>,
    ) -> Result<Option<Vec<NoticeStored>>, StoreError> {
        self.write(move |to| {
            for prefix in prefixes {
                if notice_bytes(to, prefix)? >= to_i64(bytes_max) {
                    return Ok(None);
                }
            }
            notices::put_notices(to, &notices).map(Some)
        })
        .await
    }

    /// At most `limit` notices of a credential after a number, in order.
    pub(crate) async fn notices_after(
        &self,
        credential: CredentialId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedNotice>, StoreError> {
        read(&self.notices, move |from| {
            let mut select = from.prepare_cached(
                "SELECT number, id, sealed FROM notice
                 WHERE credential = ? AND number > ? ORDER BY number LIMIT ?",
            )?;
            let rows = select.query_map(
                params![credential.raw(), to_i64(after), count(limit)],
                |row| {
                    Ok(SealedNotice {
                        credential_id: credential,
                        notice_id: NoticeId::from_raw(row.get(1)?),
                        number: from_i64(row, 0)?,
                        sealed: row.get(2)?,
                    })
                },
            )?;
            rows.collect()
        })
        .await
    }

    /// The terminal has everything up to this number; numbers that were never given to it do not count.
    pub(crate) async fn acknowledge(
        &self,
        credential: CredentialId,
        number: u64,
    ) -> Result<(), StoreError> {
        self.write(move |to| {
            let upto: Option<i64> = to
                .prepare_cached(
                    "SELECT max(number) FROM notice WHERE credential = ? AND number <= ?",
                )?
                .query_row(params![credential.raw(), to_i64(number)], |row| row.get(0))?;
            let Some(upto) = upto else { return Ok(()) };
            to.prepare_cached("UPDATE link SET acked = ?2 WHERE credential = ?1 AND acked < ?2")?
                .execute(params![credential.raw(), upto])?;
            drop_notices(to, credential.raw(), upto)?;
            Ok(())
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        self.lane.try_send(lane::job(work, tell)).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        told.await.map_err(|_| StoreError::Lost)?
    }
}

async fn read<T: Send + 'static>(
    from: &Reader,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    // Who waits for the connection holds no thread of the pool meanwhile.
    let from = Arc::clone(from).lock_owned().await;
    let done = tokio::task::spawn_blocking(move || work(&from));
    Ok(done.await.map_err(|_| StoreError::Lost)??)
}

fn belongs_to(db: &Connection, network: NetworkId, path: &Path) -> anyhow::Result<()> {
    db.execute(
        "INSERT INTO about (name, value) VALUES ('network', ?) ON CONFLICT (name) DO NOTHING",
        [network.raw()],
    )?;
    let found: [u8; 16] =
        db.query_row("SELECT value FROM about WHERE name = 'network'", [], |row| row.get(0))?;
    anyhow::ensure!(
        found == network.raw(),
        "{} holds the data of network {}, not of {network}: use another folder, or the right network file",
        path.display(),
        NetworkId::from_raw(found)
    );
    Ok(())
}

/// SQLite's integers end at `i64::MAX`; nothing of ours that is compared with one is larger.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
