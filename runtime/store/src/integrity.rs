//! Looks through databases for damage before anything relies on them. Repairs nothing: what is found
//! is named and refused.
//!
//! SQLite keeps no checksums of its pages: what is found is damage to their structure, to rows that
//! are not of their tables' form, and where it is looked for, to indexes that say something else than
//! their tables. A letter of a text that became another one is not found.

mod log;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use crate::{OpenError, blobs, database, folder};

/// Databases up to this size are looked through at every start, which takes about as long as reading
/// them; the catalog is whatever its size, as nothing works without it.
const AT_EVERY_START: u64 = 1 << 30;

/// How long to wait for somebody who inspects a file from outside.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// How closely a database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scrutiny {
    /// Pages, rows, and whether indexes say what their tables do.
    Full,
    /// Pages and rows.
    Pages,
}

/// Looks for damage in the databases of a data folder, and makes those that are missing: to be called
/// before the first of them is opened, which would take a damaged log for one that ends there. The logs,
/// which may be large and may be lost, are not looked at.
pub(crate) fn prepare(directory: &Path) -> Result<(), OpenError> {
    for (name, scrutiny, most) in [
        ("catalog.sqlite", Scrutiny::Full, u64::MAX),
        ("keyvalue.sqlite", Scrutiny::Pages, AT_EVERY_START),
        ("queue.sqlite", Scrutiny::Pages, AT_EVERY_START),
    ] {
        let path = directory.join(name);
        match std::fs::metadata(&path) {
            Ok(found) => {
                look_through_log(&path)?;
                if found.len() <= most {
                    look_through(&path, scrutiny)?;
                    continue;
                }
                let bytes = found.len();
                tracing::info!(path = %path.display(), bytes, "too large to be looked through");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_traces(directory, &path)?;
                make(directory, &path)?;
            }
            Err(cause) => return Err(OpenError::Folder { action: "look at", path, cause }),
        }
    }
    Ok(())
}

/// Looks for damage in a database, which nobody may be writing to. The file is left as it is.
pub(crate) fn look_through(path: &Path, scrutiny: Scrutiny) -> Result<(), OpenError> {
    let found = std::fs::metadata(path).map_err(|cause| OpenError::Folder {
        action: "look at",
        path: path.to_owned(),
        cause,
    })?;
    if found.len() == 0 {
        return Err(damaged(path, "it is empty"));
    }
    match problem(path, scrutiny) {
        Ok(Found { problem: None, page_bytes })
            if found.len() % page_bytes != 0 && !has_log(path) =>
        {
            Err(damaged(path, "it ends within a page"))
        }
        Ok(Found { problem: None, .. }) => Ok(()),
        Ok(Found { problem: Some(problem), .. }) => Err(damaged(path, &problem)),
        // What can't be understood at all is an error of no other kind.
        Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            Err(damaged(path, &cause.to_string()))
        }
        Err(cause) => Err(database::failure(path, cause)),
    }
}

/// What there is to say of a database.
struct Found {
    /// The first thing that is wrong with it.
    problem: Option<String>,
    page_bytes: u64,
}

fn problem(path: &Path, scrutiny: Scrutiny) -> rusqlite::Result<Found> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What a crash has left in its log is not moved into a file that may be damaged.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // It may have been made by somebody else.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    let statement = match scrutiny {
        Scrutiny::Full => "PRAGMA integrity_check(1)",
        Scrutiny::Pages => "PRAGMA quick_check(1)",
    };
    let found: String = connection.query_row(statement, [], |row| row.get(0))?;
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let told = || found.lines().filter(|line| !line.starts_with("***")).collect::<Vec<_>>();
    let problem = (found != "ok").then(|| told().join(", "));
    Ok(Found { problem, page_bytes: page_bytes.max(1).into() })
}

/// Looks for damage in the log beside a database, before anybody takes it for what it is not.
fn look_through_log(path: &Path) -> Result<(), OpenError> {
    let log = log_of(path);
    let failed = |cause| OpenError::Folder { action: "look at", path: log.clone(), cause };
    let hides_commits = match File::open(&log) {
        Ok(file) => log::hides_commits(file).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(cause) => return Err(failed(cause)),
    };
    match hides_commits {
        true => Err(damaged(path, "its write-ahead log is damaged before its last commits")),
        false => Ok(()),
    }
}

/// Whether there is a log, of commits that are not in the file yet, or only in a part of it.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0)
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Refuses to make a database anew where one has been: what belongs to it would be taken for waste.
fn refuse_traces(directory: &Path, path: &Path) -> Result<(), OpenError> {
    if has_log(path) {
        return Err(damaged(path, "it is missing, and its write-ahead log is there"));
    }
    let is_catalog = path.file_name().is_some_and(|name| name == "catalog.sqlite");
    // They are made after the catalog.
    if is_catalog && directory.join(blobs::FOLDER).exists() {
        return Err(damaged(path, "it is missing, and what it refers to is there"));
    }
    Ok(())
}

/// Makes an empty database under its name in one step: whatever interrupts it, there is none or a
/// whole one, so that a file without content is always damage.
fn make(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let draft = path.with_extension("sqlite-new");
    let failed = |cause| OpenError::Folder { action: "make", path: path.to_owned(), cause };
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The first write of all brings the first page.
    let made = Connection::open(&draft)
        .and_then(|connection| connection.pragma_update(None, "user_version", 0));
    made.map_err(|cause| database::failure(path, cause))?;
    std::fs::rename(&draft, path).map_err(failed)?;
    folder::sync(directory).map_err(failed)
}

fn damaged(path: &Path, reason: &str) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_sound_and_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            prepare(folder.path()).expect("made, and then sound");
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["catalog.sqlite", "keyvalue.sqlite", "queue.sqlite"]);
        for name in names {
            assert!(std::fs::metadata(folder.path().join(&name)).expect("there").len() > 0);
        }
    }

    #[test]
    fn what_has_been_is_not_made_anew() {
        for (name, trace, reason) in [
            ("catalog.sqlite", "blobs", "what it refers to is there"),
            ("queue.sqlite", "queue.sqlite-wal", "its write-ahead log is there"),
            ("keyvalue.sqlite", "keyvalue.sqlite", "it is empty"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let trace = folder.path().join(trace);
            match name {
                "catalog.sqlite" => std::fs::create_dir(trace).expect("made"),
                "queue.sqlite" => std::fs::write(trace, "a log").expect("written"),
                _ => std::fs::write(trace, "").expect("written"),
            }
            let refused = prepare(folder.path()).expect_err(name);
            let told = refused.to_string();
            assert!(told.contains(name) && told.contains(reason), "{told}");
            assert!(matches!(refused, OpenError::Damaged { .. }), "{told}");
        }
    }
}
