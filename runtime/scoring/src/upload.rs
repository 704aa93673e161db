//! A file of rows on its way to the disk. Nobody sees it before a batch is made of it, and without
//! one it goes.

use bytes::Bytes;
use quern_types::ByteSize;
use tokio::{fs::File, io::AsyncWriteExt};
use tokio_util::task::TaskTracker;

use crate::{batch::BatchId, error::UploadError, folder::BatchFolder, quota::Allotment};

/// A file that arrives.
#[derive(Debug)]
pub struct Upload {
    pub(crate) id: BatchId,
    pub(crate) folder: BatchFolder,
    pub(crate) bytes: u64,
    file: File,
    limit: ByteSize,
    /// Counts until the batch does.
    allotment: Allotment,
    cleaning: TaskTracker,
    is_kept: bool,
}

impl Upload {
    pub(crate) fn new(
        id: BatchId,
        folder: BatchFolder,
        file: File,
        limit: ByteSize,
        allotment: Allotment,
        cleaning: TaskTracker,
    ) -> Self {
        Self { id, folder, bytes: 0, file, limit, allotment, cleaning, is_kept: false }
    }

    /// Adds a part.
    pub async fn write(&mut self, part: Bytes) -> Result<(), UploadError> {
        self.bytes += part.len() as u64;
        if self.bytes > self.limit.0 {
            return Err(UploadError::TooLarge { limit: self.limit });
        }
        self.allotment.grow(part.len() as u64)?;
        Ok(self.file.write_all(&part).await?)
    }

    /// Has everything written that was added.
    pub async fn finish(&mut self) -> Result<(), UploadError> {
        Ok(self.file.flush().await?)
    }

    /// Leaves the files to the batch that was made of them.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let Ok(runtime) = runtime.as_ref()
            && !self.is_kept
        {
            let folder = self.folder.clone();
            self.cleaning.spawn_blocking_on(move || folder.remove(), runtime);
        }
    }
}
