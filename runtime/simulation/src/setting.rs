//! What is simulated: devices, models, and how long their batches take.

use quern_scheduler::{BatchProfile, DeviceIndex, ModelIndex, TenantIndex};

/// Everything but the load.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The devices.
    pub devices: Vec<DeviceKind>,
    /// The models, in order of their indices.
    pub models: Vec<Model>,
    /// How far a batch's time may be off its profile, in thousandths of it, either way.
    pub noise_milli: u32,
    /// What tenants weigh, in thousandths, where that is not 1,000.
    pub weights: Vec<(TenantIndex, u32)>,
    /// When devices are lost.
    pub outages: Vec<Outage>,
}

/// A time in which a device is lost. It comes back with nothing on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The device.
    pub device: DeviceIndex,
    /// When it is lost, in µs.
    pub from_us: u64,
    /// When it is back, in µs.
    pub until_us: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceKind {
    /// Memory for weights, in bytes.
    pub memory_bytes: u64,
    /// Batches that it computes at the same time, each as if it were alone.
    pub lanes: u16,
    /// What it has at the beginning.
    pub resident: Vec<ModelIndex>,
}

/// A model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it is called in results.
    pub name: String,
    /// Memory that it takes, in bytes.
    pub bytes: u64,
    /// Time to load it onto a device, in µs.
    pub load_us: u64,
    /// Most rows in one batch.
    pub max_rows: u32,
    /// How long batches take.
    pub profile: BatchProfile,
}
