//! A queue of calls for each model, in one order or another, from which batches are cut.

use std::collections::BTreeMap;

use quern_scheduler::{CallId, ModelIndex, ServingCall};

/// A queue for each model.
#[derive(Default)]
pub(super) struct Queues {
    models: BTreeMap<ModelIndex, Queue>,
}

/// Calls of one model, by a key of the policy's and by arrival.
#[derive(Default)]
pub(super) struct Queue {
    calls: BTreeMap<(u64, CallId), ServingCall>,
    rows: u64,
}

impl Queues {
    pub(super) fn insert(&mut self, call: ServingCall, key: u64) {
        let queue = self.models.entry(call.model).or_default();
        queue.rows += u64::from(call.rows);
        queue.calls.insert((key, call.call), call);
    }

    /// The queue of a model, if calls wait in it.
    pub(super) fn get(&mut self, model: ModelIndex) -> Option<&mut Queue> {
        self.models.get_mut(&model).filter(|queue| !queue.calls.is_empty())
    }

    /// Models that have calls waiting.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (ModelIndex, &Queue)> {
        let waiting = |(model, queue): (&ModelIndex, _)| (*model, queue);
        self.models.iter().map(waiting).filter(|(_, queue): &(_, &Queue)| !queue.calls.is_empty())
    }
}

impl Queue {
    /// The call that is first.
    pub(super) fn first(&self) -> Option<&ServingCall> {
        self.calls.first_key_value().map(|(_, call)| call)
    }

    /// The key of that call.
    pub(super) fn first_key(&self) -> Option<u64> {
        self.calls.first_key_value().map(|((key, _), _)| *key)
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of the first calls that fit into a batch of so many, without taking them.
    pub(super) fn rows_up_to(&self, most: u32) -> u32 {
        let mut rows = 0_u32;
        for call in self.calls.values() {
            match rows.checked_add(call.rows).filter(|rows| *rows <= most) {
                Some(more) => rows = more,
                None => break,
            }
        }
        rows
    }

    /// Takes the first call.
    pub(super) fn pop(&mut self) -> Option<ServingCall> {
        let (_, call) = self.calls.pop_first()?;
        self.rows -= u64::from(call.rows);
        Some(call)
    }

    /// Takes the first calls, up to so many rows.
    pub(super) fn take(&mut self, most: u32) -> Vec<CallId> {
        let (mut rows, mut taken) = (0_u32, Vec::new());
        while let Some(call) = self.first()
            && let Some(more) = rows.checked_add(call.rows).filter(|more| *more <= most)
        {
            rows = more;
            taken.extend(self.pop().map(|call| call.call));
        }
        taken
    }
}
