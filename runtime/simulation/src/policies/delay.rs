//! Batching by delay, as Triton's dynamic batcher does it: a model's calls wait for a full batch,
//! but the first of them no longer than a delay. No deadline counts.

use quern_scheduler::{ModelIndex, ServingAction, ServingEvent, Slot};

use super::{floor::Floor, queues::Queues};
use crate::Policy;

/// Waits for full batches.
pub(crate) struct Delay {
    delay_us: u64,
    floor: Floor,
    /// By the end of the wait.
    queues: Queues,
}

impl Delay {
    pub(crate) fn new(delay_us: u64) -> Self {
        Self { delay_us, floor: Floor::default(), queues: Queues::default() }
    }

    fn dispatch(&mut self, now_us: u64) -> Vec<ServingAction> {
        let mut actions = Vec::new();
        while let Some((model, slot)) = self.ready(now_us)
            && let Some(queue) = self.queues.get(model)
        {
            let calls = queue.take(self.floor.max_rows(model));
            self.floor.occupy(slot);
            actions.push(ServingAction::Dispatch { slot, model, calls });
        }
        actions
    }

    /// The model that may go and has waited longest, of those that have an idle lane.
    fn ready(&self, now_us: u64) -> Option<(ModelIndex, Slot)> {
        let ready = self.queues.waiting().filter_map(|(model, queue)| {
            let first = queue.first()?;
            let ends_us = queue.first_key()?;
            let is_ready = ends_us <= now_us || queue.rows() >= self.floor.max_rows(model).into();
            let slot = self.floor.idle_for(model).filter(|_| is_ready)?;
            Some((first.call, model, slot))
        });
        ready.min_by_key(|(call, ..)| *call).map(|(_, model, slot)| (model, slot))
    }
}

impl Policy for Delay {
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        self.floor.observe(&event);
        if let ServingEvent::Arrival(call) = event {
            self.queues.insert(call, now_us.saturating_add(self.delay_us));
        }
        self.dispatch(now_us)
    }

    fn next_tick_us(&self) -> Option<u64> {
        let waits = |(model, queue): (ModelIndex, &super::queues::Queue)| {
            queue.first_key().filter(|_| self.floor.idle_for(model).is_some())
        };
        self.queues.waiting().filter_map(waits).min()
    }
}
