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

use quern_types::{ByteSize, Digest, StorageFailure};
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
    /// A database can't be copied.
    #[error("database {} can't be copied: {cause}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: rusqlite::Error,
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
    sources: Sources,
    _stays: Stays,
}

/// What keeps a data folder as a backup needs it.
#[derive(Debug)]
pub(crate) enum Stays {
    /// Of a server that serves: no blob is removed, and no other backup begins.
    Serving { _pause: Pause, _turn: OwnedMutexGuard<()> },
    /// Of none: no server starts.
    Stopped { _lock: FolderLock },
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
    /// Prepares a backup of a data folder that no server has open, and lets none open it meanwhile.
    /// Blocks.
    ///
    /// # Errors
    /// If a server has it open, or something in it is damaged or missing.
    pub fn of_stopped(directory: &Path, logs: bool, made_by: &str) -> Result<Self, BackupError> {
        let lock = FolderLock::take_existing(directory)?;
        Store::check(directory)?;
        remove_copies(directory)?;
        integrity::prepare(directory)?;
        let source = Source { directory: directory.to_owned(), logs, made_by: made_by.to_owned() };
        Self::prepare(&source, Stays::Stopped { _lock: lock })
    }

    /// Copies the databases and finds the blobs. Takes as long as the databases are large, and
    /// blocks.
    pub(crate) fn prepare(source: &Source, stays: Stays) -> Result<Self, BackupError> {
        let (sources, files, made) = Sources::prepare(source)?;
        let (made_by, made_us) = (source.made_by.clone(), rows::microseconds(made));
        let description = BackupDescription { format: FORMAT, made_by, made_us, files };
        Ok(Self { description, sources, _stays: stays })
    }

    /// What it has in it.
    pub fn description(&self) -> &BackupDescription {
        &self.description
    }

    /// Bytes that the archive has.
    pub fn archive_bytes(&self) -> u64 {
        archive::length(&self.description)
    }

    /// Writes the archive, and checks each file on the way. Blocks.
    pub fn write(&self, to: impl io::Write) -> Result<(), BackupError> {
        let mut archive = Writer::begin(to, &self.description)?;
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
