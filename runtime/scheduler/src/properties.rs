//! What holds for every history of a batcher, over histories made at random. Never a particular
//! case: those are in the batcher's own tests.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use quern_types::Priority;

use crate::{
    Action, Arrival, Batcher, BatcherConfig, BucketId, CallId, Event, LaneId, Part, Refusal,
    batcher::PATIENCE, waiting::places,
};

/// A step of a history; what it refers to is chosen among what exists by then.
#[derive(Debug, Clone)]
enum Move {
    Arrive {
        calls: Vec<NewCall>,
    },
    Load,
    /// Without a time, the run failed and measured nothing.
    Complete {
        which: usize,
        compute_us: Option<u64>,
    },
    Cancel {
        back: u64,
    },
    Tick,
}

#[derive(Debug, Clone)]
struct NewCall {
    rows: u32,
    bytes: u64,
    bucket: u64,
    priority: u64,
    allowed_us: u64,
}

fn new_calls() -> impl Strategy<Value = NewCall> {
    let rows = prop_oneof![6 => 0..12u32, 1 => 0..60u32];
    let bucket = prop_oneof![3 => Just(0), 1 => 0..3u64];
    let priority = prop_oneof![2 => Just(0), 1 => 0..9u64];
    (rows, 0..60u64, bucket, priority, 0..400u64).prop_map(
        |(rows, bytes, bucket, priority, allowed_us)| NewCall {
            rows,
            bytes,
            bucket,
            priority,
            allowed_us,
        },
    )
}

fn moves() -> impl Strategy<Value = Vec<(u64, Move)>> {
    let complete = |(which, compute_us)| Move::Complete { which, compute_us };
    let one = prop_oneof![
        8 => vec(new_calls(), 1..6).prop_map(|calls| Move::Arrive { calls }),
        1 => Just(Move::Load),
        6 => (0..8usize, prop_oneof![1 => Just(None), 9 => (5..40u64).prop_map(Some)])
            .prop_map(complete),
        1 => (0..20u64).prop_map(|back| Move::Cancel { back }),
        1 => Just(Move::Tick),
    ];
    vec((0..60u64, one), 1..250)
}

fn configs() -> impl Strategy<Value = BatcherConfig> {
    let delay = prop_oneof![3 => Just(0), 1 => 1..200u64];
    (1..4u16, 0..9u32, 0..12u32, 0..300u64, delay, any::<bool>()).prop_map(
        |(lanes, max_rows, max_waiting, max_waiting_bytes, max_delay_us, one_bucket)| {
            BatcherConfig {
                lanes,
                max_rows,
                max_waiting,
                max_waiting_bytes,
                max_delay_us,
                one_bucket,
            }
        },
    )
}

/// A call as the account knows it: what came in, and how many of its rows were dispatched.
#[derive(Debug, Clone, Copy)]
struct Open {
    arrival: Arrival,
    taken: u32,
}

/// A plain account of what a batcher may do, kept beside it.
struct Account {
    config: BatcherConfig,
    batcher: Batcher,
    loaded: u16,
    next_call: u64,
    waiting: BTreeMap<CallId, Open>,
    running: BTreeMap<LaneId, u32>,
    /// For each level below the most urgent, the batches that passed over it.
    passed: BTreeMap<Priority, u32>,
    log: Vec<(u64, Event, Vec<Action>)>,
}

