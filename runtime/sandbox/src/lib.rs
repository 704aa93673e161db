//! Sandboxes: compiles components, keeps their machine code, and runs each request in an instance
//! of its own, within its limits. The only user of wasmtime; it never decides what runs when.

mod allowance;
mod artifact;
mod budget;
mod component;
mod contract;
mod engine;
mod error;
mod function;
mod http;
mod inference;
mod metrics;
mod models;
mod outbound;
mod output;
mod report;
mod sandbox;
mod state;
mod ticker;

pub use component::ComponentError;
pub use error::SandboxError;
pub use function::{Function, HttpFunction, InferenceFunction};
pub use outbound::OutboundConfig;
pub use output::{GuestOutput, OutputStream};
pub use report::{Failure, Report};
pub use sandbox::{Sandbox, SandboxConfig};
