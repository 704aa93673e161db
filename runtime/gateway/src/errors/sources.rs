//! Every error of every operation, and the code that it becomes. The matches are exhaustive: a
//! new variant needs its code before anything compiles.

mod background;
mod backup;
mod batches;
mod settings;
mod traffic;
mod webhooks;

#[cfg(test)]
pub(super) use batches::tests::failures as batch_failures;
#[cfg(test)]
pub(super) use webhooks::tests::failures as webhook_failures;

use quern_deploy::{AccessChangeError, ComponentError, DeployError, StageError, TokenError};
use quern_types::{
    BodyError, DeviceError, Exceeded, GuestFault, InvokeError, Mismatch, ModelError, Side,
};

use super::{Code, Failure};
use crate::{
    access::AccessError,
    body::ReadError,
    functions::ForwardError,
    grpc::{AnswerTooLarge, CallError, FieldError, MessageError, TimeoutError},
    logs::EndlessError,
    multipart::MultipartError,
    query::QueryError,
    route::RouteError,
    shared_memory::{PlacementError, RegionError},
    v2::{
        ClassError, CodingError, DecodeError, EncodeError, HeaderError, OutputError, RawError,
        SettingError,
    },
};

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        match &error {
            RouteError::NotFound { .. } | RouteError::GrpcOnly => Self::new(Code::NotFound, error),
            RouteError::MethodNotAllowed { allow, .. } => {
                let allow = Some(allow.clone());
                Self { allow, ..Self::new(Code::MethodNotAllowed, error) }
            }
            RouteError::Name(_)
            | RouteError::EncodedName { .. }
            | RouteError::SettingKey(_)
            | RouteError::RegionName { .. } => Self::new(Code::InvalidName, error),
            RouteError::Version { .. }
            | RouteError::Token(_)
            | RouteError::Batch(_)
            | RouteError::Delivery { .. }
            | RouteError::Invocation { .. } => Self::new(Code::InvalidRequest, error),
        }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::Missing | AccessError::Malformed | AccessError::Credential(_) => {
                Code::Unauthenticated
            }
            AccessError::Role { .. } | AccessError::Tenant { .. } => Code::Forbidden,
            AccessError::TenantName(_) | AccessError::TenantHeader => Code::InvalidRequest,
        };
        Self::new(code, error)
    }
}