impl Account {
    fn new(config: BatcherConfig) -> Self {
        Self {
            config: BatcherConfig { max_rows: config.max_rows.max(1), ..config },
            batcher: Batcher::new(config),
            loaded: 0,
            next_call: 0,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            passed: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// Turns a move into an event, unless nothing exists that it could refer to.
    fn event(&mut self, step: &Move, now_us: u64) -> Option<Event> {
        match step {
            Move::Arrive { calls } => {
                let calls = calls.iter().map(|new| {
                    self.next_call += 1;
                    let arrival = Arrival {
                        call: CallId(self.next_call),
                        rows: new.rows,
                        bytes: new.bytes,
                        bucket: BucketId(if self.config.one_bucket { 0 } else { new.bucket }),
                        priority: Priority::from_parameter(new.priority),
                        deadline_us: now_us + new.allowed_us,
                    };
                    self.waiting.insert(arrival.call, Open { arrival, taken: 0 });
                    arrival
                });
                Some(Event::Arrivals { calls: calls.collect() })
            }
            Move::Load if self.loaded < self.config.lanes => {
                self.loaded += 1;
                Some(Event::LaneFree { lane: LaneId(self.loaded - 1) })
            }
            Move::Load => None,
            Move::Complete { which, compute_us } => {
                let (&lane, &rows) = self.running.iter().nth(*which % self.running.len().max(1))?;
                self.running.remove(&lane);
                Some(match *compute_us {
                    Some(compute_us) => Event::Completion { lane, rows, compute_us },
                    None => Event::LaneFree { lane },
                })
            }
            Move::Cancel { back } => {
                let call = CallId(self.next_call.saturating_sub(*back));
                self.waiting.remove(&call);
                Some(Event::Cancel { call })
            }
            Move::Tick => Some(Event::Tick),
        }
    }

    fn step(&mut self, event: Event, now_us: u64) -> Result<(), TestCaseError> {
        let actions = self.batcher.step(event.clone(), now_us);
        for action in &actions {
            match action {
                Action::Dispatch { lane, parts } => self.dispatched(*lane, parts, now_us)?,
                Action::Reject { call, reason } => self.refused(*call, *reason, &event, now_us)?,
            }
        }
        self.check_rest(now_us)?;
        self.log.push((now_us, event, actions));
        Ok(())
    }

    /// What holds between two steps.
    fn check_rest(&self, now_us: u64) -> Result<(), TestCaseError> {
        let held_until_us = self.batcher.held_until_us();
        let is_free = self.running.len() < usize::from(self.loaded);
        if is_free && !self.waiting.is_empty() {
            prop_assert!(self.config.max_delay_us > 0, "calls wait though a lane is idle");
            let latest = self.waiting.values().map(|open| open.arrival.deadline_us).min();
            prop_assert!(held_until_us.is_some_and(|until_us| until_us > now_us));
            prop_assert!(held_until_us < latest, "a deadline passes meanwhile");
            let left = |open: &Open| places(open.arrival.rows) - u64::from(open.taken);
            let rows: u64 = self.waiting.values().map(left).sum();
            prop_assert!(rows < self.config.max_rows.into(), "a full batch waits");
            let buckets: BTreeSet<_> =
                self.waiting.values().map(|open| open.arrival.bucket).collect();
            prop_assert_eq!(buckets.len(), 1, "two batches wait");
        } else {
            prop_assert_eq!(held_until_us, None);
        }
        let untouched = self.waiting.values().any(|open| open.taken == 0);
        let bytes: u64 = self.waiting.values().map(|open| open.arrival.bytes).sum();
        prop_assert!(!untouched || self.waiting.len() <= self.config.max_waiting as usize);
        prop_assert!(!untouched || bytes <= self.config.max_waiting_bytes);
        prop_assert_eq!(self.batcher.waiting(), self.waiting.len());
        prop_assert_eq!(self.batcher.waiting_bytes(), bytes);
        let earliest = self.waiting.values().map(|open| open.arrival.deadline_us).min();
        prop_assert_eq!(
            self.batcher.next_tick_us(),
            earliest.into_iter().chain(held_until_us).min()
        );
        prop_assert!(earliest.is_none_or(|deadline_us| deadline_us > now_us));
        Ok(())
    }

    fn dispatched(
        &mut self,
        lane: LaneId,
        parts: &[Part],
        now_us: u64,
    ) -> Result<(), TestCaseError> {
        let is_idle = |lane: &LaneId| !self.running.contains_key(lane);
        let idle: Vec<_> = (0..self.loaded).map(LaneId).filter(is_idle).collect();
        prop_assert_eq!(Some(&lane), idle.first(), "not the lowest idle lane");
        let Some(seed) = parts.first().and_then(|part| self.waiting.get(&part.call)) else {
            return Err(TestCaseError::fail("a batch of nothing that waits"));
        };
        let seed = seed.arrival;
        self.check_level(seed.priority)?;
        let (mut total, mut levels) = (0, BTreeSet::new());
        for part in parts {
            let Some(open) = self.waiting.get_mut(&part.call) else {
                return Err(TestCaseError::fail(format!("{:?} does not wait", part.call)));
            };
            let arrival = open.arrival;
            prop_assert!(arrival.deadline_us > now_us, "{:?} has expired", part.call);
            prop_assert_eq!(arrival.bucket, seed.bucket, "two buckets in a batch");
            prop_assert_eq!(part.first, open.taken, "rows are missing or come twice");
            let whole = part.first == 0 && part.rows == arrival.rows;
            prop_assert!(whole || arrival.rows > self.config.max_rows, "{:?} is split", part.call);
            prop_assert!(whole || part.rows > 0);
            open.taken += part.rows;
            prop_assert!(open.taken <= arrival.rows);
            if open.taken == arrival.rows {
                self.waiting.remove(&part.call);
            }
            total += places(part.rows);
            levels.insert(arrival.priority);
        }
        prop_assert!(total <= self.config.max_rows.into());
        self.count_passes(seed.priority, &levels);
        let total = u32::try_from(total).map_err(|_| TestCaseError::fail("absurd"))?;
        self.running.insert(lane, total);
        Ok(())
    }

    /// A batch begins in the most urgent level, but for one that was passed over often enough.
    fn check_level(&self, seed: Priority) -> Result<(), TestCaseError> {
        let most_urgent = self.waiting.values().map(|open| open.arrival.priority).min();
        let passed = self.passed.get(&seed).copied().unwrap_or(0);
        prop_assert!(Some(seed) == most_urgent || passed >= PATIENCE, "{:?} overtook", seed);
        Ok(())
    }

    fn count_passes(&mut self, seed: Priority, served: &BTreeSet<Priority>) {
        let waits: BTreeSet<_> = self.waiting.values().map(|open| open.arrival.priority).collect();
        self.passed.retain(|level, _| waits.contains(level) && !served.contains(level));
        for level in waits.difference(served).filter(|level| **level > seed) {
            *self.passed.entry(*level).or_default() += 1;
        }
    }

    fn refused(
        &mut self,
        call: CallId,
        reason: Refusal,
        event: &Event,
        now_us: u64,
    ) -> Result<(), TestCaseError> {
        let Some(Open { arrival, taken }) = self.waiting.remove(&call) else {
            return Err(TestCaseError::fail(format!("{call:?} does not wait")));
        };
        let arrived = matches!(event, Event::Arrivals { .. });
        let last = self.waiting.values().filter(|open| open.taken == 0).map(|open| {
            let Arrival { priority, call, .. } = open.arrival;
            (priority, call)
        });
        let is_last = last.max().is_none_or(|last| last < (arrival.priority, call));
        match reason {
            Refusal::Expired => prop_assert!(arrival.deadline_us <= now_us),
            Refusal::TooLate { needed_us } => {
                prop_assert!(arrival.deadline_us > now_us, "that is expired");
                prop_assert!(now_us + needed_us > arrival.deadline_us);
                let is_known = self.batcher.profile().all().any(|measured| measured.runs >= 16);
                prop_assert!(is_known, "refused by what was not measured");
            }
            Refusal::QueueFull | Refusal::MemoryFull => {
                prop_assert!(arrived, "refused without an arrival");
                prop_assert_eq!(taken, 0, "refused though it has run in part");
                prop_assert!(is_last, "not the last of the least urgent");
            }
        }
        Ok(())
    }

    /// Lets everything run to its end.
    fn finish(&mut self, mut now_us: u64) -> Result<(), TestCaseError> {
        while let Some(event) = self.event(&Move::Load, now_us) {
            self.step(event, now_us)?;
        }
        let complete = Move::Complete { which: 0, compute_us: None };
        loop {
            if let Some(event) = self.event(&complete, now_us) {
                self.step(event, now_us)?;
            } else if let Some(until_us) = self.batcher.held_until_us() {
                now_us = until_us;
                self.step(Event::Tick, now_us)?;
            } else {
                break;
            }
        }
        prop_assert!(self.waiting.is_empty(), "lost: {:?}", self.waiting);
        Ok(())
    }
}

/// Plays a history to its end and hands back everything that happened.
fn play(
    config: BatcherConfig,
    history: &[(u64, Move)],
) -> Result<Vec<(u64, Event, Vec<Action>)>, TestCaseError> {
    let mut account = Account::new(config);
    let mut now_us = 0;
    for (pause_us, step) in history {
        now_us += pause_us;
        if let Some(event) = account.event(step, now_us) {
            account.step(event, now_us)?;
        }
    }
    account.finish(now_us)?;
    Ok(account.log)
}

proptest! {
    #[test]
    fn every_history_keeps_the_rules(config in configs(), history in moves()) {
        play(config, &history)?;
    }

    #[test]
    fn every_row_is_dispatched_once_or_its_call_is_refused(
        config in configs(),
        history in moves(),
    ) {
        let mut open = BTreeMap::new();
        for (_, event, actions) in play(config, &history)? {
            match event {
                Event::Arrivals { calls } => {
                    for arrival in calls {
                        let rows = (0, arrival.rows);
                        prop_assert!(open.insert(arrival.call, rows).is_none());
                    }
                }
                Event::Cancel { call } => drop(open.remove(&call)),
                _ => {}
            }
            for action in actions {
                match action {
                    Action::Reject { call, .. } => prop_assert!(open.remove(&call).is_some()),
                    Action::Dispatch { parts, .. } => for part in parts {
                        let Some((next, rows)) = open.get_mut(&part.call) else {
                            return Err(TestCaseError::fail(format!("{part:?} is not open")));
                        };
                        prop_assert_eq!(*next, part.first);
                        *next += part.rows;
                        if *next == *rows {
                            open.remove(&part.call);
                        }
                    }
                }
            }
        }
        prop_assert!(open.is_empty(), "lost: {:?}", open);
    }

    #[test]
    fn calls_of_a_level_and_bucket_keep_their_order_where_no_deadline_is_known_to_be_near(
        config in configs(),
        history in moves(),
    ) {
        // Without measurements nothing overtakes; an oversized call takes turns with the others.
        let unmeasured = |(pause_us, step)| match step {
            Move::Complete { which, .. } => (pause_us, Move::Complete { which, compute_us: None }),
            other => (pause_us, other),
        };
        let history: Vec<_> = history.into_iter().map(unmeasured).collect();
        let mut kinds = BTreeMap::new();
        let mut last = BTreeMap::new();
        for (_, event, actions) in play(config, &history)? {
            if let Event::Arrivals { calls } = event {
                kinds.extend(calls.iter().map(|call| (call.call, *call)));
            }
            for action in actions {
                let Action::Dispatch { parts, .. } = action else { continue };
                for part in parts {
                    let arrival = kinds[&part.call];
                    if arrival.rows <= config.max_rows.max(1) {
                        let before = last.insert((arrival.priority, arrival.bucket), part.call);
                        prop_assert!(before < Some(part.call), "{:?} was overtaken", before);
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_events_give_the_same_actions(config in configs(), history in moves()) {
        let mut again = Batcher::new(config);
        for (now_us, event, actions) in play(config, &history)? {
            prop_assert_eq!(again.step(event, now_us), actions);
        }
    }
}

/// The decisions of a long history that is the same on every machine, as one number. A change of it
/// is a change of policy: live and simulated runs that were recorded before no longer replay.
#[test]
fn a_recorded_history_is_decided_as_it_was_recorded() {
    let mut random = 0x5eed_u64;
    let mut next = move |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let config = BatcherConfig {
        lanes: 2,
        max_rows: 8,
        max_waiting: 64,
        max_waiting_bytes: 4_096,
        max_delay_us: 0,
        one_bucket: false,
    };
    let mut account = Account::new(config);
    let (mut now_us, mut hash) = (0, 0xcbf2_9ce4_8422_2325_u64);
    for _ in 0..5_000 {
        now_us += next(30);
        let step = match next(10) {
            0..5 => {
                let call = |_| NewCall {
                    rows: u32::try_from(next(6) * next(4) + 1).expect("small"),
                    bytes: next(200),
                    bucket: next(2),
                    priority: next(8),
                    allowed_us: 50 + next(2_000),
                };
                Move::Arrive { calls: (0..2).map(call).collect() }
            }
            5..9 => Move::Complete { which: 0, compute_us: Some(20 + next(20)) },
            _ if account.loaded < 2 => Move::Load,
            _ => Move::Cancel { back: next(10) },
        };
        if let Some(event) = account.event(&step, now_us) {
            account.step(event, now_us).expect("the rules are kept");
            let (_, _, actions) = account.log.last().expect("just logged");
            for byte in format!("{actions:?}").bytes() {
                // FNV-1a.
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    assert_eq!(hash, 5_474_065_798_462_198_629);
}
