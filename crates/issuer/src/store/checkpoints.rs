//! Moves the journal's WAL into the database, from a thread of its own, and lets the WAL begin anew before it is long.
//!
//! A WAL that begins anew is written over in place. That is synced in half the time of a file that grows, whose size and
//! map have to be written as well, and waits far less for what others write. So the WAL is kept short enough to get there
//! soon, and long enough that beginning anew, for which an append has to wait a few milliseconds, is rare. It is filled
//! to that length at the start, so that it need not grow first.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use warifu_server::db::{self, Durability};

/// A part of the WAL is moved when so much is new in it.
const MOVE_BYTES: u64 = 4 << 20;
/// It shall begin anew when it has so many pages of 4 KiB: 32 MiB.
const PAGES_MAX: i64 = 8 << 10;
/// What these take in the file, with the header of each, and with what comes until it does begin anew.
const FILLED_BYTES: u64 = 36 << 20;
/// So few pages may be left for the append that begins it anew.
const LEFT_MAX: i64 = 128;
/// How often it is tried to leave so few. Under full load as many come again as are moved.
const TRIES: usize = 8;
/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(100);

/// The thread, and what it shares with appends.
#[derive(Debug)]
pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    new_bytes: AtomicU64,
    /// Nearly all of the WAL is in the database: the next append may let it begin anew.
    may_begin_anew: AtomicBool,
    stop: AtomicBool,
}

impl Checkpoints {
    pub(super) fn start(journal: &Path) -> anyhow::Result<Self> {
        let connection = db::open(journal, Durability::Normal)?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || run(&of_thread, &connection))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes an append of so many bytes.
    pub(super) fn appended(&self, bytes: usize) {
        // A row takes whole pages, and touches one more.
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(4096);
        self.shared.new_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Lets the WAL begin anew when it is time. Somebody who reads the journal for long, as `warifu verify` does, must
    /// not hold the lane up: then the WAL goes on growing, and it is tried again.
    pub(super) fn begin_anew_if_wished(&self, journal: &Connection) {
        if !self.shared.may_begin_anew.swap(false, Ordering::Relaxed) {
            return;
        }
        let begun = journal
            .busy_timeout(Duration::ZERO)
            .and_then(|()| checkpoint(journal, "PRAGMA wal_checkpoint(RESTART)"));
        let begun = journal.busy_timeout(db::BUSY_TIMEOUT).and(begun);
        if let Err(error) = begun {
            tracing::warn!(%error, "the journal's WAL could not begin anew; trying again later");
        }
    }
}

/// Fills the WAL of a database that nobody writes to yet with zeros behind what it holds. SQLite reads a WAL up to the
/// first frame that does not carry the header's salts, so nothing of this is ever taken for a frame.
///
/// # Errors
/// When the file can't be written: the disk is full, or the folder can't be used.
pub(super) fn fill_ahead(journal: &Path) -> std::io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut name = journal.as_os_str().to_owned();
    name.push("-wal");
    let mut wal = OpenOptions::new().write(true).open(PathBuf::from(name))?;
    let length = wal.seek(SeekFrom::End(0))?;
    let blocks = FILLED_BYTES.saturating_sub(length).div_ceil(1 << 16);
    let filled = (0..blocks).try_for_each(|_| wal.write_all(&ZEROS));
    if filled.is_err() {
        // What is left of a full disk is for the journal itself.
        wal.set_len(length)?;
    }
    filled.and_then(|()| wal.sync_all())
}

