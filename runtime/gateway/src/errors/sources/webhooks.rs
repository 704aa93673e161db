//! Errors about webhooks and messages to them, and the codes that they become.

use quern_jobs::{RetryError, WebhookError};

use super::{Code, Failure};
use crate::webhooks::WebhookBodyError;

impl From<WebhookError> for Failure {
    fn from(error: WebhookError) -> Self {
        let code = match &error {
            WebhookError::NotFound { .. } => Code::NotFound,
            WebhookError::TooMany { .. } => Code::TooManyWebhooks,
            WebhookError::NoKey => Code::SecretsLocked,
            WebhookError::Storage { reason } => return Self::storage(reason),
        };
        Self::new(code, error)
    }
}

impl From<RetryError> for Failure {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::NotFound { .. } => Self::new(Code::NotFound, error),
            RetryError::State { .. } => Self::new(Code::WrongState, error),
            RetryError::Full { .. } => Self::new(Code::Busy, error).retry_after(1),
            RetryError::Failed(failure) => failure.into(),
        }
    }
}

impl From<WebhookBodyError> for Failure {
    fn from(error: WebhookBodyError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

#[cfg(test)]
pub(in crate::errors) mod tests {
    use std::time::Duration;

    use quern_jobs::{QueueFailure, QueueFull, Scope};
    use quern_types::{DeliveryId, DeliveryState, InvalidWebhookUrl, Period};

    use super::*;

    /// Every error about webhooks, and the code that it becomes.
    pub(in crate::errors) fn failures() -> Vec<(Code, Failure)> {
        let id = DeliveryId::from_uuid(Default::default());
        let name = "shop".parse().expect("a name");
        let (scope, limit) = (Scope::Tenant, 1);
        let full = QueueFull::Messages { scope, limit: 1 };
        let failed = QueueFailure { reason: "/secret/path".into() };
        let most = Period(Duration::from_secs(1));
        vec![
            (Code::NotFound, WebhookError::NotFound { name }.into()),
            (Code::TooManyWebhooks, WebhookError::TooMany { scope, limit }.into()),
            (Code::SecretsLocked, WebhookError::NoKey.into()),
            (Code::Internal, WebhookError::Storage { reason: "/secret/path".into() }.into()),
            (Code::NotFound, RetryError::NotFound { id }.into()),
            (Code::WrongState, RetryError::State { id, state: DeliveryState::Waiting }.into()),
            (Code::Busy, RetryError::Full { id, full }.into()),
            (Code::Internal, RetryError::from(failed).into()),
            (Code::InvalidRequest, WebhookBodyError::from(InvalidWebhookUrl).into()),
            (Code::InvalidRequest, WebhookBodyError::Keep { most }.into()),
        ]
    }

    #[test]
    fn errors_about_webhooks_have_their_codes() {
        for (expected, failure) in failures() {
            assert_eq!(failure.code, expected, "{}", failure.detail);
            assert!(!failure.detail.contains("secret/path"), "{}", failure.detail);
        }
    }
}
