//! Errors of asynchronous calls, and the codes that they become.

use quern_jobs::{
    ChangeError, EnqueueError, InvalidSchedule, PutError, QueueFailure, ScheduleError,
};

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
            EnqueueError::Full(_) | EnqueueError::Busy => {
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
            ChangeError::Full { .. } => Self::new(Code::Busy, error).retry_after(1),
            ChangeError::Failed(failure) => failure.into(),
        }
    }
}

impl From<QueueFailure> for Failure {
    fn from(failure: QueueFailure) -> Self {
        Self::storage(&failure.reason)
    }
}

impl From<InvalidSchedule> for Failure {
    fn from(error: InvalidSchedule) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<ScheduleError> for Failure {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::NotFound { .. } => Self::new(Code::NotFound, error),
            ScheduleError::TooMany { .. } => Self::new(Code::TooManySchedules, error),
            ScheduleError::Storage { reason } => Self::storage(&reason),
        }
    }
}

impl From<PutError> for Failure {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Invalid(error) => error.into(),
            PutError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use quern_jobs::{QueueFull, Scope};
    use quern_types::{ByteSize, CallState, InvocationId, Period, StorageFailure, StorageFault};

    use super::*;
    use crate::invocation::Invocation;

    #[test]
    fn every_error_of_an_asynchronous_call_has_its_code() {
        let id: InvocationId = Invocation::new().id();
        let failed = || QueueFailure { reason: "/secret/path".into() };
        let (queued, needed) = (CallState::Queued, CallState::Dead);
        let (scope, limit) = (Scope::Tenant, ByteSize(1));
        let full = || QueueFull::Calls { scope: Scope::Server, limit: 1 };
        let age = OptionError::Age { most: Period::from_millis(1) };
        let reused = EnqueueError::KeyReused { key: "k".into(), target: "f".into(), id };
        let stored = |error: ScheduleError| Failure::from(PutError::from(error));
        let field = InvalidSchedule::Field { field: "path", problem: "leads nowhere".into() };
        let kept_from = |fault| -> Failure {
            QueueFailure { reason: StorageFailure::new(fault, "/secret/path") }.into()
        };
        let cases: [(Code, Failure); 19] = [
            (Code::StorageFull, kept_from(StorageFault::Full)),
            (Code::StorageReadOnly, kept_from(StorageFault::ReadOnly)),
            (Code::InvalidRequest, OptionError::Key.into()),
            (Code::InvalidRequest, OptionError::Attempts { most: 1 }.into()),
            (Code::InvalidRequest, age.into()),
            (Code::Busy, EnqueueError::from(full()).into()),
            (Code::Busy, EnqueueError::from(QueueFull::Bytes { scope, limit }).into()),
            (Code::Busy, ChangeError::Full { id, full: full() }.into()),
            (Code::Busy, EnqueueError::Busy.into()),
            (Code::KeyReused, reused.into()),
            (Code::Internal, EnqueueError::from(failed()).into()),
            (Code::InvalidRequest, field.clone().into()),
            (Code::InvalidRequest, PutError::from(field).into()),
            (Code::NotFound, ScheduleError::NotFound { name: "s".parse().expect("a name") }.into()),
            (Code::TooManySchedules, stored(ScheduleError::TooMany { scope, limit: 1 })),
            (Code::Internal, stored(ScheduleError::Storage { reason: "/secret/path".into() })),
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
