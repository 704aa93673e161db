//! Reads the archive of a backup and checks every file in it, which may be anybody's work: nothing is
//! taken by its name that a backup does not have, nothing is kept in memory but the description, and
//! nothing is handed on that is longer than was said.

use std::{
    collections::HashSet,
    io::{self, Read},
    path::PathBuf,
};

use quern_types::{ByteSize, Digest};
use serde::Deserialize;
use tar::{Archive, Entries, Entry, EntryType};

use super::{
    BackupDescription, BackupFile, CHUNK, DESCRIPTION, DESCRIPTION_DIGEST, FORMAT, MAX_DESCRIPTION,
    archive::{Checked, digest_line},
};
use crate::{OpenError, blobs};

/// Bytes of a line of `sha256sum` for it.
const MAX_DIGEST_LINE: u64 = 128;

/// Why a backup is not good, or was not restored. What there was is as it was then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It breaks off, or is no archive.
    #[error("the backup can't be read, or breaks off: {0}")]
    Unreadable(io::Error),
    /// It is another archive.
    #[error("this is no backup of Quern: {reason}")]
    Foreign {
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program has made it.
    #[error(
        "the backup has format {found}, this program knows {FORMAT}: restore it with version \
         {made_by:?}, which made it, or a newer one"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The program that made it.
        made_by: String,
    },
    /// Something in it is not what was put in.
    #[error("{path} in the backup is damaged: use another backup")]
    Damaged {
        /// The file.
        path: String,
    },
    /// Something that its catalog refers to is not in it.
    #[error("blob {digest} is missing in the backup: use another one")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The disk has no room for what is in it.
    #[error("what is in the backup takes {needed}, and the disk has {free} free: make room")]
    NoRoom {
        /// What it takes.
        needed: ByteSize,
        /// What there is.
        free: ByteSize,
    },
    /// There is something where it is to be restored.
    #[error(
        "{} is not empty, and a backup is restored to an empty folder alone: name another one, or \
         move away what is there",
        directory.display()
    )]
    Occupied {
        /// The folder.
        directory: PathBuf,
    },
    /// A database in it can't be used, or the folder is a server's.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk failed, or is full.
    #[error("can't {action} {}: {cause}", path.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Where the files of a backup go.
pub(super) trait Destination {
    /// Makes sure that there is room for all of it.
    fn admit(&mut self, description: &BackupDescription) -> Result<(), RestoreError>;

    /// Begins a file.
    fn begin(&mut self, file: &BackupFile) -> Result<(), RestoreError>;

    /// Takes the next part of it.
    fn write(&mut self, part: &[u8]) -> Result<(), RestoreError>;

    /// Takes note that it is whole.
    fn end(&mut self) -> Result<(), RestoreError>;
}

/// Keeps nothing.
struct Nowhere;

impl Destination for Nowhere {
    fn admit(&mut self, _: &BackupDescription) -> Result<(), RestoreError> {
        Ok(())
    }

