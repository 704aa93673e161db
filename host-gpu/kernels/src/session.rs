//! Tensors of one user of a device. Decides which operators run: it knows what every tensor is,
//! counts memory before it is taken, and refuses before anything reaches the device.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Device, Lane,
    device::{self, BufferId, GRANULE_BYTES, Operand, Step},
};
use quern_operators::{
    Description, Dtype, Kernel, LaneError, Layout, Operator, Seen, SessionError, SessionLimits,
    TensorId, Usage, View,
};

/// Tensors on a device, and what is computed of them, in order. Dropping it frees everything.
pub struct Session {
    id: u64,
    lane: Box<dyn Lane>,
    limits: SessionLimits,
    tensors: HashMap<u64, Operand>,
    buffers: HashMap<BufferId, Buffer>,
    used_bytes: u64,
    next: u64,
    failure: Option<LaneError>,
}

/// What is known of a buffer.
struct Buffer {
    bytes: u64,
    tensors: usize,
}

impl Session {
    /// A session of a device.
    pub fn open(device: &dyn Device, limits: SessionLimits) -> Result<Self, LaneError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            lane: device.open(limits.bytes)?,
            limits,
            tensors: HashMap::new(),
            buffers: HashMap::new(),
            used_bytes: 0,
            next: 0,
            failure: None,
        })
    }

    /// A tensor of elements of the host, little-endian and row-major.
    pub fn upload(
        &mut self,
        description: Description,
        elements: &[u8],
    ) -> Result<TensorId, SessionError> {
        self.check_lane()?;
        let (expected, actual) = (description.bytes(), elements.len() as u64);
        if expected != actual {
            return Err(SessionError::Length { description, expected, actual });
        }
        if description.dtype == Dtype::Bool
            && let Some(index) = elements.iter().position(|element| *element > 1)
        {
            return Err(SessionError::Bool { index, value: elements[index] });
        }
        self.check_room(&[description])?;
        let buffer = self.buffer_id();
        let written = self.lane.write(buffer, elements);
        self.note(written)?;
        let layout = Layout::dense(description.shape);
        Ok(self.insert(Operand { buffer, dtype: description.dtype, layout }))
    }

    /// The results of an operator. They may share memory with its inputs, which nothing ever
    /// changes. Answers perhaps before they are computed.
    pub fn run(
        &mut self,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, SessionError> {
        self.check_lane()?;
        let inputs = inputs.iter().map(|id| self.operand(*id)).collect::<Result<Vec<_>, _>>()?;
        match operator {
            Operator::View(view) => Ok(vec![self.view(view, &inputs)?]),
            Operator::Kernel(kernel) => self.compute(kernel, &inputs),
        }
    }

    /// What a tensor is.
    pub fn describe(&self, id: TensorId) -> Result<Description, SessionError> {
        Ok(self.operand(id)?.description())
    }

    /// The elements of a tensor, little-endian and row-major, once they are computed.
    pub fn read(&mut self, id: TensorId) -> Result<Vec<u8>, SessionError> {
        self.check_lane()?;
        let operand = self.operand(id)?;
        let elements = self.lane.read(&operand);
        self.note(elements)
    }

    /// Waits until everything is computed.
    pub fn finish(&mut self) -> Result<(), SessionError> {
        self.check_lane()?;
        let finished = self.lane.finish();
        self.note(finished)
    }

    /// Gives up a tensor; its memory is free with the last tensor that shares it.
    pub fn release(&mut self, id: TensorId) -> Result<(), SessionError> {
        let operand = self.operand(id)?;
        self.tensors.remove(&id.number());
        let buffer = self.buffers.get_mut(&operand.buffer).expect("a tensor has its buffer");
        buffer.tensors -= 1;
        if buffer.tensors == 0 {
            self.used_bytes -= buffer.bytes;
            self.buffers.remove(&operand.buffer);
            self.lane.free(operand.buffer);
        }
        Ok(())
    }

    /// What it has at the moment.
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.used_bytes, tensors: self.tensors.len() }
    }

    fn view(&mut self, view: &View, inputs: &[Operand]) -> Result<TensorId, SessionError> {
        let seen: Vec<_> = inputs.iter().map(|input| (input.description(), input.layout)).collect();
        let seen = view.plan(&seen)?;
        let [x] = inputs else { unreachable!("a view is planned of one tensor") };
        let (Seen::Directly(layout) | Seen::OfCopy(layout)) = seen;
        let operand = Operand { layout, ..*x };
        let bytes = operand.description().bytes();
        if bytes > self.limits.bytes {
            return Err(self.over_budget(bytes));
        }
        if let Seen::Directly(_) = seen {
            self.check_count(1)?;
            return Ok(self.insert(operand));
        }
        let copies = self.compute(&Kernel::Copy, inputs)?;
        for copy in &copies {
            let operand = self.tensors.get_mut(&copy.number()).expect("just inserted");
            operand.layout = layout;
        }
        Ok(copies[0])
    }

    fn compute(
        &mut self,
        kernel: &Kernel,
        inputs: &[Operand],
    ) -> Result<Vec<TensorId>, SessionError> {
        let plan = device::plan(kernel, inputs)?;
        let (work, limit) = (plan.work, self.limits.work);
        if work > limit {
            return Err(SessionError::Work { operator: kernel.name(), work, limit });
        }
        self.check_room(&plan.outputs)?;
        let buffers: Vec<_> = plan.outputs.iter().map(|_| self.buffer_id()).collect();
        let step = Step::new(kernel, &plan, inputs, buffers);
        let executed = self.lane.execute(&step);
        self.note(executed)?;
        Ok(step.outputs().iter().map(|output| self.insert(*output)).collect())
    }

    fn operand(&self, id: TensorId) -> Result<Operand, SessionError> {
        if id.session() != self.id {
            return Err(SessionError::Foreign(id));
        }
        self.tensors.get(&id.number()).copied().ok_or(SessionError::Unknown(id))
    }

    /// Adds a tensor for which there is room; its buffer is charged with the first of its tensors.
    fn insert(&mut self, operand: Operand) -> TensorId {
        let charge = charge(&operand.description());
        let used_bytes = &mut self.used_bytes;
        let buffer = self.buffers.entry(operand.buffer).or_insert_with(|| {
            *used_bytes += charge;
            Buffer { bytes: charge, tensors: 0 }
        });
        buffer.tensors += 1;
        self.next += 1;
        self.tensors.insert(self.next, operand);
        TensorId::new(self.id, self.next)
    }

    fn buffer_id(&mut self) -> BufferId {
        self.next += 1;
        BufferId(self.next)
    }

    fn check_room(&self, outputs: &[Description]) -> Result<(), SessionError> {
        self.check_count(outputs.len())?;
        let needed = outputs.iter().map(charge).fold(0, u64::saturating_add);
        if needed > self.limits.bytes.saturating_sub(self.used_bytes) {
            return Err(self.over_budget(needed));
        }
        Ok(())
    }

    fn check_count(&self, more: usize) -> Result<(), SessionError> {
        let limit = self.limits.tensors;
        if more > limit.saturating_sub(self.tensors.len()) {
            return Err(SessionError::Tensors { limit });
        }
        Ok(())
    }

    fn over_budget(&self, needed: u64) -> SessionError {
        SessionError::Budget { needed, used: self.used_bytes, limit: self.limits.bytes }
    }

    fn check_lane(&self) -> Result<(), SessionError> {
        self.failure.clone().map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Keeps the first thing that went wrong.
    fn note<T>(&mut self, outcome: Result<T, LaneError>) -> Result<T, SessionError> {
        if let Err(failure) = &outcome {
            self.failure.get_or_insert(failure.clone());
        }
        Ok(outcome?)
    }
}

/// Memory that a new tensor takes.
fn charge(description: &Description) -> u64 {
    description.bytes().next_multiple_of(GRANULE_BYTES)
}
