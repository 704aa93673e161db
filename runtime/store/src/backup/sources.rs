//! Where the files of a backup lie while it is made: copies of the databases, each of which one
//! transaction has seen, and the blobs in their places. Never keeps a transaction open for whoever
//! takes the archive.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use quern_types::{ByteSize, Digest, DigestWriter};
use rusqlite::Connection;
use rustix::fs::statvfs;

use super::{BackupError, BackupFile, CHUNK};
use crate::{
    blobs, database, fault,
    integrity::{self, Scrutiny},
    snapshot,
};

/// The folder of copies below a data folder; emptied at every start.
const COPIES: &str = "backups";
/// Free bytes that copies leave of a disk: what is acknowledged meanwhile needs them.
const LEAST_FREE: u64 = 64 << 20;

/// What a backup is made of.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) directory: PathBuf,
    /// Whether what functions printed is to be in it.
    pub(crate) logs: bool,
    pub(crate) made_by: String,
}

/// The files of a backup, in their order.
#[derive(Debug)]
pub(super) struct Sources {
    paths: Vec<PathBuf>,
    _copies: Copies,
}

impl Sources {
    /// Copies the databases and finds the blobs; gives what the files are to have in them, and when
    /// the copy of the catalog was made.
    pub(super) fn prepare(
        source: &Source,
    ) -> Result<(Self, Vec<BackupFile>, SystemTime), BackupError> {
        let Source { directory, logs, .. } = source;
        let others = ["queue.sqlite", "keyvalue.sqlite", "logs.sqlite"];
        let others = others.into_iter().filter(|name| *logs || *name != "logs.sqlite");
        let others: Vec<_> = others.filter(|name| directory.join(name).exists()).collect();
        let all = || std::iter::once("catalog.sqlite").chain(others.iter().copied());
        require_room(directory, all())?;
        let copies = Copies::make(directory)?;
        for name in &others {
            copy(&directory.join(name), &copies.0.join(name), Scrutiny::Pages)?;
        }
        let made = SystemTime::now();
        let catalog = copies.0.join("catalog.sqlite");
        copy(&directory.join("catalog.sqlite"), &catalog, Scrutiny::Full)?;

        let (mut files, mut paths) = (Vec::new(), Vec::new());
        for name in all() {
            let copy = copies.0.join(name);
            let (bytes, digest) = measure(&copy)?;
            files.push(BackupFile { path: name.into(), bytes, digest });
            paths.push(copy);
        }
        for digest in contents(&catalog)? {
            let path = blobs::path(&digest);
            let place = directory.join(&path);
            let bytes = match std::fs::metadata(&place) {
                Ok(found) => found.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(BackupError::Missing { digest });
                }
                Err(cause) => return Err(unreadable(&place, cause)),
            };
            files.push(BackupFile { path, bytes, digest });
            paths.push(place);
        }
        Ok((Self { paths, _copies: copies }, files, made))
    }

    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// The contents that a catalog refers to, always in the same order.
fn contents(catalog: &Path) -> Result<Vec<Digest>, BackupError> {
    let connection = database::open_reader(catalog)?;
    let contents = snapshot::contents(&connection);
    let contents = contents.map_err(|error| failure(catalog, &error, &connection))?;
    let mut contents: Vec<_> = contents.into_iter().collect();
    contents.sort();
    Ok(contents)
}

/// What one transaction sees of a database, without what was deleted from it; looked through for
/// damage that was copied.
fn copy(from: &Path, to: &Path, scrutiny: Scrutiny) -> Result<(), BackupError> {
    let connection = database::open_reader(from)?;
    let target = to.to_string_lossy().into_owned();
    let copied = connection.execute("VACUUM INTO ?1", [target]);
    // The disk may have filled since it was looked at.
    copied.map_err(|error| failure(from, &error, &connection))?;
    Ok(integrity::look_through(to, scrutiny)?)
}

