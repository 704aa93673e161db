//! An error as RFC 9457 has it, and the schema of what clients can rely on.

use std::borrow::Cow;

use quern_types::{Exceeded, InvocationId, TraceId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::Code;

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: what went wrong is in `code`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// What the status means.
    pub(super) title: &'static str,
    /// The status.
    #[schemars(range(min = 400, max = 599))]
    pub(super) status: u16,
    /// What went wrong, on what, and what to do about it.
    pub(super) detail: String,
    /// What went wrong, in a word that programs can rely on.
    pub(super) code: Code,
    /// Names the request, as in the logs.
    pub(super) invocation: InvocationId,
    /// The trace that the request is part of, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<TraceId>,
    /// The limit that a function ran into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<LimitReached>,
    /// Where a guest trapped, the innermost function first; for the function's owner alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) trace: Vec<String>,
}

/// A limit that a function ran into.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LimitReached {
    /// The limit, as the manifest names it.
    name: String,
    /// Its value, as a manifest would have it.
    value: String,
}

impl From<Exceeded> for LimitReached {
    fn from(limit: Exceeded) -> Self {
        Self { name: format!("limits.{}", limit.name()), value: limit.value() }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let codes: Vec<_> = Self::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({
            "type": "string",
            "enum": codes,
            "description": "What went wrong, in a word that programs can rely on.",
        })
    }
}
