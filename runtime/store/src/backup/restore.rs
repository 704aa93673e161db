//! A data folder from a backup. Everything is unpacked into a folder within it and checked there; only
//! then it is moved to its place, and as long as that folder exists no server opens what is around it.
//! What was there before is never touched: only an empty folder is taken.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use quern_types::ByteSize;
use rusqlite::Connection;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with, statvfs},
    io::Errno,
};

use super::{
    BackupDescription, BackupFile,
    unpack::{Destination, RestoreError, is_database, unpack},
};
use crate::{
    OpenError, SecretsKeyId, Store, blobs, database,
    folder::{self, FolderLock, RESTORING},
    integrity::{self, Scrutiny},
    settings, snapshot,
};

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup had in it.
    pub description: BackupDescription,
    /// Functions and models that are deployed in it.
    pub deployed: u32,
    /// Versions of them.
    pub versions: u32,
    /// Asynchronous calls that wait, or ran when it was made: they begin when a server starts.
    pub calls: u32,
    /// The keys that its secrets are sealed with.
    pub sealed_with: Vec<SecretsKeyId>,
}

/// Restores a backup as a data folder, which must be missing or empty. Blocks.
///
/// # Errors
/// Then the folder is as it was.
pub fn restore(backup: impl Read, directory: &Path) -> Result<Restored, RestoreError> {
    let mut place = Place::take(directory)?;
    let description = unpack(backup, &mut place)?;
    let restored = check(&place.staging, description)?;
    place.finish()?;
    Ok(restored)
}

/// Checks what the digests can't: that the databases are sound and known to this program, and that
/// every version has its blob.
fn check(root: &Path, description: BackupDescription) -> Result<Restored, RestoreError> {
    for file in description.files.iter().filter(|file| is_database(&file.path)) {
        let looked = integrity::look_through(&root.join(&file.path), Scrutiny::Full);
        looked.map_err(|error| match error {
            OpenError::Damaged { .. } => RestoreError::Damaged { path: file.path.clone() },
            error => error.into(),
        })?;
    }
    Store::check(root)?;
    let path = root.join("catalog.sqlite");
    let failed = |cause| OpenError::Database { path: path.clone(), cause };
    let catalog = database::open_reader(&path)?;
    let contents = snapshot::contents(&catalog).map_err(failed)?;
    let there: HashSet<_> = description.files.iter().map(|file| &*file.path).collect();
    if let Some(digest) = contents.iter().find(|digest| !there.contains(&*blobs::path(digest))) {
        return Err(RestoreError::Missing { digest: *digest });
    }
    let deployed = count(&catalog, "SELECT count(*) FROM names WHERE live IS NOT NULL");
    let versions = count(&catalog, "SELECT count(*) FROM versions");
    let sealed_with = settings::sealed_with(&catalog).map_err(failed)?;
    let (deployed, versions) = (deployed.map_err(failed)?, versions.map_err(failed)?);
    drop(catalog);
    let calls = calls(root, &there)?;
    Ok(Restored { description, deployed, versions, calls, sealed_with })
}

/// Calls that a server will carry out.
fn calls(root: &Path, there: &HashSet<&str>) -> Result<u32, RestoreError> {
    if !there.contains("queue.sqlite") {
        return Ok(0);
    }
    let path = root.join("queue.sqlite");
    let queue = database::open_reader(&path)?;
    let found = queue.table_exists(None, "calls").and_then(|has_calls| match has_calls {
        true => count(&queue, "SELECT count(*) FROM calls WHERE state IN ('queued', 'running')"),
        false => Ok(0),
    });
    Ok(found.map_err(|cause| OpenError::Database { path, cause })?)
}

fn count(connection: &Connection, statement: &str) -> rusqlite::Result<u32> {
    connection.query_row(statement, [], |row| row.get(0))
}

/// A folder that becomes a data folder; as it was before unless it does.
struct Place {
    directory: PathBuf,
    staging: PathBuf,
    /// Whether the folder itself was made for it.
    is_made: bool,
    /// What has been moved to its place.
    moved: Vec<PathBuf>,
    /// Whether it has become one.
    is_finished: bool,
    /// The file that is being written.
    file: Option<(File, PathBuf)>,
    _lock: FolderLock,
}