fn failure(path: &Path, error: &rusqlite::Error, connection: &Connection) -> BackupError {
    let cause = fault::of_database(error, connection);
    BackupError::Database { path: path.to_owned(), cause }
}

/// Refuses copies that would leave the disk without room.
fn require_room<'a>(
    directory: &Path,
    databases: impl Iterator<Item = &'a str>,
) -> Result<(), BackupError> {
    let length =
        |name: String| std::fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    let with_log = |name: &str| length(name.to_owned()) + length(format!("{name}-wal"));
    let needed: u64 = databases.map(with_log).sum();
    let disk = statvfs(directory).map_err(|cause| BackupError::File {
        action: "look at the disk of",
        path: directory.to_owned(),
        cause: cause.into(),
    })?;
    judge(needed, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn judge(needed: u64, free: u64) -> Result<(), BackupError> {
    match free < LEAST_FREE.saturating_add(needed) {
        true => Err(BackupError::NoRoom { needed: ByteSize(needed), free: ByteSize(free) }),
        false => Ok(()),
    }
}

/// Length and digest of a file.
fn measure(path: &Path) -> Result<(u64, Digest), BackupError> {
    let mut file = File::open(path).map_err(|cause| unreadable(path, cause))?;
    let (mut digest, mut bytes, mut chunk) = (DigestWriter::default(), 0, vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(|cause| unreadable(path, cause))? {
            0 => return Ok((bytes, digest.finish())),
            read => {
                digest.update(&chunk[..read]);
                bytes += read as u64;
            }
        }
    }
}

pub(super) fn unreadable(path: &Path, cause: io::Error) -> BackupError {
    BackupError::File { action: "read", path: path.to_owned(), cause }
}

/// The folder of the databases' copies; gone with them.
#[derive(Debug)]
struct Copies(PathBuf);

impl Copies {
    fn make(directory: &Path) -> Result<Self, BackupError> {
        let path = directory.join(COPIES).join(uuid::Uuid::now_v7().to_string());
        let made = std::fs::create_dir_all(&path);
        made.map_err(|cause| BackupError::File { action: "make", path: path.clone(), cause })?;
        Ok(Self(path))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            let path = self.0.display();
            tracing::warn!(%path, %error, "copies of a backup stay until the next start");
        }
    }
}

/// Removes the copies that a killed process has left.
pub(crate) fn remove_copies(directory: &Path) -> Result<(), crate::OpenError> {
    let path = directory.join(COPIES);
    match std::fs::remove_dir_all(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(crate::OpenError::Folder { action: "remove copies of backups in", path, cause })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use quern_types::StorageFault;

    use super::*;

    #[test]
    fn a_disk_that_fills_while_a_copy_is_made_is_said_to_be_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let from = folder.path().join("catalog.sqlite");
        let database = Connection::open(&from).expect("opens");
        database.execute_batch("CREATE TABLE a (x); INSERT INTO a VALUES (1)").expect("written");
        let full = copy(&from, Path::new("/dev/full"), Scrutiny::Pages).expect_err("no room");
        assert!(matches!(full, BackupError::Database { .. }), "{full}");
        assert_eq!(full.fault(), StorageFault::Full, "{full}");
        let missing = copy(&from, &folder.path().join("a/b"), Scrutiny::Pages).expect_err("no a");
        assert_eq!(missing.fault(), StorageFault::Other, "{missing}");
    }

    #[test]
    fn copies_leave_room_for_what_is_acknowledged_meanwhile() {
        for (needed, free, fits) in [
            (0, LEAST_FREE, true),
            (1, LEAST_FREE, false),
            (1, LEAST_FREE + 1, true),
            (u64::MAX, u64::MAX, true),
            (u64::MAX, LEAST_FREE, false),
        ] {
            let judged = judge(needed, free);
            assert_eq!(judged.is_ok(), fits, "{needed} of {free}");
            assert!(fits || matches!(judged, Err(BackupError::NoRoom { .. })));
        }
    }
}
