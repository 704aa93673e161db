//! The nouns of Quern and the few traits that invert an edge between crates; never any I/O.
//!
//! Everything here is parsed at the edge: a value of these types is valid by construction.

mod access;
mod background;
mod canary;
mod catalog;
mod clock;
mod deadline;
mod device;
mod difference;
mod digest;
mod function;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gpu_grant;
mod grant;
mod health;
mod id;
mod invocation;
mod keyvalue;
mod limits;
mod log;
mod lookout;
mod manifest;
mod model;
mod model_manifest;
mod name;
mod outcomes;
mod priority;
mod quantity;
mod retry_after;
mod schedule;
mod schema;
mod settings;
mod sharing;
mod signature;
mod storage;
mod tenant_limits;
mod tensor;
mod trace;
mod traffic;
mod warm_up;
mod webhook;

pub use access::{
    Access, Caller, Credential, CredentialError, InvalidRole, InvalidTokenId, Role, SecretHash,
    Token, TokenId,
};
pub use background::{CallKind, CallState, Callee, CarryOut, InvalidCallKind, InvalidCallState};
pub use canary::{Canary, CanaryLimits, CanaryState, InvalidSteps, Step, Steps};
pub use catalog::{Class, Deployed, Routes, TenantRoutes, Version};
pub use clock::{ClockJump, ClockWatch, Hesitation};
pub use deadline::Deadline;
pub use device::{
    AbsenceCause, AbsentDevice, Batch, BatchResult, Confinement, Device, DeviceDescription,
    DeviceError, Engine, EngineStatus, ModelSource, Replica, Resident, TensorDescription,
    WorkerDescription,
};
pub use difference::{Difference, difference};
pub use digest::{Digest, DigestWriter, InvalidDigest};
pub use function::{FunctionKind, FunctionSpec, Grants, Reuse};
pub use gpu_grant::{DeviceShare, GpuGrant};
pub use grant::HttpGrant;
pub use health::{Concern, HealthSource};
pub use id::{DeviceId, DeviceKind, InvocationId, TenantId, VersionNumber};
pub use invocation::{Body, BodyError, Call, GuestFault, InvokeError};
pub use keyvalue::{BucketId, Change, KeyPage, KeyValue, KeyValueError};
pub use limits::{Described, Exceeded, LimitRules, LimitValue, Limits, PartialLimits};
pub use log::{LogLevel, UnknownLevel};
pub use lookout::Lookout;
pub use manifest::{FunctionManifest, ManifestError};
pub use model::{
    BatchAxis, Labels, ModelCall, ModelCalls, ModelError, ModelReply, ModelSpec, ReplicaOffers,
    RunTimes, Served,
};
pub use model_manifest::{InputRange, ModelManifest, OutputLabels};
pub use name::{InvalidName, Name};
pub use outcomes::{Latencies, OutcomeCounts, TrafficOutcomes};
pub use priority::Priority;
pub use quantity::{ByteSize, Period};
pub use retry_after::retry_after;
pub use schedule::{Missed, Overlap, Schedule, ScheduleSpec};
pub use settings::{
    Configured, InvalidSecret, InvalidSettingKey, Redactor, Secret, SecretValue, SettingKey,
    Settings,
};
pub use sharing::{QualifiedName, Sharing};
pub use signature::{Mismatch, Range, Side, Signature, TensorSpec, Violation};
pub use storage::{StorageFailure, StorageFault};
pub use tenant_limits::{InvalidTenantLimit, TenantLimits};
pub use tensor::{ByteStrings, DataType, Tensor, TensorError, byte_strings, element_count};
pub use trace::{
    InvalidSampler, InvalidTraceId, Sampler, Span, SpanId, SpanKind, SpanLink, SpanRecord,
    SpanValue, Spans, TRACEPARENT, TRACESTATE, Trace, TraceContext, TraceId, Tracer,
};
pub use traffic::{
    Choice, InvalidSelector, InvalidSticky, InvalidTraffic, Picked, Routing, Selector, Shadow,
    Share, Shares, Sticky, Traffic, UnknownVersion,
};
pub use warm_up::{SampleInput, SampleValue, WarmUp};
pub use webhook::{
    Courier, DeliveryId, DeliveryState, InvalidDeliveryState, InvalidWebhookUrl, NamedWebhook,
    NotSent, PreviousSecret, Receipt, Webhook, WebhookUrl,
};
