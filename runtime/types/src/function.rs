//! What a deployed version of a function may do and must keep to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GpuGrant, HttpGrant, Limits, Name, Period, QualifiedName, Signature};

/// A function's contract with its callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type", content = "signature")]
pub enum FunctionKind {
    /// Serves HTTP through `wasi:http/incoming-handler` 0.2 or `wasi:http/handler` 0.3.
    Http,
    /// Turns tensors into tensors through `quern:ml/inference`.
    Inference(Signature),
}

impl FunctionKind {
    /// The word of the manifest.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Inference(_) => "inference",
        }
    }

    /// The signature of an inference function.
    pub fn signature(&self) -> Option<&Signature> {
        match self {
            Self::Http => None,
            Self::Inference(signature) => Some(signature),
        }
    }
}

/// A version of a function, all but its code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionSpec {
    /// Its contract with callers.
    pub kind: FunctionKind,
    /// What it may use up.
    pub limits: Limits,
    /// What it may reach.
    pub grants: Grants,
    /// What it reads through `wasi:config`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Whether its instances serve more than one request; never, unless the manifest asks for it.
    #[serde(default)]
    pub reuse: Option<Reuse>,
}

impl FunctionSpec {
    /// A function of this kind, with default limits and nothing granted.
    pub fn new(kind: FunctionKind) -> Self {
        Self {
            kind,
            limits: Limits::default(),
            grants: Grants::default(),
            config: BTreeMap::new(),
            reuse: None,
        }
    }
}

/// How long an instance may live that serves one request after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// Requests that one instance serves.
    pub requests: u32,
    /// How long an instance waits for its next request.
    pub idle: Period,
}

impl Reuse {
    /// The longest lives that a manifest can ask for.
    pub const CEILING: Self = Self { requests: 1_000_000, idle: Period::from_millis(3_600_000) };

    /// This, unless a value is zero or above its ceiling; the error names it.
    pub fn checked(self) -> Result<Self, String> {
        if self.requests == 0 || self.requests > Self::CEILING.requests {
            return Err(format!(
                "reuse.requests is {}: write a number from 1 to {}",
                self.requests,
                Self::CEILING.requests
            ));
        }
        if self.idle > Self::CEILING.idle {
            return Err(format!("reuse.idle is above its ceiling of {}", Self::CEILING.idle));
        }
        Ok(self)
    }
}

/// What one function may reach. Nothing is granted by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Models that it may call; those of other tenants as `name@tenant`.
    pub models: Vec<QualifiedName>,
    /// Origins that it may send HTTP requests to.
    pub http: Vec<HttpGrant>,
    /// Buckets of the key-value store that it may open; they belong to the tenant.
    pub keyvalue: Vec<Name>,
    /// What it may have of a device; nothing without it. Versions from before there were such grants
    /// are what they were made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuGrant>,
}
