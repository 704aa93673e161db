//! What keeps a backup from being made, as far as it comes before the archive does.

use quern_deploy::BackupError;
use quern_types::StorageFailure;

use crate::errors::{Code, Failure};

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Busy => Self::new(Code::Busy, error).retry_after(10),
            BackupError::NoRoom { .. } => Self::new(Code::StorageFull, error),
            BackupError::Missing { .. } | BackupError::TooMany { .. } => {
                Self::new(Code::WrongState, error)
            }
            // The disk may have filled while copies were made.
            BackupError::Storage { .. }
            | BackupError::Database { .. }
            | BackupError::Open(_)
            | BackupError::File { .. } => {
                Self::storage(&StorageFailure::new(error.fault(), &error))
            }
            BackupError::Corrupt { .. } | BackupError::Write(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use quern_types::{ByteSize, Digest, StorageFault};

    use super::*;

    #[test]
    fn who_asked_for_a_backup_learns_what_to_do() {
        let no_room = BackupError::NoRoom { needed: ByteSize(2), free: ByteSize(1) };
        let missing = BackupError::Missing { digest: Digest::of(b"x") };
        let too_many = BackupError::TooMany { files: 3, bytes: ByteSize(2), limit: ByteSize(1) };
        let failed = BackupError::Storage { reason: "/secret/path".into() };
        let database = |fault| BackupError::Database {
            path: "/secret/path".into(),
            cause: StorageFailure::new(fault, "no"),
        };
        let file = |kind: ErrorKind| BackupError::File {
            action: "make",
            path: "/secret/path".into(),
            cause: kind.into(),
        };
        for (code, retry_after, error) in [
            (Code::Busy, Some(10), BackupError::Busy),
            (Code::StorageFull, None, no_room),
            (Code::WrongState, None, missing),
            (Code::WrongState, None, too_many),
            (Code::Internal, None, failed),
            (Code::StorageFull, Some(60), database(StorageFault::Full)),
            (Code::StorageReadOnly, Some(60), database(StorageFault::ReadOnly)),
            (Code::Internal, None, database(StorageFault::Other)),
            (Code::StorageFull, Some(60), file(ErrorKind::StorageFull)),
            (Code::Internal, None, file(ErrorKind::PermissionDenied)),
            (Code::Internal, None, BackupError::Write(ErrorKind::StorageFull.into())),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.code, failure.retry_after), (code, retry_after));
            assert!(!failure.detail.contains("/secret/path"), "{}", failure.detail);
        }
    }
}
