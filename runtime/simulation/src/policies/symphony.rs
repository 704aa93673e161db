//! Deferred batching, as in Symphony: a batch does not begin before the moment from which one more
//! call could not be in time with it, and of those that may begin the one goes first that has to.
//!
//! Calls that would keep those behind them from a batch of a good size are dropped early.
//!
//! After Chen et al., 'Symphony: Optimized DNN Model Serving using Deferred Batch Scheduling',
//! 2023, section 3, and for the early drop Shen et al., 'Nexus', SOSP 2019; models stay where they
//! are.

use std::collections::{BTreeMap, BTreeSet};

use quern_scheduler::{ModelIndex, Refusal, ServingAction, ServingEvent, Slot};

use super::{floor::Floor, queues::Queues};
use crate::Policy;

/// Defers batches.
#[derive(Default)]
pub(crate) struct Symphony {
    floor: Floor,
    /// By deadline.
    queues: Queues,
    candidates: BTreeMap<ModelIndex, Candidate>,
    /// For each model the rows of a batch that is done in half the time that its calls have.
    targets: BTreeMap<ModelIndex, u32>,
    /// Candidates by the moment from which they may begin.
    moments: BTreeSet<(u64, ModelIndex)>,
}

/// The batch that a model would run next.
#[derive(Clone, Copy)]
struct Candidate {
    rows: u32,
    /// When it may begin.
    from_us: u64,
    /// When it has to.
    latest_us: u64,
}

impl Symphony {
    /// Works out a model's candidate anew, and drops what can't be in time any more.
    fn update(&mut self, model: ModelIndex, now_us: u64, actions: &mut Vec<ServingAction>) {
        if let Some(old) = self.candidates.remove(&model) {
            self.moments.remove(&(old.from_us, model));
        }
        let (profile, most) = (self.floor.profile(model), self.floor.max_rows(model));
        let target = self.targets.get(&model).copied().unwrap_or(1);
        let Some(queue) = self.queues.get(model) else { return };
        while let Some(first) = queue.first().copied() {
            let fitting = profile.rows_within(most, first.deadline_us.saturating_sub(now_us));
            if fitting < first.rows {
                queue.pop();
                let needed_us = profile.latency_us(first.rows);
                let reason = Refusal::TooLate { needed_us };
                actions.push(ServingAction::Reject { call: first.call, reason });
                continue;
            }
            // Early drop, as in Nexus: a call that would keep a batch of the target's size from
            // those behind it gives way to them.
            if fitting < target && queue.rows() > target.into() {
                queue.pop();
                let needed_us = profile.latency_us(target);
                let reason = Refusal::TooLate { needed_us };
                actions.push(ServingAction::Reject { call: first.call, reason });
                continue;
            }
            let rows = queue.rows_up_to(fitting);
            let is_full = rows == most || queue.rows() > rows.into();
            let from_us =
                first.deadline_us.saturating_sub(profile.latency_us(rows.saturating_add(1)));
            let candidate = Candidate {
                rows,
                from_us: if is_full { now_us } else { from_us.max(now_us) },
                latest_us: first.deadline_us - profile.latency_us(rows),
            };
            self.moments.insert((candidate.from_us, model));
            self.candidates.insert(model, candidate);
            return;
        }
    }

    fn dispatch(
        &mut self,
        slot: Slot,
        model: ModelIndex,
        now_us: u64,
        actions: &mut Vec<ServingAction>,
    ) {
        let Some(candidate) = self.candidates.get(&model).copied() else { return };
        let Some(queue) = self.queues.get(model) else { return };
        let calls = queue.take(candidate.rows);
        self.floor.occupy(slot);
        actions.push(ServingAction::Dispatch { slot, model, calls });
        self.update(model, now_us, actions);
    }

    /// Runs what may begin by now, where lanes are idle: what has to begin first before the rest.
    fn dispatch_ready(&mut self, now_us: u64, actions: &mut Vec<ServingAction>) {
        loop {
            let ready = self.moments.iter().take_while(|(from_us, _)| *from_us <= now_us);
            let ready: Vec<_> = ready.map(|(_, model)| *model).collect();
            let mut best: Option<(u64, ModelIndex, Slot)> = None;
            for model in ready {
                let Some(slot) = self.floor.idle_for(model) else { continue };
                self.update(model, now_us, actions);
                let Some(candidate) = self.candidates.get(&model) else { continue };
                if candidate.from_us <= now_us
                    && best.is_none_or(|(earliest_us, ..)| candidate.latest_us < earliest_us)
                {
                    best = Some((candidate.latest_us, model, slot));
                }
            }
            let Some((_, model, slot)) = best else { return };
            self.dispatch(slot, model, now_us, actions);
        }
    }
}

impl Policy for Symphony {
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        let mut actions = Vec::new();
        self.floor.observe(&event);
        if let ServingEvent::Arrival(call) = event {
            let (profile, most) = (self.floor.profile(call.model), self.floor.max_rows(call.model));
            let half_us = call.deadline_us.saturating_sub(now_us) / 2;
            self.targets.insert(call.model, profile.rows_within(most, half_us).max(1));
            self.queues.insert(call, call.deadline_us);
            self.update(call.model, now_us, &mut actions);
        }
        self.dispatch_ready(now_us, &mut actions);
        actions
    }

    fn next_tick_us(&self) -> Option<u64> {
        let waits = |(_, model): &&(u64, ModelIndex)| self.floor.idle_for(*model).is_some();
        self.moments.iter().find(waits).map(|(from_us, _)| *from_us)
    }
}
