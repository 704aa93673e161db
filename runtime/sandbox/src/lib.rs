//! Sandboxes: compiles components, keeps their machine code, and runs each request in an instance
//! of its own, unless its manifest asks for reuse, within its limits. The only user of wasmtime; it
//! never decides what runs when.

mod allowance;
mod artifact;
mod budget;
mod busy;
mod component;
mod contract;
mod engine;
mod error;
mod function;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gpu;
mod held;
mod http;
mod idle;
mod imports;
mod inference;
mod instances;
mod memory;
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
pub use imports::Services;
pub use memory::Owner;
pub use outbound::OutboundConfig;
pub use output::{GuestOutput, OutputStream, Piece};
pub use report::{Failure, Report};
pub use sandbox::{Sandbox, SandboxConfig};
