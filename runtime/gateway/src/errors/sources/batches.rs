//! What goes wrong with batches, and the codes that it becomes.

use quern_scoring::{BatchError, CreateError, SourceError, UploadError};
use quern_types::StorageFailure;

use crate::errors::{Code, Failure};

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        let code = match &error {
            UploadError::TooMany { .. } => Code::TooManyBatches,
            UploadError::TooLarge { .. } => Code::UploadTooLarge,
            UploadError::Quota(_) => Code::StorageFull,
            UploadError::Storage(cause) => return Self::storage(&StorageFailure::of(cause)),
        };
        Self::new(code, error)
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        let code = match error {
            CreateError::Target(error) => return error.into(),
            CreateError::File(SourceError::Read(cause) | SourceError::Process(cause)) => {
                return Self::internal(cause);
            }
            CreateError::Busy { .. } => return Self::new(Code::Busy, error).retry_after(1),
            CreateError::Storage { reason } => return Self::storage(&reason),
            CreateError::ShuttingDown => {
                return Self::new(Code::ShuttingDown, error).retry_after(1);
            }
            CreateError::Plan(_) | CreateError::Format | CreateError::File(_) => {
                Code::InvalidRequest
            }
            CreateError::TooMany { .. } => Code::TooManyBatches,
        };
        Self::new(code, error)
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        let code = match &error {
            BatchError::NotFound { .. } => Code::NotFound,
            BatchError::NotEnded { .. } => Code::NotEnded,
            BatchError::Storage { reason, .. } => return Self::storage(reason),
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
pub(in crate::errors) mod tests {
    use std::io;

    use quern_scoring::{BatchId, PlanError, QuotaExceeded};
    use quern_types::{ByteSize, InvokeError, TenantId};

    use super::*;

    /// Every error of batches, and the code that it becomes.
    pub(in crate::errors) fn failures() -> Vec<(Code, Failure)> {
        let id: BatchId = "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id");
        let limit = ByteSize(1);
        let broken = || io::Error::other("/secret/path");
        let quota = QuotaExceeded { tenant: TenantId::default(), most: limit };
        let name = "a".parse().expect("a name");
        vec![
            (Code::TooManyBatches, UploadError::TooMany { limit: 1 }.into()),
            (Code::UploadTooLarge, UploadError::TooLarge { limit }.into()),
            (Code::StorageFull, UploadError::Quota(quota).into()),
            (Code::Internal, UploadError::Storage(broken()).into()),
            (Code::StorageFull, UploadError::Storage(io::ErrorKind::StorageFull.into()).into()),
            (Code::NotFound, CreateError::Target(InvokeError::NotFound { name }).into()),
            (Code::Internal, CreateError::File(SourceError::Read(broken())).into()),
            (Code::Internal, CreateError::File(SourceError::Process(broken())).into()),
            (Code::InvalidRequest, CreateError::File(SourceError::NoHeader).into()),
            (Code::Busy, CreateError::Busy { limit: 2 }.into()),
            (Code::Internal, CreateError::Storage { reason: "/secret/path".into() }.into()),
            (Code::ShuttingDown, CreateError::ShuttingDown.into()),
            (
                Code::InvalidRequest,
                CreateError::Plan(PlanError::Clash { column: "row".into() }).into(),
            ),
            (Code::InvalidRequest, CreateError::Format.into()),
            (Code::TooManyBatches, CreateError::TooMany { limit: 1 }.into()),
            (Code::NotFound, BatchError::NotFound { id }.into()),
            (Code::NotEnded, BatchError::NotEnded { id, state: "queued" }.into()),
            (Code::Internal, BatchError::Storage { id, reason: "/secret/path".into() }.into()),
        ]
    }
}
