//! Which model is on which device, what its lanes compute, and which of them are idle.

use std::collections::{BTreeMap, BTreeSet};

use crate::{DeviceIndex, ModelIndex, ServingCall, ServingDevice, Slot};

/// All devices, and for each model those that have it and an idle lane.
#[derive(Debug, Clone, Default)]
pub(super) struct Devices {
    devices: BTreeMap<DeviceIndex, Device>,
    idle: BTreeMap<ModelIndex, BTreeSet<DeviceIndex>>,
    places: BTreeMap<ModelIndex, BTreeSet<DeviceIndex>>,
}

/// A device.
#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    pub(super) left_bytes: u64,
    pub(super) lanes: u16,
    pub(super) idle: BTreeSet<u16>,
    pub(super) resident: BTreeSet<ModelIndex>,
    /// The model that is on its way.
    pub(super) loading: Option<ModelIndex>,
    pub(super) running: BTreeMap<u16, Run>,
}

/// A batch that runs.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) model: ModelIndex,
    pub(super) calls: Vec<ServingCall>,
    pub(super) rows: u32,
    /// What it was thought to take, in µs.
    pub(super) expected_us: u64,
}

impl Devices {
    pub(super) fn up(&mut self, device: ServingDevice, used_bytes: u64) {
        let index = device.device;
        self.devices.insert(
            index,
            Device {
                left_bytes: device.memory_bytes.saturating_sub(used_bytes),
                lanes: device.lanes,
                idle: (0..device.lanes).collect(),
                ..Device::default()
            },
        );
        for model in device.resident {
            self.settle(index, model);
        }
    }

    /// A device is gone; what ran there.
    pub(super) fn down(&mut self, index: DeviceIndex) -> Vec<Run> {
        let Some(device) = self.devices.remove(&index) else { return Vec::new() };
        for model in device.resident.iter().chain(&device.loading) {
            forget(&mut self.idle, *model, index);
            forget(&mut self.places, *model, index);
        }
        device.running.into_values().collect()
    }

    /// Lanes of all devices.
    pub(super) fn lanes(&self) -> u64 {
        self.devices.values().map(|device| u64::from(device.lanes)).sum()
    }

    pub(super) fn get(&self, device: DeviceIndex) -> Option<&Device> {
        self.devices.get(&device)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (DeviceIndex, &Device)> {
        self.devices.iter().map(|(index, device)| (*index, device))
    }

    /// The first idle lane of the first device that has the model.
    pub(super) fn idle_for(&self, model: ModelIndex) -> Option<Slot> {
        let device = *self.idle.get(&model)?.first()?;
        let lane = *self.devices.get(&device)?.idle.first()?;
        Some(Slot { device, lane })
    }

    /// Idle lanes of the devices that have the model, as far as two.
    pub(super) fn idle_lanes(&self, model: ModelIndex) -> usize {
        let devices = self.idle.get(&model).into_iter().flatten();
        let lanes = devices.filter_map(|device| self.devices.get(device));
        lanes.flat_map(|device| &device.idle).take(2).count()
    }

    /// Devices that have the model, or will.
    pub(super) fn places(&self, model: ModelIndex) -> impl Iterator<Item = DeviceIndex> + '_ {
        self.places.get(&model).into_iter().flatten().copied()
    }

    pub(super) fn run(&mut self, slot: Slot, run: Run) {
        let Some(device) = self.devices.get_mut(&slot.device) else { return };
        device.idle.remove(&slot.lane);
        device.running.insert(slot.lane, run);
        if device.idle.is_empty() {
            for model in &device.resident {
                forget(&mut self.idle, *model, slot.device);
            }
        }
    }

    /// A lane is free again; what ran there.
    pub(super) fn free(&mut self, slot: Slot) -> Option<Run> {
        let device = self.devices.get_mut(&slot.device)?;
        let run = device.running.remove(&slot.lane)?;
        if device.idle.is_empty() {
            for model in &device.resident {
                self.idle.entry(*model).or_default().insert(slot.device);
            }
        }
        device.idle.insert(slot.lane);
        Some(run)
    }

    /// A model begins to be loaded.
    pub(super) fn load(&mut self, index: DeviceIndex, model: ModelIndex, bytes: u64) {
        let Some(device) = self.devices.get_mut(&index) else { return };
        device.left_bytes = device.left_bytes.saturating_sub(bytes);
        device.loading = Some(model);
        self.places.entry(model).or_default().insert(index);
    }

    /// A model could not be loaded.
    pub(super) fn give_up(&mut self, index: DeviceIndex, model: ModelIndex, bytes: u64) {
        let Some(device) = self.devices.get_mut(&index) else { return };
        if device.loading.take_if(|loading| *loading == model).is_some() {
            device.left_bytes += bytes;
            forget(&mut self.places, model, index);
        }
    }

    /// A model is on a device from now on.
    pub(super) fn settle(&mut self, index: DeviceIndex, model: ModelIndex) {
        let Some(device) = self.devices.get_mut(&index) else { return };
        device.loading.take_if(|loading| *loading == model);
        device.resident.insert(model);
        self.places.entry(model).or_default().insert(index);
        if !device.idle.is_empty() {
            self.idle.entry(model).or_default().insert(index);
        }
    }

    pub(super) fn evict(&mut self, index: DeviceIndex, model: ModelIndex, bytes: u64) {
        let Some(device) = self.devices.get_mut(&index) else { return };
        if device.resident.remove(&model) {
            device.left_bytes += bytes;
            forget(&mut self.idle, model, index);
            forget(&mut self.places, model, index);
        }
    }
}

impl Device {
    /// Whether a batch of the model runs here.
    pub(super) fn runs(&self, model: ModelIndex) -> bool {
        self.running.values().any(|run| run.model == model)
    }
}

fn forget(
    of: &mut BTreeMap<ModelIndex, BTreeSet<DeviceIndex>>,
    model: ModelIndex,
    device: DeviceIndex,
) {
    if let Some(devices) = of.get_mut(&model) {
        devices.remove(&device);
    }
}