    fn begin(&mut self, _: &BackupFile) -> Result<(), RestoreError> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// Reads a backup to its end and checks every file in it by its digest. Blocks.
pub fn verify(backup: impl Read) -> Result<BackupDescription, RestoreError> {
    verify_within(backup, MAX_DESCRIPTION)
}

/// The same with a description that is no longer than this.
pub(super) fn verify_within(
    backup: impl Read,
    limit: ByteSize,
) -> Result<BackupDescription, RestoreError> {
    unpack_within(backup, &mut Nowhere, limit)
}

/// Hands the files of a backup on, each in parts, and checks that it was what the description says.
pub(super) fn unpack(
    backup: impl Read,
    to: &mut impl Destination,
) -> Result<BackupDescription, RestoreError> {
    unpack_within(backup, to, MAX_DESCRIPTION)
}

fn unpack_within(
    backup: impl Read,
    to: &mut impl Destination,
    limit: ByteSize,
) -> Result<BackupDescription, RestoreError> {
    let mut archive = Archive::new(backup);
    // Raw: names and lengths are those of the entry alone, whatever stands before it.
    let mut entries = archive.entries().map_err(RestoreError::Unreadable)?.raw(true);
    let description = read_description(&mut entries, limit)?;
    to.admit(&description)?;
    let mut chunk = vec![0; CHUNK];
    for file in &description.files {
        let damaged = || RestoreError::Damaged { path: file.path.clone() };
        let entry = next(&mut entries)?.ok_or_else(cut)?;
        if !is_file(&entry, &file.path) || entry.size() != file.bytes {
            return Err(damaged());
        }
        to.begin(file)?;
        let mut content = Checked::new(entry);
        loop {
            match content.read(&mut chunk).map_err(RestoreError::Unreadable)? {
                0 => break,
                read => to.write(&chunk[..read])?,
            }
        }
        match content.finish() {
            (bytes, _) if bytes < file.bytes => return Err(cut()),
            found if found == (file.bytes, file.digest) => to.end()?,
            _ => return Err(damaged()),
        }
    }
    match next(&mut entries)? {
        None => Ok(description),
        Some(_) => Err(foreign("it has more files than its description says")),
    }
}

fn read_description<R: Read>(
    entries: &mut Entries<'_, R>,
    limit: ByteSize,
) -> Result<BackupDescription, RestoreError> {
    let text = read_own(entries, DESCRIPTION, limit.0)?;
    let digest = read_own(entries, DESCRIPTION_DIGEST, MAX_DIGEST_LINE)?;
    if digest != digest_line(&text).as_bytes() {
        return Err(RestoreError::Damaged { path: DESCRIPTION.into() });
    }
    let malformed = |error: serde_json::Error| foreign(&error.to_string());
    let form: Form = serde_json::from_slice(&text).map_err(malformed)?;
    if form.format > FORMAT {
        return Err(RestoreError::Newer { found: form.format, made_by: form.made_by });
    }
    let description: BackupDescription = serde_json::from_slice(&text).map_err(malformed)?;
    let mut seen = HashSet::new();
    for file in &description.files {
        // Nothing that leads out of the folder is either of them.
        let is_known = is_database(&file.path) || file.path == blobs::path(&file.digest);
        if !is_known || !seen.insert(&file.path) {
            return Err(foreign("its description names what no backup has"));
        }
    }
    match seen.contains(&"catalog.sqlite".to_owned()) {
        true => Ok(description),
        false => Err(foreign("it has no catalog")),
    }
}

/// What every description has, whatever its format.
#[derive(Deserialize)]
struct Form {
    format: u32,
    made_by: String,
}

/// One of the two files that are about the others.
fn read_own<R: Read>(
    entries: &mut Entries<'_, R>,
    path: &str,
    most: u64,
) -> Result<Vec<u8>, RestoreError> {
    let missing = || foreign(&format!("it does not begin with {DESCRIPTION} and its digest"));
    let entry = match entries.next() {
        Some(Ok(entry)) => entry,
        Some(Err(error)) if error.raw_os_error().is_some() => {
            return Err(RestoreError::Unreadable(error));
        }
        // Whatever it is, it was not cut within anything that is known of it.
        Some(Err(_)) | None => return Err(missing()),
    };
    if !is_file(&entry, path) {
        return Err(missing());
    }
    if entry.size() > most {
        return Err(foreign(&format!("{path} is longer than {}", ByteSize(most))));
    }
    let (bytes, mut text) = (entry.size(), Vec::new());
    let read = entry.take(most).read_to_end(&mut text).map_err(RestoreError::Unreadable)?;
    if (read as u64) < bytes { Err(cut()) } else { Ok(text) }
}

pub(super) fn is_database(path: &str) -> bool {
    matches!(path, "catalog.sqlite" | "keyvalue.sqlite" | "queue.sqlite" | "logs.sqlite")
}

fn is_file<R: Read>(entry: &Entry<'_, R>, path: &str) -> bool {
    let header = entry.header();
    header.entry_type() == EntryType::Regular && *header.path_bytes() == *path.as_bytes()
}

fn next<'a, R: Read>(entries: &mut Entries<'a, R>) -> Result<Option<Entry<'a, R>>, RestoreError> {
    entries.next().transpose().map_err(RestoreError::Unreadable)
}

fn cut() -> RestoreError {
    RestoreError::Unreadable(io::ErrorKind::UnexpectedEof.into())
}

fn foreign(reason: &str) -> RestoreError {
    // It may hold anything, and ends on somebody's terminal.
    RestoreError::Foreign { reason: reason.escape_debug().to_string() }
}
