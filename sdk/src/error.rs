//! The one error of the library: a kind, which decides what the caller is told, and a message.

use std::fmt;

use crate::bindings::quern::ml::tensors::Error as Contract;

/// Why a call has no answer.
///
/// `?` turns every [`std::error::Error`] into one of kind [`ErrorKind::Internal`]; that is why
/// this type does not implement that trait itself. Errors of model calls keep their kind on the
/// way through a function.
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What an [`Error`] means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's input is at fault. HTTP status 400.
    InvalidInput,
    /// The caller's input is larger than this function takes. HTTP status 413.
    TooLarge,
    /// A model isn't granted to this function, or isn't deployed. HTTP status 500.
    NotFound,
    /// Too much is waiting; another try, later, may succeed. HTTP status 503.
    Overloaded,
    /// The deadline of the request passed. HTTP status 504.
    TimedOut,
    /// Anything else. HTTP status 500.
    Internal,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The caller's input is at fault; the message says which and why.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Something that the caller can't help.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error, with what was being done before its message.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{doing}: {}", self.message) }
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

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::internal(message)
    }
}

/// From the contract's error; not `From`, because the generated type is a `std::error::Error`.
pub(crate) fn from_contract(error: Contract) -> Error {
    let (kind, message) = match error {
        Contract::InvalidInput(message) => (ErrorKind::InvalidInput, message),
        Contract::NotFound(message) => (ErrorKind::NotFound, message),
        Contract::Overloaded(message) => (ErrorKind::Overloaded, message),
        Contract::TimedOut(message) => (ErrorKind::TimedOut, message),
        Contract::Internal(message) => (ErrorKind::Internal, message),
    };
    Error { kind, message }
}

/// To the contract's error.
pub(crate) fn into_contract(error: Error) -> Contract {
    match error.kind {
        ErrorKind::InvalidInput | ErrorKind::TooLarge => Contract::InvalidInput(error.message),
        ErrorKind::NotFound => Contract::NotFound(error.message),
        ErrorKind::Overloaded => Contract::Overloaded(error.message),
        ErrorKind::TimedOut => Contract::TimedOut(error.message),
        ErrorKind::Internal => Contract::Internal(error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_errors_become_internal_with_their_causes() {
        let parse = || -> Result<f32, Error> { Ok("one".parse::<f32>()?) };
        let error = parse().expect_err("not a number").context("reading the threshold");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "reading the threshold: invalid float literal");

        let outer = std::io::Error::other(std::fmt::Error);
        assert!(Error::from(outer).message().contains("an error occurred when formatting"));
    }

    #[test]
    fn kinds_survive_the_contract() {
        let kinds = [
            ErrorKind::InvalidInput,
            ErrorKind::NotFound,
            ErrorKind::Overloaded,
            ErrorKind::TimedOut,
            ErrorKind::Internal,
        ];
        for kind in kinds {
            let there_and_back = from_contract(into_contract(Error::new(kind, "why")));
            assert_eq!((there_and_back.kind(), there_and_back.message()), (kind, "why"));
        }
    }
}
