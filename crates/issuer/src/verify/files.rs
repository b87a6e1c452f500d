//! The files of an issuer, read under one read transaction each and never written. A running issuer is not disturbed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags, params};
use warifu_proto::code::Prefix;

use crate::store::{Frame, Head, frame};

/// All of them, as they were when the verification began.
pub(super) struct Files {
    pub(super) journal_id: [u8; 16],
    /// Position of the journal's last commit then; what comes later is not looked at.
    end: u64,
    pub(super) viewed: u64,
    pub(super) indexed: u64,
    /// By partition and sequence.
    pub(super) snapshots: BTreeMap<(u8, u64), SnapshotLine>,
    journal: Connection,
    pub(super) index: Connection,
    pub(super) views: Connection,
    pub(super) snapshot_bodies: Connection,
}

/// A snapshot without its body.
pub(super) struct SnapshotLine {
    pub(super) head: Head,
    /// Up to which position of the journal it says that it holds everything.
    pub(super) covers: u64,
    pub(super) hash: [u8; 32],
}

impl Files {
    pub(super) fn open(data: &Path, prefix: Prefix) -> anyhow::Result<Self> {
        // The followers first: the journal is then at least as far as they are.
        let views = open(data, "views.db")?;
        let viewed = cursor(&views)?;
        let index = open(data, "index.db")?;
        let indexed = cursor(&index)?;
        let snapshot_bodies = open(data, "snapshots.db")?;
        let snapshots = snapshot_bodies
            .prepare("SELECT partition, sequence, chain, position, hash FROM snapshot")?
            .query_map([], |row| {
                let (partition, sequence) = (row.get(0)?, row.get(1)?);
                let head = Head { partition, sequence, chain: row.get(2)? };
                let line = SnapshotLine { head, covers: row.get(3)?, hash: row.get(4)? };
                Ok(((partition, sequence), line))
            })?
            .collect::<Result<_, _>>()?;
        let journal = open(data, "journal.db")?;
        let meta = |key: &str| -> rusqlite::Result<Vec<u8>> {
            journal.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        };
        let found = meta("prefix")?;
        anyhow::ensure!(
            found == prefix.to_string().as_bytes(),
            "this journal belongs to the issuer with prefix {}, not {prefix}",
            String::from_utf8_lossy(&found)
        );
        let journal_id = meta("journal_id")?;
        let journal_id = journal_id.try_into().ok().context("the journal's id is damaged")?;
        let end = journal.query_row(
            "SELECT coalesce(max(position + entries - 1), 0) FROM (SELECT position, entries FROM frame ORDER BY position DESC LIMIT 1)",
            [],
            |row| row.get(0),
        )?;
        Ok(Self {
            journal_id,
            end,
            viewed,
            indexed,
            snapshots,
            journal,
            index,
            views,
            snapshot_bodies,
        })
    }

    /// Commits after a position, in order; none at the end.
    pub(super) fn frames(&self, after: u64, bytes_max: usize) -> anyhow::Result<Vec<Frame>> {
        let mut select = self.journal.prepare_cached(
            "SELECT position, entries, body FROM frame WHERE position > ?1 AND position <= ?2 ORDER BY position",
        )?;
        let mut rows = select.query(params![after, self.end])?;
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some(row) = rows.next()? else { break };
            let (position, entries): (u64, u64) = (row.get(0)?, row.get(1)?);
            let body = row.get_ref(2)?.as_blob()?;
            bytes += body.len();
            let frame = frame::decode(position, body)?;
            anyhow::ensure!(
                u64::try_from(frame.entries.len()) == Ok(entries),
                "the frame at position {position} has another number of entries than its row says"
            );
            frames.push(frame);
        }
        Ok(frames)
    }
}

fn open(data: &Path, name: &str) -> anyhow::Result<Connection> {
    let path = data.join(name);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let cannot = || format!("cannot read {}: is it the data folder of an issuer?", path.display());
    let connection = Connection::open_with_flags(&path, flags).with_context(cannot)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // The transaction lasts as long as the connection, so everything is of one moment.
    connection.execute_batch("BEGIN").with_context(cannot)?;
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, u64>(0))
        .with_context(cannot)?;
    Ok(connection)
}

fn cursor(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT position FROM cursor", [], |row| row.get(0))
}
