//! The store in SQLite: the embedded default. No set-up, one folder.
//!
//! ```text
//! journal.db    frames, append only; WAL, synchronous=FULL. Nothing else is written here, so nothing delays an append
//! index.db      request ids and places; can be made again of the journal
//! snapshots.db  two snapshots of each partition
//! ```
//!
//! Checkpoints of the journal's WAL run on a connection of their own (`checkpoints.rs`); an append
//! waits for the last few pages of one when the WAL begins anew.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use warifu_proto::code::Prefix;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_server::chance;
use warifu_server::db::{self, Durability};
use warifu_server::folder::FolderLock;

use crate::engine::chain;
use crate::store::checkpoints::{self, Checkpoints};
use crate::store::recent::Recent;
use crate::store::{
    AppendError, Batch, Frame, Head, IndexRow, IndexRows, Snapshot, Store, StoreError, frame,
};

const JOURNAL: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    -- One row a commit. The position of its first entry is the key, so two writers can't both append.
    CREATE TABLE frame (position INTEGER PRIMARY KEY CHECK (position > 0), entries INTEGER NOT NULL CHECK (entries > 0), body BLOB NOT NULL) STRICT;
    CREATE TRIGGER frame_is_never_changed BEFORE UPDATE ON frame BEGIN SELECT RAISE(ABORT, 'the journal is append only'); END;
    CREATE TRIGGER frame_is_never_deleted BEFORE DELETE ON frame BEGIN SELECT RAISE(ABORT, 'the journal is append only'); END;
