//! Blobs: immutable content under the name of its digest, on the disk before anyone relies on it.
//! Never holds more than a chunk of an upload in memory, and never decides what is still needed.
//!
//! `object_store` with fsync on syncs a file before it renames it, and both folders after it; it
//! syncs a new folder's name only for the one who made it. All folders are therefore made and
//! synced when the store opens, so that no upload relies on the sync of another.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, local::LocalFileSystem, path};
use quern_types::{ByteSize, Digest, DigestWriter, StorageFailure};
use tokio_util::task::TaskTracker;

use crate::{OpenError, folder, ledger::Ledger};

/// Bytes of an upload that are gathered before they are written.
const CHUNK: usize = 4 << 20;
const UPLOADS: &str = "uploads";
/// Of the store, below a data folder.
pub(crate) const FOLDER: &str = "blobs";
const CONTENT: &str = "sha256";

/// The blob store of one data folder.
#[derive(Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Where uploads lie until they are kept.
    uploads: PathBuf,
    ledger: Arc<Ledger>,
    cleaning: TaskTracker,
}

/// An upload that is complete and on the disk, but not yet a blob. Dropping it removes it.
#[derive(Debug)]
pub struct StagedBlob {
    digest: Digest,
    size: u64,
    upload: path::Path,
    store: Arc<dyn ObjectStore>,
    cleaning: TaskTracker,
}

/// Why an upload was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It is too large.
    #[error("upload is larger than the server's limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The stream that it came from failed.
    #[error("upload broke off: {reason}")]
    Body {
        /// What the stream said.
        reason: String,
    },
    /// The disk failed.
    #[error("upload can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Why a blob can't be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// There is none of this digest.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// The digest asked for.
        digest: Digest,
    },
    /// The disk does not hold what was written.
    #[error("blob {digest} is corrupt, it now has digest {actual}: deploy its version again")]
    Corrupt {
        /// The digest asked for.
        digest: Digest,
        /// The digest of what the disk holds.
        actual: Digest,
    },
    /// The disk failed.
    #[error("blob {digest} can't be kept or read: {reason}")]
    Storage {
        /// The blob.
        digest: Digest,
        /// What failed.
        reason: StorageFailure,
    },
}

impl Blobs {
    /// Opens the store in a folder, and removes what is left of uploads.
    pub(crate) fn open(root: &Path, ledger: Arc<Ledger>) -> Result<Self, OpenError> {
        prepare(root).map_err(|cause| OpenError::Folder {
            action: "prepare",
            path: root.to_owned(),
            cause,
        })?;
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(|error| OpenError::Blobs { reason: error.to_string() })?
            .with_fsync(true);
        let uploads = root.join(UPLOADS);
        Ok(Self { store: Arc::new(store), uploads, ledger, cleaning: TaskTracker::new() })
    }

    /// Streams `content` to the disk, at most `limit` bytes of it. It is durable when this
    /// returns, but nobody finds it before it is kept.
    pub async fn stage<S, E>(
        &self,
        mut content: S,
        limit: ByteSize,
    ) -> Result<StagedBlob, StageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: std::error::Error + Send + Sync + 'static,
    {
        let name = uuid::Uuid::now_v7().to_string();
        let location = path::Path::from_iter([UPLOADS, &name]);
        let mut upload = self.store.put_multipart(&location).await.map_err(storage)?;
        let received = receive(&mut *upload, &mut content, limit).await;
        let completed = match received {
            Ok(received) => upload.complete().await.map(|_| received).map_err(storage),
            Err(error) => Err(error),
        };
        match completed {
            Ok((digest, size)) => Ok(StagedBlob {
                digest,
                size,
                upload: location,
                store: self.store.clone(),
                cleaning: self.cleaning.clone(),
            }),
            Err(error) => {
                // What was not completed is left where it is by the upload itself; dropping it
                // before keeps it from taking away anything later.
                drop(upload);
                self.discard(name).await;
                Err(error)
            }
        }
    }

    /// Removes what an upload has left, wherever it broke off.
    async fn discard(&self, name: String) {
        let uploads = self.uploads.clone();
        let removed = tokio::task::spawn_blocking(move || remove_all(&uploads, &name)).await;
        if let Err(error) = removed.map_err(io::Error::other).and_then(|removed| removed) {
            tracing::warn!(%error, "what is left of an upload stays until the next start");
        }
    }

    /// Moves an upload to its place, durably. The blob then stays until the commit that names it
    /// is decided, or to the end of the process where none does.
    pub async fn keep(&self, staged: StagedBlob) -> Result<Digest, BlobError> {
        let digest = staged.digest;
        let hold = self.ledger.hold(digest).await;
        self.store
            .rename(&staged.upload, &location(&digest))
            .await
            .map_err(|error| unusable(digest, error))?;
        self.ledger.stored(digest, staged.size);
        hold.leave();
        Ok(digest)
    }

    /// Reads a blob and checks that it still has its digest.
    pub async fn read(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        let digest = *digest;
        let bytes = self.fetch(digest, &location(&digest)).await?;
        let check = tokio::task::spawn_blocking(move || (Digest::of(&bytes), bytes));
        let (actual, bytes) = check
            .await
            .map_err(|error| BlobError::Storage { digest, reason: error.to_string().into() })?;
        if actual == digest { Ok(bytes) } else { Err(BlobError::Corrupt { digest, actual }) }
    }