impl From<AccessChangeError> for Failure {
    fn from(error: AccessChangeError) -> Self {
        let code = match &error {
            AccessChangeError::Note { .. } | AccessChangeError::Lifetime { .. } => {
                Code::InvalidRequest
            }
            AccessChangeError::Token(TokenError::NotFound { .. }) => Code::NotFound,
            AccessChangeError::Token(TokenError::TooMany { .. }) => Code::TooManyTokens,
            AccessChangeError::Token(TokenError::Storage { reason })
            | AccessChangeError::Storage { reason } => return Self::storage(reason),
        };
        Self::new(code, error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let code = match error {
            ReadError::TooLarge { .. } => Code::RequestTooLarge,
            ReadError::Broken { .. } => Code::InvalidRequest,
            ReadError::Stalled { .. } | ReadError::Slow { .. } => Code::RequestTimeout,
            ReadError::NoRoom { .. } => return Self::new(Code::Busy, error).retry_after(1),
        };
        Self::new(code, error)
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        let code = match error {
            ForwardError::Host | ForwardError::Path { .. } => Code::InvalidRequest,
            ForwardError::Interim { .. } => Code::InvalidOutput,
        };
        Self::new(code, error)
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<EndlessError> for Failure {
    fn from(error: EndlessError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<MultipartError> for Failure {
    fn from(error: MultipartError) -> Self {
        match error {
            MultipartError::Malformed { .. }
            | MultipartError::Unknown { .. }
            | MultipartError::Duplicate { .. }
            | MultipartError::Missing { .. } => Self::new(Code::InvalidMultipart, error),
            MultipartError::ManifestTooLarge { .. } => Self::new(Code::UploadTooLarge, error),
            MultipartError::ManifestNotText => Self::new(Code::InvalidManifest, error),
            MultipartError::Stage(error) => (*error).into(),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let code = match error {
            DecodeError::NotUtf8 { .. }
            | DecodeError::Syntax(_)
            | DecodeError::Field { .. }
            | DecodeError::Data { .. } => Code::InvalidJson,
            DecodeError::Binary { .. } => Code::InvalidRequest,
            DecodeError::Unsupported { .. } => Code::Unsupported,
        };
        Self::new(code, error)
    }
}

impl From<HeaderError> for Failure {
    fn from(error: HeaderError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<RawError> for Failure {
    fn from(error: RawError) -> Self {
        match error {
            RawError::Inputs { .. }
            | RawError::Shape { .. }
            | RawError::Size { .. }
            | RawError::Data(_) => Self::new(Code::InvalidRequest, error),
            RawError::Read(ref cause) => Self { detail: error.to_string(), ..cause.clone().into() },
        }
    }
}

impl From<CodingError> for Failure {
    fn from(error: CodingError) -> Self {
        match error {
            CodingError::Unknown { .. }
            | CodingError::NotHere { .. }
            | CodingError::Broken { .. } => Self::new(Code::InvalidRequest, error),
            CodingError::Read(ref cause) => {
                Self { detail: error.to_string(), ..cause.clone().into() }
            }
        }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Name(_) => Self::new(Code::SignatureMismatch, error),
            OutputError::NoJson { .. } => Self::new(Code::InvalidRequest, error),
            OutputError::Classes(error) => error.into(),
            OutputError::Place(error) => error.into(),
        }
    }
}

impl From<ClassError> for Failure {
    fn from(error: ClassError) -> Self {
        match error {
            ClassError::NoOrder { .. } | ClassError::TooLong { .. } => {
                Self::new(Code::InvalidRequest, error)
            }
            ClassError::Tensor(_) => Self::internal(error),
        }
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Self::new(Code::InvalidOutput, error)
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        let code = match error {
            SettingError::Malformed { .. } => Code::InvalidJson,
            SettingError::Unknown { .. } | SettingError::Fixed { .. } => Code::Unsupported,
        };
        Self::new(code, error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Self {
        let code = match &error {
            RegionError::NotAllowed | RegionError::Cuda | RegionError::Prefix { .. } => {
                Code::Unsupported
            }
            RegionError::NotFound { .. } => Code::NotFound,
            RegionError::Exists { .. } => Code::NameTaken,
            RegionError::Full { .. } => return Self::new(Code::Busy, error).retry_after(1),
            RegionError::Name { .. }
            | RegionError::Key { .. }
            | RegionError::Object { .. }
            | RegionError::Size { .. }
            | RegionError::Beyond { .. }
            | RegionError::Outside { .. }
            | RegionError::Shrunk { .. }
            | RegionError::System { .. } => Code::InvalidRequest,
            RegionError::Read(cause) => {
                return Self { detail: error.to_string(), ..cause.clone().into() };
            }
        };
        Self::new(code, error)
    }
}

impl From<PlacementError> for Failure {
    fn from(error: PlacementError) -> Self {
        match &error {
            PlacementError::Region { error: cause, .. } => {
                Self { detail: error.to_string(), ..cause.clone().into() }
            }
            PlacementError::Data { .. } | PlacementError::Small { .. } => {
                Self::new(Code::InvalidRequest, error)
            }
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unknown { .. } | CallError::Unsupported { .. } => {
                Self::new(Code::Unsupported, error)
            }
            CallError::Late { .. } => Self::new(Code::DeadlineExceeded, error),
            CallError::Closing => Self::new(Code::ShuttingDown, error).retry_after(1),
        }
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Read(error) => error.into(),
            MessageError::Encoding { .. } => Self::new(Code::Unsupported, error),
            MessageError::Compressed
            | MessageError::Flag { .. }
            | MessageError::Truncated
            | MessageError::Count { .. }
            | MessageError::Malformed { .. } => Self::new(Code::InvalidRequest, error),
        }
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        let code = match error {
            FieldError::Wrong { .. } => Code::InvalidRequest,
            FieldError::Unsupported { .. } => Code::Unsupported,
        };
        Self::new(code, error)
    }
}

impl From<TimeoutError> for Failure {
    fn from(error: TimeoutError) -> Self {
        Self::new(Code::InvalidRequest, error)
    }
}

impl From<AnswerTooLarge> for Failure {
    fn from(error: AnswerTooLarge) -> Self {
        Self::new(Code::ResponseTooLarge, error)
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Upload(error) => error.into(),
            DeployError::Manifest(_) | DeployError::NameMismatch { .. } => {
                Self::new(Code::InvalidManifest, error)
            }
            DeployError::Component(error) => error.into(),
            DeployError::Model { .. } => Self::new(Code::InvalidModel, error),
            DeployError::Engine(DeviceError::Load { .. } | DeviceError::Run { .. }) => {
                Self::new(Code::InvalidModel, error)
            }
            DeployError::Engine(error) => error.into(),
            DeployError::NameTaken { .. } => Self::new(Code::NameTaken, error),
            DeployError::NotFound { .. } | DeployError::VersionNotFound { .. } => {
                Self::new(Code::NotFound, error)
            }
            DeployError::NoPreviousVersion { .. } => Self::new(Code::NoPreviousVersion, error),
            DeployError::Busy { .. } => Self::new(Code::Busy, error).retry_after(1),
            DeployError::Storage { reason } => Self::storage(&reason),
        }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        match error {
            StageError::TooLarge { .. } => Self::new(Code::UploadTooLarge, error),
            StageError::Body { .. } => Self::new(Code::InvalidMultipart, error),
            StageError::Storage { reason } => Self::storage(&reason),
        }
    }
}

impl From<ComponentError> for Failure {
    fn from(error: ComponentError) -> Self {
        match error {
            ComponentError::NotAComponent { .. } => Self::new(Code::NotAComponent, error),
            ComponentError::Invalid { .. }
            | ComponentError::MissingExport { .. }
            | ComponentError::Compile { .. } => Self::new(Code::InvalidComponent, error),
            ComponentError::UnknownImport { .. } => Self::new(Code::UnknownImport, error),
            ComponentError::MissingGrant { .. } => Self::new(Code::MissingGrant, error),
            ComponentError::Artifact { reason } => Self::storage(&reason),
        }
    }
}

impl From<InvokeError> for Failure {
    fn from(error: InvokeError) -> Self {
        let code = match &error {
            InvokeError::NotFound { .. }
            | InvokeError::VersionNotFound { .. }
            | InvokeError::AliasNotFound { .. } => Code::NotFound,
            InvokeError::WrongKind { .. } => Code::WrongKind,
            InvokeError::Busy { .. } | InvokeError::MemoryFull { .. } => {
                return Self::new(Code::Busy, error).retry_after(1);
            }
            InvokeError::SecretsLocked { .. } => Code::SecretsLocked,
            InvokeError::ShuttingDown => {
                return Self::new(Code::ShuttingDown, error).retry_after(1);
            }
            InvokeError::RequestBody(BodyError::Stalled(_)) => Code::RequestTimeout,
            InvokeError::RequestBody(BodyError::TooLarge { .. }) => Code::RequestTooLarge,
            InvokeError::RequestBody(BodyError::Broken(_) | BodyError::Function(_)) => {
                Code::InvalidRequest
            }
            InvokeError::Signature(mismatch) => mismatched(mismatch),
            InvokeError::InvalidOutput { .. } => Code::InvalidOutput,
            InvokeError::Limit(limit) => {
                return Self { limit: Some(*limit), ..Self::new(exceeded(*limit), error) };
            }
            InvokeError::Trap { reason, trace } => {
                let detail = format!("function trapped: {reason}");
                return Self { trace: trace.clone(), ..Self::new(Code::Trap, detail) };
            }
            InvokeError::NoResponse => Code::NoResponse,
            InvokeError::Guest { fault: GuestFault::Input, .. } => Code::GuestRejectedInput,
            InvokeError::Guest { fault: GuestFault::Overload, .. } => {
                return Self::new(Code::Busy, error).retry_after(1);
            }
            InvokeError::Guest { fault: GuestFault::Time, .. } => Code::DeadlineExceeded,
            InvokeError::Guest { fault: GuestFault::Internal, .. } => Code::GuestError,
            InvokeError::Model(error) => return error.clone().into(),
            InvokeError::Unavailable { name, reason } => {
                let detail = format!("function {name:?} can't be made ready");
                return Self::new(Code::Unavailable, detail).caused_by(reason).retry_after(1);
            }
        };
        Self::new(code, error)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let code = match &error {
            ModelError::NotFound { .. }
            | ModelError::NotShared { .. }
            | ModelError::VersionNotFound { .. } => Code::NotFound,
            ModelError::Unloaded { .. } => Code::NotLoaded,
            ModelError::Signature { mismatch, .. } => mismatched(mismatch),
            ModelError::Rows { .. } => Code::SignatureMismatch,
            ModelError::QueueFull { .. } | ModelError::QueueMemory { .. } => {
                return Self::new(Code::Busy, error).retry_after(1);
            }
            ModelError::TooLate { .. } => return Self::new(Code::TooLate, error).retry_after(1),
            ModelError::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            ModelError::Device { name, error } => {
                let failure = Self::from(error.clone());
                let detail = format!("model {name:?}: {}", failure.detail);
                return Self { detail, ..failure };
            }
            ModelError::Unavailable { name, reason } => {
                let detail = format!("model {name:?} can't be made ready");
                return Self::new(Code::Unavailable, detail).caused_by(reason).retry_after(1);
            }
        };
        Self::new(code, error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::EngineAbsent { .. } => Self::new(Code::EngineAbsent, error),
            // It was loaded when it was deployed: what fails now is not the upload.
            DeviceError::Load { .. } => {
                Self::new(Code::Unavailable, "can't be made ready").caused_by(error).retry_after(1)
            }
            // What an engine says of its own failure is for the operator.
            DeviceError::Run { engine, .. } => {
                let detail = format!("the engine {engine} could not compute it");
                Self::new(Code::DeviceError, detail).caused_by(error)
            }
            DeviceError::Lost { .. } => Self::new(Code::DeviceLost, error).retry_after(1),
        }
    }
}

fn exceeded(limit: Exceeded) -> Code {
    match limit {
        Exceeded::Memory(_) => Code::OutOfMemory,
        Exceeded::Tables(_) => Code::TooManyTableElements,
        Exceeded::Instances(_) => Code::TooManyInstances,
        Exceeded::Handles(_) => Code::TooManyHandles,
        Exceeded::HostCall(_) => Code::HostCallTooLarge,
        Exceeded::Cpu(_) => Code::CpuTimeExceeded,
        Exceeded::Timeout(_) => Code::Timeout,
        Exceeded::Request(_) => Code::RequestTooLarge,
        Exceeded::Response(_) => Code::ResponseTooLarge,
    }
}

/// Inputs are the caller's fault, outputs are not.
fn mismatched(mismatch: &Mismatch) -> Code {
    match mismatch.side {
        Side::Input => Code::SignatureMismatch,
        Side::Output => Code::InvalidOutput,
    }
}
