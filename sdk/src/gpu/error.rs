//! Why a device did not do what it was asked for.

use std::fmt;

use crate::bindings::quern::ml::gpu::Error as Contract;

/// Why a device did not do what it was asked for. The message names the operator and the shapes.
///
/// `?` makes an error of the function of it: one that the caller can't help, but where the device
/// was overloaded. That is why it does not implement [`std::error::Error`].
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What an [`Error`] means to the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operator does not take these inputs or attributes, or elements don't fit their shape.
    Invalid,
    /// The tensor belongs to another session.
    Unknown,
    /// The session has no memory or tensors left, or it would take too long: drop tensors, or split
    /// the inputs.
    Exhausted,
    /// The device has no room at present; another try, later, may succeed.
    Overloaded,
    /// An index was out of its dimension. The session is at an end.
    Index,
    /// There is no device, or it was lost, and the session is at an end.
    Unavailable,
}

impl Error {
    /// What it means to the function.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self { kind: ErrorKind::Invalid, message }
    }

    /// Not `From`, because the generated type is not to be seen outside.
    pub(super) fn from_contract(error: Contract) -> Self {
        let (kind, message) = match error {
            Contract::Invalid(message) => (ErrorKind::Invalid, message),
            Contract::Unknown(message) => (ErrorKind::Unknown, message),
            Contract::Exhausted(message) => (ErrorKind::Exhausted, message),
            Contract::Overloaded(message) => (ErrorKind::Overloaded, message),
            Contract::Index(message) => (ErrorKind::Index, message),
            Contract::Unavailable(message) => (ErrorKind::Unavailable, message),
        };
        Self { kind, message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Overloaded => crate::ErrorKind::Overloaded,
            _ => crate::ErrorKind::Internal,
        };
        Self::new(kind, error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_device_is_no_fault_of_the_function() {
        let cases = [
            (Contract::Invalid("why".into()), ErrorKind::Invalid),
            (Contract::Unknown("why".into()), ErrorKind::Unknown),
            (Contract::Exhausted("why".into()), ErrorKind::Exhausted),
            (Contract::Overloaded("why".into()), ErrorKind::Overloaded),
            (Contract::Index("why".into()), ErrorKind::Index),
            (Contract::Unavailable("why".into()), ErrorKind::Unavailable),
        ];
        for (contract, kind) in cases {
            let error = Error::from_contract(contract);
            assert_eq!((error.kind(), error.message()), (kind, "why"));
            let overloaded = kind == ErrorKind::Overloaded;
            let error = crate::Error::from(error);
            assert_eq!(error.kind() == crate::ErrorKind::Overloaded, overloaded, "{error:?}");
            assert_eq!(error.message(), "why");
        }
    }
}
