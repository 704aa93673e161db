//! What keeps a backup from being made, as far as it comes before the archive does.

use quern_deploy::BackupError;

use crate::errors::{Code, Failure};

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Busy => Self::new(Code::Busy, error).retry_after(10),
            BackupError::NoRoom { .. } => Self::new(Code::StorageFull, error),
            BackupError::Missing { .. } => Self::new(Code::WrongState, error),
            BackupError::Storage { reason } => Self::storage(&reason),
            BackupError::Database { .. }
            | BackupError::Open(_)
            | BackupError::File { .. }
            | BackupError::Corrupt { .. }
            | BackupError::Write(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use quern_types::{ByteSize, Digest};

    use super::*;

    #[test]
    fn who_asked_for_a_backup_learns_what_to_do() {
        let no_room = BackupError::NoRoom { needed: ByteSize(2), free: ByteSize(1) };
        let missing = BackupError::Missing { digest: Digest::of(b"x") };
        let failed = BackupError::Storage { reason: "/secret/path".into() };
        for (code, retry_after, error) in [
            (Code::Busy, Some(10), BackupError::Busy),
            (Code::StorageFull, None, no_room),
            (Code::WrongState, None, missing),
            (Code::Internal, None, failed),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.code, failure.retry_after), (code, retry_after));
            assert!(!failure.detail.contains("/secret/path"), "{}", failure.detail);
        }
    }
}
