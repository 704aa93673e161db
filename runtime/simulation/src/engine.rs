//! The virtual machine room: carries out what a policy decides, in virtual time, and stops where a
//! decision can't be carried out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use quern_scheduler::{
    CallId, DeviceIndex, ModelIndex, ServedModel, ServingAction, ServingCall, ServingDevice,
    ServingEvent, Slot, TenantIndex,
};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::{Ended, Fate, Outcome, Policy, Request, Setting};

/// A decision that can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The lane computes, or there is none.
    #[error("{slot:?} is not free")]
    Busy {
        /// The lane.
        slot: Slot,
    },
    /// The model is not there.
    #[error("{model:?} is not on {device:?}")]
    NotResident {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
    },
    /// The model is there already, or on its way.
    #[error("{model:?} is on {device:?} already")]
    AlreadyThere {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
    },
    /// The model computes there.
    #[error("{model:?} computes on {device:?}")]
    InUse {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
    },
    /// The device's memory does not suffice.
    #[error("{device:?} has {left_bytes} bytes left for {model:?}")]
    Memory {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
        /// What it has left.
        left_bytes: u64,
    },
    /// The call does not wait, or is of another model.
    #[error("{call:?} does not wait for this")]
    NotWaiting {
        /// The call.
        call: CallId,
    },
    /// The batch has no call, or more rows than its model takes.
    #[error("a batch of {rows} rows for {model:?}")]
    Rows {
        /// The model.
        model: ModelIndex,
        /// The rows.
        rows: u64,
    },
}

/// Runs a policy over a load, which is in the order of time, until all calls have ended or nothing
/// more happens.
///
/// # Errors
///
/// If the policy decides what can't be carried out.
pub fn simulate(
    setting: &Setting,
    load: &[Request],
    policy: &mut dyn Policy,
    seed: u64,
) -> Result<Outcome, Violation> {
    let mut room = Room::new(setting, load, seed);
    for (event, now_us) in room.beginning() {
        room.carry_out(policy.step(event, now_us))?;
    }
    while let Some(event) = room.next(policy.next_tick_us()) {
        room.carry_out(policy.step(event, room.now_us))?;
    }
    Ok(room.outcome)
}

/// What is going on at a moment.
struct Room<'a> {
    setting: &'a Setting,
    load: &'a [Request],
    arrived: usize,
    now_us: u64,
    devices: Vec<Device>,
    /// What will happen: when, in which order, and what.
    coming: BinaryHeap<Reverse<(u64, u64, Coming)>>,
    counted: u64,
    outcome: Outcome,
    waiting: usize,
    random: Xoshiro256PlusPlus,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Down(DeviceIndex),
    Up(DeviceIndex),
    Completion { slot: Slot, compute_us: u64, losses: u64 },
    Loaded { model: ModelIndex, device: DeviceIndex, load_us: u64, losses: u64 },
}

struct Device {
    left_bytes: u64,
    resident: BTreeSet<ModelIndex>,
    loading: BTreeSet<ModelIndex>,
    /// What each lane computes.
    running: BTreeMap<u16, (ModelIndex, Vec<CallId>)>,
    lanes: u16,
    is_down: bool,
    /// How often it was lost: what began before that never ends.
    losses: u64,
}

impl<'a> Room<'a> {
    fn new(setting: &'a Setting, load: &'a [Request], seed: u64) -> Self {
        let devices = setting.devices.iter().map(|kind| {
            let bytes = kind.resident.iter().map(|model| setting.model(*model).bytes);
            let used = bytes.fold(0, u64::saturating_add);
            Device {
                left_bytes: kind.memory_bytes.saturating_sub(used),
                resident: kind.resident.iter().copied().collect(),
                loading: BTreeSet::new(),
                running: BTreeMap::new(),
                lanes: kind.lanes,
                is_down: false,
                losses: 0,
            }
        });
        let ended = |request: &Request| Ended {
            at_us: request.at_us,
            deadline_us: request.at_us.saturating_add(request.slo_us),
            model: request.model,
            tenant: request.tenant,
            fate: Fate::Left,
        };
        let mut room = Self {
            setting,
            load,
            arrived: 0,
            now_us: 0,
            devices: devices.collect(),
            coming: BinaryHeap::new(),
            counted: 0,
            outcome: Outcome {
                calls: load.iter().map(ended).collect(),
                busy_us: 0,
                end_us: 0,
                batches: 0,
                loads: 0,
            },
            waiting: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        };
        for outage in &setting.outages {
            room.come(outage.from_us, Coming::Down(outage.device));
            room.come(outage.until_us.max(outage.from_us), Coming::Up(outage.device));
        }
        room
    }

