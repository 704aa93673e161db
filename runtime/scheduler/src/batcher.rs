//! Which calls of one model replica run together, on which lane, and when. Never waits for a
//! bigger batch while a lane is idle, never reorders calls, never dispatches one that has expired.

use std::collections::{BTreeMap, BTreeSet};

use crate::LatencyProfile;

/// What one replica can do, and how much may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Batches that it computes at the same time.
    pub lanes: u16,
    /// Most rows in one batch; 1 when the model has no batch axis.
    pub max_rows: u32,
    /// Most calls that wait; one more is refused.
    pub max_waiting: u32,
}

/// Names a call. The caller hands them out in increasing order: the order of ids is the order of
/// arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a lane of the replica, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A call came in.
    Arrival {
        /// Its id, above all earlier ones.
        call: CallId,
        /// Its rows.
        rows: u32,
        /// From this moment on nobody wants its answer.
        deadline_us: u64,
    },
    /// A lane can take a batch: after the model was loaded, or after a run that failed and so
    /// measured nothing.
    LaneFree {
        /// The lane.
        lane: LaneId,
    },
    /// A batch is done, and its lane is free.
    Completion {
        /// The lane.
        lane: LaneId,
        /// Rows of the batch.
        rows: u32,
        /// Time that it took on the device.
        compute_us: u64,
    },
    /// Nobody wants the answer any more. Without effect on a call that does not wait.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// Time passed; see [`Batcher::next_tick_us`].
    Tick,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run these calls together.
    Dispatch {
        /// On this lane, which is busy from now on.
        lane: LaneId,
        /// The calls in the order of their arrival; never none.
        calls: Vec<CallId>,
    },
    /// Answer that it won't run.
    Reject {
        /// The call.
        call: CallId,
        /// Why.
        reason: Refusal,
    },
}

/// Why a call won't run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many calls as are allowed wait already.
    QueueFull,
    /// Its deadline has passed.
    Expired,
}

/// The batch queue of one model replica.
///
/// Between two steps, calls wait only while every lane is busy. Every operation is logarithmic in
/// the number of waiting calls, and a call that no longer waits leaves nothing behind.
#[derive(Debug, Clone)]
pub struct Batcher {
    config: BatcherConfig,
    idle: BTreeSet<LaneId>,
    waiting: BTreeMap<CallId, Waiting>,
    /// The waiting calls again, by deadline.
    deadlines: BTreeSet<(u64, CallId)>,
    profile: LatencyProfile,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    rows: u32,
    deadline_us: u64,
}

impl Batcher {
    /// A batcher without calls, all of whose lanes are busy.
    pub fn new(config: BatcherConfig) -> Self {
        Self {
            config,
            idle: BTreeSet::new(),
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            profile: LatencyProfile::default(),
        }
    }

    /// Takes in an event and says what to do, in this order. Calls that have expired by `now_us`
    /// are refused first, whatever the event.
    #[must_use = "calls whose actions are dropped never get an answer"]
    pub fn step(&mut self, event: Event, now_us: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        // A cancelled call is not refused as well, even if it has just expired.
        if let Event::Cancel { call } = event {
            self.remove(call);
        }
        self.refuse_expired(now_us, &mut actions);
        match event {
            Event::Arrival { call, rows, deadline_us } => {
                self.arrive(call, Waiting { rows, deadline_us }, now_us, &mut actions);
            }
            Event::LaneFree { lane } => self.free(lane),
            Event::Completion { lane, rows, compute_us } => {
                self.profile.record(rows, compute_us);
                self.free(lane);
            }
            Event::Cancel { .. } | Event::Tick => {}
        }
        self.dispatch_waiting(&mut actions);
        actions
    }

