//! Replicas on fixed devices, each with a queue in the order of arrival, as the replication
//! baseline of AlpaServe: a call goes to the device that is free first of those that have its
//! model, and is refused if it would be late there. One call at a time.
//!
//! After Li et al., 'AlpaServe: Statistical Multiplexing with Model Parallelism for Deep Learning
//! Serving', OSDI 2023, section 4.

use std::collections::{BTreeMap, VecDeque};

use quern_scheduler::{DeviceIndex, Refusal, ServingAction, ServingCall, ServingEvent};

use super::floor::Floor;
use crate::Policy;

/// Queues at devices.
#[derive(Default)]
pub(crate) struct Replicated {
    floor: Floor,
    devices: BTreeMap<DeviceIndex, Backlog>,
}

#[derive(Default)]
struct Backlog {
    calls: VecDeque<ServingCall>,
    /// When all of them are done.
    free_us: u64,
}

impl Replicated {
    fn arrive(&mut self, call: ServingCall, now_us: u64) -> Option<ServingAction> {
        let compute_us = self.floor.profile(call.model).latency_us(call.rows);
        let free_us = |device: &DeviceIndex| {
            let backlog = self.devices.get(device);
            (backlog.map_or(0, |backlog| backlog.free_us).max(now_us), *device)
        };
        let soonest = self.floor.places(call.model).iter().map(free_us).min();
        let late = |end_us: u64| ServingAction::Reject {
            call: call.call,
            reason: Refusal::TooLate { needed_us: end_us - now_us },
        };
        let Some((free_us, device)) = soonest else { return Some(late(now_us + compute_us)) };
        let end_us = free_us + compute_us;
        if end_us > call.deadline_us {
            return Some(late(end_us));
        }
        let backlog = self.devices.entry(device).or_default();
        backlog.free_us = end_us;
        backlog.calls.push_back(call);
        self.run(device)
    }

    fn run(&mut self, device: DeviceIndex) -> Option<ServingAction> {
        let slot = self.floor.idle_on(device)?;
        let call = self.devices.get_mut(&device)?.calls.pop_front()?;
        self.floor.occupy(slot);
        Some(ServingAction::Dispatch { slot, model: call.model, calls: vec![call.call] })
    }
}

impl Policy for Replicated {
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        let freed = self.floor.observe(&event);
        let action = match (event, freed) {
            (ServingEvent::Arrival(call), _) => self.arrive(call, now_us),
            (_, Some(slot)) => self.run(slot.device),
            _ => None,
        };
        action.into_iter().collect()
    }

    fn next_tick_us(&self) -> Option<u64> {
        None
    }
}
