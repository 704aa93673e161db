//! The calls that wait: in order of level and turn, by bucket, and by deadline. Never decides
//! which of them runs next.

use std::collections::BTreeMap;

use quern_types::Priority;

use crate::{Arrival, BucketId, CallId, Part};

/// The levels of urgency, counted from 0.
pub(crate) const LEVELS: usize = Priority::LEVELS as usize;

/// Calls that wait. Every operation but [`WaitingCalls::rows_before`] is logarithmic in their
/// number, and a call that no longer waits leaves nothing behind.
#[derive(Debug, Clone)]
pub(crate) struct WaitingCalls {
    levels: [Level; LEVELS],
    /// Those of which a part was taken; they are few.
    begun: BTreeMap<CallId, Waiting>,
    /// None where all calls are of one.
    buckets: Option<BTreeMap<(BucketId, Place), CallId>>,
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
    /// Those of which nothing has run; their order is that of their turns.
    untouched: BTreeMap<CallId, Waiting>,
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
    pub(crate) fn new(one_bucket: bool) -> Self {
        Self {
            levels: Default::default(),
            begun: BTreeMap::new(),
            buckets: (!one_bucket).then(BTreeMap::new),
            rows: 0,
            bytes: 0,
            next_turn: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.levels.iter().map(|level| level.untouched.len()).sum::<usize>() + self.begun.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Places that the rows of all calls take up.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The same of the calls of one level.
    pub(crate) fn rows_of(&self, level: usize) -> u64 {
        self.levels[level].rows
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
        let Some(buckets) = &self.buckets else { return true };
        let [first, last] = [buckets.first_key_value(), buckets.last_key_value()];
        first.map(|((bucket, _), _)| bucket) == last.map(|((bucket, _), _)| bucket)
    }

    pub(crate) fn is_empty_level(&self, level: usize) -> bool {
        self.levels[level].deadlines.is_empty()
    }

    /// The call of a level whose turn comes first.
    pub(crate) fn first_of(&self, level: usize) -> Option<&Waiting> {
        let Level { untouched, begun, .. } = &self.levels[level];
        let untouched = untouched.first_key_value().map(|(_, waiting)| waiting);
        let begun = begun.first_key_value().and_then(|(_, call)| self.begun.get(call));
        [untouched, begun].into_iter().flatten().min_by_key(|waiting| waiting.turn)
    }

    /// The call of a level whose deadline comes first.
    pub(crate) fn most_pressed_of(&self, level: usize) -> Option<&Waiting> {
        let ((_, call), _) = self.levels[level].deadlines.first_key_value()?;
        self.get(level, *call)
    }

    /// The call of a bucket that stands first.
    pub(crate) fn first_in(&self, bucket: BucketId) -> Option<&Waiting> {
        let Some(buckets) = &self.buckets else {
            return (0..LEVELS).find_map(|level| self.first_of(level));
        };
        let first = (bucket, Place { level: 0, turn: 0 });
        let ((found, place), call) = buckets.range(first..).next()?;
        self.get(place.level, *call).filter(|_| *found == bucket)
    }

    /// The call that came first.
    pub(crate) fn oldest(&self) -> Option<&Waiting> {
        let untouched = self.levels.iter().map(|level| &level.untouched);
        let firsts = untouched.chain([&self.begun]).filter_map(BTreeMap::first_key_value);
        firsts.min_by_key(|(call, _)| **call).map(|(_, waiting)| waiting)
    }

    /// The call that came last of the least urgent, unless some of it has run.
    pub(crate) fn last_untouched(&self) -> Option<CallId> {
        let last = |level: &Level| level.untouched.last_key_value().map(|(call, _)| *call);
        self.levels.iter().rev().find_map(last)
    }

    /// The call whose deadline comes first, and its deadline.
    pub(crate) fn next_deadline(&self) -> Option<(u64, CallId)> {
        let first = |level: &Level| level.deadlines.first_key_value().map(|(key, _)| *key);
        self.levels.iter().filter_map(first).min()
    }

    fn get(&self, level: usize, call: CallId) -> Option<&Waiting> {
        self.levels[level].untouched.get(&call).or_else(|| self.begun.get(&call))
    }

    pub(crate) fn insert(&mut self, arrival: Arrival, now_us: u64, is_trial: bool) {
        let call = arrival.call;
        let turn = self.turn();
        let waiting = Waiting { arrival, arrived_us: now_us, is_trial, taken: 0, turn };
        self.rows += places(arrival.rows);
        self.bytes += arrival.bytes;
        let level = &mut self.levels[level(arrival.priority)];
        debug_assert!(level.untouched.last_key_value().is_none_or(|(last, _)| *last < call));
        level.rows += places(arrival.rows);
        level.untouched.insert(call, waiting);
        level.deadlines.insert((arrival.deadline_us, call), places(arrival.rows));
        if let Some(buckets) = &mut self.buckets {
            buckets.insert((arrival.bucket, waiting.place()), call);
        }
    }

    /// Takes a call out, with whatever of it has not run.
    pub(crate) fn remove(&mut self, call: CallId) {
        let mut untouched = self.levels.iter_mut().map(|level| &mut level.untouched);
        let waiting = untouched.find_map(|calls| calls.remove(&call));
        let Some(waiting) = waiting.or_else(|| self.begun.remove(&call)) else { return };
        let Arrival { bytes, bucket, priority, deadline_us, .. } = waiting.arrival;
        self.rows -= waiting.places_left();
        self.bytes -= bytes;
        let level = &mut self.levels[level(priority)];
        level.rows -= waiting.places_left();
        level.deadlines.remove(&(deadline_us, call));
        if waiting.taken > 0 {
            level.begun.remove(&waiting.turn);
        }
        if let Some(buckets) = &mut self.buckets {
            buckets.remove(&(bucket, waiting.place()));
        }
    }

    /// Takes the next rows of a call, so many at the most; with the last of them it goes.
    pub(crate) fn take(&mut self, waiting: &Waiting, most: u32, then: Turn) -> Part {
        let Arrival { call, bucket, deadline_us, .. } = waiting.arrival;
        let (first, left, before) = (waiting.taken, waiting.left(), waiting.place());
        if left <= most {
            self.remove(call);
            return Part { call, first, rows: left };
        }
        let turn = if then == Turn::Ends { self.turn() } else { waiting.turn };
        let rest = Waiting { taken: first + most, turn, ..*waiting };
        self.rows -= u64::from(most);
        let level = &mut self.levels[before.level];
        level.rows -= u64::from(most);
        level.untouched.remove(&call);
        level.begun.remove(&before.turn);
        level.begun.insert(turn, call);
        level.deadlines.insert((deadline_us, call), rest.places_left());
        if let Some(buckets) = &mut self.buckets {
            buckets.remove(&(bucket, before));
            buckets.insert((bucket, rest.place()), call);
        }
        self.begun.insert(call, rest);
        Part { call, first, rows: most }
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
