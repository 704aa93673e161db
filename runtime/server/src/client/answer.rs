//! The server's answers as types: the fields that commands show. Others are let through, since
//! `--json` prints an answer as it came.

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

/// An answer, parsed and as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    pub(crate) parsed: T,
    pub(crate) json: Value,
}

/// The answer to a deployment.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) digest: String,
    pub(crate) created: bool,
    pub(crate) live: bool,
    pub(crate) kind: String,
    pub(crate) url: String,
    pub(crate) compile_ms: Option<f64>,
    pub(crate) engine: Option<String>,
}

/// One function or model of a list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) version: u32,
    pub(crate) digest: String,
    pub(crate) created: String,
}

/// One kept version.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedVersion {
    pub(crate) version: u32,
    pub(crate) digest: String,
    pub(crate) created: String,
    pub(crate) live: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VersionList {
    pub(crate) versions: Vec<ListedVersion>,
}

/// A token; its secret is there when it is made.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedToken {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) role: String,
    pub(crate) note: String,
    pub(crate) created: String,
    pub(crate) expires: Option<String>,
    pub(crate) expired: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TokenList {
    pub(crate) tokens: Vec<ListedToken>,
}

/// A token that was just made.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MadeToken {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) secret: String,
}

/// An asynchronous call that was taken in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AcceptedCall {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) repeated: bool,
}

/// An asynchronous call.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedCall {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) target: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    pub(crate) created: String,
    pub(crate) due: Option<String>,
    pub(crate) finished: Option<String>,
    pub(crate) kept_until: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
}

/// A webhook; its secret is there when it is new.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedWebhook {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) created: String,
    pub(crate) previous_until: Option<String>,
    pub(crate) locked: bool,
    pub(crate) secret: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WebhookList {
    pub(crate) webhooks: Vec<ListedWebhook>,
}

/// A message to a webhook.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedDelivery {
    pub(crate) id: String,
    pub(crate) webhook: String,
    pub(crate) invocation: String,
    pub(crate) state: String,
    pub(crate) attempts: u32,
    pub(crate) created: String,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DeliveryList {
    pub(crate) deliveries: Vec<ListedDelivery>,
}

/// A schedule of a list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedSchedule {
    pub(crate) name: String,
    pub(crate) cron: String,
    pub(crate) time_zone: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) next: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ScheduleList {
    pub(crate) schedules: Vec<ListedSchedule>,
}

/// When a schedule calls.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ScheduleTimes {
    pub(crate) next: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CallList {
    pub(crate) invocations: Vec<ListedCall>,
}

/// One change of the audit log.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedChange {
    pub(crate) sequence: u64,
    pub(crate) time: String,
    pub(crate) tenant: String,
    pub(crate) token: Option<String>,
    pub(crate) action: String,
    pub(crate) subject: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AuditLog {
    pub(crate) records: Vec<ListedChange>,
}

/// The answer to a rollback.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RolledBack {
    pub(crate) version: u32,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DeviceList {
    pub(crate) devices: Vec<ListedDevice>,
    #[serde(default)]
    pub(crate) absent: Vec<ListedAbsence>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedAbsence {
    pub(crate) device: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedDevice {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) lanes: u64,
    pub(crate) replicas: u64,
    pub(crate) residents: Vec<ListedResident>,
    pub(crate) tensors: Option<ListedTensors>,
    pub(crate) down: Option<String>,
    pub(crate) engines: Vec<ListedEngine>,
    pub(crate) worker: Option<ListedWorker>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedResident {
    pub(crate) tenant: String,
    pub(crate) model: String,
    pub(crate) version: u32,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedTensors {
    pub(crate) memory_bytes: u64,
    pub(crate) tenant_memory_bytes: u64,
    pub(crate) leased_bytes: u64,
    pub(crate) held_bytes: u64,
    pub(crate) lanes: u64,
    pub(crate) sessions: u64,
    pub(crate) max_sessions: u64,
    pub(crate) waiting: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedWorker {
    pub(crate) process_id: Option<u32>,
    pub(crate) down: Option<String>,
    pub(crate) starts: u64,
    pub(crate) confinement: Vec<ListedMeasure>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedMeasure {
    pub(crate) measure: String,
    pub(crate) by: Option<String>,
    pub(crate) absent: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedEngine {
    pub(crate) engine: String,
    pub(crate) version: Option<String>,
    pub(crate) absent: Option<String>,
}

/// A model's or inference function's metadata in the Open Inference Protocol.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) inputs: Vec<TensorMetadata>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TensorMetadata {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
}

/// The answer to an inference request, with the headers that say who computed it.
#[derive(Debug, Clone)]
pub(crate) struct Inference {
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

/// One line that a function printed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) time: String,
    pub(crate) version: u32,
    pub(crate) invocation: String,
    pub(crate) stream: String,
    pub(crate) level: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) text: String,
}
