//! The only place where errors become statuses, codes and bodies. The client sees the code and a
//! message that is safe to show; a cause that concerns only the operator goes to the log.

mod code;
mod grpc;
mod problem;
mod sources;
mod tenancy;

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use quern_types::{Exceeded, StorageFailure, StorageFault, TraceId};
use serde_json::json;

pub(crate) use code::Code;
pub(crate) use problem::Problem;

use crate::{
    body::{self, Reply},
    invocation::Invocation,
};

/// The header of an answer that has the code of an error of the server's.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("quern-error");

/// Seconds after which an operator may have made room on a disk.
const STORAGE_PAUSE: u16 = 60;

/// How the errors of a part of the API are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// RFC 9457 problem JSON.
    Problem,
    /// The Open Inference Protocol's `{"error": "…"}`.
    Protocol,
}

impl Family {
    /// The family that a path belongs to, whether or not anything answers there.
    pub(crate) fn of(path: &str) -> Self {
        match path.strip_prefix("/v2") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Protocol,
            _ => Self::Problem,
        }
    }
}

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    /// What the client is told.
    detail: String,
    /// What the log is told besides.
    cause: Option<String>,
    /// Seconds after which another try may succeed.
    retry_after: Option<u16>,
    /// The methods of a path.
    allow: Option<Box<str>>,
    /// The limit that a function ran into.
    limit: Option<Exceeded>,
    /// Whether it only says that something is not ready, which was the question.
    is_not_ready: bool,
    /// Where a guest trapped, the innermost function first; for the function's owner alone.
    trace: Vec<String>,
}

