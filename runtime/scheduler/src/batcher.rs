//! Which rows of one model replica's calls run together, on which lane, and when. Never dispatches
//! a call that has expired, never mixes buckets, and never leaves a lane idle while a call waits,
//! unless it is configured to wait for more and that pays.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Action, Arrival, BatcherConfig, CallId, Event, LaneId, LatencyProfile, Part, Refusal,
    waiting::{LEVELS, Turn, Waiting, WaitingCalls, level, places},
};

/// Batches in a row that may pass over a level in which calls wait; then one begins there, so that
/// the less urgent levels move on however much the more urgent ones ask for.
pub(crate) const PATIENCE: u32 = 32;
/// Calls are refused for the sake of those behind them if so many rounds of full batches wait.
const BACKLOG_ROUNDS: u64 = 2;

/// The batch queue of one model replica.
///
/// A batch begins with a call of the most urgent level, the one whose turn is first unless a
/// deadline is near. It is filled up from the same bucket, in order of level and turn. A call with
/// more rows than a batch holds runs in several parts: each waits for its turn, behind the calls
/// that came before the part ahead of it was set off, and fills up what others leave free
/// meanwhile. All other calls run in one piece.
#[derive(Debug, Clone)]
pub struct Batcher {
    config: BatcherConfig,
    idle: BTreeSet<LaneId>,
    running: BTreeMap<LaneId, Running>,
    waiting: WaitingCalls,
    /// For each level the batches since its last that left calls of it waiting.
    passed: [u32; LEVELS],
    /// Until when the next batch waits for more rows, while a lane is idle.
    held_until_us: Option<u64>,
    profile: LatencyProfile,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    since_us: u64,
    rows: u32,
}

/// A batch that is being put together.
struct Gathering {
    parts: Vec<Part>,
    rows: u64,
    levels: [bool; LEVELS],
}

impl Batcher {
    /// A batcher without calls, all of whose lanes are busy.
    pub fn new(config: BatcherConfig) -> Self {
        let config = BatcherConfig { max_rows: config.max_rows.max(1), ..config };
        Self {
            config,
            idle: BTreeSet::new(),
            running: BTreeMap::new(),
            waiting: WaitingCalls::new(config.one_bucket),
            passed: [0; LEVELS],
            held_until_us: None,
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
            self.waiting.remove(call);
        }
        self.refuse_expired(now_us, &mut actions);
        match event {
            Event::Arrivals { calls } => {
                if !self.dispatch_at_once(&calls, now_us, &mut actions) {
                    calls.iter().for_each(|arrival| self.arrive(arrival, now_us, &mut actions));
                }
            }
            Event::LaneFree { lane } => self.free(lane),
            Event::Completion { lane, rows, compute_us } => {
                self.profile.record(rows, compute_us);
                self.free(lane);
            }
            Event::Cancel { .. } | Event::Tick => {}
        }
        self.dispatch_waiting(now_us, &mut actions);
        self.refuse_surplus(&mut actions);
        actions
    }

    /// The moment for a [`Event::Tick`], unless another event comes before: the earliest deadline
    /// of a waiting call, or the end of the wait for more.
    pub fn next_tick_us(&self) -> Option<u64> {
        let deadline_us = self.waiting.next_deadline().map(|(deadline_us, _)| deadline_us);
        deadline_us.into_iter().chain(self.held_until_us).min()
    }

    /// Until when calls wait for more although a lane is idle, if they do.
    pub fn held_until_us(&self) -> Option<u64> {
        self.held_until_us
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no call waits and none runs.
    pub fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// How many bytes their inputs have.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.bytes()
    }

    /// How long batches have taken so far.
    pub fn profile(&self) -> &LatencyProfile {
        &self.profile
    }

