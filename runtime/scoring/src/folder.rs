//! The files of batches, a folder for each: `batch.json`, which is replaced as a whole, `input` and
//! `results`. What is there is on the disk; what was begun and not finished goes at the next start.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::batch::{BatchId, BatchRecord, Ending};

const RECORD: &str = "batch.json";
const INPUT: &str = "input";
const RESULTS: &str = "results";
/// What the names of folders begin with that are no batches yet, or no more.
const INCOMPLETE: &str = ".";

/// Where all batches are.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// Where the files of one batch are.
#[derive(Debug, Clone)]
pub(crate) struct BatchFolder(PathBuf);

/// Why a folder of batches can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("the folder of batches {} can't be opened: {cause}", path.display())]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// Why not.
    pub cause: io::Error,
}

impl Folder {
    /// Opens the folder, removes what is left of batches, and reads those that are there. One that
    /// can't be read is left alone.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Vec<BatchRecord>), FolderError> {
        let folder = Self(path);
        match folder.read() {
            Ok(records) => Ok((folder, records)),
            Err(cause) => Err(FolderError { path: folder.0, cause }),
        }
    }

    fn read(&self) -> io::Result<Vec<BatchRecord>> {
        fs::create_dir_all(&self.0)?;
        if let Some(parent) = self.0.parent() {
            sync(parent)?;
        }
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(INCOMPLETE) {
                fs::remove_dir_all(&path)?;
                continue;
            }
            let record = fs::read(path.join(RECORD))
                .and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
            match record {
                Ok(record) => {
                    let record: BatchRecord = record;
                    if record.ending == Some(Ending::Completed) {
                        self.of(record.id).remove_input();
                    }
                    records.push(record);
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "batch can't be read: left alone");
                }
            }
        }
        records.sort_by_key(|record: &BatchRecord| record.id);
        Ok(records)
    }

    /// The folder of a batch.
    pub(crate) fn of(&self, id: BatchId) -> BatchFolder {
        BatchFolder(self.0.join(id.to_string()))
    }

    /// A folder for a batch whose file is still arriving.
    pub(crate) fn begin(&self, id: BatchId) -> io::Result<BatchFolder> {
        let path = self.0.join(format!("{INCOMPLETE}{id}"));
        fs::create_dir(&path)?;
        Ok(BatchFolder(path))
    }

    /// Makes a batch of what has arrived, durably.
    pub(crate) fn finish(&self, arrived: &BatchFolder, record: &BatchRecord) -> io::Result<()> {
        File::open(arrived.input())?.sync_all()?;
        File::create(arrived.results())?;
        arrived.write(record)?;
        fs::rename(&arrived.0, self.of(record.id).0)?;
        // What is refused must not turn up at the next start.
        sync(&self.0).inspect_err(|_| self.of(record.id).remove())
    }

    /// Removes a batch, durably; its files go afterwards.
    pub(crate) fn remove(&self, id: BatchId) -> io::Result<BatchFolder> {
        let gone = self.0.join(format!("{INCOMPLETE}{id}"));
        fs::rename(self.of(id).0, &gone)?;
        sync(&self.0)?;
        Ok(BatchFolder(gone))
    }
}

impl BatchFolder {
    pub(crate) fn input(&self) -> PathBuf {
        self.0.join(INPUT)
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.0.join(RESULTS)
    }

    /// Puts a record in the place of the one that is there, durably.
    pub(crate) fn write(&self, record: &BatchRecord) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        let next = self.0.join(format!("{RECORD}.next"));
        let mut file = File::create(&next)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&next, self.0.join(RECORD))?;
        sync(&self.0)
    }

    /// Removes the file of rows, which is of no more use.
    pub(crate) fn remove_input(&self) {
        if let Err(error) = fs::remove_file(self.input())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "file of a batch stays");
        }
    }

    /// Removes everything.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "batch stays until the next start");
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