"];
const INDEX: &[&str] = &["
    CREATE TABLE request (caller BLOB NOT NULL, request TEXT NOT NULL, partition INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (caller, request)) STRICT, WITHOUT ROWID;
    CREATE TABLE place (partition INTEGER NOT NULL, first_sequence INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (partition, first_sequence)) STRICT, WITHOUT ROWID;
    CREATE TABLE change (partition INTEGER NOT NULL, first_sequence INTEGER NOT NULL, last_sequence INTEGER NOT NULL, PRIMARY KEY (partition, first_sequence)) STRICT, WITHOUT ROWID;
    CREATE TABLE cursor (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL) STRICT;
    INSERT INTO cursor VALUES (1, 0);
"];
const SNAPSHOTS: &[&str] = &["
    CREATE TABLE snapshot (partition INTEGER NOT NULL, sequence INTEGER NOT NULL, chain BLOB NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (partition, sequence)) STRICT;
"];

/// A journal in a folder.
#[derive(Debug)]
pub struct SqliteStore {
    journal_id: [u8; 16],
    writer: Mutex<Writer>,
    recent: Mutex<Recent>,
    reader: Mutex<Connection>,
    index_writer: Mutex<Connection>,
    index_reader: Mutex<Connection>,
    snapshots: Mutex<Connection>,
    checkpoints: Checkpoints,
    _lock: Option<FolderLock>,
}

#[derive(Debug)]
struct Writer {
    journal: Connection,
    last_position: u64,
    /// Heads of the partitions that this program has written since it started, or that recovery told it of.
    heads: std::collections::BTreeMap<u8, Head>,
}

impl SqliteStore {
    /// Opens or makes the journal of an issuer, and locks its folder against a second program.
    ///
    /// # Errors
    /// When the folder can't be used, is in use, or belongs to another issuer.
    pub fn open(folder: &Path, prefix: Prefix) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock = FolderLock::take(folder)?;
        // Names and books are nobody else's on this machine.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close the folder {} to others", folder.display()))?;
        let mut store = Self::open_unlocked(folder, prefix)?;
        store._lock = Some(lock);
        Ok(store)
    }

    fn open_unlocked(folder: &Path, prefix: Prefix) -> anyhow::Result<Self> {
        let at = |name: &str| folder.join(name);
        let journal = db::open(at("journal.db"), Durability::Full)?;
        db::migrate(&journal, JOURNAL)?;
        journal.pragma_update(None, "wal_autocheckpoint", 0)?;
        let journal_id = identity(&journal, prefix)?;
        let last_position = last_position(&journal)?;
        fill_ahead(&at("journal.db"));
        // It could be made again, so nothing depends on its syncs. But 64 MiB that are synced at once, as without these at
        // each checkpoint, hold up the journal's commits for some 40 ms.
        let index_writer = db::open(at("index.db"), Durability::Full)?;
        db::migrate(&index_writer, INDEX)?;
        // 64 MiB between checkpoints: the index is written at random places, and a page is often written again.
        index_writer.pragma_update(None, "wal_autocheckpoint", 16_384)?;
        index_writer.pragma_update(None, "cache_size", -65_536)?;
        let snapshots = db::open_with_pages(at("snapshots.db"), 65_536, Durability::Full)?;
        // In pages: 16 MiB.
        snapshots.pragma_update(None, "wal_autocheckpoint", 256)?;
        db::migrate(&snapshots, SNAPSHOTS)?;
        let mut store = Self {
            journal_id,
            writer: Mutex::new(Writer {
                journal,
                last_position,
                heads: std::collections::BTreeMap::new(),
            }),
            recent: Mutex::new(Recent::default()),
            reader: Mutex::new(db::open(at("journal.db"), Durability::Normal)?),
            index_writer: Mutex::new(index_writer),
            index_reader: Mutex::new(db::open(at("index.db"), Durability::Normal)?),
            snapshots: Mutex::new(snapshots),
            checkpoints: Checkpoints::start(&at("journal.db"))?,
            _lock: None,
        };
        store.read_heads()?;
        Ok(store)
    }

    /// Finds the last entry of every partition, so that appends can be fenced: from the snapshots and what came after.
    fn read_heads(&mut self) -> anyhow::Result<()> {
        let mut heads = std::collections::BTreeMap::new();
        let mut from = u64::MAX;
        for partition in 0..warifu_proto::limits::PARTITIONS {
            // Not the body, which may be megabytes.
            let newest = lock(&self.snapshots)
                .prepare_cached("SELECT sequence, chain, position FROM snapshot WHERE partition = ?1 ORDER BY sequence DESC LIMIT 1")?
                .query_row([partition], |row| {
                    Ok((Head { partition, sequence: row.get(0)?, chain: row.get(1)? }, row.get(2)?))
                })
                .optional()?;
            from = from.min(newest.map_or(0, |(_, position)| position));
            if let Some((head, _)) = newest {
                heads.insert(partition, head);
            }
        }
        let mut next = from + 1;
        loop {
            let frames = self.read(next, 4 << 20)?;
            let Some(last) = frames.last() else { break };
            next = last.last_position() + 1;
            for head in frames.iter().flat_map(|it| &it.after) {
                heads.insert(head.partition, *head);
            }
        }
        lock(&self.writer).heads = heads;
        Ok(())
    }

    fn append_frame(&self, writer: &mut Writer, batch: Batch) -> Result<u64, AppendError> {
        for before in &batch.before {
            let empty = Head {
                partition: before.partition,
                sequence: 0,
                chain: chain::start(&self.journal_id, before.partition),
            };
            if writer.heads.get(&before.partition).unwrap_or(&empty) != before {
                return Err(AppendError::NotCommitted("the journal has other entries".to_owned()));
            }
        }
        let position = writer.last_position + 1;
        let body = frame::encode(&batch);
        self.checkpoints.appended(body.len());
        let count = u64::try_from(batch.entries.len()).unwrap_or(u64::MAX);
        let inserted = writer
            .journal
            .prepare_cached("INSERT INTO frame (position, entries, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![position, count, body]));
        match inserted {
            Ok(_) => {
                writer.last_position += count;
                writer.heads.extend(batch.after.iter().map(|head| (head.partition, *head)));
                let Batch { after, entries, .. } = batch;
                lock(&self.recent).push(Frame { position, after, entries });
                Ok(writer.last_position)
            }
            Err(error) => Err(self.what_became_of(writer, &error)),
        }
    }

    /// An insert failed. A full disk and a held lock leave the journal as it was: look whether it is. Anything else
    /// (an I/O error) may have left anything: then only a restart, which reads the journal, can tell.
    fn what_became_of(&self, writer: &Writer, error: &rusqlite::Error) -> AppendError {
        let is_clean = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::ConstraintViolation
                    | ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
                    | ErrorCode::TooBig
            )
        );
        match last_position(&writer.journal) {
            Ok(last) if is_clean && last == writer.last_position => {
                AppendError::NotCommitted(error.to_string())
            }
            Ok(_) | Err(_) => AppendError::Unknown(error.to_string()),
        }
    }

    /// Lets the journal's disk be full at so many pages: the error that SQLite then gives is the real one.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: Option<u32>) {
        let writer = lock(&self.writer);
        writer
            .journal
            .query_row(
                &format!("PRAGMA max_page_count = {}", pages.unwrap_or(u32::MAX - 1)),
                [],
                |_| Ok(()),
            )
            .unwrap();
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk without room for it is no reason not to start: commits then take a little longer, until there is no room for
/// those either.
fn fill_ahead(journal: &Path) {
    if let Err(error) = checkpoints::fill_ahead(journal) {
        tracing::warn!(%error, "the journal's WAL could not be filled ahead; the first commits take longer");
    }
}

fn last_position(journal: &Connection) -> rusqlite::Result<u64> {
    let last = journal
        .prepare_cached("SELECT position + entries - 1 FROM frame ORDER BY position DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// The journal's id, made with it; and that it is this issuer's.
fn identity(journal: &Connection, prefix: Prefix) -> anyhow::Result<[u8; 16]> {
    let meta = |key: &str| {
        journal
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()
    };
    let prefix = prefix.to_string();
    let Some(id) = meta("journal_id")? else {
        let id: [u8; 16] = chance::bytes();
        journal.execute(
            "INSERT INTO meta VALUES ('journal_id', ?1), ('prefix', ?2)",
            params![id, prefix.as_bytes()],
        )?;
        return Ok(id);
    };
    let found = meta("prefix")?.unwrap_or_default();
    anyhow::ensure!(
        found == prefix.as_bytes(),
        "this journal belongs to the issuer with prefix {}, not {prefix}: check the configuration's prefix and data folder",
        String::from_utf8_lossy(&found)
    );
    id.try_into().map_err(|_| anyhow::anyhow!("the journal's id is damaged"))
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| StoreError { what: what.to_owned(), source: Some(Box::new(error)) }
}

impl Store for SqliteStore {
    fn journal_id(&self) -> [u8; 16] {
        self.journal_id
    }

    fn append(&self, batch: Batch) -> Result<u64, AppendError> {
        let writer = &mut *lock(&self.writer);
        let appended = self.append_frame(writer, batch)?;
        self.checkpoints.begin_anew_if_wished(&writer.journal);
        Ok(appended)
    }

    fn read(&self, position: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, StoreError> {
        if let Some(frames) = lock(&self.recent).read(position, bytes_max) {
            return Ok(frames);
        }
        let failed = failed("reading the journal");
        let reader = lock(&self.reader);
        // The frame that holds the position may begin before it.
        // Only the nearest one before it can: a condition on its length in the query would walk through all others.
        let before: Option<(u64, u64)> = reader
            .prepare_cached("SELECT position, entries FROM frame WHERE position <= ?1 ORDER BY position DESC LIMIT 1")
            .and_then(|mut it| it.query_row([position], |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(&failed)?;
        let first = before
            .filter(|(first, entries)| first + entries > position)
            .map_or(position, |(first, _)| first);
        let mut select = reader
            .prepare_cached(
                "SELECT position, body FROM frame WHERE position >= ?1 ORDER BY position",
            )
            .map_err(&failed)?;
        let mut rows = select.query([first]).map_err(&failed)?;
        let mut frames = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max || frames.is_empty() {
            let Some(row) = rows.next().map_err(&failed)? else { break };
            let body = row.get_ref(1).and_then(|it| Ok(it.as_blob()?)).map_err(&failed)?;
            bytes += body.len();
            frames.push(Arc::new(frame::decode(row.get(0).map_err(&failed)?, body)?));
        }
        Ok(frames)
    }

    fn entry(&self, partition: u8, sequence: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let place: Option<u64> = lock(&self.index_reader)
            .prepare_cached("SELECT position FROM place WHERE partition = ?1 AND first_sequence <= ?2 ORDER BY first_sequence DESC LIMIT 1")
            .and_then(|mut it| it.query_row(params![partition, sequence], |row| row.get(0)).optional())
            .map_err(failed("finding an entry's place"))?;
        let Some(position) = place else { return Ok(None) };
        let frame = self.read(position, 1)?.into_iter().next();
        let mut entries = frame.iter().flat_map(|it| &it.entries);
        Ok(entries
            .find(|it| it.partition == partition && it.sequence == sequence)
            .map(|it| it.bytes.clone()))
    }

    fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let failed = failed("keeping a snapshot");
        let mut connection = lock(&self.snapshots);
        let transaction = connection.transaction().map_err(&failed)?;
        let head = &snapshot.head;
        transaction
            .execute(
                "INSERT OR REPLACE INTO snapshot (partition, sequence, chain, position, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![head.partition, head.sequence, head.chain, snapshot.position, snapshot.hash, snapshot.body],
            )
            .map_err(&failed)?;
        transaction
            .execute(
                "DELETE FROM snapshot WHERE partition = ?1 AND sequence NOT IN (SELECT sequence FROM snapshot WHERE partition = ?1 ORDER BY sequence DESC LIMIT 2)",
                [head.partition],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    fn extend_snapshot(&self, partition: u8, position: u64) -> Result<(), StoreError> {
        lock(&self.snapshots)
            .execute(
                "UPDATE snapshot SET position = ?2 WHERE partition = ?1 AND sequence = (SELECT max(sequence) FROM snapshot WHERE partition = ?1)",
                params![partition, position],
            )
            .map_err(failed("extending a snapshot"))?;
        Ok(())
    }

    fn snapshot(&self, partition: u8, below: u64) -> Result<Option<Snapshot>, StoreError> {
        // SQLite's integers have a sign.
        let below = below.min(i64::MAX.unsigned_abs());
        lock(&self.snapshots)
            .prepare_cached("SELECT sequence, chain, position, hash, body FROM snapshot WHERE partition = ?1 AND sequence < ?2 ORDER BY sequence DESC LIMIT 1")
            .and_then(|mut it| {
                it.query_row(params![partition, below], |row| {
                    let head = Head { partition, sequence: row.get(0)?, chain: row.get(1)? };
                    Ok(Snapshot { head, position: row.get(2)?, hash: row.get(3)?, body: row.get(4)? })
                })
                .optional()
            })
            .map_err(failed("reading a snapshot"))
    }

    fn index(&self, rows: &IndexRows, position: u64) -> Result<(), StoreError> {
        write_index(&mut lock(&self.index_writer), rows, position)
            .map_err(failed("writing the index"))
    }

    fn indexed(&self) -> Result<u64, StoreError> {
        lock(&self.index_reader)
            .query_row("SELECT position FROM cursor", [], |row| row.get(0))
            .map_err(failed("reading how far the index has got"))
    }

    fn find_request(
        &self,
        caller: MerchantId,
        request: &RequestId,
    ) -> Result<Option<IndexRow>, StoreError> {
        lock(&self.index_reader)
            .prepare_cached(
                "SELECT partition, sequence FROM request WHERE caller = ?1 AND request = ?2",
            )
            .and_then(|mut it| {
                it.query_row(params![caller.raw(), request.as_str()], |row| {
                    Ok(IndexRow {
                        caller,
                        request: request.clone(),
                        partition: row.get(0)?,
                        sequence: row.get(1)?,
                    })
                })
                .optional()
            })
            .map_err(failed("looking up a request"))
    }

    fn last_change(&self, partition: u8, first_sequence: u64) -> Result<Option<u64>, StoreError> {
        lock(&self.index_reader)
            .prepare_cached(
                "SELECT last_sequence FROM change WHERE partition = ?1 AND first_sequence = ?2",
            )
            .and_then(|mut it| {
                it.query_row(params![partition, first_sequence], |row| row.get(0)).optional()
            })
            .map_err(failed("looking up a payment's last change"))
    }
}

fn write_index(
    connection: &mut Connection,
    rows: &IndexRows,
    position: u64,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO request (caller, request, partition, sequence) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET partition = excluded.partition, sequence = excluded.sequence",
        )?;
        for row in &rows.requests {
            put.execute(params![
                row.caller.raw(),
                row.request.as_str(),
                row.partition,
                row.sequence
            ])?;
        }
        let mut put = transaction.prepare_cached(
            "INSERT OR IGNORE INTO place (partition, first_sequence, position) VALUES (?1, ?2, ?3)",
        )?;
        for row in &rows.places {
            put.execute(params![row.partition, row.first_sequence, row.position])?;
        }
        let mut put = transaction.prepare_cached(
            "INSERT INTO change (partition, first_sequence, last_sequence) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET last_sequence = excluded.last_sequence",
        )?;
        for row in &rows.changes {
            put.execute(params![row.partition, row.first_sequence, row.last_sequence])?;
        }
        transaction.execute("UPDATE cursor SET position = ?1", [position])?;
    }
    transaction.commit()
}
