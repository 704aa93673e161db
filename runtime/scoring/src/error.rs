//! Why something was not done with batches, an enum for each operation.

use std::io;

use quern_types::{ByteSize, InvokeError, StorageFailure};

use crate::{
    batch::BatchId, folder::FolderError, plan::PlanError, quota::QuotaExceeded, source::SourceError,
};

/// Why batches can't be had at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Their folder can't be opened.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A metric of this name is registered already.
    #[error("metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The tenant has as many batches as it may have.
    #[error("there are {limit} batches already, as many as there may be: remove some")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// It is too large.
    #[error("the file is larger than the server's limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The tenant's batches have as much as they may have.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The disk failed.
    #[error("the file can't be written: {0}")]
    Storage(#[from] io::Error),
}

/// Why a batch was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The server is stopping.
    #[error("the server is shutting down and takes no more batches: try again")]
    ShuttingDown,
    /// What is to score it can't.
    #[error(transparent)]
    Target(#[from] InvokeError),
    /// What is asked for does not go together.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// Nothing says what format the file has.
    #[error(
        "the format of the file is not known: say it as \"format\", or as the media type of the \
         part \"input\""
    )]
    Format,
    /// The file can't be read.
    #[error("{0}")]
    File(SourceError),
    /// Others are being looked at.
    #[error(
        "as many files of Parquet are being looked at as there may be, {limit} and one of a tenant: \
         try again"
    )]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The tenant has as many batches as it may have.
    #[error("there are {limit} batches already, as many as there may be: remove some")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// The disk failed.
    #[error("the batch can't be kept: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Why nothing is told of a batch, or done with it.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The tenant has none of this name.
    #[error("batch {id} is not known: it may have been removed, or its time may be over")]
    NotFound {
        /// The name.
        id: BatchId,
    },
    /// It has not ended.
    #[error("batch {id} is {state}: its results are there when it has ended")]
    NotEnded {
        /// The name.
        id: BatchId,
        /// Where it is on its way.
        state: &'static str,
    },
    /// The disk failed.
    #[error("the files of batch {id} can't be used: {reason}")]
    Storage {
        /// The name.
        id: BatchId,
        /// What failed.
        reason: StorageFailure,
    },
}
