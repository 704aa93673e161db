//! Decisions as pure state machines: integers in, actions out. Never a clock, never I/O, never a
//! thread, never a hash order: the same events always give the same actions.

mod batcher;
mod event;
mod leases;
mod profile;
#[cfg(test)]
mod properties;
mod serving;
mod waiting;

pub use batcher::Batcher;
pub use event::{Action, Arrival, BatcherConfig, BucketId, CallId, Event, LaneId, Part, Refusal};
pub use leases::{LeaseAction, LeaseEvent, LeaseId, LeaseRefusal, Leased, LeasedDevice, Leases};
pub use profile::{LatencyProfile, Measured};
pub use serving::{
    BatchProfile, DeviceIndex, Fleet, ModelIndex, ProfileError, ServedModel, ServingAction,
    ServingCall, ServingDevice, ServingEvent, Slot, TenantIndex,
};
