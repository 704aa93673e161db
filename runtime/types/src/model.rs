//! Models: what is known of one, how it is called, and what can go wrong.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    Call, DeviceError, DeviceId, Engine, Mismatch, Name, Signature, TenantId, Tensor, VersionNumber,
};

/// A version of a model, all but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// What goes in and comes out.
    pub signature: Signature,
    /// The engine that this version was deployed with, and always runs on.
    pub engine: Engine,
    /// Whether calls can share a run.
    pub batch: BatchAxis,
}

/// Whether the first dimension of every tensor counts independent rows, so that rows of several
/// calls can be computed in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchAxis {
    /// Axis 0 of all inputs and outputs.
    Rows {
        /// Most rows in one run.
        max: u32,
    },
    /// One call, one run.
    None {
        /// Why, for whoever wonders.
        reason: String,
    },
}

/// One call of a model.
#[derive(Debug, Clone)]
pub struct ModelCall {
    /// Who calls, and until when an answer is of use.
    pub call: Call,
    /// The model.
    pub model: Name,
    /// The version; none: the live one.
    pub version: Option<VersionNumber>,
    /// The inputs, in any order; not yet checked.
    pub inputs: Vec<Tensor>,
}

/// The answer to one call.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelReply {
    /// The outputs in the signature's order.
    pub outputs: Vec<Tensor>,
    /// Who computed them.
    pub served: Served,
}

/// What served a call, and how long its parts took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The version that answered.
    pub version: VersionNumber,
    /// The engine that computed.
    pub engine: Engine,
    /// The device it computed on.
    pub device: DeviceId,
    /// Rows of the batch that the call was part of.
    pub batch_rows: u32,
    /// Time in the queue.
    pub queued: Duration,
    /// Time of the whole batch on the device.
    pub compute: Duration,
}

/// Calls to models of this node, whoever makes them: inverts the edge from the sandbox to the
/// dispatcher.
pub trait ModelCalls: Send + Sync + 'static {
    /// What is known of a model's live version.
    fn spec(&self, tenant: &TenantId, model: &Name) -> Result<Arc<ModelSpec>, ModelError>;

    /// Checks the inputs, queues the call, and resolves with its outputs. Dropping the future
    /// cancels the call.
    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>>;
}

/// Why a call to a model has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// No such model.
    #[error("model {name:?} is not deployed")]
    NotFound {
        /// The name asked for.
        name: Name,
    },
    /// No such version of the model.
    #[error("model {name:?} has no version {version}")]
    VersionNotFound {
        /// The model.
        name: Name,
        /// The version asked for.
        version: VersionNumber,
    },
    /// The version was unloaded on request, and is not to be loaded by a call.
    #[error("model {name:?} is unloaded: load it to call it again")]
    Unloaded {
        /// The model.
        name: Name,
    },
    /// The inputs don't fit the signature.
    #[error("model {name:?}: {mismatch}")]
    Signature {
        /// The model.
        name: Name,
        /// What does not fit.
        mismatch: Mismatch,
    },
    /// The inputs disagree about the number of rows, or have none.
    #[error("model {name:?}: {reason}")]
    Rows {
        /// The model.
        name: Name,
        /// What is wrong.
        reason: String,
    },
    /// As many calls as are allowed are waiting already.
    #[error("model {name:?} has {waiting} calls waiting, its limit: try again later")]
    QueueFull {
        /// The model.
        name: Name,
        /// Calls that wait.
        waiting: usize,
    },
    /// The deadline passed before an answer was there.
    #[error("model {name:?} did not answer within {allowed:?}")]
    DeadlineExceeded {
        /// The model.
        name: Name,
        /// The time that was allowed.
        allowed: Duration,
    },
    /// The device could not do it.
    #[error("model {name:?}: {error}")]
    Device {
        /// The model.
        name: Name,
        /// What the device said.
        error: DeviceError,
    },
    /// The stored model can't be read.
    #[error("model {name:?} can't be loaded: {reason}")]
    Unavailable {
        /// The model.
        name: Name,
        /// What failed.
        reason: String,
    },
}
