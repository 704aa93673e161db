//! Why something could not be kept or read back, and whether room or a remount would mend it. Nothing
//! is found out here about a disk: only what an error says.

use std::{error::Error, fmt, io};

/// What stands in the way of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// There is no room: on the disk, in a quota, or below the largest size of a file.
    Full,
    /// The file system takes no writes.
    ReadOnly,
    /// Anything else.
    Other,
}

/// Why something could not be kept, or read back. What it says is for the operator: it may name
/// paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageFailure {
    fault: StorageFault,
    reason: String,
}

impl StorageFailure {
    /// A failure of a known kind.
    pub fn new(fault: StorageFault, reason: impl ToString) -> Self {
        Self { fault, reason: reason.to_string() }
    }

    /// What an error, or the first of its causes that is the system's, says.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        let system = loop {
            match cause.map(|cause| (cause, cause.downcast_ref::<io::Error>())) {
                Some((of, None)) => cause = of.source(),
                Some((_, system)) => break system,
                None => break None,
            }
        };
        Self::new(system.map_or(StorageFault::Other, |error| error.kind().into()), error)
    }

    /// What stands in the way.
    pub fn fault(&self) -> StorageFault {
        self.fault
    }
}

impl From<io::ErrorKind> for StorageFault {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Other,
        }
    }
}

impl From<io::Error> for StorageFailure {
    fn from(error: io::Error) -> Self {
        Self::of(&error)
    }
}

impl From<String> for StorageFailure {
    fn from(reason: String) -> Self {
        Self { fault: StorageFault::Other, reason }
    }
}

impl From<&str> for StorageFailure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl fmt::Display for StorageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("nothing came of it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_fault_is_found_below_what_wraps_it() {
        use io::ErrorKind as Kind;
        for (kind, fault) in [
            (Kind::StorageFull, StorageFault::Full),
            (Kind::QuotaExceeded, StorageFault::Full),
            (Kind::FileTooLarge, StorageFault::Full),
            (Kind::ReadOnlyFilesystem, StorageFault::ReadOnly),
            (Kind::PermissionDenied, StorageFault::Other),
        ] {
            assert_eq!(StorageFailure::from(io::Error::from(kind)).fault(), fault, "{kind}");
            let wrapped = Outer(kind.into());
            let failure = StorageFailure::of(&io::Error::other(wrapped));
            assert_eq!(failure.fault(), StorageFault::Other, "the system's own error comes first");
            let failure = StorageFailure::of(&Outer(kind.into()));
            assert_eq!((failure.fault(), &*failure.to_string()), (fault, "nothing came of it"));
        }
        assert_eq!(StorageFailure::from("why").fault(), StorageFault::Other);
    }
}
