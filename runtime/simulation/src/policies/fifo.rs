//! Calls in the order in which they came. A lane that is idle takes the model whose call has
//! waited longest, and what else waits of it up to the model's batch size. No deadline counts.

use quern_scheduler::{ModelIndex, ServingAction, ServingEvent, Slot};

use super::{floor::Floor, queues::Queues};
use crate::Policy;

/// First in, first out.
#[derive(Default)]
pub(crate) struct Fifo {
    floor: Floor,
    queues: Queues,
}

impl Policy for Fifo {
    fn step(&mut self, event: ServingEvent, _now_us: u64) -> Vec<ServingAction> {
        let freed = self.floor.observe(&event);
        let next = match (event, freed) {
            (ServingEvent::Arrival(call), _) => {
                self.queues.insert(call, 0);
                self.floor.idle_for(call.model).map(|slot| (slot, call.model))
            }
            (_, Some(slot)) => self.oldest(slot).map(|model| (slot, model)),
            _ => None,
        };
        next.and_then(|(slot, model)| self.dispatch(slot, model)).into_iter().collect()
    }

    fn next_tick_us(&self) -> Option<u64> {
        None
    }
}

impl Fifo {
    fn oldest(&mut self, slot: Slot) -> Option<ModelIndex> {
        let Self { floor, queues } = self;
        let first = |model: &ModelIndex| Some((queues.get(*model)?.first()?.call, *model));
        floor.models_on(slot.device).iter().filter_map(first).min().map(|(_, model)| model)
    }

    fn dispatch(&mut self, slot: Slot, model: ModelIndex) -> Option<ServingAction> {
        let calls = self.queues.get(model)?.take(self.floor.max_rows(model));
        self.floor.occupy(slot);
        Some(ServingAction::Dispatch { slot, model, calls })
    }
}