/// Whom an error is written for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audience {
    /// How its part of the API writes errors.
    pub(crate) family: Family,
    /// The request that failed.
    pub(crate) invocation: Invocation,
    /// Whether it is the owner of what was called, who may see the inside of it.
    pub(crate) owner: bool,
    /// The trace that the request is part of, if it is of one.
    pub(crate) trace: Option<TraceId>,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl ToString) -> Self {
        Self {
            code,
            detail: detail.to_string(),
            cause: None,
            retry_after: None,
            allow: None,
            limit: None,
            is_not_ready: false,
            trace: Vec::new(),
        }
    }

    /// A fault of the server: the log has the cause, the client the invocation's id.
    pub(crate) fn internal(cause: impl ToString) -> Self {
        Self::new(Code::Internal, "the server failed").caused_by(cause)
    }

    /// What could not be kept, and whether the client may try again: what stands in the way is the
    /// operator's to mend.
    pub(crate) fn storage(failure: &StorageFailure) -> Self {
        let refuse = |code, detail| Self::new(code, detail).caused_by(failure);
        match failure.fault() {
            StorageFault::Full => {
                refuse(Code::StorageFull, "the server's disk is full").retry_after(STORAGE_PAUSE)
            }
            StorageFault::ReadOnly => {
                refuse(Code::StorageReadOnly, "the server's disk takes no writes")
                    .retry_after(STORAGE_PAUSE)
            }
            StorageFault::Other => Self::internal(failure),
        }
    }

    fn caused_by(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// What the client is told.
    pub(crate) fn into_detail(self) -> String {
        self.detail
    }

    /// The same as the answer to whether something is ready, to which the protocol's "no" is a
    /// status of 4xx: that a later try may succeed is no fault of the server there.
    pub(crate) fn not_ready(mut self) -> Self {
        self.is_not_ready = true;
        self
    }

    /// The status of an answer that says so, whatever protocol it is in.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code.status() {
            status if self.is_not_ready && status == StatusCode::SERVICE_UNAVAILABLE => {
                StatusCode::BAD_REQUEST
            }
            status => status,
        }
    }

    /// Writes the cause to the log, and tells the client where to find it.
    fn log(&mut self, invocation: Invocation) {
        let Some(cause) = self.cause.take() else { return };
        let code = self.code.as_str();
        match self.code {
            Code::Internal => tracing::error!(%invocation, code, cause, "request failed"),
            _ => tracing::warn!(%invocation, code, cause, "request failed"),
        }
        let hint = format!("; the server's log has the cause of invocation {invocation}");
        self.detail.push_str(&hint);
    }

    /// The answer; writes the cause to the log.
    pub(crate) fn into_reply(mut self, audience: Audience) -> Reply {
        let Audience { family, invocation, owner, trace: trace_id } = audience;
        self.log(invocation);
        let status = self.status();
        let Self { code, detail, retry_after, allow, limit, trace, .. } = self;
        let (kind, mut reply) = match family {
            Family::Problem => {
                let problem = Problem {
                    kind: "about:blank",
                    title: status.canonical_reason().unwrap_or_default(),
                    status: status.as_u16(),
                    detail,
                    code,
                    invocation: invocation.id(),
                    trace_id,
                    limit: limit.map(Into::into),
                    trace: if owner { trace } else { Vec::new() },
                };
                ("application/problem+json", body::json(&problem))
            }
            Family::Protocol => ("application/json", body::json(&json!({"error": detail}))),
        };
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(ERROR, HeaderValue::from_static(code.as_str()));
        if code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"quern\""));
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = allow.and_then(|methods| methods.parse().ok()) {
            headers.insert(ALLOW, methods);
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http_body_util::BodyExt;
    use quern_deploy::{
        AccessChangeError, ComponentError, DeployError, StageError, TenantLimitsError, TokenError,
        TrafficError,
    };
    use quern_jobs::{ChangeError, EnqueueError, ScheduleError, Scope};
    use quern_types::{
        BodyError, ByteSize, CallState, Class, CredentialError, DataType, DeviceError, DeviceId,
        Engine, FunctionManifest, GuestFault, InvokeError, Mismatch, ModelError, Name, Period,
        Role, Side, TenantId, TensorError, TokenId, VersionNumber, Violation,
    };

    use super::*;
    use crate::{
        access::AccessError,
        body::ReadError,
        functions::ForwardError,
        grpc::{CallError, MessageError},
        limiter::LimitError,
        multipart::MultipartError,
        route::{Route, RouteError},
        shared_memory::{KeyError, PlacementError, RegionError},
        v2::{
            ClassError, Coding, CodingError, DecodeError, EncodeError, HeaderError, OutputError,
            RawError, SettingError,
        },
    };

    fn name() -> Name {
        "a".parse().expect("a name")
    }

    fn reason() -> String {
        "/secret/path".into()
    }

    fn mismatch(side: Side) -> Mismatch {
        Mismatch { side, name: "x".into(), violation: Violation::Missing }
    }

    fn routed(method: &str, path: &str) -> Failure {
        Route::of(&method.parse().expect("a method"), path).expect_err(path).into()
    }

    fn manifest_error() -> DeployError {
        FunctionManifest::parse("").expect_err("empty").into()
    }

    /// Every error, and the code that it becomes.
    fn failures() -> Vec<(Code, Failure)> {
        let (name, limit, version) = (name(), ByteSize(1), VersionNumber::FIRST);
        let class = Class::Model;
        let key = || "k".parse().expect("a key");
        let time = std::time::Duration::from_secs(1);
        let engine = Engine::Tract;
        let deploy = |error: DeployError| Failure::from(error);
        let component = |error: ComponentError| Failure::from(DeployError::from(error));
        let stage = |error: StageError| {
            Failure::from(MultipartError::Stage(Box::new(DeployError::from(error))))
        };
        let invoke = |error: InvokeError| Failure::from(error);
        let exceeded = |limit| invoke(InvokeError::Limit(limit));
        let model = |error: ModelError| Failure::from(InvokeError::from(error));
        let on_device = |error| model(ModelError::Device { name: name.clone(), error });
        let decoded = DecodeError::Field { field: "id".into(), problem: "no".into() }.into();
        let tensor = || TensorError::Strings { name: "x".into(), elements: 1 };
        let (x, dtype) = (|| "x".to_owned(), DataType::Fp16);
        let absent = || DeviceError::EngineAbsent { engine, reason: "make ort".into() };
        let id: TokenId = "0123456789abcdef".parse().expect("a token's id");
        let token = |error: TokenError| Failure::from(AccessChangeError::from(error));
        let call = Invocation::new().id();
        let kept_from = |fault| StorageFailure::new(fault, reason());
        let lost = || DeviceError::Lost { device: DeviceId::Cpu(0) };
        vec![
            (Code::NotFound, routed("GET", "/nothing")),
            (Code::MethodNotAllowed, routed("POST", "/healthz")),
            (Code::InvalidName, routed("GET", "/v1/models/A")),
            (Code::InvalidName, routed("GET", "/f/a%20b")),
            (Code::InvalidName, routed("GET", "/v2/systemsharedmemory/region/%ff/status")),
            (Code::InvalidRequest, routed("GET", "/v2/models/a/versions/x")),
            (Code::InvalidRequest, routed("DELETE", "/v1/tokens/x")),
            (Code::InvalidRequest, routed("GET", "/v1/invocations/x")),
            (Code::InvalidRequest, routed("GET", "/v1/deliveries/x")),
            (Code::NotFound, ChangeError::NotFound { id: call }.into()),
            (
                Code::WrongState,
                ChangeError::State { id: call, state: CallState::Running, needed: CallState::Dead }
                    .into(),
            ),
            (Code::NoResult, Failure::new(Code::NoResult, "not yet")),
            (
                Code::TooManySchedules,
                ScheduleError::TooMany { scope: Scope::Server, limit: 1 }.into(),
            ),
            (
                Code::KeyReused,
                EnqueueError::KeyReused { key: "k".into(), target: "f".into(), id: call }.into(),
            ),
            (Code::Unauthenticated, AccessError::Missing.into()),
            (Code::Unauthenticated, AccessError::Malformed.into()),
            (Code::Unauthenticated, AccessError::from(CredentialError::Unknown).into()),
            (Code::Unauthenticated, AccessError::from(CredentialError::Expired { id }).into()),
            (
                Code::Forbidden,
                AccessError::Role { needed: Role::Admin, token: id, role: Role::Invoker }.into(),
            ),
            (Code::Forbidden, AccessError::Tenant { token: id, own: TenantId::default() }.into()),
            (Code::InvalidRequest, AccessError::TenantHeader.into()),
            (Code::InvalidRequest, AccessError::from("A".parse::<Name>().expect_err("A")).into()),
            (Code::InvalidRequest, AccessChangeError::Note { length: 2, limit: 1 }.into()),
            (
                Code::InvalidRequest,
                AccessChangeError::Lifetime { limit: Period::from_millis(1) }.into(),
            ),
            (Code::Internal, AccessChangeError::Storage { reason: reason().into() }.into()),
            (Code::NotFound, token(TokenError::NotFound { id })),
            (Code::TooManyTokens, token(TokenError::TooMany { limit: 1 })),
            (Code::TooManyTenants, TenantLimitsError::TooMany { limit: 1 }.into()),
            (Code::RateLimited, LimitError::Address { wait: time }.into()),
            (Code::Internal, token(TokenError::Storage { reason: reason().into() })),
            (Code::RequestTooLarge, ReadError::TooLarge { limit }.into()),
            (Code::InvalidRequest, ReadError::Broken { reason: reason() }.into()),
            (Code::RequestTimeout, ReadError::Stalled { after: time }.into()),
            (Code::RequestTimeout, ReadError::Slow { after: time }.into()),
            (Code::Busy, ReadError::NoRoom { total: limit }.into()),
            (Code::InvalidRequest, ForwardError::Host.into()),
            (Code::InvalidRequest, ForwardError::Path { path: "?".into() }.into()),
            (
                Code::InvalidOutput,
                ForwardError::Interim { status: http::StatusCode::CONTINUE }.into(),
            ),
            (Code::InvalidMultipart, MultipartError::Malformed { reason: reason() }.into()),
            (
                Code::InvalidMultipart,
                MultipartError::Unknown { name: "x".into(), text: "manifest", payload: "model" }
                    .into(),
            ),
            (Code::InvalidMultipart, MultipartError::Duplicate { name: "model" }.into()),
            (Code::InvalidMultipart, MultipartError::Missing { name: "model" }.into()),
            (Code::UploadTooLarge, MultipartError::ManifestTooLarge { limit }.into()),
            (Code::InvalidManifest, MultipartError::ManifestNotText.into()),
            (Code::UploadTooLarge, stage(StageError::TooLarge { limit })),
            (Code::InvalidMultipart, stage(StageError::Body { reason: reason() })),
            (Code::Internal, stage(StageError::Storage { reason: reason().into() })),
            (
                Code::StorageFull,
                stage(StageError::Storage { reason: kept_from(StorageFault::Full) }),
            ),
            (
                Code::StorageReadOnly,
                deploy(DeployError::Storage { reason: kept_from(StorageFault::ReadOnly) }),
            ),
            (Code::InvalidJson, decoded),
            (Code::InvalidJson, DecodeError::NotUtf8 { at: 1 }.into()),
            (Code::InvalidOutput, EncodeError::NotText { output: "x".into(), index: 1 }.into()),
            (Code::Unsupported, DecodeError::Unsupported { field: x(), problem: "no" }.into()),
            (Code::InvalidRequest, DecodeError::Binary { index: 0, error: tensor() }.into()),
            (Code::InvalidRequest, HeaderError::Malformed { value: x() }.into()),
            (Code::InvalidRequest, HeaderError::Repeated.into()),
            (Code::InvalidRequest, HeaderError::TooLong { json: 2, body: 1 }.into()),
            (Code::InvalidRequest, RawError::Inputs { inputs: 2 }.into()),
            (Code::InvalidRequest, RawError::Shape { name: x(), shape: vec![] }.into()),
            (
                Code::InvalidRequest,
                RawError::Size { name: x(), dtype, shape: vec![], bytes: 1 }.into(),
            ),
            (Code::NotFound, RouteError::GrpcOnly.into()),
            (Code::Unsupported, CallError::Unknown { path: "/x".into() }.into()),
            (Code::Unsupported, CallError::Unsupported { call: "x", reason: "no" }.into()),
            (Code::DeadlineExceeded, CallError::Late { allowed: time }.into()),
            (Code::ShuttingDown, CallError::Closing.into()),
            (Code::RequestTooLarge, MessageError::Read(ReadError::TooLarge { limit }).into()),
            (Code::Unsupported, MessageError::Encoding { encoding: x() }.into()),
            (Code::InvalidRequest, MessageError::Compressed.into()),
            (Code::InvalidRequest, MessageError::Flag { flag: 2 }.into()),
            (Code::InvalidRequest, MessageError::Truncated.into()),
            (Code::InvalidRequest, MessageError::Count { found: "none" }.into()),
            (Code::InvalidRequest, MessageError::Malformed { reason: reason() }.into()),
            (Code::InvalidRequest, RawError::Data(tensor()).into()),
            (Code::Busy, RawError::Read(ReadError::NoRoom { total: limit }).into()),
            (Code::InvalidRequest, CodingError::Unknown { encoding: x() }.into()),
            (Code::InvalidRequest, CodingError::NotHere { encoding: x() }.into()),
            (
                Code::InvalidRequest,
                CodingError::Broken { coding: Coding::Gzip, reason: x() }.into(),
            ),
            (Code::RequestTooLarge, CodingError::Read(ReadError::TooLarge { limit }).into()),
            (Code::Busy, CodingError::Read(ReadError::NoRoom { total: limit }).into()),
            (Code::SignatureMismatch, OutputError::Name(mismatch(Side::Output)).into()),
            (Code::InvalidRequest, OutputError::NoJson { name: x(), dtype }.into()),
            (
                Code::InvalidRequest,
                OutputError::Classes(ClassError::NoOrder { name: x(), dtype }).into(),
            ),
            (
                Code::InvalidRequest,
                OutputError::Classes(ClassError::TooLong { name: x(), most: limit }).into(),
            ),
            (Code::Internal, OutputError::Classes(ClassError::Tensor(tensor())).into()),
            (Code::InvalidJson, SettingError::Malformed { reason: x() }.into()),
            (Code::Unsupported, SettingError::Unknown { name: x(), known: x() }.into()),
            (Code::Unsupported, SettingError::Fixed { name: x(), value: json!(1) }.into()),
            (Code::NotFound, RegionError::NotFound { region: x() }.into()),
            (Code::Unsupported, RegionError::NotAllowed.into()),
            (Code::Unsupported, RegionError::Cuda.into()),
            (Code::Unsupported, RegionError::Prefix { key: x(), prefix: x() }.into()),
            (Code::NameTaken, RegionError::Exists { region: x() }.into()),
            (Code::Busy, RegionError::Full { most: 1 }.into()),
            (Code::InvalidRequest, RegionError::Name { bytes: 0 }.into()),
            (Code::InvalidRequest, RegionError::Key { key: x(), error: KeyError }.into()),
            (Code::InvalidRequest, RegionError::Object { key: x(), reason: x() }.into()),
            (Code::InvalidRequest, RegionError::Size { byte_size: 0, most: 1 }.into()),
            (
                Code::InvalidRequest,
                RegionError::Beyond { key: x(), offset: 1, byte_size: 1, size: 1 }.into(),
            ),
            (
                Code::InvalidRequest,
                RegionError::Outside { region: x(), offset: 1, byte_size: 1, size: 1 }.into(),
            ),
            (Code::InvalidRequest, RegionError::Shrunk { region: x() }.into()),
            (Code::InvalidRequest, RegionError::System { region: x(), reason: x() }.into()),
            (Code::Busy, RegionError::Read(ReadError::NoRoom { total: limit }).into()),
            (
                Code::NotFound,
                PlacementError::Region {
                    tensor: x(),
                    error: RegionError::NotFound { region: x() },
                }
                .into(),
            ),
            (Code::InvalidRequest, PlacementError::Data { tensor: x(), error: tensor() }.into()),
            (
                Code::InvalidRequest,
                OutputError::Place(PlacementError::Small { output: x(), bytes: 2, byte_size: 1 })
                    .into(),
            ),
            (Code::InvalidManifest, deploy(manifest_error())),
            (
                Code::InvalidManifest,
                deploy(DeployError::NameMismatch { path: name.clone(), manifest: name.clone() }),
            ),
            (Code::NotAComponent, component(ComponentError::NotAComponent { reason: reason() })),
            (Code::InvalidComponent, component(ComponentError::Invalid { reason: reason() })),
            (
                Code::InvalidComponent,
                component(ComponentError::MissingExport { export: "x", kind: "http" }),
            ),
            (Code::InvalidComponent, component(ComponentError::Compile { reason: reason() })),
            (Code::UnknownImport, component(ComponentError::UnknownImport { import: reason() })),
            (
                Code::MissingGrant,
                component(ComponentError::MissingGrant { import: reason(), grant: "models" }),
            ),
            (Code::Internal, component(ComponentError::Artifact { reason: reason().into() })),
            (Code::InvalidModel, deploy(DeployError::Model { reason: reason() })),
            (Code::InvalidModel, deploy(DeviceError::Load { engine, reason: reason() }.into())),
            (Code::InvalidModel, deploy(DeviceError::Run { engine, reason: reason() }.into())),
            (Code::EngineAbsent, deploy(absent().into())),
            (Code::DeviceLost, deploy(lost().into())),
            (Code::NameTaken, deploy(DeployError::NameTaken { name: name.clone(), by: class })),
            (Code::NotFound, deploy(DeployError::NotFound { class, name: name.clone() })),
            (
                Code::NotFound,
                deploy(DeployError::VersionNotFound { class, name: name.clone(), version }),
            ),
            (
                Code::NoPreviousVersion,
                deploy(DeployError::NoPreviousVersion { class, name: name.clone(), live: version }),
            ),
            (Code::Busy, deploy(DeployError::Busy { limit: 1 })),
            (Code::TrafficConflict, TrafficError::Split { class, name: name.clone() }.into()),
            (Code::Internal, deploy(DeployError::Storage { reason: reason().into() })),
            (Code::NotFound, invoke(InvokeError::NotFound { name: name.clone() })),
            (Code::NotFound, invoke(InvokeError::VersionNotFound { name: name.clone(), version })),
            (
                Code::NotFound,
                invoke(InvokeError::AliasNotFound { name: name.clone(), alias: name.clone() }),
            ),
            (
                Code::WrongKind,
                invoke(InvokeError::WrongKind {
                    name: name.clone(),
                    actual: "http",
                    expected: "inference",
                }),
            ),
            (Code::Busy, invoke(InvokeError::Busy { scope: "function", limit: 1 })),
            (Code::Busy, invoke(InvokeError::MemoryFull { scope: "server", limit })),
            (Code::SecretsLocked, invoke(InvokeError::SecretsLocked { name: name.clone() })),
            (
                Code::SettingTaken,
                quern_deploy::SettingError::IsSecret { function: name.clone(), key: key() }.into(),
            ),
            (
                Code::TooManySettings,
                quern_deploy::SettingError::TooManySecrets { function: name.clone(), limit: 1 }
                    .into(),
            ),
            (Code::InvalidName, routed("PUT", "/v1/functions/f/secrets/%20")),
            (Code::ShuttingDown, invoke(InvokeError::ShuttingDown)),
            (
                Code::RequestTimeout,
                invoke(InvokeError::RequestBody(BodyError::Stalled(Period(time)))),
            ),
            (
                Code::RequestTooLarge,
                invoke(InvokeError::RequestBody(BodyError::TooLarge { limit })),
            ),
            (
                Code::InvalidRequest,
                invoke(InvokeError::RequestBody(BodyError::Broken("reset".into()))),
            ),
            (
                Code::InvalidRequest,
                invoke(InvokeError::RequestBody(BodyError::Function("no".into()))),
            ),
            (Code::SignatureMismatch, invoke(mismatch(Side::Input).into())),
            (Code::InvalidOutput, invoke(mismatch(Side::Output).into())),
            (Code::InvalidOutput, invoke(InvokeError::InvalidOutput { reason: "x".into() })),
            (Code::RequestTooLarge, exceeded(Exceeded::Request(limit))),
            (Code::ResponseTooLarge, exceeded(Exceeded::Response(limit))),
            (Code::HostCallTooLarge, exceeded(Exceeded::HostCall(limit))),
            (Code::OutOfMemory, exceeded(Exceeded::Memory(limit))),
            (Code::TooManyTableElements, exceeded(Exceeded::Tables(1))),
            (Code::TooManyInstances, exceeded(Exceeded::Instances(1))),
            (Code::TooManyHandles, exceeded(Exceeded::Handles(1))),
            (Code::Timeout, exceeded(Exceeded::Timeout(Period(time)))),
            (Code::CpuTimeExceeded, exceeded(Exceeded::Cpu(Period(time)))),
            (
                Code::Trap,
                invoke(InvokeError::Trap {
                    reason: "unreachable".into(),
                    trace: vec!["/secret/path".into()],
                }),
            ),
            (Code::NoResponse, invoke(InvokeError::NoResponse)),
            (
                Code::GuestRejectedInput,
                invoke(InvokeError::Guest { fault: GuestFault::Input, message: "no".into() }),
            ),
            (
                Code::Busy,
                invoke(InvokeError::Guest { fault: GuestFault::Overload, message: "no".into() }),
            ),
            (
                Code::DeadlineExceeded,
                invoke(InvokeError::Guest { fault: GuestFault::Time, message: "no".into() }),
            ),
            (
                Code::GuestError,
                invoke(InvokeError::Guest { fault: GuestFault::Internal, message: "no".into() }),
            ),
            (
                Code::Unavailable,
                invoke(InvokeError::Unavailable { name: name.clone(), reason: reason() }),
            ),
            (Code::NotFound, model(ModelError::NotFound { name: name.clone() })),
            (Code::NotFound, model(ModelError::NotShared { name: name.clone().into() })),
            (Code::NotFound, model(ModelError::VersionNotFound { name: name.clone(), version })),
            (Code::NotLoaded, model(ModelError::Unloaded { name: name.clone() })),
            (
                Code::SignatureMismatch,
                model(ModelError::Signature {
                    name: name.clone(),
                    mismatch: mismatch(Side::Input),
                }),
            ),
            (
                Code::InvalidOutput,
                model(ModelError::Signature {
                    name: name.clone(),
                    mismatch: mismatch(Side::Output),
                }),
            ),
            (
                Code::SignatureMismatch,
                model(ModelError::Rows { name: name.clone(), reason: "none".into() }),
            ),
            (Code::Busy, model(ModelError::QueueFull { name: name.clone(), waiting: 1 })),
            (Code::Busy, model(ModelError::QueueMemory { name: name.clone(), limit })),
            (
                Code::TooLate,
                model(ModelError::TooLate { name: name.clone(), allowed: time, needed: time }),
            ),
            (
                Code::DeadlineExceeded,
                model(ModelError::DeadlineExceeded { name: name.clone(), allowed: time }),
            ),
            (Code::EngineAbsent, on_device(absent())),
            (Code::Unavailable, on_device(DeviceError::Load { engine, reason: reason() })),
            (Code::DeviceError, on_device(DeviceError::Run { engine, reason: reason() })),
            (Code::DeviceLost, on_device(lost())),
            (
                Code::Unavailable,
                model(ModelError::Unavailable { name: name.clone(), reason: reason() }),
            ),
            (Code::Internal, Failure::internal(reason())),
            (Code::InvalidRequest, routed("GET", "/v1/batches/x")),
        ]
        .into_iter()
        .chain(sources::batch_failures())
        .chain(sources::webhook_failures())
        .collect()
    }

    #[test]
    fn every_error_has_its_code_and_every_code_an_error() {
        let mut seen = HashSet::new();
        for (expected, failure) in failures() {
            assert_eq!(failure.code, expected, "{}", failure.detail);
            assert!(!failure.detail.is_empty());
            seen.insert(expected);
        }
        for code in Code::ALL {
            assert!(seen.contains(code), "nothing becomes {code:?}");
        }
    }

    #[tokio::test]
    async fn both_families_say_the_same_in_their_own_way() {
        let invocation = Invocation::new();
        for (family, kind) in
            [(Family::Problem, "application/problem+json"), (Family::Protocol, "application/json")]
        {
            let failure = Failure::from(InvokeError::Busy { scope: "function", limit: 2 });
            let reply =
                failure.into_reply(Audience { family, invocation, owner: true, trace: None });
            assert_eq!(reply.status(), 429);
            assert_eq!(reply.headers()["quern-error"], "busy");
            assert_eq!(reply.headers()["retry-after"], "1");
            assert_eq!(reply.headers()["content-type"], kind);
            let body = reply.into_body().collect().await.expect("in memory").to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let detail =
                "2 requests are running already, the limit of the function: try again later";
            let expected = match family {
                Family::Problem => json!({
                    "type": "about:blank",
                    "title": "Too Many Requests",
                    "status": 429,
                    "detail": detail,
                    "code": "busy",
                    "invocation": invocation.to_string(),
                }),
                Family::Protocol => json!({"error": detail}),
            };
            assert_eq!(body, expected);
        }
        let trace = quern_types::TraceId::new(7);
        let audience = Audience { family: Family::Problem, invocation, owner: true, trace };
        let reply = routed("POST", "/healthz").into_reply(audience);
        assert_eq!(reply.headers()["allow"], "GET, HEAD");
        let problem: serde_json::Value = serde_json::from_str(&text_of(reply).await).expect("JSON");
        assert_eq!(problem["trace_id"], "00000000000000000000000000000007");
    }

    #[tokio::test]
    async fn faults_of_the_server_name_the_invocation_and_keep_their_cause() {
        let faults = [
            Code::Internal,
            Code::StorageReadOnly,
            Code::Unavailable,
            Code::DeviceError,
            Code::Trap,
        ];
        for (code, failure) in failures().into_iter().filter(|(code, _)| faults.contains(code)) {
            let invocation = Invocation::new();
            let audience =
                Audience { family: Family::Problem, invocation, owner: false, trace: None };
            let text = text_of(failure.into_reply(audience)).await;
            assert!(!text.contains("secret"), "{text}");
            let detail = serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["detail"]
                .to_string();
            if code != Code::Trap {
                assert!(detail.contains(&invocation.to_string()), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn limits_are_told_to_all_and_traces_to_the_owner() {
        let body = async |error: InvokeError, owner| {
            let invocation = Invocation::new();
            let audience = Audience { family: Family::Problem, invocation, owner, trace: None };
            let text = text_of(Failure::from(error).into_reply(audience)).await;
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
        };
        let limit = InvokeError::Limit(Exceeded::Memory(ByteSize::mib(1)));
        let problem = body(limit, false).await;
        assert_eq!(problem["limit"], json!({"name": "limits.memory", "value": "1.0 MiB"}));
        let trap = InvokeError::Trap { reason: "unreachable".into(), trace: vec!["f".into()] };
        assert_eq!(body(trap.clone(), true).await["trace"], json!(["f"]));
        assert_eq!(body(trap, false).await["trace"], serde_json::Value::Null);
    }

    async fn text_of(reply: Reply) -> String {
        let body = reply.into_body().collect().await.expect("in memory").to_bytes();
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[test]
    fn a_path_belongs_to_one_family() {
        for (path, family) in [
            ("/v2", Family::Protocol),
            ("/v2/nothing", Family::Protocol),
            ("/v2x", Family::Problem),
            ("/v1/models", Family::Problem),
            ("/f/v2/x", Family::Problem),
            ("", Family::Problem),
        ] {
            assert_eq!(Family::of(path), family, "{path}");
        }
    }
}
