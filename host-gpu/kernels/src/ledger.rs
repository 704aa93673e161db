//! What the tensors of a session are, and what they may still become. Decides which operators run:
//! counts memory before it is taken, and refuses before anything reaches a device. Never computes,
//! and knows no device.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    device::{self, BufferId, GRANULE_BYTES, Operand, Step},
    loan::{Loan, Outstanding},
};
use quern_operators::{
    Description, Dtype, Kernel, Layout, Operator, Seen, SessionError, SessionLimits, TensorId,
    Usage, View,
};

/// The tensors of one session. Whoever keeps it has every step that it makes carried out by one
/// lane, in order, or ends the session.
pub struct Ledger {
    id: u64,
    limits: SessionLimits,
    tensors: HashMap<u64, Operand>,
    buffers: HashMap<BufferId, Buffer>,
    loans: Vec<(BufferId, Outstanding)>,
    used_bytes: u64,
    next: u64,
}

/// What is known of a buffer.
struct Buffer {
    bytes: u64,
    /// Its tensors and loans.
    users: usize,
}

/// What an operator comes to.
pub struct Planned {
    /// What is to be computed; none: the results show elements that are there already.
    pub step: Option<Step>,
    /// The results, in the operator's order.
    pub outputs: Vec<TensorId>,
}

/// What lending a tensor comes to.
pub struct Lending {
    /// What is to be computed first: a copy, where the elements don't lie one after another.
    pub step: Option<Step>,
    /// Where they lie so.
    pub operand: Operand,
    /// Keeps them there.
    pub loan: Loan,
}

