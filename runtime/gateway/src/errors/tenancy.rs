//! What goes wrong between tenants, and the codes that it becomes.

use quern_deploy::{SharingError, TenantLimitsError};
use quern_types::InvalidTenantLimit;

use super::{Code, Failure};
use crate::{limiter::LimitError, sharing::ShareError};

impl From<ShareError> for Failure {
    fn from(error: ShareError) -> Self {
        let code = match &error {
            ShareError::NotShared { .. } => Code::NotFound,
            ShareError::TooMany { .. } => Code::InvalidRequest,
        };
        Self::new(code, error)
    }
}

impl From<SharingError> for Failure {
    fn from(error: SharingError) -> Self {
        match &error {
            SharingError::NotFound { .. } => Self::new(Code::NotFound, error),
            SharingError::Storage { reason } => Self::storage(reason),
        }
    }
}

impl From<InvalidTenantLimit> for Failure {
    fn from(error: InvalidTenantLimit) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<TenantLimitsError> for Failure {
    fn from(error: TenantLimitsError) -> Self {
        match &error {
            TenantLimitsError::TooMany { .. } => Self::new(Code::TooManyTenants, error),
            TenantLimitsError::Storage { reason } => Self::storage(reason),
        }
    }
}

impl From<LimitError> for Failure {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::Rate { wait, .. } | LimitError::Address { wait } => {
                // The next whole second, for the header knows no other.
                let seconds = wait.as_millis().div_ceil(1_000).max(1);
                let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
                Self::new(Code::RateLimited, error).retry_after(seconds)
            }
            LimitError::Concurrency { .. } => Self::new(Code::Busy, error).retry_after(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quern_types::{Class, Name, TenantId, TenantLimits};

    use super::*;

    #[test]
    fn what_is_anothers_is_told_as_what_is_not_there() {
        let name: Name = "a".parse().expect("a name");
        let (class, tenant) = (Class::Model, TenantId::default());
        let zero = TenantLimits { burst: Some(0), ..TenantLimits::default() };
        let zero = zero.checked().expect_err("zero");
        let reason = || "/secret/path".to_owned();
        for (code, failure) in [
            (Code::NotFound, ShareError::NotShared { name: name.clone().into(), tenant }.into()),
            (Code::InvalidRequest, ShareError::TooMany { count: 101 }.into()),
            (Code::NotFound, SharingError::NotFound { class, name }.into()),
            (Code::Internal, SharingError::Storage { reason: reason().into() }.into()),
            (Code::TooManyTenants, TenantLimitsError::TooMany { limit: 1 }.into()),
            (Code::Internal, TenantLimitsError::Storage { reason: reason().into() }.into()),
            (Code::InvalidRequest, zero.into()),
        ] {
            let failure: Failure = failure;
            assert_eq!(failure.code, code);
            assert!(!failure.detail.contains("secret"), "{}", failure.detail);
        }
    }

    #[test]
    fn what_is_too_much_says_when_to_try_again() {
        let tenant = TenantId::default();
        let rate = |wait| LimitError::Rate { tenant: tenant.clone(), per_second: 2, wait };
        for (error, code, seconds) in [
            (rate(Duration::from_millis(1)), Code::RateLimited, 1),
            (rate(Duration::from_millis(1_001)), Code::RateLimited, 2),
            (rate(Duration::MAX), Code::RateLimited, u16::MAX),
            (LimitError::Address { wait: Duration::ZERO }, Code::RateLimited, 1),
            (LimitError::Concurrency { tenant: tenant.clone(), limit: 2 }, Code::Busy, 1),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.code, failure.retry_after), (code, Some(seconds)));
        }
    }
}
