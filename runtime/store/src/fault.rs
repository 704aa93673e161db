//! What a failed write means: whether the disk is full, takes no writes, or failed otherwise. Of SQLite's
//! own codes only some say so; behind the others is what the system said.

use std::{fs::File, io, io::Write as _, path::Path};

use quern_types::{StorageFailure, StorageFault};
use rusqlite::{Connection, ErrorCode, ffi};
use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};

/// Free bytes below which a disk is full: what is written at a time may not fit.
pub(crate) const FULL: u64 = 1 << 20;
/// Bytes that are written to see whether a disk takes any.
const PROBE: usize = 64 << 10;

/// What a database in this folder says, which could not be opened.
pub(crate) fn of_opening(error: &rusqlite::Error, folder: &Path) -> StorageFailure {
    judge(error, || statvfs(folder).map_or(StorageFault::Other, |disk| of_disk(&disk)))
}

/// What the last error of a connection says.
pub(crate) fn of_database(error: &rusqlite::Error, connection: &Connection) -> StorageFailure {
    judge(error, || {
        // SAFETY: the connection is open for as long as it is borrowed, and this reads one number
        // of it. SQLite tells nobody else why the system refused something.
        let code = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
        io::Error::from_raw_os_error(code).kind().into()
    })
}

/// What an error says; of what the system refused, `system` does.
fn judge(error: &rusqlite::Error, system: impl FnOnce() -> StorageFault) -> StorageFailure {
    let fault = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageFault::Full,
        Some(ErrorCode::ReadOnly) => StorageFault::ReadOnly,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => system(),
        _ => StorageFault::Other,
    };
    StorageFailure::new(fault, error)
}

/// What stands in the way of writes to a disk, by what it says of itself.
pub(crate) fn of_disk(disk: &StatVfs) -> StorageFault {
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return StorageFault::ReadOnly;
    }
    match disk.f_bavail.saturating_mul(disk.f_frsize) < FULL {
        true => StorageFault::Full,
        false => StorageFault::Other,
    }
}

/// Whether a folder takes a file. What is written is gone when this returns.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| file.write_all(&[0; PROBE]));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn a_database_says_what_stands_in_its_way() {
        let folder = tempfile::tempdir().expect("a folder");
        for (code, fault) in [
            (ffi::SQLITE_FULL, StorageFault::Full),
            (ffi::SQLITE_READONLY, StorageFault::ReadOnly),
            (ffi::SQLITE_READONLY_DIRECTORY, StorageFault::ReadOnly),
            (ffi::SQLITE_IOERR_FSYNC, StorageFault::Other),
            (ffi::SQLITE_CORRUPT, StorageFault::Other),
        ] {
            let failure = of_opening(&failure(code), folder.path());
            assert_eq!(failure.fault(), fault, "{failure}");
        }
        let missing = of_opening(&failure(ffi::SQLITE_IOERR), Path::new("/no/such/folder"));
        assert_eq!(missing.fault(), StorageFault::Other);
    }

    #[test]
    fn a_database_that_may_not_grow_is_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = Connection::open(folder.path().join("x.sqlite")).expect("opens");
        connection
            .execute_batch("CREATE TABLE a (x BLOB); PRAGMA max_page_count = 3")
            .expect("small enough");
        let grown = connection.execute("INSERT INTO a VALUES (zeroblob(1000000))", []);
        let failure = of_database(&grown.expect_err("too large"), &connection);
        assert_eq!(failure.fault(), StorageFault::Full, "{failure}");
    }

    #[test]
    fn a_disk_says_what_stands_in_the_way() {
        let mut disk = statvfs(".").expect("there is a disk");
        disk.f_frsize = 4_096;
        for (blocks, flags, fault) in [
            (255, StatVfsMountFlags::empty(), StorageFault::Full),
            (256, StatVfsMountFlags::empty(), StorageFault::Other),
            (256, StatVfsMountFlags::RDONLY, StorageFault::ReadOnly),
        ] {
            (disk.f_bavail, disk.f_flag) = (blocks, flags);
            assert_eq!(of_disk(&disk), fault, "{blocks} blocks");
        }
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        probe(folder.path()).expect("there is room");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let refused = probe(&folder.path().join("missing")).expect_err("no folder");
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
}
