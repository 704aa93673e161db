//! Deadlines from the beginning, as in Clockwork: what can't be in time is dropped, and an idle
//! lane takes the largest batch that is in time of the model whose batch has to begin first.
//!
//! After Gujarati et al., 'Serving DNNs like Clockwork', OSDI 2020, section 5.3; models stay where
//! they are.

use quern_scheduler::{ModelIndex, Refusal, ServingAction, ServingEvent, Slot};

use super::{floor::Floor, queues::Queues};
use crate::Policy;

/// Serves by deadline, at once.
#[derive(Default)]
pub(crate) struct Clockwork {
    floor: Floor,
    /// By deadline.
    queues: Queues,
}

impl Clockwork {
    /// Drops what can't be in time any more, and says what the next batch would be: when it has to
    /// begin, and its rows.
    fn candidate(
        &mut self,
        model: ModelIndex,
        now_us: u64,
        actions: &mut Vec<ServingAction>,
    ) -> Option<(u64, u32)> {
        let (profile, most) = (self.floor.profile(model), self.floor.max_rows(model));
        let queue = self.queues.get(model)?;
        loop {
            let first = *queue.first()?;
            let rows = profile.rows_within(most, first.deadline_us.saturating_sub(now_us));
            if rows >= first.rows {
                let rows = queue.rows_up_to(rows);
                return Some((first.deadline_us - profile.latency_us(rows), rows));
            }
            queue.pop();
            let needed_us = profile.latency_us(first.rows);
            actions.push(ServingAction::Reject {
                call: first.call,
                reason: Refusal::TooLate { needed_us },
            });
        }
    }

    fn fill(&mut self, slot: Slot, now_us: u64, actions: &mut Vec<ServingAction>) {
        let models = self.floor.models_on(slot.device).to_vec();
        let mut candidates = Vec::new();
        for model in models {
            if let Some((begin_us, rows)) = self.candidate(model, now_us, actions) {
                candidates.push((begin_us, model, rows));
            }
        }
        if let Some((_, model, rows)) = candidates.into_iter().min() {
            self.dispatch(slot, model, rows, actions);
        }
    }

    fn dispatch(
        &mut self,
        slot: Slot,
        model: ModelIndex,
        rows: u32,
        actions: &mut Vec<ServingAction>,
    ) {
        if let Some(queue) = self.queues.get(model) {
            let calls = queue.take(rows);
            self.floor.occupy(slot);
            actions.push(ServingAction::Dispatch { slot, model, calls });
        }
    }
}

impl Policy for Clockwork {
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        let mut actions = Vec::new();
        let freed = self.floor.observe(&event);
        if let ServingEvent::Arrival(call) = event {
            self.queues.insert(call, call.deadline_us);
            if let Some(slot) = self.floor.idle_for(call.model)
                && let Some((_, rows)) = self.candidate(call.model, now_us, &mut actions)
            {
                self.dispatch(slot, call.model, rows, &mut actions);
            }
        } else if let Some(slot) = freed {
            self.fill(slot, now_us, &mut actions);
        }
        actions
    }

    fn next_tick_us(&self) -> Option<u64> {
        None
    }
}