    /// What a policy is told before the first call.
    fn beginning(&self) -> Vec<(ServingEvent, u64)> {
        let deployed = self.setting.models.iter().zip(0..).map(|(model, index)| {
            ServingEvent::Deploy(ServedModel {
                model: ModelIndex(index),
                bytes: model.bytes,
                load_us: model.load_us,
                max_rows: model.max_rows,
                profile: model.profile.clone(),
            })
        });
        let up = self.setting.devices.iter().zip(0..).map(|(kind, index)| {
            ServingEvent::DeviceUp(ServingDevice {
                device: DeviceIndex(index),
                memory_bytes: kind.memory_bytes,
                lanes: kind.lanes,
                resident: kind.resident.clone(),
            })
        });
        let weigh = |(tenant, weight_milli): &(TenantIndex, u32)| ServingEvent::Weigh {
            tenant: *tenant,
            weight_milli: *weight_milli,
        };
        let weights = self.setting.weights.iter().map(weigh);
        deployed.chain(up).chain(weights).map(|event| (event, 0)).collect()
    }

    /// Moves on to what happens next: what ends comes before what arrives at the same time, and
    /// that before a tick. None: nothing more will happen.
    fn next(&mut self, tick_us: Option<u64>) -> Option<ServingEvent> {
        let ends_us = self.coming.peek().map(|Reverse((at_us, ..))| *at_us);
        let arrives_us = self.load.get(self.arrived).map(|request| request.at_us);
        let tick_us =
            tick_us.filter(|_| self.waiting > 0 || arrives_us.is_some() || ends_us.is_some());
        let moment = |at: Option<u64>, order: u8| at.map(|at_us| (at_us.max(self.now_us), order));
        let (at_us, order) = [moment(ends_us, 0), moment(arrives_us, 1), moment(tick_us, 2)]
            .into_iter()
            .flatten()
            .min()?;
        self.now_us = at_us;
        match order {
            0 => {
                let Reverse((_, _, coming)) = self.coming.pop()?;
                // What a lost device was at never ends: on to what does.
                self.end(coming).or_else(|| self.next(tick_us))
            }
            1 => Some(self.arrive()),
            _ => Some(ServingEvent::Tick),
        }
    }

    fn arrive(&mut self) -> ServingEvent {
        let (request, call) = (self.load[self.arrived], CallId(self.arrived as u64));
        self.arrived += 1;
        self.waiting += 1;
        self.outcome.end_us = self.now_us;
        ServingEvent::Arrival(ServingCall {
            call,
            model: request.model,
            tenant: request.tenant,
            rows: request.rows,
            priority: request.priority,
            deadline_us: request.at_us.saturating_add(request.slo_us),
        })
    }

    fn end(&mut self, coming: Coming) -> Option<ServingEvent> {
        match coming {
            Coming::Down(index) => self.lose(index),
            Coming::Up(index) => self.find(index),
            Coming::Completion { slot, compute_us, losses } => {
                let device = self.device(slot.device).filter(|device| device.losses == losses)?;
                let (_, calls) = device.running.remove(&slot.lane)?;
                self.outcome.busy_us += compute_us;
                self.outcome.end_us = self.now_us;
                for call in calls {
                    self.outcome.calls[call.0 as usize].fate = Fate::Served { end_us: self.now_us };
                }
                Some(ServingEvent::Completion { slot, compute_us })
            }
            Coming::Loaded { model, device, load_us, losses } => {
                let there = self.device(device).filter(|device| device.losses == losses)?;
                there.loading.remove(&model);
                there.resident.insert(model);
                Some(ServingEvent::Loaded { model, device, load_us })
            }
        }
    }

    /// A device is lost: what ran there waits again.
    fn lose(&mut self, index: DeviceIndex) -> Option<ServingEvent> {
        let device = self.device(index).filter(|device| !device.is_down)?;
        device.is_down = true;
        device.losses += 1;
        device.resident.clear();
        device.loading.clear();
        let running = std::mem::take(&mut device.running);
        for call in running.into_values().flat_map(|(_, calls)| calls) {
            self.outcome.calls[call.0 as usize].fate = Fate::Left;
            self.waiting += 1;
        }
        Some(ServingEvent::DeviceDown(index))
    }

    /// A lost device is back.
    fn find(&mut self, index: DeviceIndex) -> Option<ServingEvent> {
        let kind = self.setting.devices.get(index.0 as usize)?;
        let device = self.device(index).filter(|device| device.is_down)?;
        device.is_down = false;
        device.left_bytes = kind.memory_bytes;
        Some(ServingEvent::DeviceUp(ServingDevice {
            device: index,
            memory_bytes: kind.memory_bytes,
            lanes: kind.lanes,
            resident: Vec::new(),
        }))
    }

