//! Opens SQLite files: pragmas and migrations. Never knows what the tables mean.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::OpenError;

/// How long a write waits for somebody who inspects the file from outside.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// How hard a file's commits are pushed to the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Synchronous {
    /// Every commit is synced: it survives power loss.
    Full,
    /// Only checkpoints are: power loss may cost the newest commits, but never the file.
    Normal,
}

/// A database that is written to. When it is closed, everything is moved from its log into its file:
/// a log that was damaged since is taken for one that ends there.
#[derive(Debug)]
pub(crate) struct Database(Connection);

impl Deref for Database {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Database {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = empty_log(&self.0) {
            tracing::warn!(path = self.0.path(), %error, "the log of a database stays beside it");
        }
    }
}

/// Opens a database for writing, makes it where it is missing, and migrates it.
pub(crate) fn open(
    path: &Path,
    synchronous: Synchronous,
    migrations: &[&str],
) -> Result<Database, OpenError> {
    let failed = |cause| failure(path, cause);
    let mut connection = Connection::open(path).map_err(failed)?;
    configure(&connection, synchronous).map_err(failed)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::JournalMode { path: path.to_owned(), mode });
    }
    // Every start begins with an empty log: what a crash has left of a commit is gone.
    empty_log(&connection).map_err(failed)?;
    let found: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let done = known(path, found, migrations)?;
    for (migration, version) in migrations.iter().zip(1u32..).skip(done) {
        migrate(&mut connection, version, migration).map_err(failed)?;
    }
    Ok(Database(connection))
}

/// Whether these migrations know a database, which its writer may have open; one that is missing
/// will be made.
pub(crate) fn check(path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    let failed = |cause| failure(path, cause);
    let connection = open_reader(path)?;
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    known(path, found.map_err(failed)?, migrations).map(drop)
}

/// How many of the migrations a database of this version has; an error if it has more.
fn known(path: &Path, found: u32, migrations: &[&str]) -> Result<usize, OpenError> {
    let known = migrations.len() as u32;
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    Ok(found as usize)
}

/// Opens a database that exists, for reading beside its writer.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    open().map_err(|cause| failure(path, cause))
}

/// What an error of SQLite means for its file: that it is damaged, or anything else.
pub(crate) fn failure(path: &Path, cause: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Damaged { path, reason: cause.to_string() }
        }
        _ => OpenError::Database { path, cause },
    }
}

fn configure(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "foreign_keys", true)?;
    let synchronous = match synchronous {
        Synchronous::Full => "full",
        Synchronous::Normal => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// Moves what is in the log into the file, as far as nobody reads beside it.
fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn migrate(connection: &mut Connection, to: u32, migration: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT";
    const SECOND: &str = "ALTER TABLE a ADD COLUMN y INTEGER";

    #[test]
    fn migrations_run_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sqlite");
        open(&path, Synchronous::Full, &[FIRST]).expect("made");
        for _ in 0..2 {
            let connection = open(&path, Synchronous::Full, &[FIRST, SECOND]).expect("migrated");
            connection.execute("INSERT INTO a (x, y) VALUES (1, 2)", []).expect("both columns");
        }
    }

    #[test]
    fn a_file_of_a_newer_server_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sqlite");
        open(&path, Synchronous::Full, &[FIRST, SECOND]).expect("made");
        let refused = open(&path, Synchronous::Full, &[FIRST]).expect_err("newer");
        assert!(matches!(refused, OpenError::NewerSchema { found: 2, known: 1, .. }), "{refused}");
        let refused = check(&path, &[FIRST]).expect_err("newer");
        assert!(matches!(refused, OpenError::NewerSchema { found: 2, known: 1, .. }), "{refused}");
        check(&path, &[FIRST, SECOND]).expect("known, also while it is open elsewhere");
        check(&folder.path().join("absent.sqlite"), &[]).expect("will be made");
    }

    #[test]
    fn what_is_closed_has_everything_in_its_file_whoever_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sqlite");
        let database = open(&path, Synchronous::Full, &[FIRST]).expect("made");
        let reader = open_reader(&path).expect("opens");
        database.execute("INSERT INTO a (x) VALUES (1)", []).expect("inserted");
        let rows =
            |from: &Connection| from.query_row("SELECT count(*) FROM a", [], |row| row.get(0));
        assert_eq!(rows(&reader), Ok(1));
        drop(database);
        let log = std::fs::metadata(folder.path().join("x.sqlite-wal")).expect("still in use");
        assert_eq!(log.len(), 0);
        let copy = folder.path().join("copy.sqlite");
        std::fs::copy(&path, &copy).expect("copied");
        assert_eq!(rows(&open_reader(&copy).expect("opens")), Ok(1));
    }

    #[test]
    fn a_failed_migration_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sqlite");
        let broken = format!("{FIRST}; CREATE nonsense");
        let refused = open(&path, Synchronous::Full, &[&broken]).expect_err("not SQL");
        assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
        open(&path, Synchronous::Full, &[FIRST]).expect("as if nothing had happened");
    }

    #[test]
    fn a_place_that_can_not_keep_a_journal_is_refused() {
        let refused = open(Path::new(":memory:"), Synchronous::Full, &[]).expect_err("memory");
        assert!(matches!(&refused, OpenError::JournalMode { mode, .. } if mode == "memory"));
    }

    #[test]
    fn pragmas_are_set() {
        let folder = tempfile::tempdir().expect("a folder");
        for (synchronous, level) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
            let path = folder.path().join(format!("{level}.sqlite"));
            let connection = open(&path, synchronous, &[FIRST]).expect("made");
            let value =
                |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            assert_eq!(value("synchronous"), Ok(level));
            assert_eq!(value("foreign_keys"), Ok(1));
        }
    }
}
