//! A backup of a data folder, which may be in use: consistent copies of its databases, and the blobs
//! that the catalog among them refers to, as one tar archive. The key for secrets is in no data
//! folder, and so in no backup.
//!
//! | in the archive | content |
//! |---|---|
//! | `quern-backup.json` | what comes after it, in order, with lengths and digests; always the first |
//! | `quern-backup.json.sha256` | the digest of that |
//! | `catalog.sqlite` | as it was at one moment: all that was acknowledged before the backup began |
//! | `keyvalue.sqlite`, `queue.sqlite` | each as it was at one moment before that |
//! | `logs.sqlite` | the same, only where it was asked for |
//! | `blobs/sha256/ab/<hex>` | what versions of the catalog are made of |
//!
//! The catalog is copied last: what the other databases speak of is in it.

mod archive;
mod operations;
mod restore;
mod sources;
mod unpack;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use quern_types::{ByteSize, Digest, StorageFailure, StorageFault};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::{archive::Writer, sources::Sources};
pub(crate) use self::{
    operations::{RecordBackup, RemoveUnneeded},
    sources::{Source, remove_copies},
};
pub use self::{
    restore::{Restored, restore},
    unpack::{RestoreError, verify},
};
use crate::{OpenError, Store, folder::FolderLock, integrity, ledger::Pause, rows};

/// The first file of an archive, and the one after it.
const DESCRIPTION: &str = "quern-backup.json";
const DESCRIPTION_DIGEST: &str = "quern-backup.json.sha256";
/// The form of archives that this server writes and reads.
const FORMAT: u32 = 1;
/// Most bytes of a description, which is kept in memory: that of a million blobs. No backup is made that
/// can't be restored.
const MAX_DESCRIPTION: ByteSize = ByteSize::mib(256);
/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// What a backup has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupDescription {
    /// The form of the archive.
    format: u32,
    /// The version of the program that made it.
    pub made_by: String,
    made_us: i64,
    /// Its files, in their order.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Where it lies in the archive and in a data folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// What it must have.
    pub digest: Digest,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is being made.
    #[error("a backup is being made already: try again when it is done")]
    Busy,
    /// The disk has no room for copies of the databases.
    #[error(
        "the copies of the databases take {needed}, and the disk of the data folder has {free} \
         free, of which some must stay: make room"
    )]
    NoRoom {
        /// What they take.
        needed: ByteSize,
        /// What there is.
        free: ByteSize,
    },
    /// A version has lost its content.
    #[error("blob {digest} of a version is missing: deploy that version again, or delete it")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// There are more blobs than can be described.
    #[error(
        "the backup would have {files} files and a description of {bytes}, and one of more than \
         {limit} can't be restored: delete versions that are not needed"
    )]
    TooMany {
        /// Its files.
        files: usize,
        /// What their description takes.
        bytes: ByteSize,
        /// What it may take.
        limit: ByteSize,
    },
    /// A database can't be copied.
    #[error("database {} can't be copied: {cause}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: StorageFailure,
    },
    /// A database is damaged or can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file can't be read or made.
    #[error("can't {action} {}: {cause}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A file is not what it was, or, of a blob, not what its name says.
    #[error("{path} is corrupt: of a blob, deploy its version again, or delete that")]
    Corrupt {
        /// The file.
        path: String,
    },
    /// The catalog can't be written.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
    /// Whoever was to have it has left, or its disk is full.
    #[error("the backup can't be written: {0}")]
    Write(io::Error),
}

/// A backup that is ready to be written. Nothing that it refers to is removed while it lives.
#[derive(Debug)]
pub struct Backup {
    description: BackupDescription,
    /// The same, as it stands in the archive.
    text: Vec<u8>,
    sources: Sources,
    _stays: Stays,
}

/// What keeps a data folder as a backup needs it.
#[derive(Debug)]
pub(crate) enum Stays {
    /// Of a server that serves: no blob is removed, and no other backup begins.
    Serving { _pause: Pause, _turn: OwnedMutexGuard<()> },
    /// Of none: no server starts.
    Stopped { _folder: Arc<StoppedFolder> },
}

/// A data folder that no server has open, and that none opens while this lives.
#[derive(Debug)]
pub struct StoppedFolder {
    directory: PathBuf,
    _lock: FolderLock,
}

