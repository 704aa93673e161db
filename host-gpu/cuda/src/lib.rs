//! NVIDIA's GPUs as devices for tensors, found when the program runs: it builds without any of
//! NVIDIA's libraries, and where one is missing says so. Never computes on the processor instead,
//! and never trusts that the device answers: what hangs or breaks is an error, after which the
//! process should be replaced, as no call of the driver can be relied on any more.
//!
//! [`probe`] says what there is, [`CudaDevice::open`] takes one. The kernels are CUDA C in
//! `kernels/`, compiled ahead of time; [`source`] has their sources, and compiles them.

mod cublaslt;
mod device;
mod driver;
mod gemm;
mod images;
mod lane;
mod launch;
mod memory;
mod modules;
mod plain;
mod probe;
mod progress;
pub mod source;
mod staging;

pub use device::{CudaDevice, CudaDeviceError, CudaOptions};
pub use gemm::Gemm;
pub use plain::PlainCopies;
pub use probe::{Absence, Found, probe};