    fn carry_out(&mut self, actions: Vec<ServingAction>) -> Result<(), Violation> {
        for action in actions {
            match action {
                ServingAction::Dispatch { slot, model, calls } => {
                    self.dispatch(slot, model, calls)?
                }
                ServingAction::Load { model, device } => self.load(model, device)?,
                ServingAction::Evict { model, device } => self.evict(model, device)?,
                ServingAction::Reject { call, reason } => {
                    self.take(call, None)?;
                    let fate = Fate::Refused { at_us: self.now_us, reason };
                    self.outcome.calls[call.0 as usize].fate = fate;
                }
            }
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        slot: Slot,
        model: ModelIndex,
        calls: Vec<CallId>,
    ) -> Result<(), Violation> {
        let device = self.present(slot.device).ok_or(Violation::Busy { slot })?;
        if slot.lane >= device.lanes || device.running.contains_key(&slot.lane) {
            return Err(Violation::Busy { slot });
        }
        if !device.resident.contains(&model) {
            return Err(Violation::NotResident { model, device: slot.device });
        }
        let mut rows = 0;
        for call in &calls {
            rows += u64::from(self.take(*call, Some(model))?);
        }
        let spec = self.setting.model(model);
        let Some(size) = u32::try_from(rows).ok().filter(|rows| (1..=spec.max_rows).contains(rows))
        else {
            return Err(Violation::Rows { model, rows });
        };
        let compute_us = self.varied(spec.profile.latency_us(size));
        self.outcome.batches += 1;
        let device = &mut self.devices[slot.device.0 as usize];
        device.running.insert(slot.lane, (model, calls));
        let losses = device.losses;
        self.come(compute_us, Coming::Completion { slot, compute_us, losses });
        Ok(())
    }

    fn load(&mut self, model: ModelIndex, device: DeviceIndex) -> Result<(), Violation> {
        let (bytes, load_us) = (self.setting.model(model).bytes, self.setting.model(model).load_us);
        let there = self.present(device).ok_or(Violation::NotResident { model, device })?;
        if there.resident.contains(&model) || !there.loading.insert(model) {
            return Err(Violation::AlreadyThere { model, device });
        }
        let left_bytes = there.left_bytes;
        there.left_bytes =
            left_bytes.checked_sub(bytes).ok_or(Violation::Memory { model, device, left_bytes })?;
        let losses = there.losses;
        self.outcome.loads += 1;
        self.come(load_us, Coming::Loaded { model, device, load_us, losses });
        Ok(())
    }

    fn evict(&mut self, model: ModelIndex, device: DeviceIndex) -> Result<(), Violation> {
        let bytes = self.setting.model(model).bytes;
        let there = self.present(device).ok_or(Violation::NotResident { model, device })?;
        if there.running.values().any(|(running, _)| *running == model) {
            return Err(Violation::InUse { model, device });
        }
        if !there.resident.remove(&model) {
            return Err(Violation::NotResident { model, device });
        }
        there.left_bytes += bytes;
        Ok(())
    }

    /// Takes a call out of those that wait, and gives its rows.
    fn take(&mut self, call: CallId, model: Option<ModelIndex>) -> Result<u32, Violation> {
        let place = usize::try_from(call.0).unwrap_or(usize::MAX);
        let request = self.load.get(..self.arrived).and_then(|came| came.get(place));
        let request = request.ok_or(Violation::NotWaiting { call })?;
        let ended = &mut self.outcome.calls[place];
        if ended.fate != Fate::Left || model.is_some_and(|model| model != request.model) {
            return Err(Violation::NotWaiting { call });
        }
        // Until the batch is done: so that nobody takes it again.
        ended.fate = Fate::Served { end_us: u64::MAX };
        self.waiting -= 1;
        Ok(request.rows)
    }

    fn device(&mut self, device: DeviceIndex) -> Option<&mut Device> {
        self.devices.get_mut(device.0 as usize)
    }

    /// A device that is there to be used.
    fn present(&mut self, device: DeviceIndex) -> Option<&mut Device> {
        self.device(device).filter(|device| !device.is_down)
    }

    fn come(&mut self, after_us: u64, coming: Coming) {
        self.counted += 1;
        let at_us = self.now_us.saturating_add(after_us);
        self.coming.push(Reverse((at_us, self.counted, coming)));
    }

    /// The time with the setting's noise.
    fn varied(&mut self, us: u64) -> u64 {
        let noise = i64::from(self.setting.noise_milli);
        if noise == 0 {
            return us;
        }
        let milli = 1_000 + self.random.random_range(-noise..=noise);
        us.saturating_mul(u64::try_from(milli).unwrap_or(0)).div_ceil(1_000).max(1)
    }
}

impl Setting {
    /// A model by its index.
    ///
    /// # Panics
    ///
    /// If there is none: indices come from the setting itself.
    pub fn model(&self, model: ModelIndex) -> &crate::Model {
        &self.models[model.0 as usize]
    }
}
