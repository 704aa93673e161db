//! The same errors as statuses of gRPC, for calls and for messages of a stream. What is logged and
//! what a client may see is decided where HTTP's answers are made.

use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};

use super::{Code, Failure};
use crate::invocation::Invocation;

impl Code {
    /// The code of gRPC. There are few of them: the metadata `quern-error` says more.
    pub(crate) fn grpc(self) -> tonic::Code {
        use tonic::Code as Grpc;
        match self {
            Self::Unauthenticated => Grpc::Unauthenticated,
            Self::Forbidden => Grpc::PermissionDenied,
            Self::InvalidName
            | Self::InvalidManifest
            | Self::InvalidMultipart
            | Self::InvalidJson
            | Self::InvalidRequest
            | Self::NotAComponent
            | Self::InvalidComponent
            | Self::UnknownImport
            | Self::MissingGrant
            | Self::InvalidModel
            | Self::TooManySettings
            | Self::SignatureMismatch
            | Self::KeyReused
            | Self::GuestRejectedInput => Grpc::InvalidArgument,
            Self::NotFound => Grpc::NotFound,
            Self::NameTaken | Self::SettingTaken => Grpc::AlreadyExists,
            // Another try does not help before somebody changes what is there.
            Self::NoPreviousVersion
            | Self::TrafficConflict
            | Self::WrongKind
            | Self::WrongState
            | Self::NoResult
            | Self::NotEnded
            | Self::EngineAbsent
            | Self::NotLoaded
            | Self::SecretsLocked => Grpc::FailedPrecondition,
            Self::UploadTooLarge
            | Self::RequestTooLarge
            | Self::ResponseTooLarge
            | Self::Busy
            | Self::RateLimited
            | Self::TooManyTokens
            | Self::TooManyTenants
            | Self::TooManySchedules
            | Self::TooManyWebhooks
            | Self::TooManyBatches
            | Self::StorageFull
            | Self::OutOfMemory
            | Self::TooManyTableElements
            | Self::TooManyInstances
            | Self::TooManyHandles
            | Self::HostCallTooLarge => Grpc::ResourceExhausted,
            Self::RequestTimeout
            | Self::DeadlineExceeded
            | Self::Timeout
            | Self::CpuTimeExceeded => Grpc::DeadlineExceeded,
            Self::StorageReadOnly
            | Self::DeviceLost
            | Self::TooLate
            | Self::Unavailable
            | Self::ShuttingDown => Grpc::Unavailable,
            Self::MethodNotAllowed | Self::Unsupported => Grpc::Unimplemented,
            Self::Trap
            | Self::NoResponse
            | Self::GuestError
            | Self::InvalidOutput
            | Self::DeviceError
            | Self::Internal => Grpc::Internal,
        }
    }
}

impl Failure {
    /// The status of a call; writes the cause to the log.
    pub(crate) fn into_status(mut self, invocation: Invocation) -> Status {
        self.log(invocation);
        let mut metadata = MetadataMap::new();
        metadata.insert("quern-error", MetadataValue::from_static(self.code.as_str()));
        if let Some(seconds) = self.retry_after {
            metadata.insert("retry-after", seconds.into());
        }
        Status::with_metadata(self.code.grpc(), self.detail, metadata)
    }

    /// The code and the text for a message of a stream, which goes on; writes the cause to the log.
    pub(crate) fn into_message(mut self, invocation: Invocation) -> (Code, String) {
        self.log(invocation);
        (self.code, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quern_types::InvokeError;

    use super::*;

    #[test]
    fn the_documented_statuses_are_the_ones_that_exist() {
        let page = include_str!("../../../../docs/api.md");
        let (_, errors) = page.split_once("\n### Errors over gRPC\n").expect("the section");
        let mut documented = BTreeMap::new();
        for line in errors.lines().skip_while(|line| !line.starts_with('|')) {
            let Some(row) = line.strip_prefix("| `") else {
                if line.starts_with('|') { continue } else { break }
            };
            let (status, codes) = row.split_once("` |").expect("two columns");
            for code in codes.split('`').skip(1).step_by(2) {
                documented.insert(code, status);
            }
        }
        let name = |code: Code| match code.grpc() {
            tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
            tonic::Code::NotFound => "NOT_FOUND",
            tonic::Code::AlreadyExists => "ALREADY_EXISTS",
            tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
            tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            tonic::Code::Unavailable => "UNAVAILABLE",
            tonic::Code::Unimplemented => "UNIMPLEMENTED",
            tonic::Code::Internal => "INTERNAL",
            tonic::Code::Unauthenticated => "UNAUTHENTICATED",
            tonic::Code::PermissionDenied => "PERMISSION_DENIED",
            other => panic!("{code:?} becomes {other:?}"),
        };
        let existing: BTreeMap<_, _> =
            Code::ALL.iter().map(|code| (code.as_str(), name(*code))).collect();
        assert_eq!(existing, documented);
    }

    #[test]
    fn a_status_says_what_went_wrong_and_when_to_try_again() {
        let busy = InvokeError::Busy { scope: "function", limit: 2 };
        let status = Failure::from(busy).into_status(Invocation::new());
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().contains("try again later"), "{}", status.message());
        assert_eq!(status.metadata().get("quern-error").expect("a code"), "busy");
        assert_eq!(status.metadata().get("retry-after").expect("a time"), "1");
    }

    #[test]
    fn causes_stay_in_the_log() {
        let invocation = Invocation::new();
        let status = Failure::internal("/secret/path").into_status(invocation);
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.message().contains("secret"), "{}", status.message());
        assert!(status.message().contains(&invocation.to_string()), "{}", status.message());
        let (code, text) = Failure::internal("/secret/path").into_message(invocation);
        assert_eq!(code, Code::Internal);
        assert_eq!(text, status.message());
    }
}
