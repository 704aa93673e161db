//! What a deployed version of a function may do and must keep to.

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Name, Period, Signature};

/// A function's contract with its callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type", content = "signature")]
pub enum FunctionKind {
    /// Serves HTTP through `wasi:http/incoming-handler`.
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
}

/// What one function may use up. Every field has a default and a hard ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of one instance.
    pub memory: ByteSize,
    /// Guest processor time per request.
    pub cpu: Period,
    /// Wall time per request, from admission to the last byte of the response.
    pub timeout: Period,
    /// Bytes of one request body.
    pub request: ByteSize,
    /// Requests that run at the same time; more are refused.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(64),
            cpu: Period::from_millis(1_000),
            timeout: Period::from_millis(30_000),
            request: ByteSize::mib(16),
            concurrency: 256,
        }
    }
}

impl Limits {
    /// What no manifest can exceed.
    pub const CEILING: Self = Self {
        memory: ByteSize::mib(1024),
        cpu: Period::from_millis(600_000),
        timeout: Period::from_millis(3_600_000),
        request: ByteSize::mib(1024),
        concurrency: 500,
    };

    /// These limits, unless one is zero or above the ceiling; the error names it.
    pub fn checked(self) -> Result<Self, String> {
        let ceiling = Self::CEILING;
        let checks = [
            ("memory", self.memory.0 as u128, ceiling.memory.0 as u128, ceiling.memory.to_string()),
            ("cpu", self.cpu.0.as_nanos(), ceiling.cpu.0.as_nanos(), ceiling.cpu.to_string()),
            (
                "timeout",
                self.timeout.0.as_nanos(),
                ceiling.timeout.0.as_nanos(),
                ceiling.timeout.to_string(),
            ),
            (
                "request",
                self.request.0 as u128,
                ceiling.request.0 as u128,
                ceiling.request.to_string(),
            ),
            (
                "concurrency",
                self.concurrency.into(),
                ceiling.concurrency.into(),
                ceiling.concurrency.to_string(),
            ),
        ];
        for (name, value, most, shown) in checks {
            if value == 0 {
                return Err(format!("limits.{name} is zero: nothing could run"));
            }
            if value > most {
                return Err(format!("limits.{name} is above this server's ceiling of {shown}"));
            }
        }
        Ok(self)
    }
}

/// What one function may reach. Nothing is granted by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Models that it may call.
    pub models: Vec<Name>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_when_they_break_the_ceiling() {
        assert_eq!(Limits::default().checked(), Ok(Limits::default()));
        assert_eq!(Limits::CEILING.checked(), Ok(Limits::CEILING));
        let limits = Limits { memory: ByteSize::mib(4096), ..Limits::default() };
        assert_eq!(
            limits.checked().expect_err("above the ceiling"),
            "limits.memory is above this server's ceiling of 1.0 GiB"
        );
        let limits = Limits { concurrency: 0, ..Limits::default() };
        assert!(limits.checked().expect_err("zero").contains("limits.concurrency"));
    }
}
