//! What is said of what is deployed, in the form in which it is sent.

use std::num::NonZeroU32;

use quern_types::{
    AbsentDevice, BatchAxis, DeviceDescription, Digest, Engine, FunctionKind, FunctionSpec, Grants,
    Labels, Limits, ModelSpec, Name, Period, RunTimes, Signature, VersionNumber, WarmUp,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::timestamp::Timestamp;

/// What something is that is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A function that serves HTTP.
    Http,
    /// A function of tensors.
    Inference,
    /// A model.
    Model,
}

impl From<&FunctionSpec> for Kind {
    fn from(spec: &FunctionSpec) -> Self {
        match spec.kind {
            FunctionKind::Http => Self::Http,
            FunctionKind::Inference(_) => Self::Inference,
        }
    }
}

impl From<&ModelSpec> for Kind {
    fn from(_: &ModelSpec) -> Self {
        Self::Model
    }
}

/// The functions of a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FunctionList {
    /// By name.
    pub(super) functions: Vec<Summary>,
}

/// The models of a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelList {
    /// By name.
    pub(super) models: Vec<Summary>,
}

/// A function or a model, in short.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Summary {
    /// Its name.
    pub(super) name: Name,
    /// What it is.
    pub(super) kind: Kind,
    /// The live version.
    pub(super) version: VersionNumber,
    /// What the version is made of.
    pub(super) digest: Digest,
    /// When the version was deployed first.
    pub(super) created: Timestamp,
}

/// A function.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FunctionDetails<'a> {
    #[serde(flatten)]
    pub(super) summary: Summary,
    /// What one request may use up.
    pub(super) limits: Limits,
    /// How many requests it runs at the same time; null until it is loaded.
    pub(super) concurrency: Option<u32>,
    /// What it may reach.
    pub(super) grants: &'a Grants,
    /// What goes in and comes out, of an inference function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<&'a Signature>,
}

/// A model.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelDetails<'a> {
    #[serde(flatten)]
    pub(super) summary: Summary,
    #[serde(flatten)]
    pub(super) traits: ModelTraits<'a>,
    /// How long its runs have taken since it was loaded, by their number of rows.
    pub(super) profile: Vec<RunTimes>,
}

/// What is known of a model; what its manifest does not say is left out.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelTraits<'a> {
    /// What it is computed with.
    engine: Engine,
    /// What goes in and comes out.
    signature: &'a Signature,
    /// Whether calls share a run.
    batch: &'a BatchAxis,
    /// Longest wait for others to share a run with while a lane is idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<Period>,
    /// How long a call that names no time of its own may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Period>,
    /// Most of its batches that are computed at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<NonZeroU32>,
    /// What it computes between being loaded and being called.
    #[serde(skip_serializing_if = "Option::is_none")]
    warm_up: Option<&'a WarmUp>,
    /// What the places of an output's last dimension stand for, by output.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a Labels>,
}

impl<'a> From<&'a ModelSpec> for ModelTraits<'a> {
    fn from(spec: &'a ModelSpec) -> Self {
        Self {
            engine: spec.engine,
            signature: &spec.signature,
            batch: &spec.batch,
            max_delay: spec.max_delay,
            timeout: spec.timeout,
            lanes: spec.lanes,
            warm_up: spec.warm_up.as_ref(),
            labels: Some(&spec.labels).filter(|labels| !labels.is_empty()),
        }
    }
}

/// The versions of a function or a model that are kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VersionList {
    /// Of what.
    pub(super) name: Name,
    /// The newest first.
    pub(super) versions: Vec<VersionEntry>,
}

/// A version that is kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VersionEntry {
    /// Its number.
    pub(super) version: VersionNumber,
    /// What it is made of.
    pub(super) digest: Digest,
    /// When it was deployed first.
    pub(super) created: Timestamp,
    /// Whether it is the one that serves.
    pub(super) live: bool,
}

/// What computes: models, and the tensors of functions.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeviceList {
    pub(super) devices: Vec<DeviceDescription>,
    /// Devices that are not there, and why.
    pub(super) absent: Vec<AbsentDevice>,
}
