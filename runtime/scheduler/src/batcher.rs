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

/// A call that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its id, above all earlier ones.
    pub call: CallId,
    /// Its rows.
    pub rows: u32,
    /// From this moment on nobody wants its answer.
    pub deadline_us: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Calls came in, at the same time as far as anybody can tell.
    Arrivals {
        /// The calls, in the order of their ids.
        calls: Vec<Arrival>,
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
    /// The rows of all waiting calls.
    waiting_rows: u64,
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
            waiting_rows: 0,
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
            Event::Arrivals { calls } => {
                for arrival in calls {
                    self.arrive(arrival, now_us, &mut actions);
                }
            }
            Event::LaneFree { lane } => self.free(lane),
            Event::Completion { lane, rows, compute_us } => {
                self.profile.record(rows, compute_us);
                self.free(lane);
            }
            Event::Cancel { .. } | Event::Tick => {}
        }
        self.dispatch_waiting(&mut actions);
        self.refuse_surplus(&mut actions);
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

    fn arrive(&mut self, arrival: Arrival, now_us: u64, actions: &mut Vec<Action>) {
        let Arrival { call, rows, deadline_us } = arrival;
        debug_assert!(self.waiting.last_key_value().is_none_or(|(last, _)| *last < call));
        if deadline_us <= now_us {
            actions.push(Action::Reject { call, reason: Refusal::Expired });
            return;
        }
        self.waiting_rows += places(rows);
        self.deadlines.insert((deadline_us, call));
        self.waiting.insert(call, Waiting { rows, deadline_us });
    }

    /// Refuses the calls that came last, as many as wait beyond the limit.
    fn refuse_surplus(&mut self, actions: &mut Vec<Action>) {
        while self.waiting.len() > self.config.max_waiting as usize
            && let Some((call, _)) = self.waiting.last_key_value()
        {
            let call = *call;
            self.remove(call);
            actions.push(Action::Reject { call, reason: Refusal::QueueFull });
        }
    }

    fn free(&mut self, lane: LaneId) {
        debug_assert!(lane.0 < self.config.lanes, "{lane:?} of {}", self.config.lanes);
        if lane.0 < self.config.lanes {
            self.idle.insert(lane);
        }
    }

    fn remove(&mut self, call: CallId) {
        if let Some(Waiting { rows, deadline_us }) = self.waiting.remove(&call) {
            self.waiting_rows -= places(rows);
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

    /// Shares what waits among the idle lanes: they compute side by side.
    fn dispatch_waiting(&mut self, actions: &mut Vec<Action>) {
        while !self.waiting.is_empty() && !self.idle.is_empty() {
            let share = self.waiting_rows.div_ceil(self.idle.len() as u64);
            let calls = self.take_batch(share.min(self.config.max_rows.into()));
            if let Some(lane) = self.idle.pop_first() {
                actions.push(Action::Dispatch { lane, calls });
            }
        }
    }

    /// Takes calls from the front as long as their rows fit. The first always does: a call above
    /// the limit is a batch that its client made, and goes alone.
    fn take_batch(&mut self, most: u64) -> Vec<CallId> {
        let mut calls = Vec::new();
        let mut rows = 0;
        while let Some(entry) = self.waiting.first_entry() {
            let (call, next) = (*entry.key(), *entry.get());
            let total = rows + places(next.rows);
            if !calls.is_empty() && total > most {
                break;
            }
            rows = total;
            entry.remove();
            self.waiting_rows -= places(next.rows);
            self.deadlines.remove(&(next.deadline_us, call));
            calls.push(call);
        }
        calls
    }
}

/// The rows that a call takes up; one without rows takes a place too, since without a batch axis
/// it runs alone.
fn places(rows: u32) -> u64 {
    rows.max(1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: u64 = 1_000_000;

    fn batcher(lanes: u16, max_rows: u32, max_waiting: u32) -> Batcher {
        Batcher::new(BatcherConfig { lanes, max_rows, max_waiting })
    }

    fn arrival(call: u64, rows: u32, deadline_us: u64) -> Event {
        Event::Arrivals { calls: vec![Arrival { call: CallId(call), rows, deadline_us }] }
    }

    fn together(calls: std::ops::RangeInclusive<u64>) -> Event {
        let arrival = |call| Arrival { call: CallId(call), rows: 1, deadline_us: LATE };
        Event::Arrivals { calls: calls.map(arrival).collect() }
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
    fn calls_that_come_together_share_the_idle_lanes() {
        check(
            batcher(3, 4, 8),
            &[
                (0, free(0), &[]),
                (0, free(1), &[]),
                (1, together(1..=5), &[dispatch(0, &[1, 2, 3]), dispatch(1, &[4, 5])]),
                (2, done(0), &[]),
                (3, together(6..=12), &[dispatch(0, &[6, 7, 8, 9])]),
                (4, done(1), &[dispatch(1, &[10, 11, 12])]),
            ],
        );
    }

    #[test]
    fn of_calls_that_come_together_the_last_are_refused() {
        check(
            batcher(1, 2, 2),
            &[
                (0, free(0), &[]),
                (1, together(1..=5), &[dispatch(0, &[1, 2]), reject(5, Refusal::QueueFull)]),
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
