//! Devices, and the engines that compute models on them; never decides what runs when, and never
//! swaps one engine for another.
//!
//! [`merge`] makes one ONNX file of a model whose weights lie in others, [`inspect`] reads its
//! signature, [`trial`] finds out whether calls can share a run, [`Cpu`] is the device that loads
//! and runs it, [`Worker`] the same device in a process of its own, and [`warm_up`] runs it before
//! it is called. [`TensorDevice`] computes what functions ask for with kernels.

mod batch;
mod cpu;
mod engine;
mod external;
mod lanes;
mod metrics;
mod outline;
mod pace;
mod ports;
mod process;
mod refusals;
mod relief;
mod replica;
mod sample;
mod tensors;
mod trial;
mod warm_up;
mod wire;
mod worker;

pub use cpu::{Cpu, CpuConfig, CpuError};
pub use external::{MergeError, external_files, merge};
pub use outline::{BatchCandidate, InspectError, ModelOutline, inspect};
pub use process::{DeviceWorkerError, WorkerProgram, run_device_worker};
pub use refusals::Refusal;
pub use sample::sample;
pub use tensors::{
    Account, Computing, Gpu, LaneStatus, Opening, RemoteConfig, RemoteDevice, RemoteError,
    TensorConfig, TensorDevice, TensorDeviceError, find_gpus,
};
pub use trial::trial;
pub use warm_up::warm_up;
pub use worker::{Worker, WorkerConfig, WorkerError};
