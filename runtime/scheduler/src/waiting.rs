//! The calls that wait: in order of level and turn, by bucket, and by deadline. Never decides
//! which of them runs next.

use std::collections::BTreeMap;

use quern_types::Priority;

use crate::{Arrival, BucketId, CallId, Part};

/// The levels of urgency, counted from 0.
pub(crate) const LEVELS: usize = Priority::LEVELS as usize;

/// Calls that wait. Every operation but [`WaitingCalls::rows_before`] is logarithmic in their
/// number, and a call that no longer waits leaves nothing behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitingCalls {
    calls: BTreeMap<CallId, Waiting>,
    levels: [Level; LEVELS],
    buckets: BTreeMap<(BucketId, Place), CallId>,
    /// Places that the rows of all calls take up.
    rows: u64,
    /// Bytes of the inputs of all calls, whatever part of them has run.
    bytes: u64,
    next_turn: u64,
}

/// A call that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) arrival: Arrival,
    pub(crate) arrived_us: u64,
    /// Whether it runs although it may be too late, to see whether the profile is right.
    pub(crate) is_trial: bool,
    /// Rows that run already or have run.
    taken: u32,
    turn: u64,
}

/// What becomes of the turn of a call of which only a part is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The next part waits behind all that wait now.
    Ends,
    /// The next part waits where this one did.
    Stays,
}

/// The calls of one level.
#[derive(Debug, Clone, Default)]
struct Level {
    /// Those of which nothing has run, by turn: the newest last.
    untouched: BTreeMap<u64, CallId>,
    /// Those of which a part was taken, by turn.
    begun: BTreeMap<u64, CallId>,
    /// By deadline, with the places that each takes up.
    deadlines: BTreeMap<(u64, CallId), u64>,
    rows: u64,
}

/// Where a call stands among those of its bucket: by level, then by turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    level: usize,
    turn: u64,
}

impl Waiting {
    /// Its rows that are still to run.
    pub(crate) fn left(&self) -> u32 {
        self.arrival.rows - self.taken
    }

    fn places_left(&self) -> u64 {
        places(self.arrival.rows) - u64::from(self.taken)
    }

    fn place(&self) -> Place {
        Place { level: level(self.arrival.priority), turn: self.turn }
    }
}