fn run(shared: &Shared, journal: &Connection) {
    while !shared.stop.load(Ordering::Acquire) {
        std::thread::park_timeout(LOOK);
        if shared.new_bytes.load(Ordering::Relaxed) < MOVE_BYTES {
            continue;
        }
        shared.new_bytes.store(0, Ordering::Relaxed);
        for tries_left in (0..TRIES).rev() {
            match checkpoint(journal, "PRAGMA wal_checkpoint(PASSIVE)") {
                Ok((pages, moved)) if pages > PAGES_MAX => {
                    if pages - moved <= LEFT_MAX || tries_left == 0 {
                        shared.may_begin_anew.store(true, Ordering::Relaxed);
                        break;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint of the journal failed; trying again");
                    break;
                }
            }
        }
    }
}

/// How many pages the WAL has, and how many of them are in the database.
fn checkpoint(journal: &Connection, pragma: &str) -> rusqlite::Result<(i64, i64)> {
    journal.query_row(pragma, [], |row| Ok((row.get(1)?, row.get(2)?)))
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that makes checkpoints panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::params;

    #[test]
    fn whoever_reads_for_long_holds_no_append_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = db::open(&path, Durability::Normal).unwrap();
        journal.execute_batch("CREATE TABLE it (id INTEGER PRIMARY KEY)").unwrap();
        let reader = db::open(&path, Durability::Normal).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM it").unwrap();
        journal.execute("INSERT INTO it VALUES (1)", []).unwrap();
        let checkpoints = Checkpoints::start(&path).unwrap();
        checkpoints.shared.may_begin_anew.store(true, Ordering::Relaxed);
        let began = std::time::Instant::now();
        checkpoints.begin_anew_if_wished(&journal);
        // Ten times as long as it could take, and a fifth of what the reader's lock would cost.
        assert!(began.elapsed() < Duration::from_secs(1));
        journal.execute("INSERT INTO it VALUES (2)", []).unwrap();
        let count: i64 = reader.query_row("SELECT count(*) FROM it", [], |row| row.get(0)).unwrap();
        assert!(count <= 1, "the reader still sees what was there");
    }

    #[test]
    fn zeros_behind_the_wal_are_never_read_as_rows_and_hide_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let wal = folder.path().join("journal.db-wal");
        let journal = db::open(&path, Durability::Full).unwrap();
        journal.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        journal.execute_batch("CREATE TABLE it (id INTEGER PRIMARY KEY)").unwrap();
        // What a crash leaves: the files as they are, and no memory shared between connections.
        let after_a_crash = |name: &str| {
            let copy = folder.path().join(name);
            std::fs::copy(&path, &copy).unwrap();
            std::fs::copy(&wal, folder.path().join(format!("{name}-wal"))).unwrap();
            let count =
                |it: &Connection| it.query_row("SELECT count(*) FROM it", [], |it| it.get(0));
            let copy = db::open(copy, Durability::Full).unwrap();
            let rows: i64 = count(&copy).unwrap();
            copy.execute("INSERT INTO it VALUES (1000)", []).unwrap();
            assert_eq!(count(&copy).unwrap(), rows + 1, "it goes on where it was");
            rows
        };
        journal.execute("INSERT INTO it VALUES (1)", []).unwrap();
        fill_ahead(&path).unwrap();
        assert_eq!(after_a_crash("filled.db"), 1);
        let length = std::fs::metadata(&wal).unwrap().len();
        assert!((FILLED_BYTES..FILLED_BYTES + (1 << 16)).contains(&length));
        for id in 2..200 {
            journal.execute("INSERT INTO it VALUES (?1)", [id]).unwrap();
        }
        assert_eq!(after_a_crash("written.db"), 199);
        assert_eq!(std::fs::metadata(&wal).unwrap().len(), length, "written over, not grown");
        let (pages, moved) = checkpoint(&journal, "PRAGMA wal_checkpoint(RESTART)").unwrap();
        assert_eq!(pages, moved);
        journal.execute("INSERT INTO it VALUES (200)", []).unwrap();
        assert_eq!(after_a_crash("anew.db"), 200);
        fill_ahead(&path).unwrap();
        assert_eq!(std::fs::metadata(&wal).unwrap().len(), length, "it is long enough");
        // A database that was closed well has no WAL yet.
        drop(journal);
        let journal = db::open(&path, Durability::Full).unwrap();
        fill_ahead(&path).unwrap();
        assert_eq!(after_a_crash("again.db"), 200);
        journal.execute("INSERT INTO it VALUES (201)", []).unwrap();
        assert_eq!(after_a_crash("again2.db"), 201);
    }

    #[test]
    fn the_wal_stays_short_while_rows_are_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = db::open(&path, Durability::Normal).unwrap();
        journal.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        journal.execute_batch("CREATE TABLE it (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
        let checkpoints = Checkpoints::start(&path).unwrap();
        let body = vec![7_u8; 60_000];
        for id in 0..5_000 {
            journal.execute("INSERT INTO it VALUES (?1, ?2)", params![id, body]).unwrap();
            checkpoints.appended(body.len());
            checkpoints.begin_anew_if_wished(&journal);
            if id % 100 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let bytes = std::fs::metadata(folder.path().join("journal.db-wal")).unwrap().len();
        assert!(bytes < 200 << 20, "of 300 MB that were written the WAL has {bytes} bytes");
        let count: i64 =
            journal.query_row("SELECT count(*) FROM it", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 5_000);
    }
}