    /// Dispatches calls that come while nothing waits and a lane is idle, without taking them
    /// through the queue, if there is nothing to decide: they are alike and fit into one batch, and
    /// no deadline is near. Says whether it did.
    fn dispatch_at_once(
        &mut self,
        calls: &[Arrival],
        now_us: u64,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(first) = calls.first() else { return false };
        let mut left: u64 = calls.iter().map(|call| places(call.rows)).sum();
        let is_plain = |call: &Arrival| {
            let quick_us = self.quick_us(call.rows).unwrap_or(0);
            (call.bucket, call.priority) == (first.bucket, first.priority)
                && call.deadline_us > now_us
                && call.deadline_us >= now_us.saturating_add(quick_us)
        };
        if self.idle.is_empty()
            || !self.waiting.is_empty()
            || self.config.max_delay_us > 0
            || left > self.config.max_rows.into()
            || left.div_ceil(self.idle.len() as u64) > self.worthwhile().into()
            || !calls.iter().all(is_plain)
        {
            return false;
        }
        let mut rest = calls;
        // Ends with the last idle lane at the latest: its share is all that is left.
        while !rest.is_empty() && !self.idle.is_empty() {
            let share = left.div_ceil(self.idle.len() as u64);
            let mut rows = 0;
            let fits = |call: &&Arrival| {
                let fits = rows == 0 || rows + places(call.rows) <= share;
                rows += if fits { places(call.rows) } else { 0 };
                fits
            };
            let (batch, others) = rest.split_at(rest.iter().take_while(fits).count());
            let whole = |call: &Arrival| Part { call: call.call, first: 0, rows: call.rows };
            self.dispatch(batch.iter().map(whole).collect(), rows, now_us, actions);
            (rest, left) = (others, left - rows);
        }
        true
    }

    fn arrive(&mut self, arrival: &Arrival, now_us: u64, actions: &mut Vec<Action>) {
        let level = level(arrival.priority);
        match self.admit(arrival, now_us) {
            Ok(is_trial) => {
                if self.waiting.is_empty_level(level) {
                    self.passed[level] = 0;
                }
                self.waiting.insert(*arrival, now_us, is_trial);
            }
            Err(reason) => actions.push(Action::Reject { call: arrival.call, reason }),
        }
    }

