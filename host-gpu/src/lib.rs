//! Devices, and the engines that compute models on them; never decides what runs when, and never
//! swaps one engine for another.
//!
//! [`inspect`] reads a model's signature from its ONNX file, [`trial`] finds out whether calls can
//! share a run, and [`Cpu`] is the device that loads and runs it; [`Worker`] is the same device in a
//! process of its own.

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
mod worker;

pub use cpu::{Cpu, CpuConfig, CpuError};
pub use outline::{BatchCandidate, InspectError, ModelOutline, inspect};
pub use trial::trial;
pub use worker::{DeviceWorkerError, Worker, WorkerConfig, WorkerError, run_device_worker};