    /// Reads an upload that is not kept yet.
    pub async fn read_staged(&self, staged: &StagedBlob) -> Result<Bytes, BlobError> {
        self.fetch(staged.digest, &staged.upload).await
    }

    /// Removes blobs that nothing refers to, notes the others, and says which are missing.
    pub(crate) async fn sweep(
        &self,
        referenced: &HashSet<Digest>,
    ) -> Result<Vec<Digest>, OpenError> {
        let failed = |error: object_store::Error| OpenError::Blobs { reason: error.to_string() };
        let content = path::Path::from(CONTENT);
        let mut listing = self.store.list(Some(&content));
        while let Some(blob) = listing.try_next().await.map_err(failed)? {
            let name = blob.location.filename().unwrap_or_default();
            match format!("{CONTENT}:{name}").parse::<Digest>() {
                Ok(digest) if referenced.contains(&digest) => {
                    self.ledger.stored(digest, blob.size);
                }
                Ok(_) => self.store.delete(&blob.location).await.map_err(failed)?,
                Err(_) => tracing::warn!(path = %blob.location, "not a blob: left alone"),
            }
        }
        Ok(referenced.iter().filter(|digest| !self.ledger.contains(digest)).copied().collect())
    }

    /// Removes a blob that no row refers to, unless a deploy needs it; says whether it went.
    pub(crate) async fn remove(&self, digest: Digest) -> bool {
        let Some(_removal) = self.ledger.remove(digest) else {
            return false;
        };
        match self.store.delete(&location(&digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(%digest, %error, "unneeded blob stays until the next start");
            }
        }
        true
    }

    /// The books about what is held.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Waits until dropped uploads are gone.
    pub(crate) async fn close(&self) {
        self.cleaning.close();
        self.cleaning.wait().await;
    }

    async fn fetch(&self, digest: Digest, location: &path::Path) -> Result<Bytes, BlobError> {
        let fetched = async { self.store.get(location).await?.bytes().await };
        fetched.await.map_err(|error| unusable(digest, error))
    }
}

impl StagedBlob {
    /// The digest of its content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for StagedBlob {
    fn drop(&mut self) {
        // Without a runtime it stays until the next start.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, upload) = (self.store.clone(), self.upload.clone());
        let remove = async move {
            match store.delete(&upload).await {
                // What was kept has moved.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%upload, %error, "upload stays until the next start");
                }
            }
        };
        self.cleaning.spawn_on(remove, &runtime);
    }
}

/// Writes a stream in chunks, and digests it on the way.
async fn receive<S, E>(
    upload: &mut dyn MultipartUpload,
    content: &mut S,
    limit: ByteSize,
) -> Result<(Digest, u64), StageError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    let (mut digest, mut size, mut chunk) = (DigestWriter::default(), 0u64, Vec::new());
    while let Some(part) = content.next().await {
        let mut part = part.map_err(|error| StageError::Body { reason: error.to_string() })?;
        size += part.len() as u64;
        if size > limit.0 {
            return Err(StageError::TooLarge { limit });
        }
        // Copied, so that many small parts can't keep many large buffers alive.
        while !part.is_empty() {
            let taken = part.split_to(part.len().min(CHUNK - chunk.len()));
            chunk.extend_from_slice(&taken);
            if chunk.len() == CHUNK {
                digest = write(upload, digest, std::mem::take(&mut chunk).into()).await?;
            }
        }
    }
    if !chunk.is_empty() {
        digest = write(upload, digest, chunk.into()).await?;
    }
    Ok((digest.finish(), size))
}

async fn write(
    upload: &mut dyn MultipartUpload,
    mut digest: DigestWriter,
    chunk: Bytes,
) -> Result<DigestWriter, StageError> {
    let written = upload.put_part(chunk.clone().into());
    let digested = tokio::task::spawn_blocking(move || {
        digest.update(&chunk);
        digest
    });
    let (written, digested) = tokio::join!(written, digested);
    written.map_err(storage)?;
    digested.map_err(|error| StageError::Storage { reason: error.to_string().into() })
}

/// Removes the files of a folder whose names begin so.
fn remove_all(folder: &Path, name: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(name) {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes all folders, so that none has to be made, and synced, by an upload.
fn prepare(root: &Path) -> std::io::Result<()> {
    let (uploads, content) = (root.join(UPLOADS), root.join(CONTENT));
    folder::create_synced(&content)?;
    match std::fs::remove_dir_all(&uploads) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir(&uploads)?,
    }
    for prefix in 0..=u8::MAX {
        match std::fs::create_dir(content.join(format!("{prefix:02x}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    folder::sync(&content)?;
    folder::sync(root)
}

/// Where a blob lies in a data folder.
pub(crate) fn path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{FOLDER}/{CONTENT}/{}/{hex}", &hex[..2])
}

fn location(digest: &Digest) -> path::Path {
    let hex = digest.hex();
    path::Path::from_iter([CONTENT, &hex[..2], &hex])
}

fn storage(error: object_store::Error) -> StageError {
    StageError::Storage { reason: StorageFailure::of(&error) }
}

fn unusable(digest: Digest, error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::Missing { digest },
        error => BlobError::Storage { digest, reason: StorageFailure::of(&error) },
    }
}
