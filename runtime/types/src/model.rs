//! Models: what is known of one, how it is called, and what can go wrong.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, Call, DeviceError, DeviceId, Digest, Engine, Mismatch, Name, Period, QualifiedName,
    Replica, Signature, TenantId, Tensor, VersionNumber, WarmUp,
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
    /// Longest that a call waits for others to share its run while a lane is idle; none: it never
    /// does. Without effect on a model whose calls don't share runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<Period>,
    /// How long a call that names no time of its own may take; none: as the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Most of its batches that are computed at the same time; none: as many as the device has
    /// lanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<NonZeroU32>,
    /// What it computes between being loaded and being called; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
    /// What the places of an output's last dimension stand for, by output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

/// Labels by output, in the order of the output's last dimension.
pub type Labels = BTreeMap<Arc<str>, Arc<[String]>>;

impl ModelSpec {
    /// A model whose manifest says nothing of how it is served.
    pub fn new(signature: Signature, engine: Engine, batch: BatchAxis) -> Self {
        Self {
            signature,
            engine,
            batch,
            max_delay: None,
            timeout: None,
            lanes: None,
            warm_up: None,
            labels: Labels::new(),
        }
    }
}

/// Whether the first dimension of every tensor counts independent rows, so that rows of several
/// calls can be computed in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub model: QualifiedName,
    /// The version; none: the one that the model's traffic has for this call.
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
    /// Rows of the batch that the call was part of; of a call in several parts, the rows of the
    /// largest.
    pub batch_rows: u32,
    /// Time in the queue, until its first rows ran.
    pub queued: Duration,
    /// Time of the whole batch on the device; of a call in several parts, of all their batches.
    pub compute: Duration,
}

/// How long runs of a model have taken of late, by their number of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RunTimes {
    /// Most rows of these runs; they have more than half as many.
    pub rows: u32,
    /// How many there were since the model was loaded.
    pub runs: u64,
    /// Their time, in µs, recent ones counting more.
    pub mean_us: u64,
    /// How far from the mean they are, on average, in µs.
    pub deviation_us: u64,
}

/// Calls to models of this node, whoever makes them: inverts the edge from the sandbox to the
/// dispatcher.
pub trait ModelCalls: Send + Sync + 'static {
    /// What is known of the version of a model that calls with the id of this one get.
    fn spec(&self, call: &Call, model: &QualifiedName) -> Result<Arc<ModelSpec>, ModelError>;

    /// Checks the inputs, queues the call, and resolves with its outputs. Dropping the future
    /// cancels the call.
    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>>;
}

/// Takes replicas that a deployment has loaded and warmed up, so that the first call of what it
/// makes live finds them: inverts the edge from the deployment to the dispatcher.
pub trait ReplicaOffers: Send + Sync + 'static {
    /// Offers the replica of a version, named by its digest, to whoever loads it next; until then
    /// it stays loaded for as long as the caller holds it.
    fn offer(&self, tenant: &TenantId, version: Digest, replica: &Arc<dyn Replica>);

    /// Has a version loaded that is live or about to be, from what was offered for it if anything
    /// was.
    fn load(
        &self,
        tenant: &TenantId,
        model: &Name,
        version: VersionNumber,
    ) -> BoxFuture<'static, ()>;
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
    /// Another tenant's: not there, or not shared with whoever asks, who can't tell.
    #[error("model {name:?} is not deployed, or not shared with this tenant")]
    NotShared {
        /// The name asked for.
        name: QualifiedName,
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
    /// The inputs of waiting calls take up as much memory as is allowed.
    #[error("model {name:?} has inputs of {limit} waiting, its limit: try again later")]
    QueueMemory {
        /// The model.
        name: Name,
        /// Bytes that may wait.
        limit: ByteSize,
    },
    /// By the times of recent runs, the deadline would pass before an answer is there.
    #[error(
        "model {name:?} can't answer within {allowed:?}, it would take at least {needed:?}: try \
         again later, or allow more time"
    )]
    TooLate {
        /// The model.
        name: Name,
        /// The time that was allowed.
        allowed: Duration,
        /// From the decision on, by quick runs.
        needed: Duration,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataType, SampleInput, SampleValue, TensorSpec};

    fn spec() -> ModelSpec {
        let tensor =
            TensorSpec { name: "x".into(), dtype: DataType::Fp32, shape: vec![-1], range: None };
        let signature = Signature::new(vec![tensor], vec![]).expect("valid");
        ModelSpec::new(signature, Engine::Tract, BatchAxis::Rows { max: 8 })
    }

    /// If this changes, every model becomes a new version when it is deployed again, and the rows
    /// of older catalogs can't be read.
    #[test]
    fn a_plain_spec_is_stored_as_it_always_was() {
        let stored = concat!(
            r#"{"signature":{"inputs":[{"name":"x","dtype":"FP32","shape":[-1]}],"outputs":[]},"#,
            r#""engine":"tract","batch":{"rows":{"max":8}}}"#
        );
        assert_eq!(serde_json::to_string(&spec()).expect("JSON"), stored);
        assert_eq!(serde_json::from_str::<ModelSpec>(stored).expect("a spec"), spec());
    }

    #[test]
    fn what_a_manifest_says_comes_back_from_the_catalog() {
        let data = vec![SampleValue::Integer(1), SampleValue::Float(0.5)];
        let inputs = vec![SampleInput { name: "x".into(), shape: vec![2], data }];
        let full = ModelSpec {
            timeout: Some(Period::from_millis(1_500)),
            lanes: NonZeroU32::new(1),
            warm_up: Some(WarmUp { runs: 2, inputs }),
            labels: Labels::from([("y".into(), vec!["cat".to_owned(), "dog".to_owned()].into())]),
            ..spec()
        };
        let stored = serde_json::to_string(&full).expect("JSON");
        assert_eq!(serde_json::from_str::<ModelSpec>(&stored).expect(&stored), full);
    }
}
