//! One request on its way: who makes it, its body, and what can go wrong with it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use crate::{
    ByteSize, Deadline, Exceeded, InvocationId, Mismatch, ModelError, Name, Period, Priority,
    Settings, TenantId, Trace, VersionNumber,
};

/// Who makes a request, until when an answer is of use, and how urgent it is.
#[derive(Debug, Clone)]
pub struct Call {
    /// Names the request in logs and answers.
    pub id: InvocationId,
    /// Who pays.
    pub tenant: TenantId,
    /// When the caller stops waiting.
    pub deadline: Deadline,
    /// How urgent its calls of models are; a function's calls have that of its request.
    pub priority: Priority,
    /// Where it stands in a trace.
    pub trace: Trace,
    /// What is set for the function that is called; none for most, and for calls of models.
    pub settings: Option<Arc<Settings>>,
}

/// The body of an HTTP request or response as it streams through.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("body is larger than its limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The connection or the peer failed.
    #[error("body broke off: {0}")]
    Broken(String),
    /// The peer went silent.
    #[error("body stalled: nothing came for {0}")]
    Stalled(Period),
    /// The function that writes it failed.
    #[error("function failed while it streamed its response: {0}")]
    Function(String),
}

/// Why an invocation of a function has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvokeError {
    /// No such function.
    #[error("function {name:?} is not deployed")]
    NotFound {
        /// The name asked for.
        name: Name,
    },
    /// No such version of the function.
    #[error("function {name:?} has no version {version}")]
    VersionNotFound {
        /// The function.
        name: Name,
        /// The version asked for.
        version: VersionNumber,
    },
    /// No version of that name.
    #[error("{name:?} has no alias {alias:?}")]
    AliasNotFound {
        /// The function or model.
        name: Name,
        /// The alias asked for.
        alias: Name,
    },
    /// It exists, but is called another way.
    #[error("function {name:?} is of kind {actual}, not {expected}")]
    WrongKind {
        /// The function.
        name: Name,
        /// Its kind.
        actual: &'static str,
        /// The kind that this way of calling needs.
        expected: &'static str,
    },
    /// It has a secret that this server can't open, and does not run without it.
    #[error(
        "function {name:?} has a secret that this server can't open: start the server with the key \
         for secrets that it was set with, or remove the secret"
    )]
    SecretsLocked {
        /// The function.
        name: Name,
    },
    /// As many requests as are allowed are running already.
    #[error("{limit} requests are running already, the limit of the {scope}: try again later")]
    Busy {
        /// Whose limit: "function", "function for the lowest priority" or "server".
        scope: &'static str,
        /// The limit.
        limit: u32,
    },
    /// Together with this one, instances would have more memory than they may.
    #[error(
        "instances would have more than {limit} of memory together, the limit of the {scope}: try \
         again later"
    )]
    MemoryFull {
        /// Whose limit: "function" or "server".
        scope: &'static str,
        /// The limit.
        limit: ByteSize,
    },
    /// The server is stopping.
    #[error("the server is shutting down and takes no more requests: try again")]
    ShuttingDown,
    /// The body did not arrive; whatever the function made of what came is of no use.
    #[error("request {0}")]
    RequestBody(BodyError),
    /// The inputs don't fit the signature.
    #[error("{0}")]
    Signature(#[from] Mismatch),
    /// The function's outputs are malformed or don't fit its signature.
    #[error("function gave outputs that don't fit its signature: {reason}")]
    InvalidOutput {
        /// What is wrong with them.
        reason: String,
    },
    /// A limit of the function was hit.
    #[error("{0}")]
    Limit(Exceeded),
    /// A trap: a panic, an unreachable instruction, an access out of bounds, ….
    #[error("function trapped: {reason}")]
    Trap {
        /// What happened.
        reason: String,
        /// Where in the guest: its functions, the innermost first.
        trace: Vec<String>,
    },
    /// It ended without an answer.
    #[error("function returned without a response")]
    NoResponse,
    /// It answered with an error of its own.
    #[error("{message}")]
    Guest {
        /// Whose fault the guest says it is.
        fault: GuestFault,
        /// What it said.
        message: String,
    },
    /// A model that it called failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The stored function can't be made ready.
    #[error("function {name:?} can't be loaded: {reason}")]
    Unavailable {
        /// The function.
        name: Name,
        /// What failed.
        reason: String,
    },
}

/// Whose fault an error returned by a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestFault {
    /// The caller's input.
    Input,
    /// Nobody's: there is too much to do at the moment.
    Overload,
    /// Nobody's: the time was too short.
    Time,
    /// The function's own.
    Internal,
}