impl WaitingCalls {
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Places that the rows of all calls take up.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The same of the calls that run before one which comes now, whatever its turn: those of more
    /// urgent levels, and those of its own that have less time. Linear in the latter, unless that
    /// is the whole level, as where all calls get the same time.
    pub(crate) fn rows_before(&self, arrival: &Arrival) -> u64 {
        let (more_urgent, own) = (..level(arrival.priority), level(arrival.priority));
        let more_urgent: u64 = self.levels[more_urgent].iter().map(|level| level.rows).sum();
        let own = &self.levels[own];
        let key = (arrival.deadline_us, arrival.call);
        let has_less_time = match own.deadlines.last_key_value() {
            Some((last, _)) if *last > key => {
                own.deadlines.range(..key).map(|(_, rows)| rows).sum()
            }
            _ => own.rows,
        };
        more_urgent + has_less_time
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all calls are of one bucket.
    pub(crate) fn is_one_bucket(&self) -> bool {
        let [first, last] = [self.buckets.first_key_value(), self.buckets.last_key_value()];
        first.map(|((bucket, _), _)| bucket) == last.map(|((bucket, _), _)| bucket)
    }

    pub(crate) fn get(&self, call: CallId) -> Option<&Waiting> {
        self.calls.get(&call)
    }

    pub(crate) fn is_empty_level(&self, level: usize) -> bool {
        self.levels[level].deadlines.is_empty()
    }

    /// The call of a level whose turn comes first.
    pub(crate) fn first_of(&self, level: usize) -> Option<CallId> {
        let Level { untouched, begun, .. } = &self.levels[level];
        let firsts = [untouched.first_key_value(), begun.first_key_value()];
        firsts.into_iter().flatten().min().map(|(_, call)| *call)
    }

    /// The call of a level whose deadline comes first.
    pub(crate) fn most_pressed_of(&self, level: usize) -> Option<&Waiting> {
        let ((_, call), _) = self.levels[level].deadlines.first_key_value()?;
        self.calls.get(call)
    }

    /// The call of a bucket that stands first.
    pub(crate) fn first_in(&self, bucket: BucketId) -> Option<&Waiting> {
        let first = (bucket, Place { level: 0, turn: 0 });
        let ((found, _), call) = self.buckets.range(first..).next()?;
        self.calls.get(call).filter(|_| *found == bucket)
    }

    /// The call that came first.
    pub(crate) fn oldest(&self) -> Option<&Waiting> {
        self.calls.first_key_value().map(|(_, waiting)| waiting)
    }

    /// The call that came last of the least urgent, unless some of it has run.
    pub(crate) fn last_untouched(&self) -> Option<CallId> {
        let last = |level: &Level| level.untouched.last_key_value().map(|(_, call)| *call);
        self.levels.iter().rev().find_map(last)
    }

    /// The call whose deadline comes first, and its deadline.
    pub(crate) fn next_deadline(&self) -> Option<(u64, CallId)> {
        let first = |level: &Level| level.deadlines.first_key_value().map(|(key, _)| *key);
        self.levels.iter().filter_map(first).min()
    }

    pub(crate) fn insert(&mut self, arrival: Arrival, now_us: u64, is_trial: bool) {
        let call = arrival.call;
        debug_assert!(self.calls.last_key_value().is_none_or(|(last, _)| *last < call));
        let turn = self.turn();
        let waiting = Waiting { arrival, arrived_us: now_us, is_trial, taken: 0, turn };
        self.rows += places(arrival.rows);
        self.bytes += arrival.bytes;
        let level = &mut self.levels[level(arrival.priority)];
        level.rows += places(arrival.rows);
        level.untouched.insert(turn, call);
        level.deadlines.insert((arrival.deadline_us, call), places(arrival.rows));
        self.buckets.insert((arrival.bucket, waiting.place()), call);
        self.calls.insert(call, waiting);
    }

    /// Takes a call out, with whatever of it has not run.
    pub(crate) fn remove(&mut self, call: CallId) -> Option<Waiting> {
        let waiting = self.calls.remove(&call)?;
        let Arrival { bytes, bucket, priority, deadline_us, .. } = waiting.arrival;
        self.rows -= waiting.places_left();
        self.bytes -= bytes;
        let level = &mut self.levels[level(priority)];
        level.rows -= waiting.places_left();
        let order = if waiting.taken == 0 { &mut level.untouched } else { &mut level.begun };
        order.remove(&waiting.turn);
        level.deadlines.remove(&(deadline_us, call));
        self.buckets.remove(&(bucket, waiting.place()));
        Some(waiting)
    }

    /// Takes out the next rows of a call, so many at the most; with the last of them it goes.
    pub(crate) fn take(&mut self, call: CallId, most: u32, then: Turn) -> Option<Part> {
        let waiting = self.calls.get_mut(&call)?;
        let (first, left) = (waiting.taken, waiting.left());
        if left <= most {
            self.remove(call);
            return Some(Part { call, first, rows: left });
        }
        waiting.taken += most;
        let (before, places_left) = (waiting.place(), waiting.places_left());
        let deadline = (waiting.arrival.deadline_us, call);
        self.rows -= u64::from(most);
        let level = &mut self.levels[before.level];
        level.rows -= u64::from(most);
        level.untouched.remove(&before.turn);
        level.begun.insert(before.turn, call);
        level.deadlines.insert(deadline, places_left);
        if then == Turn::Ends {
            self.queue_again(call, before);
        }
        Some(Part { call, first, rows: most })
    }

    fn queue_again(&mut self, call: CallId, before: Place) {
        let turn = self.turn();
        let Some(waiting) = self.calls.get_mut(&call) else { return };
        waiting.turn = turn;
        let (bucket, after) = (waiting.arrival.bucket, waiting.place());
        let begun = &mut self.levels[before.level].begun;
        begun.remove(&before.turn);
        begun.insert(turn, call);
        self.buckets.remove(&(bucket, before));
        self.buckets.insert((bucket, after), call);
    }

    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }
}

/// A priority's level, from 0.
pub(crate) fn level(priority: Priority) -> usize {
    usize::from(priority.level() - 1)
}

/// The rows that a call takes up; one without rows takes a place too, since without a batch axis
/// it runs alone.
pub(crate) fn places(rows: u32) -> u64 {
    rows.max(1).into()
}
