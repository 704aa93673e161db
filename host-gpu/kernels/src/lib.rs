//! Device tensors for sandboxed functions, the operators on them, and the device that is always
//! there: the CPU. Never reads a clock, a file or the network, and knows no guest: what comes in is
//! plain data from anywhere, and every bad operator, shape, index or id is an error.
//!
//! The way of an operator: a [`Ledger`] looks up its inputs, its
//! [`Kernel`](quern_operators::Kernel) says what comes out or why it can't, the ledger counts
//! memory and work, and makes a [`Step`], which nothing else can, for the [`Lane`] of a
//! [`Device`]: at once, by a [`Session`], or later, by whoever keeps the ledger. Tensors never
//! change; views share memory with what they were made of. Whatever the device, [`suite`] holds it
//! to the same answers.

mod cpu;
mod device;
mod elements;
mod ledger;
mod loan;
mod session;
pub mod suite;

pub use cpu::{CpuDevice, CpuDeviceError, HostBuffer, alone};
pub use device::{BufferId, Device, GRANULE_BYTES, Lane, Operand, Step};
pub use elements::Elements;
pub use ledger::{Ledger, Lending, Planned, charge};
pub use loan::Loan;
pub use quern_operators::{LaneError, SessionError, SessionLimits, TensorId, Usage};
pub use session::Session;
