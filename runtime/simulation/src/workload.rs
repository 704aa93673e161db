//! The calls that a simulation is to see: when each comes, of which model, and what it needs.

mod arrivals;

pub use arrivals::{Arrivals, merged};

use quern_scheduler::{ModelIndex, TenantIndex};
use quern_types::Priority;

/// A call that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// When, in µs since the beginning.
    pub at_us: u64,
    /// The model.
    pub model: ModelIndex,
    /// Who is charged.
    pub tenant: TenantIndex,
    /// Its rows.
    pub rows: u32,
    /// How urgent it is.
    pub priority: Priority,
    /// Time that it has, in µs.
    pub slo_us: u64,
}
