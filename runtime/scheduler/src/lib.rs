//! Decisions as pure state machines: integers in, actions out. Never a clock, never I/O, never a
//! thread, never a hash order: the same events always give the same actions.

mod batcher;
mod profile;
#[cfg(test)]
mod properties;

pub use batcher::{Action, Arrival, Batcher, BatcherConfig, CallId, Event, LaneId, Refusal};
pub use profile::LatencyProfile;