impl StoppedFolder {
    /// Keeps servers out of a folder.
    ///
    /// # Errors
    /// If one has it open, or it is no data folder.
    pub fn take(directory: &Path) -> Result<Self, BackupError> {
        let lock = FolderLock::take_existing(directory)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes what a backup that is given up has copied so far; it fails for that.
    ///
    /// # Errors
    /// If something stays. It goes at the next start.
    pub fn remove_copies(&self) -> Result<(), BackupError> {
        Ok(remove_copies(&self.directory)?)
    }
}

impl BackupError {
    /// What stands in the way, as far as that is the disk of the data folder.
    pub fn fault(&self) -> StorageFault {
        match self {
            Self::Storage { reason } => reason.fault(),
            Self::Database { cause, .. } => cause.fault(),
            Self::File { cause, .. } => cause.kind().into(),
            Self::Open(error) => error.fault(),
            Self::NoRoom { .. } => StorageFault::Full,
            Self::Busy
            | Self::Missing { .. }
            | Self::TooMany { .. }
            | Self::Corrupt { .. }
            | Self::Write(_) => StorageFault::Other,
        }
    }
}

impl BackupDescription {
    /// When the copy of its catalog was made.
    pub fn made(&self) -> SystemTime {
        rows::time(self.made_us)
    }

    /// Bytes of its files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes))
    }
}

impl Backup {
    /// Prepares a backup of a data folder that no server has open. Blocks.
    ///
    /// # Errors
    /// If something in it is damaged or missing, or there is no room.
    pub fn of_stopped(
        folder: Arc<StoppedFolder>,
        logs: bool,
        made_by: &str,
    ) -> Result<Self, BackupError> {
        let directory = folder.directory.clone();
        Store::check(&directory)?;
        remove_copies(&directory)?;
        integrity::prepare(&directory)?;
        let source = Source { directory, logs, made_by: made_by.to_owned() };
        Self::prepare(&source, Stays::Stopped { _folder: folder })
    }

    /// Copies the databases and finds the blobs. Takes as long as the databases are large, and
    /// blocks.
    pub(crate) fn prepare(source: &Source, stays: Stays) -> Result<Self, BackupError> {
        let (sources, files, made) = Sources::prepare(source)?;
        let (made_by, made_us) = (source.made_by.clone(), rows::microseconds(made));
        let description = BackupDescription { format: FORMAT, made_by, made_us, files };
        let text = archive::described(&description, MAX_DESCRIPTION)?;
        Ok(Self { description, text, sources, _stays: stays })
    }

    /// What it has in it.
    pub fn description(&self) -> &BackupDescription {
        &self.description
    }

    /// Bytes that the archive has.
    pub fn archive_bytes(&self) -> u64 {
        archive::length(&self.description, &self.text)
    }

    /// Writes the archive, and checks each file on the way. Blocks.
    pub fn write(&self, to: impl io::Write) -> Result<(), BackupError> {
        let mut archive = Writer::begin(to, &self.text)?;
        for (file, source) in self.description.files.iter().zip(self.sources.paths()) {
            archive.append(file, source)?;
        }
        archive.finish()
    }
}

/// One backup at a time: each has copies of the databases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn(Arc<Mutex<()>>);

impl Turn {
    pub(crate) fn take(&self) -> Result<OwnedMutexGuard<()>, BackupError> {
        self.0.clone().try_lock_owned().map_err(|_| BackupError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_restored_is_not_described() {
        let content = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(content.path(), "x").expect("written");
        let file = BackupFile { path: "catalog.sqlite".into(), bytes: 1, digest: Digest::of(b"x") };
        let (made_by, files) = ("1.2.3".to_owned(), vec![file.clone()]);
        let description = BackupDescription { format: FORMAT, made_by, made_us: 7, files };
        let text = archive::described(&description, MAX_DESCRIPTION).expect("short");
        let mut backup = Vec::new();
        let mut writer = Writer::begin(&mut backup, &text).expect("in memory");
        writer.append(&file, content.path()).expect("in memory");
        writer.finish().expect("in memory");

        let most = ByteSize(text.len() as u64);
        archive::described(&description, most).expect("as long as it may be");
        assert_eq!(unpack::verify_within(&*backup, most).expect("the same"), description);
        let less = ByteSize(most.0 - 1);
        let refused = archive::described(&description, less).expect_err("too long");
        let is_expected = matches!(refused, BackupError::TooMany { files: 1, bytes, limit }
            if (bytes, limit) == (most, less));
        assert!(is_expected, "{refused}");
        let refused = unpack::verify_within(&*backup, less).expect_err("too long").to_string();
        assert!(refused.contains("quern-backup.json is longer than"), "{refused}");
    }
}
