//! The errors of traffic between versions, and the codes that they become.

use quern_deploy::{DeleteVersionError, TrafficChangeError, TrafficError};
use quern_types::InvalidTraffic;

use super::super::{Code, Failure};
use crate::selection::SelectionError;

impl From<SelectionError> for Failure {
    fn from(error: SelectionError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<InvalidTraffic> for Failure {
    fn from(error: InvalidTraffic) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<TrafficChangeError> for Failure {
    fn from(error: TrafficChangeError) -> Self {
        match error {
            TrafficChangeError::Invalid(_) | TrafficChangeError::Limits { .. } => {
                Self::new(Code::InvalidRequest, error)
            }
            TrafficChangeError::Traffic(error) => error.into(),
        }
    }
}

impl From<TrafficError> for Failure {
    fn from(error: TrafficError) -> Self {
        let code = match &error {
            TrafficError::NotFound { .. }
            | TrafficError::VersionNotFound { .. }
            | TrafficError::AliasNotFound { .. }
            | TrafficError::NoCanary { .. } => Code::NotFound,
            TrafficError::ReservedAlias { .. } => Code::InvalidName,
            TrafficError::TooManyAliases { .. }
            | TrafficError::CanaryRunning { .. }
            | TrafficError::Split { .. }
            | TrafficError::AlreadyLive { .. } => Code::TrafficConflict,
            TrafficError::Storage { reason } => return Self::storage(reason),
        };
        Self::new(code, error)
    }
}

impl From<DeleteVersionError> for Failure {
    fn from(error: DeleteVersionError) -> Self {
        let code = match &error {
            DeleteVersionError::NotFound { .. } | DeleteVersionError::VersionNotFound { .. } => {
                Code::NotFound
            }
            DeleteVersionError::InUse { .. } => Code::TrafficConflict,
            DeleteVersionError::Storage { reason } => return Self::storage(reason),
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use quern_deploy::VersionUse;
    use quern_types::{Class, InvalidTraffic, Name, Selector, VersionNumber};

    use super::*;

    #[test]
    fn every_error_of_traffic_has_its_code() {
        let (class, version) = (Class::Function, VersionNumber::FIRST);
        let name = || -> Name { "a".parse().expect("a name") };
        let field = "version".to_owned();
        let selector = "A".parse::<Selector>().expect_err("no version");
        let asked = Selector::Number(version);
        let cases: Vec<(Code, Failure)> = vec![
            (Code::InvalidRequest, SelectionError::Header.into()),
            (Code::InvalidRequest, SelectionError::Selector(selector).into()),
            (
                Code::InvalidRequest,
                SelectionError::Mismatch { header: asked, path: version }.into(),
            ),
            (
                Code::InvalidRequest,
                TrafficChangeError::from(InvalidTraffic::Sum { sum: 99 }).into(),
            ),
            (Code::InvalidRequest, TrafficChangeError::Limits { reason: "limits.x".into() }.into()),
            (
                Code::NotFound,
                TrafficChangeError::from(TrafficError::NotFound { class, name: name() }).into(),
            ),
            (
                Code::NotFound,
                TrafficError::VersionNotFound { field, class, name: name(), version }.into(),
            ),
            (
                Code::NotFound,
                TrafficError::AliasNotFound { class, name: name(), alias: name() }.into(),
            ),
            (Code::NotFound, TrafficError::NoCanary { class, name: name() }.into()),
            (Code::InvalidName, TrafficError::ReservedAlias { alias: name() }.into()),
            (
                Code::TrafficConflict,
                TrafficError::TooManyAliases { class, name: name(), limit: 1 }.into(),
            ),
            (
                Code::TrafficConflict,
                TrafficError::CanaryRunning { class, name: name(), version }.into(),
            ),
            (Code::TrafficConflict, TrafficError::Split { class, name: name() }.into()),
            (
                Code::TrafficConflict,
                TrafficError::AlreadyLive { class, name: name(), version }.into(),
            ),
            (Code::Internal, TrafficError::Storage { reason: "/secret".into() }.into()),
            (Code::NotFound, DeleteVersionError::NotFound { class, name: name() }.into()),
            (
                Code::NotFound,
                DeleteVersionError::VersionNotFound { class, name: name(), version }.into(),
            ),
            (
                Code::TrafficConflict,
                DeleteVersionError::InUse { class, name: name(), version, by: VersionUse::Live }
                    .into(),
            ),
            (Code::Internal, DeleteVersionError::Storage { reason: "/secret".into() }.into()),
        ];
        for (code, failure) in cases {
            assert_eq!(failure.status(), code.status());
            let detail = failure.into_detail();
            assert!(!detail.contains("/secret"), "{detail}");
        }
    }
}
