//! Errors of asynchronous calls, and the codes that they become.

use quern_jobs::{ChangeError, EnqueueError, QueueFailure};

use super::{Code, Failure};
use crate::background::OptionError;

impl From<OptionError> for Failure {
    fn from(error: OptionError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<EnqueueError> for Failure {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::TooMany { .. } | EnqueueError::TooLarge { .. } | EnqueueError::Busy => {
                Self::new(Code::Busy, error).retry_after(1)
            }
            EnqueueError::KeyReused { .. } => Self::new(Code::KeyReused, error),
            EnqueueError::Failed(failure) => failure.into(),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound { .. } => Self::new(Code::NotFound, error),
            ChangeError::State { .. } => Self::new(Code::WrongState, error),
            ChangeError::Failed(failure) => failure.into(),
        }
    }
}

impl From<QueueFailure> for Failure {
    fn from(failure: QueueFailure) -> Self {
        Self::internal(failure)
    }
}

#[cfg(test)]
mod tests {
    use quern_jobs::Scope;
    use quern_types::{ByteSize, CallState, InvocationId, Period};

    use super::*;
    use crate::invocation::Invocation;

    #[test]
    fn every_error_of_an_asynchronous_call_has_its_code() {
        let id: InvocationId = Invocation::new().id();
        let failed = || QueueFailure { reason: "/secret/path".into() };
        let (queued, needed) = (CallState::Queued, CallState::Dead);
        let limit = ByteSize(1);
        let age = OptionError::Age { most: Period::from_millis(1) };
        let reused = EnqueueError::KeyReused { key: "k".into(), target: "f".into(), id };
        let cases: [(Code, Failure); 11] = [
            (Code::InvalidRequest, OptionError::Key.into()),
            (Code::InvalidRequest, OptionError::Attempts { most: 1 }.into()),
            (Code::InvalidRequest, age.into()),
            (Code::Busy, EnqueueError::TooMany { scope: Scope::Tenant, limit: 1 }.into()),
            (Code::Busy, EnqueueError::TooLarge { scope: Scope::Server, limit }.into()),
            (Code::Busy, EnqueueError::Busy.into()),
            (Code::KeyReused, reused.into()),
            (Code::Internal, EnqueueError::from(failed()).into()),
            (Code::NotFound, ChangeError::NotFound { id }.into()),
            (Code::WrongState, ChangeError::State { id, state: queued, needed }.into()),
            (Code::Internal, ChangeError::from(failed()).into()),
        ];
        for (code, failure) in cases {
            assert_eq!(failure.code, code, "{}", failure.detail);
            assert!(!failure.detail.contains("secret"), "{}", failure.detail);
        }
    }
}
