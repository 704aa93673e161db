//! The CPU as a device in a process of its own, so that whatever an engine does to its process
//! (a crash, a hang, a model that takes it over) costs that process alone. Decides nothing about
//! what runs when.
//!
//! The server's side is [`Worker`]: a device like any other, whose process is started, and started
//! anew when it has ended ([`crate::process`]). The process's side begins in `process`. Between them
//! are sockets for small messages (`protocol`), one for each lane, and shared memory for tensors. The
//! process keeps the engines and the models; it is confined before it sees the first one. The server believes nothing that it says: whatever does not make sense ends
//! it, and what it computed is held against the signature like the outputs of any engine.

mod channel;
mod computer;
mod connection;
mod device;
mod process;
mod protocol;
mod replica;
mod role;
mod unbroken;

pub use device::{Worker, WorkerConfig, WorkerError};
pub(crate) use process::begin;
pub(crate) use protocol::Setup;
