//! What holds for every history of a batcher, over histories made at random. Never a particular
//! case: those are in the batcher's own tests.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use crate::{Action, Arrival, Batcher, BatcherConfig, CallId, Event, LaneId, Refusal};

/// A step of a history; what it refers to is chosen among what exists by then.
#[derive(Debug, Clone)]
enum Move {
    Arrive { calls: Vec<(u32, u64)> },
    Load,
    Complete { which: usize },
    Cancel { back: u64 },
    Tick,
}

fn moves() -> impl Strategy<Value = Vec<(u64, Move)>> {
    let one = prop_oneof![
        8 => vec((0..12u32, 0..400u64), 1..6).prop_map(|calls| Move::Arrive { calls }),
        1 => Just(Move::Load),
        4 => (0..8usize).prop_map(|which| Move::Complete { which }),
        1 => (0..20u64).prop_map(|back| Move::Cancel { back }),
        1 => Just(Move::Tick),
    ];
    vec((0..60u64, one), 1..200)
}

fn configs() -> impl Strategy<Value = BatcherConfig> {
    (1..4u16, 0..9u32, 0..12u32).prop_map(|(lanes, max_rows, max_waiting)| BatcherConfig {
        lanes,
        max_rows,
        max_waiting,
    })
}

/// A plain account of what a batcher may do, kept beside it.
struct Account {
    config: BatcherConfig,
    batcher: Batcher,
    loaded: u16,
    next_call: u64,
    waiting: BTreeMap<CallId, (u32, u64)>,
    running: BTreeMap<LaneId, u32>,
    last_dispatched: Option<CallId>,
    log: Vec<(u64, Event, Vec<Action>)>,
}

impl Account {
    fn new(config: BatcherConfig) -> Self {
        Self {
            config,
            batcher: Batcher::new(config),
            loaded: 0,
            next_call: 0,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            last_dispatched: None,
            log: Vec::new(),
        }
    }

    /// Turns a move into an event, unless nothing exists that it could refer to.
    fn event(&mut self, step: &Move, now_us: u64) -> Option<Event> {
        match step {
            Move::Arrive { calls } => {
                let calls = calls.iter().map(|(rows, allowed_us)| {
                    self.next_call += 1;
                    let (call, deadline_us) = (CallId(self.next_call), now_us + allowed_us);
                    self.waiting.insert(call, (*rows, deadline_us));
                    Arrival { call, rows: *rows, deadline_us }
                });
                Some(Event::Arrivals { calls: calls.collect() })
            }
            Move::Load if self.loaded < self.config.lanes => {
                self.loaded += 1;
                Some(Event::LaneFree { lane: LaneId(self.loaded - 1) })
            }
            Move::Load => None,
            Move::Complete { which } => {
                let (&lane, &rows) = self.running.iter().nth(*which % self.running.len().max(1))?;
                self.running.remove(&lane);
                Some(Event::Completion { lane, rows, compute_us: 7 })
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
                Action::Dispatch { lane, calls } => self.dispatched(*lane, calls, now_us)?,
                Action::Reject { call, reason } => self.refused(*call, *reason, &event, now_us)?,
            }
        }
        let free = self.running.len() < usize::from(self.loaded);
        prop_assert!(!free || self.waiting.is_empty(), "calls wait though a lane is idle");
        prop_assert!(self.waiting.len() <= self.config.max_waiting as usize);
        prop_assert_eq!(self.batcher.waiting(), self.waiting.len());
        let earliest = self.waiting.values().map(|(_, deadline_us)| *deadline_us).min();
        prop_assert_eq!(self.batcher.next_tick_us(), earliest);
        prop_assert!(earliest.is_none_or(|deadline_us| deadline_us > now_us));
        self.log.push((now_us, event, actions));
        Ok(())
    }

    fn dispatched(
        &mut self,
        lane: LaneId,
        calls: &[CallId],
        now_us: u64,
    ) -> Result<(), TestCaseError> {
        let is_idle = |lane: &LaneId| !self.running.contains_key(lane);
        let idle: Vec<_> = (0..self.loaded).map(LaneId).filter(is_idle).collect();
        prop_assert_eq!(Some(&lane), idle.first(), "not the lowest idle lane");
        prop_assert!(!calls.is_empty());
        let mut total = 0;
        for call in calls {
            prop_assert!(Some(*call) > self.last_dispatched, "{:?} was overtaken", call);
            self.last_dispatched = Some(*call);
            let Some((rows, deadline_us)) = self.waiting.remove(call) else {
                return Err(TestCaseError::fail(format!("{call:?} does not wait")));
            };
            prop_assert!(deadline_us > now_us, "{:?} has expired", call);
            total += rows.max(1);
        }
        prop_assert!(calls.len() == 1 || total <= self.config.max_rows);
        if let Some((_, (rows, _))) = self.waiting.first_key_value()
            && idle.len() == 1
        {
            prop_assert!(total + rows.max(&1) > self.config.max_rows, "one more would fit");
        }
        self.running.insert(lane, total);
        Ok(())
    }

    fn refused(
        &mut self,
        call: CallId,
        reason: Refusal,
        event: &Event,
        now_us: u64,
    ) -> Result<(), TestCaseError> {
        let Some((_, deadline_us)) = self.waiting.remove(&call) else {
            return Err(TestCaseError::fail(format!("{call:?} does not wait")));
        };
        match reason {
            Refusal::Expired => prop_assert!(deadline_us <= now_us),
            Refusal::QueueFull => {
                let Event::Arrivals { calls } = event else {
                    return Err(TestCaseError::fail("refused without an arrival"));
                };
                prop_assert!(calls.iter().any(|new| new.call == call), "{:?} waited", call);
                prop_assert!(self.waiting.len() >= self.config.max_waiting as usize);
            }
        }
        Ok(())
    }

    /// Lets everything run to its end.
    fn finish(&mut self, now_us: u64) -> Result<(), TestCaseError> {
        while let Some(event) = self.event(&Move::Load, now_us) {
            self.step(event, now_us)?;
        }
        while let Some(event) = self.event(&Move::Complete { which: 0 }, now_us) {
            self.step(event, now_us)?;
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
    fn every_call_is_answered_once(config in configs(), history in moves()) {
        let mut open = BTreeSet::new();
        for (_, event, actions) in play(config, &history)? {
            match event {
                Event::Arrivals { calls } => {
                    for arrival in calls {
                        prop_assert!(open.insert(arrival.call));
                    }
                }
                Event::Cancel { call } => drop(open.remove(&call)),
                _ => {}
            }
            for action in actions {
                let answered = match action {
                    Action::Dispatch { calls, .. } => calls,
                    Action::Reject { call, .. } => vec![call],
                };
                for call in answered {
                    prop_assert!(open.remove(&call), "{:?} is not open", call);
                }
            }
        }
        prop_assert!(open.is_empty(), "lost: {:?}", open);
    }

    #[test]
    fn the_same_events_give_the_same_actions(config in configs(), history in moves()) {
        let mut again = Batcher::new(config);
        for (now_us, event, actions) in play(config, &history)? {
            prop_assert_eq!(again.step(event, now_us), actions);
        }
    }
}
