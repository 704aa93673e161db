//! Processes of this program that compute for the server, so that whatever becomes of one costs
//! what it had and nothing else: how they are started and started anew, how they end, and the
//! memory that they share with the server. Never knows what they compute.

mod entry;
mod handle;
mod log;
mod once;
pub(crate) mod region;
mod supervisor;

pub use entry::{DeviceWorkerError, run_device_worker};
pub(crate) use entry::{Opened, Started, Task};
pub(crate) use handle::Process;
pub(crate) use once::ask_once;
pub use supervisor::WorkerProgram;
pub(crate) use supervisor::{Fresh, Launch, Role, State, Supervisor, channels, first, ready};
