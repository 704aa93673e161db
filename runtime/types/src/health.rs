//! What is wrong with a server that nevertheless serves. Nothing is found out here.

use schemars::JsonSchema;
use serde::Serialize;

/// Something that somebody should look at. What it says is shown to anybody who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Concern {
    /// A word for it, one of few.
    pub code: &'static str,
    /// What is wrong, without names of what is deployed.
    pub detail: String,
}

/// A part of the server that knows whether something is wrong with it: inverts the edge from the
/// parts to whoever tells.
pub trait HealthSource: Send + Sync + 'static {
    /// The words of all concerns that it can have.
    fn codes(&self) -> &'static [&'static str];

    /// What is wrong at this moment. May look at the disk for a moment, but waits for nothing.
    fn concerns(&self) -> Vec<Concern>;
}