impl Place {
    fn take(directory: &Path) -> Result<Self, RestoreError> {
        let is_made = !directory.exists();
        refuse_occupied(directory, &["lost+found"])?;
        let lock = FolderLock::take(directory)?;
        // Somebody may have been faster; the lock is ours by now.
        refuse_occupied(directory, &["lost+found", "lock"])?;
        let (directory, staging) = (directory.to_owned(), directory.join(RESTORING));
        let (moved, is_finished, file) = (Vec::new(), false, None);
        let place = Self { directory, staging, is_made, moved, is_finished, file, _lock: lock };
        let made = folder::create_synced(&place.staging);
        made.map_err(|cause| failure("make", &place.staging, cause))?;
        Ok(place)
    }

    /// Moves everything to its place; the folder that says that this is not done yet goes last.
    fn finish(mut self) -> Result<(), RestoreError> {
        sync_all(&self.staging).map_err(|cause| failure("write", &self.staging, cause))?;
        let moved = entries(&self.staging).and_then(|names| {
            for name in names {
                let path = self.directory.join(&name);
                move_new(&self.staging.join(&name), &path)?;
                self.moved.push(path);
            }
            folder::sync(&self.directory)?;
            std::fs::remove_dir(&self.staging)
        });
        let failed = |cause| failure("move what is restored to", &self.directory, cause);
        moved.map_err(failed)?;
        // A server may take it from now on, so that nothing is taken back.
        self.is_finished = true;
        folder::sync(&self.directory)
            .map_err(|cause| failure("move what is restored to", &self.directory, cause))
    }

    /// Takes back what was put there, and nothing that others have put there meanwhile.
    fn clear(&self) -> io::Result<()> {
        let lock = self.directory.join("lock");
        for path in self.moved.iter().chain([&lock]) {
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(path),
                false => std::fs::remove_file(path),
            };
            absent(removed)?;
        }
        // Last, as long as anything of it is left no server may take it for a data folder.
        absent(std::fs::remove_dir_all(&self.staging))?;
        match self.is_made.then(|| std::fs::remove_dir(&self.directory)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
            _ => Ok(()),
        }
    }
}

impl Destination for Place {
    fn admit(&mut self, description: &BackupDescription) -> Result<(), RestoreError> {
        let disk = statvfs(&self.directory);
        let disk = disk.map_err(|cause| failure("look at", &self.directory, cause.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = description.bytes();
        match needed > free {
            true => Err(RestoreError::NoRoom { needed: ByteSize(needed), free: ByteSize(free) }),
            false => Ok(()),
        }
    }

    fn begin(&mut self, file: &BackupFile) -> Result<(), RestoreError> {
        let path = self.staging.join(&file.path);
        let parent = path.parent().unwrap_or(&self.staging);
        let made = std::fs::create_dir_all(parent).and_then(|()| File::create_new(&path));
        let made = made.map_err(|cause| failure("make", &path, cause))?;
        self.file = Some((made, path));
        Ok(())
    }

    fn write(&mut self, part: &[u8]) -> Result<(), RestoreError> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        file.write_all(part).map_err(|cause| failure("write", path, cause))
    }

    fn end(&mut self) -> Result<(), RestoreError> {
        let Some((file, path)) = self.file.take() else { return Ok(()) };
        file.sync_all().map_err(|cause| failure("write", &path, cause))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = self.clear()
        {
            let path = self.directory.display();
            tracing::warn!(%path, %error, "what is left of a backup that was not restored stays");
        }
    }
}

fn refuse_occupied(directory: &Path, expected: &[&str]) -> Result<(), RestoreError> {
    let found = match entries(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failure("look into", directory, cause)),
    };
    match found.iter().all(|name| expected.iter().any(|expected| name == expected)) {
        true => Ok(()),
        false => Err(RestoreError::Occupied { directory: directory.to_owned() }),
    }
}

fn entries(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// What is gone already need not be removed.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves a file or a folder to where nothing is, also if others have put something there meanwhile.
fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // There are file systems that can't; then nobody may be that fast.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match to.try_exists()? {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => std::fs::rename(from, to),
        },
        moved => Ok(moved?),
    }
}

fn failure(action: &'static str, path: &Path, cause: io::Error) -> RestoreError {
    RestoreError::Folder { action, path: path.to_owned(), cause }
}

/// Brings the names in a folder and in all below it to the disk; files are there already.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    folder::sync(folder)
}
