//! What is given back to the queue whatever happens: a lane after its run, and the place of a call
//! whose caller leaves.

use std::{sync::Arc, time::Duration};

use quern_scheduler::{CallId, Event, LaneId};

use super::BatchQueue;

/// A lane in use: given back when this is dropped, also by a panic, so that no lane is ever lost.
pub(super) struct LaneGuard<'a> {
    pub(super) queue: &'a Arc<BatchQueue>,
    pub(super) lane: LaneId,
    pub(super) done: Option<(u32, Duration)>,
}

impl LaneGuard<'_> {
    /// Gives the lane back before its callers are answered, so that the next batch does not wait
    /// for them.
    pub(super) fn free(mut self, rows: u32, compute: Duration) {
        self.done = Some((rows, compute));
    }
}

impl Drop for LaneGuard<'_> {
    fn drop(&mut self) {
        let lane = self.lane;
        let event = match self.done {
            Some((rows, compute)) => {
                let compute_us = u64::try_from(compute.as_micros()).unwrap_or(u64::MAX);
                Event::Completion { lane, rows, compute_us }
            }
            None => Event::LaneFree { lane },
        };
        let jobs = self.queue.decide(self.queue.lock(), event);
        self.queue.set_off(jobs);
    }
}

/// A call that waits for its answer; dropped without one, it is taken out of the queue.
pub(super) struct Ticket<'a> {
    pub(super) queue: &'a Arc<BatchQueue>,
    pub(super) call: CallId,
    pub(super) waits: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.queue.withdraw(self.call);
        }
    }
}