impl Ledger {
    /// A session without tensors.
    pub fn new(limits: SessionLimits) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            limits,
            tensors: HashMap::new(),
            buffers: HashMap::new(),
            loans: Vec::new(),
            used_bytes: 0,
            next: 0,
        }
    }

    /// A tensor of elements of the host, and the buffer that they are to be written to.
    pub fn upload(
        &mut self,
        description: Description,
        elements: &[u8],
    ) -> Result<(BufferId, TensorId), SessionError> {
        let (expected, actual) = (description.bytes(), elements.len() as u64);
        if expected != actual {
            return Err(SessionError::Length { description, expected, actual });
        }
        if description.dtype == Dtype::Bool
            && let Some(index) = elements.iter().position(|element| *element > 1)
        {
            return Err(SessionError::Bool { index, value: elements[index] });
        }
        self.receive(description)
    }

    /// A tensor of elements that are known to be right, and the buffer for them.
    pub fn receive(
        &mut self,
        description: Description,
    ) -> Result<(BufferId, TensorId), SessionError> {
        self.check_room(&[description])?;
        let buffer = self.buffer_id();
        let layout = Layout::dense(description.shape);
        Ok((buffer, self.insert(Operand { buffer, dtype: description.dtype, layout })))
    }

    /// What an operator comes to. The results may share memory with its inputs, which nothing ever
    /// changes.
    pub fn run(
        &mut self,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Planned, SessionError> {
        let inputs = inputs.iter().map(|id| self.operand(*id)).collect::<Result<Vec<_>, _>>()?;
        match operator {
            Operator::View(view) => self.view(view, &inputs),
            Operator::Kernel(kernel) => self.compute(kernel, &inputs),
        }
    }

    /// A tensor as devices know it.
    pub fn operand(&self, id: TensorId) -> Result<Operand, SessionError> {
        if id.session() != self.id {
            return Err(SessionError::Foreign(id));
        }
        self.tensors.get(&id.number()).copied().ok_or(SessionError::Unknown(id))
    }

    /// Gives up a tensor. With the last one that shares a buffer, that is to be freed: which, and
    /// the memory that it had.
    pub fn release(&mut self, id: TensorId) -> Result<Option<(BufferId, u64)>, SessionError> {
        let operand = self.operand(id)?;
        self.tensors.remove(&id.number());
        Ok(self.let_go(operand.buffer))
    }

    /// Lends the elements of a tensor to somebody outside. Their memory stays charged until the
    /// loan has ended, whatever is released.
    pub fn lend(&mut self, id: TensorId) -> Result<Lending, SessionError> {
        let found = self.operand(id)?;
        self.lend_if(found.layout.is_dense(), found)
    }

    /// The same of elements that are all of their buffer, to be shared with another session: that
    /// is charged as much as it keeps in use.
    pub fn lend_whole(&mut self, id: TensorId) -> Result<Lending, SessionError> {
        let found = self.operand(id)?;
        let bytes = self.buffers.get(&found.buffer).map_or(0, |buffer| buffer.bytes);
        let is_whole = found.layout.is_dense() && charge(&found.description()) == bytes;
        self.lend_if(is_whole, found)
    }

    /// Lends what is there if it will do, or a copy.
    fn lend_if(&mut self, will_do: bool, found: Operand) -> Result<Lending, SessionError> {
        let (step, operand) = if will_do {
            let buffer = self.buffers.get_mut(&found.buffer).expect("a tensor has its buffer");
            buffer.users += 1;
            (None, found)
        } else {
            // The loan takes the place of the only tensor that the copy has.
            let Planned { step, outputs } = self.compute(&Kernel::Copy, &[found])?;
            let copy = self.tensors.remove(&outputs[0].number()).expect("just inserted");
            (step, copy)
        };
        let (loan, outstanding) = Loan::new();
        self.loans.push((operand.buffer, outstanding));
        Ok(Lending { step, operand, loan })
    }

    /// Takes note of loans that have ended: what is to be freed by now, and the memory that it had.
    pub fn take_back(&mut self) -> Vec<(BufferId, u64)> {
        let ended: Vec<_> = self.loans.extract_if(.., |(_, loan)| loan.is_over()).collect();
        ended.into_iter().filter_map(|(buffer, _)| self.let_go(buffer)).collect()
    }

    /// What there is at the moment.
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.used_bytes, tensors: self.tensors.len() }
    }

    /// What there may be.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    fn view(&mut self, view: &View, inputs: &[Operand]) -> Result<Planned, SessionError> {
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
            return Ok(Planned { step: None, outputs: vec![self.insert(operand)] });
        }
        let planned = self.compute(&Kernel::Copy, inputs)?;
        for copy in &planned.outputs {
            let operand = self.tensors.get_mut(&copy.number()).expect("just inserted");
            operand.layout = layout;
        }
        Ok(planned)
    }

    fn compute(&mut self, kernel: &Kernel, inputs: &[Operand]) -> Result<Planned, SessionError> {
        let plan = device::plan(kernel, inputs)?;
        let (work, limit) = (plan.work, self.limits.work);
        if work > limit {
            return Err(SessionError::Work { operator: kernel.name(), work, limit });
        }
        self.check_room(&plan.outputs)?;
        let buffers: Vec<_> = plan.outputs.iter().map(|_| self.buffer_id()).collect();
        let step = Step::new(kernel, &plan, inputs, buffers);
        let outputs = step.outputs().iter().map(|output| self.insert(*output)).collect();
        Ok(Planned { step: Some(step), outputs })
    }

    /// Adds a tensor for which there is room; its buffer is charged with the first of its tensors.
    fn insert(&mut self, operand: Operand) -> TensorId {
        let charge = charge(&operand.description());
        let used_bytes = &mut self.used_bytes;
        let buffer = self.buffers.entry(operand.buffer).or_insert_with(|| {
            *used_bytes += charge;
            Buffer { bytes: charge, users: 0 }
        });
        buffer.users += 1;
        self.next += 1;
        self.tensors.insert(self.next, operand);
        TensorId::new(self.id, self.next)
    }

    /// One tensor or loan less of a buffer: which is to be freed if that was the last, and the
    /// memory that it had.
    fn let_go(&mut self, id: BufferId) -> Option<(BufferId, u64)> {
        let buffer = self.buffers.get_mut(&id).expect("what is used has its buffer");
        buffer.users -= 1;
        if buffer.users > 0 {
            return None;
        }
        let bytes = buffer.bytes;
        self.used_bytes -= bytes;
        self.buffers.remove(&id);
        Some((id, bytes))
    }

    fn buffer_id(&mut self) -> BufferId {
        self.next += 1;
        BufferId(self.next)
    }

    /// Whether there is room for tensors.
    pub fn check_room(&self, outputs: &[Description]) -> Result<(), SessionError> {
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
}

/// Memory that a new tensor takes.
pub fn charge(description: &Description) -> u64 {
    description.bytes().next_multiple_of(GRANULE_BYTES)
}
