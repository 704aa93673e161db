//! Devices, and the engines that compute models on them; never decides what runs when, and never
//! swaps one engine for another.
//!
//! [`inspect`] reads a model's signature from its ONNX file, [`trial`] finds out whether calls can
//! share a run, and [`Cpu`] is the device that loads and runs it.

mod batch;
mod cpu;
mod engine;
mod lanes;
mod metrics;
mod outline;
mod pace;
mod ports;
mod replica;
mod trial;
mod wire;

pub use cpu::{Cpu, CpuConfig, CpuError};
pub use outline::{BatchCandidate, InspectError, ModelOutline, inspect};
pub use trial::trial;