    /// Whether a call can be done in time as far as anybody can tell, or else why not. It may also
    /// be let in to see whether the profile is right, which `true` says.
    fn admit(&mut self, arrival: &Arrival, now_us: u64) -> Result<bool, Refusal> {
        if arrival.deadline_us <= now_us {
            return Err(Refusal::Expired);
        }
        match self.earliest_end_us(arrival, now_us) {
            Some(end_us) if end_us > arrival.deadline_us => {
                if self.profile.refuses(arrival.rows.min(self.config.max_rows)) {
                    return Err(Refusal::TooLate { needed_us: end_us - now_us });
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// When a call that comes now can be done at the earliest: all batches are quick, the calls
    /// that run before it in any case fill theirs, and no lane is ever idle. None where that was
    /// not measured.
    fn earliest_end_us(&self, arrival: &Arrival, now_us: u64) -> Option<u64> {
        let (most, lanes) = (self.config.max_rows, self.config.lanes.max(1));
        let round = |rows: u32| u64::from(rows) * u64::from(lanes);
        let part = if self.is_oversized(arrival) {
            arrival.rows.div_ceil(lanes.into()).min(most)
        } else {
            arrival.rows
        };
        let own_us = self.quick_us(part)?;
        let own_us = own_us.saturating_mul((places(arrival.rows) / round(most)).max(1));
        let most = self.worthwhile();
        let rounds_before = self.waiting.rows_before(arrival) / round(most);
        let before_us = self.quick_us(most).unwrap_or(0).saturating_mul(rounds_before);
        let begin_us = self.lane_free_us(now_us);
        Some(begin_us.saturating_add(before_us).saturating_add(own_us))
    }

    /// The most rows that are worth a batch. Where calls differ in shape, no size is like another
    /// of its class.
    fn worthwhile(&self) -> u32 {
        let most = self.config.max_rows;
        if self.config.one_bucket { self.profile.worthwhile(most) } else { most }
    }

    /// The most rows for a batch that begins with this call: what is worth it, as much of that as
    /// is done before the call's deadline, and an even share of what waits.
    fn most_rows(&mut self, seed: &Waiting, now_us: u64) -> u64 {
        let mut most = self.config.max_rows;
        let share = self.waiting.rows().div_ceil(self.idle.len() as u64);
        if self.config.one_bucket && share > self.profile.worthwhile(most).into() {
            most = self.profile.worthwhile_now(most);
        }
        let rows = u32::try_from(share).unwrap_or(u32::MAX).min(most);
        let slack_us = seed.arrival.deadline_us.saturating_sub(now_us);
        if self.config.one_bucket { self.profile.rows_within(rows, slack_us) } else { rows }.into()
    }

    /// What a batch of so many rows takes if it is quick; none where that was not measured.
    fn quick_us(&self, rows: u32) -> Option<u64> {
        if self.config.one_bucket {
            self.profile.quick_us(rows)
        } else {
            self.profile.fastest_us(rows)
        }
    }

    /// When the next lane is free at the earliest.
    fn lane_free_us(&self, now_us: u64) -> u64 {
        if !self.idle.is_empty() || self.running.len() < usize::from(self.config.lanes) {
            return now_us;
        }
        let end_us =
            |run: &Running| run.since_us.saturating_add(self.quick_us(run.rows).unwrap_or(0));
        self.running.values().map(end_us).min().map_or(now_us, |end_us| end_us.max(now_us))
    }

    fn refuse_expired(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        while let Some((deadline_us, call)) = self.waiting.next_deadline()
            && deadline_us <= now_us
        {
            self.refuse(call, Refusal::Expired, actions);
        }
    }

    /// Refuses what would run last, as much as waits beyond the limits; never a call that has run
    /// in part.
    fn refuse_surplus(&mut self, actions: &mut Vec<Action>) {
        while let Some(reason) = self.surplus()
            && let Some(call) = self.waiting.last_untouched()
        {
            self.refuse(call, reason, actions);
        }
    }

    /// The limit that what waits exceeds.
    fn surplus(&self) -> Option<Refusal> {
        if self.waiting.len() > self.config.max_waiting as usize {
            return Some(Refusal::QueueFull);
        }
        let is_heavy = self.waiting.bytes() > self.config.max_waiting_bytes;
        is_heavy.then_some(Refusal::MemoryFull)
    }

    fn refuse(&mut self, call: CallId, reason: Refusal, actions: &mut Vec<Action>) {
        self.waiting.remove(call);
        actions.push(Action::Reject { call, reason });
    }

    fn free(&mut self, lane: LaneId) {
        debug_assert!(lane.0 < self.config.lanes, "{lane:?} of {}", self.config.lanes);
        self.running.remove(&lane);
        if lane.0 < self.config.lanes {
            self.idle.insert(lane);
        }
    }

    /// Shares what waits among the idle lanes: they compute side by side.
    fn dispatch_waiting(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        self.held_until_us = None;
        while !self.idle.is_empty()
            && let Some(seed) = self.seed(now_us).copied()
        {
            let refusal = self.too_late(&seed, now_us).or_else(|| self.in_the_way(&seed, now_us));
            if let Some(refusal) = refusal {
                self.refuse(seed.arrival.call, refusal, actions);
                continue;
            }
            self.held_until_us = self.hold_until_us(now_us);
            if self.held_until_us.is_some() {
                return;
            }
            let most = self.most_rows(&seed, now_us);
            let batch = self.gather(&seed, most, now_us, actions);
            self.dispatch(batch.parts, batch.rows, now_us, actions);
        }
    }

    fn dispatch(&mut self, parts: Vec<Part>, rows: u64, now_us: u64, actions: &mut Vec<Action>) {
        if let Some(lane) = self.idle.pop_first() {
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            self.running.insert(lane, Running { since_us: now_us, rows });
            actions.push(Action::Dispatch { lane, parts });
        }
    }

    /// The call that the next batch begins with.
    fn seed(&self, now_us: u64) -> Option<&Waiting> {
        let has_calls = |level: &usize| !self.waiting.is_empty_level(*level);
        let mut levels = (0..LEVELS).filter(has_calls);
        let starved = levels.clone().find(|level| self.passed[*level] >= PATIENCE);
        let level = starved.or_else(|| levels.next())?;
        self.pressed(level, now_us).or_else(|| self.waiting.first_of(level))
    }

    /// The call of a level whose deadline comes first, if it would miss that by letting another
    /// batch go before it.
    fn pressed(&self, level: usize, now_us: u64) -> Option<&Waiting> {
        let waiting = self.waiting.most_pressed_of(level)?;
        let arrival = &waiting.arrival;
        let own_us = self.profile.slow_us(arrival.rows.min(self.config.max_rows))?;
        let end_us =
            now_us.saturating_add(self.profile.slow_us(self.worthwhile())?).saturating_add(own_us);
        (end_us > arrival.deadline_us).then_some(waiting)
    }

    /// Why a call that could run now should not: even a quick batch would end after its deadline.
    fn too_late(&mut self, waiting: &Waiting, now_us: u64) -> Option<Refusal> {
        let rows = waiting.left().min(self.config.max_rows);
        let needed_us = self.quick_us(rows).filter(|_| !waiting.is_trial)?;
        let is_late = now_us.saturating_add(needed_us) > waiting.arrival.deadline_us;
        (is_late && self.profile.refuses(rows)).then_some(Refusal::TooLate { needed_us })
    }

    /// Why a call should not run that waited until a batch worth running would end after its
    /// deadline: where more wait behind it than the next rounds take, a smaller one for its sake
    /// would cost others theirs.
    fn in_the_way(&mut self, seed: &Waiting, now_us: u64) -> Option<Refusal> {
        let level = level(seed.arrival.priority);
        let most = self.worthwhile();
        let rounds = BACKLOG_ROUNDS * u64::from(most) * u64::from(self.config.lanes);
        let is_first = self.waiting.first_of(level).map(|first| first.arrival.call);
        if !self.config.one_bucket
            || seed.is_trial
            || is_first != Some(seed.arrival.call)
            || self.waiting.rows_of(level) < rounds
        {
            return None;
        }
        let needed_us = self.profile.slow_us(most)?;
        let is_late = now_us.saturating_add(needed_us) > seed.arrival.deadline_us;
        (is_late && self.profile.refuses(most)).then_some(Refusal::TooLate { needed_us })
    }

    /// Until when the next batch waits for more rows; none: it goes now. It waits only where that
    /// is configured, while all that waits can be one batch, while no deadline suffers, and if
    /// twice the rows are known to take less than one and a half times as long.
    fn hold_until_us(&self, now_us: u64) -> Option<u64> {
        let rows = u32::try_from(self.waiting.rows()).ok()?;
        let most = self.config.max_rows;
        let is_off = self.config.max_delay_us == 0;
        if is_off || !self.waiting.is_one_bucket() || rows >= most || self.surplus().is_some() {
            return None;
        }
        let more = rows.saturating_mul(2).min(most);
        let [few_us, more_us] = [self.profile.usual_us(rows)?, self.profile.usual_us(more)?];
        if 4 * u128::from(more_us) * u128::from(rows) >= 3 * u128::from(few_us) * u128::from(more) {
            return None;
        }
        let patience_ends_us =
            self.waiting.oldest()?.arrived_us.saturating_add(self.config.max_delay_us);
        let (deadline_us, _) = self.waiting.next_deadline()?;
        let slack_ends_us = deadline_us.saturating_sub(self.profile.slow_us(more)?);
        Some(patience_ends_us.min(slack_ends_us)).filter(|until_us| *until_us > now_us)
    }

    /// Puts a batch together: the seed, then calls of its bucket from the front as long as their
    /// rows fit. The seed always does, or as much of it as a batch holds.
    fn gather(
        &mut self,
        seed: &Waiting,
        most: u64,
        now_us: u64,
        actions: &mut Vec<Action>,
    ) -> Gathering {
        let mut batch = Gathering { parts: Vec::new(), rows: 0, levels: [false; LEVELS] };
        let Arrival { rows, bucket, priority, .. } = seed.arrival;
        let seed_most = if self.is_oversized(&seed.arrival) { most } else { places(rows) };
        self.add(seed, seed_most, Turn::Ends, &mut batch);
        while batch.rows < most
            && let Some(waiting) = self.waiting.first_in(bucket).copied()
        {
            let arrival = &waiting.arrival;
            if let Some(refusal) = self.too_late(&waiting, now_us) {
                self.refuse(arrival.call, refusal, actions);
                continue;
            }
            let room = most - batch.rows;
            if !self.is_oversized(arrival) && places(arrival.rows) > room {
                break;
            }
            self.add(&waiting, room, Turn::Stays, &mut batch);
        }
        self.count_passes(level(priority), &batch.levels);
        batch
    }

    fn is_oversized(&self, arrival: &Arrival) -> bool {
        arrival.rows > self.config.max_rows
    }

    fn add(&mut self, waiting: &Waiting, most: u64, then: Turn, batch: &mut Gathering) {
        let part = self.waiting.take(waiting, u32::try_from(most).unwrap_or(u32::MAX), then);
        batch.rows += places(part.rows);
        batch.levels[level(waiting.arrival.priority)] = true;
        batch.parts.push(part);
    }

    /// Counts the batch against the levels that it passed over.
    fn count_passes(&mut self, seed: usize, served: &[bool; LEVELS]) {
        for (level, passed) in self.passed.iter_mut().enumerate() {
            if served[level] || self.waiting.is_empty_level(level) {
                *passed = 0;
            } else if level > seed {
                *passed += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
