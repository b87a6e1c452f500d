//! SQLite the way all of our files are opened: WAL, foreign keys, a busy timeout, and migrations by `user_version`.
//!
//! Law: every migration runs in its own transaction together with the new version number, so a crash leaves the old
//! or the new schema and nothing between; a file of a newer program is refused. Tables are STRICT.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// How long a statement waits for another connection's lock. Only checkpoints and short writes hold one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: the commit is synced before it returns. For everything that is answered.
    Full,
    /// A crash of the process, not of the machine. For what can be made again.
    Normal,
}

/// Why a file can't be opened or brought to this program's schema.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite said no.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows {known}: run the newer program, or restore the copy made before its first start"
    )]
    Newer {
        /// In the file.
        found: u32,
        /// Here.
        known: u32,
    },
    /// A migration failed; the file is as it was before it.
    #[error("migration {version} failed, the database is unchanged by it")]
    Migration {
        /// Which one, from 1.
        version: u32,
        /// What it ran into.
        #[source]
        source: rusqlite::Error,
    },
}

/// Opens or makes a database file.
///
/// # Errors
/// What SQLite says, such as a missing folder or a file that is no database.
pub fn open(path: impl AsRef<Path>, durability: Durability) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    prepare(&connection, durability)?;
    Ok(connection)
}

/// The same, where a file that is made gets pages of this size, a power of two from 512 to 65 536: large ones for large
/// rows, which are written in a few parts then instead of thousands.
///
/// # Errors
/// As [`open`].
pub fn open_with_pages(
    path: impl AsRef<Path>,
    page_bytes: u32,
    durability: Durability,
) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", page_bytes)?;
    prepare(&connection, durability)?;
    Ok(connection)
}

/// Opens a database in memory: for tests, with the same settings as far as they apply.
///
/// # Errors
/// What SQLite says.
pub fn open_in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    prepare(&connection, Durability::Normal)?;
    Ok(connection)
}

fn prepare(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // The answer is the mode that is really in force ("memory" for a database in memory).
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
        row.get::<_, String>(0).map(drop)
    })?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Names in double quotes are names, never silently texts.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    // A plan never depends on what is bound: without this, a statement on a table with a partial index is prepared anew
    // at every use.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Runs the migrations that the file has not seen. Each is one script; its place in the list, from 1, is its version.
/// A migration is never edited once released: changes are new ones at the end.
///
/// # Errors
/// [`DbError::Newer`] when the file is ahead of the list, [`DbError::Migration`] when one fails.
pub fn migrate(connection: &Connection, migrations: &[&str]) -> Result<(), DbError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let found = user_version(connection)?;
    if found > known {
        return Err(DbError::Newer { found, known });
    }
    for (version, script) in (1_u32..).zip(migrations) {
        step(connection, version, script)
            .map_err(|source| DbError::Migration { version, source })?;
    }
    Ok(())
}

fn step(connection: &Connection, version: u32, script: &str) -> rusqlite::Result<()> {
    // Immediate, and the version read again inside: two processes may start at the same moment.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    if user_version(&transaction)? >= version {
        return Ok(());
    }
    transaction.execute_batch(script)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

fn user_version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "CREATE TABLE thing (id INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;";
    const TWO: &str = "ALTER TABLE thing ADD COLUMN extra TEXT;";

    fn pragma(connection: &Connection, name: &str) -> String {
        connection
            .pragma_query_value(None, name, |row| {
                row.get::<_, rusqlite::types::Value>(0).map(|it| format!("{it:?}"))
            })
            .unwrap()
    }

    #[test]
    fn files_are_opened_with_our_settings() {
        let dir = tempfile::tempdir().unwrap();
        for (durability, synchronous) in
            [(Durability::Full, "Integer(2)"), (Durability::Normal, "Integer(1)")]
        {
            let db = open(dir.path().join(format!("{durability:?}.db")), durability).unwrap();
            assert_eq!(pragma(&db, "journal_mode"), "Text(\"wal\")");
            assert_eq!(pragma(&db, "synchronous"), synchronous);
            assert_eq!(pragma(&db, "foreign_keys"), "Integer(1)");
            assert_eq!(pragma(&db, "busy_timeout"), "Integer(5000)");
            assert!(db.execute_batch("SELECT \"no such name\"").is_err());
        }
    }

    #[test]
    fn migrations_run_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path().join("a.db"), Durability::Full).unwrap();
        migrate(&db, &[ONE]).unwrap();
        db.execute("INSERT INTO thing (note) VALUES ('kept')", []).unwrap();
        migrate(&db, &[ONE, TWO]).unwrap();
        migrate(&db, &[ONE, TWO]).unwrap();
        let note: String = db.query_row("SELECT note FROM thing", [], |row| row.get(0)).unwrap();
        assert_eq!(note, "kept");
        assert_eq!(pragma(&db, "user_version"), "Integer(2)");
    }

    #[test]
    fn a_newer_file_is_refused_and_a_failed_step_leaves_nothing() {
        let db = open_in_memory().unwrap();
        let broken = "CREATE TABLE half (id INTEGER) STRICT; CREATE TABLE half (id INTEGER);";
        let failed = migrate(&db, &[ONE, broken]);
        assert!(matches!(failed, Err(DbError::Migration { version: 2, .. })), "{failed:?}");
        assert_eq!(pragma(&db, "user_version"), "Integer(1)");
        assert!(db.execute_batch("SELECT * FROM half").is_err());
        migrate(&db, &[ONE, TWO]).unwrap();
        assert!(matches!(migrate(&db, &[ONE]), Err(DbError::Newer { found: 2, known: 1 })));
    }
}
