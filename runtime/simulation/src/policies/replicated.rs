//! Replicas on fixed devices, each with a queue in the order of arrival, as the replication
//! baseline of AlpaServe: a call goes to the device that is free first of those that have its
//! model, and is refused if it would be late there. One call at a time.
//!
//! After Li et al., 'AlpaServe: Statistical Multiplexing with Model Parallelism for Deep Learning
//! Serving', OSDI 2023, section 4.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

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
    /// When each lane that computes is thought to be done.
    running: BTreeMap<u16, u64>,
}

impl Replicated {
    fn arrive(&mut self, call: ServingCall, now_us: u64) -> Option<ServingAction> {
        let compute_us = self.floor.profile(call.model).latency_us(call.rows);
        let begin = |device: &DeviceIndex| (self.begin_us(*device, now_us), *device);
        let soonest = self.floor.places(call.model).iter().map(begin).min();
        let late = |end_us: u64| ServingAction::Reject {
            call: call.call,
            reason: Refusal::TooLate { needed_us: end_us - now_us },
        };
        let Some((begin_us, device)) = soonest else {
            return Some(late(now_us.saturating_add(compute_us)));
        };
        let end_us = begin_us.saturating_add(compute_us);
        if end_us > call.deadline_us {
            return Some(late(end_us));
        }
        self.devices.entry(device).or_default().calls.push_back(call);
        self.run(device, now_us)
    }

    /// When one more call could begin on a device, if all takes what it usually does.
    fn begin_us(&self, device: DeviceIndex, now_us: u64) -> u64 {
        let Some(backlog) = self.devices.get(&device) else { return now_us };
        let free =
            |lane: u16| backlog.running.get(&lane).map_or(now_us, |end_us| *end_us.max(&now_us));
        let mut lanes: BinaryHeap<_> =
            (0..self.floor.lanes(device)).map(|lane| Reverse(free(lane))).collect();
        for call in &backlog.calls {
            let Some(mut first) = lanes.peek_mut() else { break };
            let compute_us = self.floor.profile(call.model).latency_us(call.rows);
            first.0 = first.0.saturating_add(compute_us);
        }
        lanes.peek().map_or(u64::MAX, |first| first.0)
    }

    fn run(&mut self, device: DeviceIndex, now_us: u64) -> Option<ServingAction> {
        let slot = self.floor.idle_on(device)?;
        let backlog = self.devices.get_mut(&device)?;
        let call = backlog.calls.pop_front()?;
        let compute_us = self.floor.profile(call.model).latency_us(call.rows);
        backlog.running.insert(slot.lane, now_us.saturating_add(compute_us));
        self.floor.occupy(slot);
        Some(ServingAction::Dispatch { slot, model: call.model, calls: vec![call.call] })
    }
}

impl Policy for Replicated {
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        let freed = self.floor.observe(&event);
        let action = match (event, freed) {
            (ServingEvent::Arrival(call), _) => self.arrive(call, now_us),
            (_, Some(slot)) => {
                if let Some(backlog) = self.devices.get_mut(&slot.device) {
                    backlog.running.remove(&slot.lane);
                }
                self.run(slot.device, now_us)
            }
            _ => None,
        };
        action.into_iter().collect()
    }

    fn next_tick_us(&self) -> Option<u64> {
        None
    }
}
