//! The calls that wait for one model: by urgency and tenant, and of each tenant by deadline.

use std::collections::{BTreeMap, BTreeSet, VecDeque, vec_deque};

use crate::{
    CallId, ServingCall, TenantIndex,
    serving::{shares::Shares, times::BatchProfile},
};

/// Calls of a model.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Line, VecDeque<ServingCall>>,
    rows: u64,
}

/// Where a call waits: levels of urgency come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) level: u8,
    pub(super) tenant: TenantIndex,
}

/// A batch that is put together.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    pub(super) calls: Vec<ServingCall>,
    pub(super) rows: u32,
}

impl Line {
    fn of(call: &ServingCall) -> Self {
        Self { level: call.priority.level(), tenant: call.tenant }
    }
}

impl Queue {
    pub(super) fn insert(&mut self, call: ServingCall) {
        let key = |call: &ServingCall| (call.deadline_us, call.call);
        let line = self.lines.entry(Line::of(&call)).or_default();
        let place = line.partition_point(|other| key(other) < key(&call));
        line.insert(place, call);
        self.rows += u64::from(call.rows);
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The line whose turn it is: of the most urgent level and of the tenants that have had fewest
    /// turns, the one whose first call has the earliest deadline.
    pub(super) fn turn(&self, shares: &Shares) -> Option<Line> {
        let level = self.lines.keys().next()?.level;
        let urgent = self.lines.keys().take_while(|line| line.level == level);
        urgent.min_by_key(|line| self.rank(**line, shares)).copied()
    }

    /// Where a line stands: lower goes first.
    fn rank(&self, line: Line, shares: &Shares) -> (u8, u64, u64, TenantIndex) {
        let deadline_us = self.first(line).map_or(u64::MAX, |call| call.deadline_us);
        (line.level, shares.turns(line.tenant), deadline_us, line.tenant)
    }

    /// The first call of a line.
    pub(super) fn first(&self, line: Line) -> Option<&ServingCall> {
        self.lines.get(&line)?.front()
    }

    /// Takes the first call of a line.
    pub(super) fn pop(&mut self, line: Line) -> Option<ServingCall> {
        let calls = self.lines.get_mut(&line)?;
        let call = calls.pop_front()?;
        if calls.is_empty() {
            self.lines.remove(&line);
        }
        self.rows -= u64::from(call.rows);
        Some(call)
    }

    /// Takes a call out, wherever it waits.
    pub(super) fn remove(&mut self, call: &ServingCall) -> bool {
        let line = Line::of(call);
        let Some(calls) = self.lines.get_mut(&line) else { return false };
        let Some(place) = calls.iter().position(|other| other.call == call.call) else {
            return false;
        };
        calls.remove(place);
        if calls.is_empty() {
            self.lines.remove(&line);
        }
        self.rows -= u64::from(call.rows);
        true
    }

    /// Lines whose first calls keep all that waits from a batch whose rows cost less, so little time
    /// have they left: in the order in which they should go. A line may come several times.
    ///
    /// After the early drop of Nexus: Shen et al., SOSP 2019, section 4.3.
    pub(super) fn in_the_way(
        &self,
        first: Line,
        shares: &Shares,
        times: &BatchProfile,
        most: u32,
        now_us: u64,
    ) -> Vec<Line> {
        let turns = shares.turns(first.tenant);
        let alike = |line: &&Line| line.level == first.level && shares.turns(line.tenant) == turns;
        let mut fronts: Vec<_> =
            self.lines.keys().filter(alike).map(|line| (*line, self.lines[line].iter())).collect();
        let mut left = self.rows;
        let mut best: Option<(u64, usize)> = None;
        let mut passed = Vec::new();
        // Their calls in the order of deadlines.
        let next = |fronts: &mut Vec<(Line, vec_deque::Iter<'_, ServingCall>)>| {
            let front = |(line, calls): &(Line, vec_deque::Iter<'_, ServingCall>)| {
                calls.clone().next().map(|call| (call.deadline_us, call.call, *line))
            };
            let (place, _) = fronts
                .iter()
                .enumerate()
                .filter_map(|(place, of)| Some((place, front(of)?)))
                .min_by_key(|(_, key)| *key)?;
            fronts[place].1.next().map(|call| (fronts[place].0, *call))
        };
        while let Some((line, call)) = next(&mut fronts) {
            let slack_us = call.deadline_us.saturating_sub(now_us);
            let fitting = times.rows_within(most, slack_us);
            let rows = u32::try_from(left).unwrap_or(u32::MAX).min(fitting);
            let row_ns = times.row_ns(rows.max(1));
            // A call is worth more than a small part of what its batch costs.
            if best.is_none_or(|(other_ns, _)| row_ns + row_ns / 32 < other_ns) {
                best = Some((row_ns, passed.len()));
            }
            if u64::from(fitting) >= left.min(most.into()) {
                break;
            }
            left -= u64::from(call.rows);
            passed.push(line);
        }
        passed.truncate(best.map_or(0, |(_, place)| place));
        passed
    }

    /// Takes a batch out that begins with a line's first call, and goes on with whose turn it is, as
    /// far as all of it is in time.
    pub(super) fn take(
        &mut self,
        first: Line,
        shares: &Shares,
        times: &BatchProfile,
        most: u32,
        now_us: u64,
    ) -> Batch {
        let mut batch = Batch::default();
        let mut until_us = u64::MAX;
        let mut lines: BTreeSet<_> =
            self.lines.keys().map(|line| (self.rank(*line, shares), *line)).collect();
        let mut turn = lines.take(&(self.rank(first, shares), first));
        while let Some((_, line)) = turn {
            if let Some(call) = self.first(line)
                && let Some(rows) = batch.rows.checked_add(call.rows).filter(|rows| *rows <= most)
                && (batch.calls.is_empty()
                    || now_us.saturating_add(times.latency_us(rows))
                        <= until_us.min(call.deadline_us))
            {
                until_us = until_us.min(call.deadline_us);
                batch.rows = rows;
                batch.calls.extend(self.pop(line));
                if self.lines.contains_key(&line) {
                    lines.insert((self.rank(line, shares), line));
                }
            }
            turn = lines.pop_first();
        }
        batch
    }
}

impl Batch {
    pub(super) fn ids(&self) -> Vec<CallId> {
        self.calls.iter().map(|call| call.call).collect()
    }
}
