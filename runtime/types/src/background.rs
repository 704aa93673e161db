//! Calls that are answered at once and carried out later: their states, and the trait that inverts
//! the edge from whoever keeps them to whoever carries them out.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{InvocationId, QualifiedName, TenantId};

/// Where a call is on its way.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// It waits for its turn, for the first time or again.
    Queued,
    /// It is being carried out.
    Running,
    /// It was answered with a status below 400.
    Succeeded,
    /// It was answered with an error that another try would not change.
    Failed,
    /// All its tries failed, or its time was over: a dead letter, which may be replayed.
    Dead,
    /// It was called off while it waited.
    Cancelled,
}

/// Why a text is not a [`CallState`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state {0:?} is not known: choose queued, running, succeeded, failed, dead or cancelled")]
pub struct InvalidCallState(String);

impl CallState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Dead, Self::Cancelled];

    /// The word of the API and of the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to it by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CallState {
    type Err = InvalidCallState;

    fn from_str(text: &str) -> Result<Self, InvalidCallState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| InvalidCallState(text.chars().take(40).collect()))
    }
}

/// By which of its names a call means something: a function that serves HTTP and a model may have the
/// same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallKind {
    /// A function, under `/f`.
    Http,
    /// An inference by a model or a function, under `/v2`.
    Inference,
}

/// Why a text is not a [`CallKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kind {0:?} is not known: choose http or inference")]
pub struct InvalidCallKind(String);

/// What a call calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callee {
    /// How.
    pub kind: CallKind,
    /// Its name, with its owner where that is not the caller.
    pub name: QualifiedName,
}

impl CallKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Http, Self::Inference];

    /// The word of the API and of the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Inference => "inference",
        }
    }
}

impl FromStr for CallKind {
    type Err = InvalidCallKind;

    fn from_str(text: &str) -> Result<Self, InvalidCallKind> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| InvalidCallKind(text.chars().take(40).collect()))
    }
}

/// Carries out requests that were stored, as if they had just come in.
pub trait CarryOut: Send + Sync + 'static {
    /// Carries out a request for a tenant, at a low priority, and answers it always: what goes
    /// wrong is an answer that says so. Of an error that is the server's own, the header
    /// `quern-error` has the code.
    fn carry_out(
        self: Arc<Self>,
        id: InvocationId,
        tenant: TenantId,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Response<Bytes>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_a_word() {
        for state in CallState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("Queued".parse::<CallState>().is_err());
        for kind in CallKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("HTTP".parse::<CallKind>().is_err());
        let ended = CallState::ALL.into_iter().filter(|state| state.is_final()).count();
        assert_eq!(ended, 4);
    }
}
