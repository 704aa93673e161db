//! Serving of many models on many devices: what is told to whoever decides, and what they answer.
//! Whatever decides by these events can be run live as well as simulated.

mod demand;
mod devices;
mod event;
mod fleet;
mod queue;
mod residency;
mod shares;
mod times;

pub use event::{
    DeviceIndex, ModelIndex, ServedModel, ServingAction, ServingCall, ServingDevice, ServingEvent,
    Slot, TenantIndex,
};
pub use fleet::Fleet;
pub use times::{BatchProfile, ProfileError};
