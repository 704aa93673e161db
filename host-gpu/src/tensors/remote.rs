//! Devices for tensors in a process of their own, so that whatever becomes of a driver or a kernel
//! costs the sessions of that device alone. What fits and what it costs in memory is decided in the
//! server: what crosses are steps that are planned, in messages of many, and elements, in shared
//! memory.
//!
//! [`RemoteDevice`] is the server's side: a device whose lanes (`lane`) write what they are asked for
//! into messages, and send them on the link of their number (`link`), of which there is one for each
//! lane of the device. Steps are answered a few messages later; only who reads, finishes or ends
//! waits. The process's side begins in `process`; there, `computer` serves one link, by any device
//! of the kernels. The server believes nothing that it says about time, memory or operators.

mod computer;
mod connection;
mod device;
mod gpus;
mod lane;
mod link;
mod process;
mod protocol;
#[cfg(test)]
mod tests;

pub use device::{RemoteConfig, RemoteDevice, RemoteError};
pub(crate) use gpus::look_for_gpus;
pub use gpus::{Gpu, find_gpus};
pub(crate) use process::begin;
pub use protocol::Computing;
pub(crate) use protocol::Setup;
