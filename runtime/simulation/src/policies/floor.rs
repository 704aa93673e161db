//! What the policies know of models and devices: profiles, which model is where, which lanes are
//! idle. Decides nothing.

use std::collections::BTreeSet;

use quern_scheduler::{
    BatchProfile, DeviceIndex, ModelIndex, ServedModel, ServingDevice, ServingEvent, Slot,
};

/// Models and devices.
#[derive(Default)]
pub(super) struct Floor {
    models: Vec<Known>,
    devices: Vec<Place>,
}

struct Known {
    max_rows: u32,
    profile: BatchProfile,
    /// Devices that have it and an idle lane.
    idle: BTreeSet<DeviceIndex>,
    /// Devices that have it.
    places: Vec<DeviceIndex>,
}

#[derive(Default)]
struct Place {
    lanes: u16,
    idle: BTreeSet<u16>,
    resident: Vec<ModelIndex>,
}

impl Floor {
    /// Takes in what happened, and says which lane is idle because of it.
    pub(super) fn observe(&mut self, event: &ServingEvent) -> Option<Slot> {
        match event {
            ServingEvent::Deploy(model) => self.deploy(model),
            ServingEvent::DeviceUp(device) => self.device_up(device),
            ServingEvent::Completion { slot, .. } => {
                self.free(*slot);
                return Some(*slot);
            }
            _ => {}
        }
        None
    }

    pub(super) fn max_rows(&self, model: ModelIndex) -> u32 {
        self.models[model.0 as usize].max_rows
    }

    pub(super) fn profile(&self, model: ModelIndex) -> &BatchProfile {
        &self.models[model.0 as usize].profile
    }

    /// The first idle lane of the first device that has the model.
    pub(super) fn idle_for(&self, model: ModelIndex) -> Option<Slot> {
        let device = *self.models[model.0 as usize].idle.first()?;
        let lane = *self.devices[device.0 as usize].idle.first()?;
        Some(Slot { device, lane })
    }

    /// Devices that have the model.
    pub(super) fn places(&self, model: ModelIndex) -> &[DeviceIndex] {
        &self.models[model.0 as usize].places
    }

    /// Models of a device.
    pub(super) fn models_on(&self, device: DeviceIndex) -> &[ModelIndex] {
        &self.devices[device.0 as usize].resident
    }

    /// How many lanes a device has.
    pub(super) fn lanes(&self, device: DeviceIndex) -> u16 {
        self.devices[device.0 as usize].lanes
    }

    /// The first idle lane of a device.
    pub(super) fn idle_on(&self, device: DeviceIndex) -> Option<Slot> {
        let lane = *self.devices[device.0 as usize].idle.first()?;
        Some(Slot { device, lane })
    }

    /// A batch begins on a lane.
    pub(super) fn occupy(&mut self, slot: Slot) {
        let place = &mut self.devices[slot.device.0 as usize];
        place.idle.remove(&slot.lane);
        if place.idle.is_empty() {
            for model in &place.resident {
                self.models[model.0 as usize].idle.remove(&slot.device);
            }
        }
    }

    fn free(&mut self, slot: Slot) {
        let place = &mut self.devices[slot.device.0 as usize];
        if place.idle.is_empty() {
            for model in &place.resident {
                self.models[model.0 as usize].idle.insert(slot.device);
            }
        }
        place.idle.insert(slot.lane);
    }

    fn deploy(&mut self, model: &ServedModel) {
        debug_assert_eq!(model.model.0 as usize, self.models.len(), "in order");
        self.models.push(Known {
            max_rows: model.max_rows,
            profile: model.profile.clone(),
            idle: BTreeSet::new(),
            places: Vec::new(),
        });
    }

    fn device_up(&mut self, device: &ServingDevice) {
        let index = device.device;
        for model in &device.resident {
            let known = &mut self.models[model.0 as usize];
            known.idle.insert(index);
            known.places.push(index);
        }
        let idle = (0..device.lanes).collect();
        let resident = device.resident.clone();
        self.devices.push(Place { lanes: device.lanes, idle, resident });
    }
}
