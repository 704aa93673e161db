//! Devices: where models are computed. The trait inverts the edge from the dispatcher to whatever
//! computes, in this process or in a worker's.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, ModelSpec, Name, TenantId, Tensor, VersionNumber};

/// A library that executes ONNX models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// ONNX Runtime, loaded from its shared library where that is present.
    OnnxRuntime,
    /// tract: Rust, memory-safe, always present.
    Tract,
}

impl Engine {
    /// The word of manifests, headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::Tract => "tract",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A device as `quern devices` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceDescription {
    /// Its id.
    pub id: DeviceId,
    /// What it is.
    pub name: String,
    /// How many batches it computes at the same time.
    pub lanes: usize,
    /// The engines, with the reason where one is absent.
    pub engines: Vec<EngineStatus>,
    /// Models that are loaded.
    pub replicas: usize,
    /// Which those are, the one that was called last first, and at most [`Self::MOST_RESIDENTS`].
    pub residents: Vec<Resident>,
    /// What it has for the tensors of functions; none: nothing.
    pub tensors: Option<TensorDescription>,
    /// Why it computes no models at the moment, where it does not.
    pub down: Option<String>,
    /// The process that computes models; none: the server's own.
    pub worker: Option<WorkerDescription>,
}

impl DeviceDescription {
    /// Models that are listed of a device.
    pub const MOST_RESIDENTS: usize = 1_000;
}

/// A model on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Resident {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub model: Name,
    /// Its version.
    pub version: VersionNumber,
}

/// What a device has for the tensors of functions, and what is in use of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TensorDescription {
    /// Memory for all sessions together.
    pub memory_bytes: u64,
    /// Memory for the sessions of one tenant.
    pub tenant_memory_bytes: u64,
    /// Memory that the sessions there are may use.
    pub leased_bytes: u64,
    /// Memory that they hold.
    pub held_bytes: u64,
    /// Operators of different sessions that it computes at the same time.
    pub lanes: usize,
    /// Sessions that there are.
    pub sessions: usize,
    /// Sessions that there may be.
    pub max_sessions: usize,
    /// Operators that wait for a lane.
    pub waiting: usize,
}

/// A kind of device that is not there, or one of which nothing can be computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AbsentDevice {
    /// Its id, or of which kind it would be.
    pub device: String,
    /// Why, for programs.
    pub cause: AbsenceCause,
    /// Why, and what to do about it.
    pub reason: String,
}

/// Why there is no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AbsenceCause {
    /// The configuration says so.
    Off,
    /// The driver is not installed, or not where libraries are looked for.
    NoDriver,
    /// The driver is too old.
    OldDriver,
    /// The driver finds none.
    NoDevice,
    /// The server may not use it.
    NotPermitted,
    /// Another process has it, or it is being reset.
    Unavailable,
    /// The driver's parts don't fit together.
    DriverMismatch,
    /// It is too old, or lacks what tensors rely on.
    Unsuitable,
    /// The driver says something else, or nothing at all.
    DriverFailed,
    /// It is there, but can't be taken into use.
    NotStarted,
}

/// A process that computes for the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WorkerDescription {
    /// The system's id of it; none while it is down.
    pub process_id: Option<u32>,
    /// Why it is down, where it is.
    pub down: Option<String>,
    /// How often it has been started.
    pub starts: u64,
    /// What it is kept from, as far as this system can.
    pub confinement: Vec<Confinement>,
}

/// Something that a process is kept from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confinement {
    /// What it is kept from.
    pub measure: String,
    /// By what of the system; none: it is not kept from it.
    pub by: Option<String>,
    /// Why it is not, where it is not.
    pub absent: Option<String>,
}

/// Whether an engine can be used on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EngineStatus {
    /// The engine.
    pub engine: Engine,
    /// Its version, where it is present.
    pub version: Option<String>,
    /// Why it is absent, and what to do about it.
    pub absent: Option<String>,
}

/// A model to be loaded.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// The ONNX file.
    pub onnx: Bytes,
    /// Signature, engine and batch axis.
    pub spec: Arc<ModelSpec>,
}

/// Calls that are computed in one run. A model without a batch axis gets one call per run.
#[derive(Debug)]
pub struct Batch {
    /// For each call its inputs, checked, in the signature's order.
    pub calls: Vec<Vec<Tensor>>,
}

/// What a run produced.
#[derive(Debug)]
pub struct BatchResult {
    /// For each call of the batch, in its order, the outputs in the signature's order.
    pub calls: Vec<Vec<Tensor>>,
    /// Time of the run on the device.
    pub compute: Duration,
    /// When the run was over; taking its outputs apart comes after that.
    pub ended: Instant,
}

/// Something that computes models.
pub trait Device: Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> DeviceId;

    /// What it is and what it has loaded.
    fn describe(&self) -> DeviceDescription;

    /// The engine for models that don't ask for one.
    fn preferred_engine(&self) -> Engine;

    /// Loads a model; the weights stay resident until the replica is dropped.
    fn load(
        &self,
        source: ModelSource,
    ) -> BoxFuture<'static, Result<Arc<dyn Replica>, DeviceError>>;
}

/// A model resident on a device.
pub trait Replica: Send + Sync + 'static {
    /// How many batches it can compute at the same time.
    fn lanes(&self) -> usize;

    /// Computes a batch on one lane, which must be below [`Replica::lanes`] and free.
    fn run(
        &self,
        lane: usize,
        batch: Batch,
    ) -> BoxFuture<'static, Result<BatchResult, DeviceError>>;
}

/// Why a device could not load or compute a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The pinned engine is not on this machine.
    #[error("engine {engine} is not available here: {reason}")]
    EngineAbsent {
        /// The engine.
        engine: Engine,
        /// Why, and what to do.
        reason: String,
    },
    /// The engine refuses the model.
    #[error("{engine} can't load it: {reason}")]
    Load {
        /// The engine.
        engine: Engine,
        /// What it said.
        reason: String,
    },
    /// The engine failed on these inputs.
    #[error("{engine} failed: {reason}")]
    Run {
        /// The engine.
        engine: Engine,
        /// What it said.
        reason: String,
    },
    /// The device went away with the call; another try may succeed.
    #[error("device {device} was lost: try again")]
    Lost {
        /// The device.
        device: DeviceId,
    },
}
