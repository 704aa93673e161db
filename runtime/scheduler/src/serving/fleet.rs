//! Serves many models on many devices: which calls run together, where and when, and which models
//! are on which device. Dispatches at once where a lane is idle; never what can't be in time.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    demand::Demand,
    devices::{Devices, Run},
    queue::{Line, Queue},
    residency,
    shares::Shares,
    times::BatchProfile,
};
use crate::{
    CallId, DeviceIndex, ModelIndex, Refusal, ServedModel, ServingAction, ServingCall,
    ServingDevice, ServingEvent, Slot,
};

/// All models and devices, and the calls that wait.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    models: BTreeMap<ModelIndex, Model>,
    devices: Devices,
    shares: Shares,
    waiting: BTreeMap<CallId, ServingCall>,
    /// The same calls by deadline.
    deadlines: BTreeSet<(u64, CallId)>,
    /// Models for which calls wait and that are on no device.
    homeless: BTreeSet<ModelIndex>,
}

/// A model, and the calls that wait for it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) bytes: u64,
    pub(super) load_us: u64,
    pub(super) demand: Demand,
    max_rows: u32,
    times: BatchProfile,
    queue: Queue,
}

impl Fleet {
    /// Takes in an event and says what to do, in this order.
    #[must_use = "calls whose actions are dropped never get an answer"]
    pub fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        let mut actions = Vec::new();
        match event {
            ServingEvent::Deploy(model) => self.deploy(model),
            ServingEvent::Weigh { tenant, weight_milli } => self.shares.weigh(tenant, weight_milli),
            ServingEvent::DeviceUp(device) => self.device_up(device, now_us, &mut actions),
            ServingEvent::DeviceDown(device) => self.device_down(device, now_us, &mut actions),
            ServingEvent::Arrival(call) => self.arrive(call, now_us, &mut actions),
            ServingEvent::Cancel(call) => self.forget(call),
            ServingEvent::Completion { slot, compute_us } => {
                self.complete(slot, compute_us);
                self.fill(slot.device, now_us, &mut actions);
                self.house(now_us, &mut actions);
            }
            ServingEvent::Loaded { model, device, load_us } => {
                self.loaded(model, device, load_us);
                self.fill(device, now_us, &mut actions);
                self.house(now_us, &mut actions);
            }
            ServingEvent::LoadFailed { model, device } => {
                let bytes = self.models.get(&model).map_or(0, |model| model.bytes);
                self.devices.give_up(device, model, bytes);
                let waits = self.models.get(&model).is_some_and(|model| !model.queue.is_empty());
                if waits && self.devices.places(model).next().is_none() {
                    self.homeless.insert(model);
                }
                self.house(now_us, &mut actions);
            }
            ServingEvent::Tick => self.refuse_expired(now_us, &mut actions),
        }
        actions
    }

    /// The moment for a [`ServingEvent::Tick`], unless another event comes before: the earliest
    /// deadline of a waiting call.
    pub fn next_tick_us(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_us, _)| *deadline_us)
    }

    fn refuse_expired(&mut self, now_us: u64, actions: &mut Vec<ServingAction>) {
        while let Some((deadline_us, call)) = self.deadlines.first().copied()
            && deadline_us <= now_us
        {
            self.forget(call);
            actions.push(ServingAction::Reject { call, reason: Refusal::Expired });
        }
    }

    /// Loads what calls wait for and no device has, as far as there is a place by now.
    fn house(&mut self, now_us: u64, actions: &mut Vec<ServingAction>) {
        for model in self.homeless.clone() {
            self.spread(model, 0, now_us, actions);
        }
    }

    fn deploy(&mut self, model: ServedModel) {
        let new = || Model {
            bytes: model.bytes,
            load_us: model.load_us,
            demand: Demand::new(model.load_us),
            max_rows: 1,
            times: model.profile.clone(),
            queue: Queue::default(),
        };
        // Said anew of a known one, it changes what its next batches are; its size stays.
        let known = self.models.entry(model.model).or_insert_with(new);
        known.max_rows = model.max_rows.max(1);
        known.times = model.profile;
    }

    fn device_up(&mut self, device: ServingDevice, now_us: u64, actions: &mut Vec<ServingAction>) {
        // What ran there runs nowhere if it begins anew.
        self.device_down(device.device, now_us, actions);
        let bytes = |model: &ModelIndex| self.models.get(model).map_or(0, |model| model.bytes);
        let used_bytes = device.resident.iter().map(bytes).sum();
        let index = device.device;
        self.devices.up(device, used_bytes);
        self.shares.set_lanes(self.devices.lanes());
        self.fill(index, now_us, actions);
        self.house(now_us, actions);
    }

    /// What ran on the device waits again, if there is time for it.
    fn device_down(&mut self, device: DeviceIndex, now_us: u64, actions: &mut Vec<ServingAction>) {
        let lost = self.devices.down(device);
        self.shares.set_lanes(self.devices.lanes());
        for run in lost {
            self.settle(&run, 0);
            run.calls.iter().for_each(|call| self.wait(*call));
            self.serve(run.model, now_us, actions);
        }
        let waits =
            |(model, known): (&ModelIndex, &Model)| (!known.queue.is_empty()).then_some(*model);
        for model in self.models.iter().filter_map(waits).collect::<Vec<_>>() {
            self.spread(model, 0, now_us, actions);
        }
    }

    fn arrive(&mut self, call: ServingCall, now_us: u64, actions: &mut Vec<ServingAction>) {
        let known = self.models.get_mut(&call.model).filter(|model| call.rows <= model.max_rows);
        let Some(model) = known else {
            // Nobody can say when it would be done.
            let reason = Refusal::TooLate { needed_us: u64::MAX };
            actions.push(ServingAction::Reject { call: call.call, reason });
            return;
        };
        model.demand.record(now_us);
        self.wait(call);
        self.serve(call.model, now_us, actions);
        self.spread(call.model, call.deadline_us, now_us, actions);
    }

    fn wait(&mut self, call: ServingCall) {
        if let Some(model) = self.models.get_mut(&call.model) {
            model.queue.insert(call);
            self.shares.wait(call.tenant);
            self.deadlines.insert((call.deadline_us, call.call));
            self.waiting.insert(call.call, call);
        }
    }

    /// Takes a call out of those that wait, if it does.
    fn forget(&mut self, call: CallId) {
        if let Some(call) = self.waiting.get(&call).copied() {
            if let Some(model) = self.models.get_mut(&call.model) {
                model.queue.remove(&call);
            }
            self.leave(&call);
        }
    }

    /// A call that is out of its queue no longer waits.
    fn leave(&mut self, call: &ServingCall) {
        self.shares.leave(call.tenant);
        self.waiting.remove(&call.call);
        self.deadlines.remove(&(call.deadline_us, call.call));
    }

    /// Runs batches of a model as long as there are idle lanes and calls.
    fn serve(&mut self, index: ModelIndex, now_us: u64, actions: &mut Vec<ServingAction>) {
        while let Some(slot) = self.devices.idle_for(index)
            && let Some(line) = self.next_line(index, now_us, actions)
        {
            self.dispatch(slot, index, line, now_us, actions);
        }
    }

    /// Gives the idle lanes of a device to those of its models whose turn it is: by urgency, then
    /// by what the tenants have had, then by deadline.
    fn fill(&mut self, device: DeviceIndex, now_us: u64, actions: &mut Vec<ServingAction>) {
        while let Some(place) = self.devices.get(device)
            && let Some(lane) = place.idle.first().copied()
        {
            let models: Vec<_> = place.resident.iter().copied().collect();
            let mut best = None;
            for index in models {
                let Some(line) = self.next_line(index, now_us, actions) else { continue };
                let Some(begin_us) = self.models[&index].begin_us(line, now_us) else { continue };
                let rank = (line.level, self.shares.turns(line.tenant), begin_us, index);
                if best.is_none_or(|(other, _)| rank < other) {
                    best = Some((rank, line));
                }
            }
            let Some(((.., index), line)) = best else { return };
            self.dispatch(Slot { device, lane }, index, line, now_us, actions);
        }
    }

    /// The line of a model whose turn it is, after what can't be in time is refused, and what
    /// would keep the others from a batch that is worth it.
    fn next_line(
        &mut self,
        index: ModelIndex,
        now_us: u64,
        actions: &mut Vec<ServingAction>,
    ) -> Option<Line> {
        loop {
            let model = self.models.get_mut(&index)?;
            let line = model.queue.turn(&self.shares)?;
            let first = model.queue.first(line)?;
            // A model that was said anew may take fewer rows than a call that waits already has.
            let is_late = first.rows > model.max_rows
                || first.deadline_us < now_us.saturating_add(model.times.latency_us(first.rows));
            let is_scarce = self.devices.idle_lanes(index) <= 1;
            let Model { queue, times, max_rows, .. } = model;
            let refused = match is_late {
                true => vec![line],
                false if is_scarce => {
                    queue.in_the_way(line, &self.shares, times, *max_rows, now_us)
                }
                // Nobody is in the way of what another lane can take.
                false => Vec::new(),
            };
            if refused.is_empty() {
                return Some(line);
            }
            let late: Vec<_> = refused.into_iter().filter_map(|line| queue.pop(line)).collect();
            let needed_us: Vec<_> =
                late.iter().map(|call| model.times.latency_us(call.rows)).collect();
            for (call, needed_us) in late.iter().zip(needed_us) {
                self.leave(call);
                let reason = Refusal::TooLate { needed_us };
                actions.push(ServingAction::Reject { call: call.call, reason });
            }
        }
    }

    fn dispatch(
        &mut self,
        slot: Slot,
        index: ModelIndex,
        line: Line,
        now_us: u64,
        actions: &mut Vec<ServingAction>,
    ) {
        let Some(model) = self.models.get_mut(&index) else { return };
        let batch = model.queue.take(line, &self.shares, &model.times, model.max_rows, now_us);
        debug_assert!(!batch.calls.is_empty(), "its first call was just found to fit");
        let expected_us = model.times.latency_us(batch.rows);
        for call in &batch.calls {
            self.leave(call);
            self.shares.charge(call.tenant, part(expected_us, call.rows, batch.rows));
        }
        actions.push(ServingAction::Dispatch { slot, model: index, calls: batch.ids() });
        let run = Run { model: index, calls: batch.calls, rows: batch.rows, expected_us };
        self.devices.run(slot, run);
    }

    fn complete(&mut self, slot: Slot, compute_us: u64) {
        if let Some(run) = self.devices.free(slot) {
            self.settle(&run, compute_us);
        }
    }

    /// Charges the tenants of a batch with what it took, instead of what it was thought to.
    fn settle(&mut self, run: &Run, compute_us: u64) {
        for call in &run.calls {
            let [charged_us, us] =
                [run.expected_us, compute_us].map(|us| part(us, call.rows, run.rows));
            self.shares.correct(call.tenant, charged_us, us);
        }
    }

    fn loaded(&mut self, index: ModelIndex, device: DeviceIndex, load_us: u64) {
        if self.devices.get(device).is_none_or(|device| device.loading != Some(index)) {
            return;
        }
        self.devices.settle(device, index);
        if let Some(model) = self.models.get_mut(&index) {
            model.load_us = model.load_us / 8 * 7 + load_us / 8;
        }
    }

    /// Loads a model onto one more device, if what waits for it would be late without, and not
    /// with it.
    fn spread(
        &mut self,
        index: ModelIndex,
        deadline_us: u64,
        now_us: u64,
        actions: &mut Vec<ServingAction>,
    ) {
        let Some(model) = self.models.get(&index) else { return };
        let has_place = self.devices.places(index).next().is_some();
        if has_place || model.queue.is_empty() {
            self.homeless.remove(&index);
        } else {
            self.homeless.insert(index);
        }
        if model.queue.is_empty() {
            return;
        }
        let slack_us = deadline_us.saturating_sub(now_us);
        let compute_us = model.times.latency_us(1);
        if has_place
            && (model.load_us.saturating_add(compute_us) > slack_us
                || self.clear_us(index) <= slack_us)
        {
            return;
        }
        let Some(to) = residency::place(index, &self.models, &self.devices, now_us) else { return };
        for evicted in to.evicted {
            let bytes = self.models[&evicted].bytes;
            self.devices.evict(to.device, evicted, bytes);
            actions.push(ServingAction::Evict { model: evicted, device: to.device });
            let waits = self.models.get(&evicted).is_some_and(|model| !model.queue.is_empty());
            if waits && self.devices.places(evicted).next().is_none() {
                self.homeless.insert(evicted);
            }
        }
        self.homeless.remove(&index);
        self.devices.load(to.device, index, self.models[&index].bytes);
        actions.push(ServingAction::Load { model: index, device: to.device });
    }

    /// When all that waits for a model would be done on the devices that have it, or will, if the
    /// models of each share it evenly as far as calls wait for them.
    fn clear_us(&self, index: ModelIndex) -> u64 {
        let model = &self.models[&index];
        let mut lanes_milli = 0;
        let mut begin_us = u64::MAX;
        for place in self.devices.places(index) {
            let Some(device) = self.devices.get(place) else { continue };
            let waits = |model: &&ModelIndex| {
                **model != index
                    && self.models.get(model).is_some_and(|model| !model.queue.is_empty())
            };
            let others = device.resident.iter().filter(waits).count() as u64;
            lanes_milli += u64::from(device.lanes) * 1_000 / (others + 1);
            let is_loading = device.loading == Some(index);
            begin_us = begin_us.min(if is_loading { model.load_us } else { 0 });
        }
        let rows = u32::try_from(model.queue.rows()).unwrap_or(u32::MAX).max(1);
        let batch = rows.min(model.max_rows);
        let batches = u64::from(rows.div_ceil(batch)) * 1_000 / lanes_milli.max(1) + 1;
        begin_us.saturating_add(batches.saturating_mul(model.times.latency_us(batch)))
    }
}

impl Model {
    /// When the next batch has to begin, so that nobody in it is late. To go by that rather than by
    /// the deadline puts full batches first, and serves several percent more under overload.
    fn begin_us(&self, line: Line, now_us: u64) -> Option<u64> {
        let first = self.queue.first(line)?;
        let slack_us = first.deadline_us.saturating_sub(now_us);
        let fitting = self.times.rows_within(self.max_rows, slack_us);
        let rows = u32::try_from(self.queue.rows()).unwrap_or(u32::MAX).min(fitting);
        Some(first.deadline_us.saturating_sub(self.times.latency_us(rows)))
    }
}

/// A call's part of what its batch takes.
fn part(us: u64, rows: u32, all: u32) -> u64 {
    us.saturating_mul(rows.into()) / u64::from(all.max(1))
}

#[cfg(test)]
mod tests;