    /// The earliest deadline of a waiting call: the moment for a [`Event::Tick`], unless another
    /// event comes before.
    pub fn next_tick_us(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_us, _)| *deadline_us)
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How long batches have taken so far.
    pub fn profile(&self) -> &LatencyProfile {
        &self.profile
    }

    fn arrive(&mut self, call: CallId, new: Waiting, now_us: u64, actions: &mut Vec<Action>) {
        debug_assert!(self.waiting.last_key_value().is_none_or(|(last, _)| *last < call));
        if new.deadline_us <= now_us {
            actions.push(Action::Reject { call, reason: Refusal::Expired });
        } else if let Some(lane) = self.idle.pop_first() {
            // A lane is idle only while nothing waits: no call is overtaken.
            actions.push(Action::Dispatch { lane, calls: vec![call] });
        } else if self.waiting.len() >= self.config.max_waiting as usize {
            actions.push(Action::Reject { call, reason: Refusal::QueueFull });
        } else {
            self.deadlines.insert((new.deadline_us, call));
            self.waiting.insert(call, new);
        }
    }

    fn free(&mut self, lane: LaneId) {
        debug_assert!(lane.0 < self.config.lanes, "{lane:?} of {}", self.config.lanes);
        if lane.0 < self.config.lanes {
            self.idle.insert(lane);
        }
    }

    fn remove(&mut self, call: CallId) {
        if let Some(Waiting { deadline_us, .. }) = self.waiting.remove(&call) {
            self.deadlines.remove(&(deadline_us, call));
        }
    }

    fn refuse_expired(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        while let Some((deadline_us, call)) = self.deadlines.first().copied()
            && deadline_us <= now_us
        {
            self.remove(call);
            actions.push(Action::Reject { call, reason: Refusal::Expired });
        }
    }

    fn dispatch_waiting(&mut self, actions: &mut Vec<Action>) {
        while !self.waiting.is_empty()
            && let Some(lane) = self.idle.pop_first()
        {
            let calls = self.take_batch();
            actions.push(Action::Dispatch { lane, calls });
        }
    }

    /// Takes calls from the front as long as they fit. The first always does: a call above
    /// `max_rows` is a batch that its client made, and goes alone.
    fn take_batch(&mut self) -> Vec<CallId> {
        let most = self.config.max_rows.min(self.waiting.len().try_into().unwrap_or(u32::MAX));
        let mut calls = Vec::with_capacity(most as usize);
        let mut rows = 0u32;
        while let Some(entry) = self.waiting.first_entry() {
            let (call, next) = (*entry.key(), *entry.get());
            // A call without rows takes a place too: without a batch axis it runs alone.
            let total = rows.saturating_add(next.rows.max(1));
            if !calls.is_empty() && total > self.config.max_rows {
                break;
            }
            rows = total;
            entry.remove();
            self.deadlines.remove(&(next.deadline_us, call));
            calls.push(call);
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: u64 = 1_000_000;

    fn batcher(lanes: u16, max_rows: u32, max_waiting: u32) -> Batcher {
        Batcher::new(BatcherConfig { lanes, max_rows, max_waiting })
    }

    fn arrival(call: u64, rows: u32, deadline_us: u64) -> Event {
        Event::Arrival { call: CallId(call), rows, deadline_us }
    }

    fn free(lane: u16) -> Event {
        Event::LaneFree { lane: LaneId(lane) }
    }

    fn done(lane: u16) -> Event {
        Event::Completion { lane: LaneId(lane), rows: 1, compute_us: 50 }
    }

    fn dispatch(lane: u16, calls: &[u64]) -> Action {
        Action::Dispatch { lane: LaneId(lane), calls: calls.iter().copied().map(CallId).collect() }
    }

    fn reject(call: u64, reason: Refusal) -> Action {
        Action::Reject { call: CallId(call), reason }
    }

    /// Feeds events at their times, and compares what each leads to.
    fn check(mut batcher: Batcher, story: &[(u64, Event, &[Action])]) {
        for (index, (now_us, event, expected)) in story.iter().enumerate() {
            let actions = batcher.step(event.clone(), *now_us);
            assert_eq!(actions, *expected, "step {index}, {event:?}");
        }
    }

    #[test]
    fn an_idle_lane_takes_a_call_at_once_the_lowest_first() {
        check(
            batcher(2, 8, 8),
            &[
                (0, free(1), &[]),
                (0, free(0), &[]),
                (1, arrival(1, 1, LATE), &[dispatch(0, &[1])]),
                (2, arrival(2, 1, LATE), &[dispatch(1, &[2])]),
                (3, arrival(3, 1, LATE), &[]),
                (4, done(1), &[dispatch(1, &[3])]),
            ],
        );
    }

    #[test]
    fn calls_wait_for_the_model_to_load() {
        check(
            batcher(1, 8, 8),
            &[
                (0, arrival(1, 1, LATE), &[]),
                (1, arrival(2, 1, LATE), &[]),
                (9, free(0), &[dispatch(0, &[1, 2])]),
            ],
        );
    }

    #[test]
    fn a_free_lane_takes_from_the_front_what_fits() {
        check(
            batcher(1, 8, 8),
            &[
                (0, arrival(1, 5, LATE), &[]),
                (0, arrival(2, 3, LATE), &[]),
                (0, arrival(3, 6, LATE), &[]),
                (0, arrival(4, 3, LATE), &[]),
                (0, arrival(5, 1, LATE), &[]),
                (1, free(0), &[dispatch(0, &[1, 2])]),
                (2, done(0), &[dispatch(0, &[3])]),
                (3, done(0), &[dispatch(0, &[4, 5])]),
            ],
        );
    }

    #[test]
    fn a_clients_own_big_batch_goes_alone() {
        check(
            batcher(1, 4, 8),
            &[
                (0, arrival(1, 1, LATE), &[]),
                (0, arrival(2, 9, LATE), &[]),
                (0, arrival(3, 1, LATE), &[]),
                (1, free(0), &[dispatch(0, &[1])]),
                (2, done(0), &[dispatch(0, &[2])]),
                (3, done(0), &[dispatch(0, &[3])]),
            ],
        );
    }

    #[test]
    fn without_a_batch_axis_each_call_runs_alone() {
        check(
            batcher(1, 1, 8),
            &[
                (0, arrival(1, 0, LATE), &[]),
                (0, arrival(2, 0, LATE), &[]),
                (1, free(0), &[dispatch(0, &[1])]),
                (2, done(0), &[dispatch(0, &[2])]),
            ],
        );
    }

    #[test]
    fn one_call_too_many_is_refused() {
        check(
            batcher(1, 8, 2),
            &[
                (0, free(0), &[]),
                (0, arrival(1, 1, LATE), &[dispatch(0, &[1])]),
                (0, arrival(2, 1, LATE), &[]),
                (0, arrival(3, 1, LATE), &[]),
                (0, arrival(4, 1, LATE), &[reject(4, Refusal::QueueFull)]),
                (1, Event::Cancel { call: CallId(2) }, &[]),
                (1, arrival(5, 1, LATE), &[]),
                (2, done(0), &[dispatch(0, &[3, 5])]),
            ],
        );
    }

    #[test]
    fn expired_calls_are_refused_by_whatever_comes_first() {
        check(
            batcher(1, 8, 2),
            &[
                (0, arrival(1, 1, 10), &[]),
                (0, arrival(2, 1, 20), &[]),
                (9, Event::Tick, &[]),
                (10, Event::Tick, &[reject(1, Refusal::Expired)]),
                (11, arrival(3, 1, LATE), &[]),
                // Its room goes to the next.
                (20, arrival(4, 1, LATE), &[reject(2, Refusal::Expired)]),
                (21, arrival(5, 1, 21), &[reject(5, Refusal::Expired)]),
                (LATE - 1, free(0), &[dispatch(0, &[3, 4])]),
            ],
        );
    }

    #[test]
    fn a_cancelled_call_is_neither_run_nor_refused() {
        check(
            batcher(1, 8, 8),
            &[
                (0, arrival(1, 1, 10), &[]),
                (0, arrival(2, 1, LATE), &[]),
                (10, Event::Cancel { call: CallId(1) }, &[]),
                (11, Event::Cancel { call: CallId(7) }, &[]),
                (12, free(0), &[dispatch(0, &[2])]),
                (13, Event::Cancel { call: CallId(2) }, &[]),
            ],
        );
    }

    #[test]
    fn the_next_tick_is_the_earliest_deadline_that_waits() {
        let mut batcher = batcher(1, 1, 8);
        assert_eq!(batcher.next_tick_us(), None);
        assert!(batcher.step(arrival(1, 1, 30), 0).is_empty());
        assert!(batcher.step(arrival(2, 1, 20), 0).is_empty());
        assert_eq!(batcher.next_tick_us(), Some(20));
        assert!(batcher.step(Event::Cancel { call: CallId(2) }, 1).is_empty());
        assert_eq!((batcher.next_tick_us(), batcher.waiting()), (Some(30), 1));
        assert_eq!(batcher.step(free(0), 2), [dispatch(0, &[1])]);
        assert_eq!((batcher.next_tick_us(), batcher.waiting()), (None, 0));
    }

    #[test]
    fn completions_are_measured() {
        let mut batcher = batcher(1, 8, 8);
        assert!(
            batcher
                .step(Event::Completion { lane: LaneId(0), rows: 6, compute_us: 90 }, 0)
                .is_empty()
        );
        assert_eq!(batcher.profile().average_us(8), Some(90));
        assert!(batcher.step(free(0), 0).is_empty());
        assert_eq!(batcher.profile().average_us(1), None);
    }
}
