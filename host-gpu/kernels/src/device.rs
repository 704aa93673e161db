//! What a device does for sessions: it carries out steps, in order. Never checks what it is asked
//! for: a step exists only where its inputs fit, and the [`Ledger`](crate::Ledger) counts memory.

use crate::{Elements, HostBuffer};
use quern_operators::{Description, Dtype, Kernel, LaneError, Layout, OperatorError, Plan, Shape};
use serde::{Deserialize, Serialize};

/// Memory is charged in multiples of so many bytes, as devices allocate it.
pub const GRANULE_BYTES: u64 = 256;

/// Something with memory of its own that computes on it.
pub trait Device: Send + Sync {
    /// A lane for one session, which never holds more than `budget_bytes` at a time.
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError>;

    /// The same where it computes for the lanes of one such number one after another.
    fn open_on(&self, number: usize, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError> {
        let _ = number;
        self.open(budget_bytes)
    }

    /// Memory that all its lanes hold.
    fn held_bytes(&self) -> u64;

    /// Whether it computes where it is called. Where not, a call may wait for others than the device
    /// itself, and is not to be made by whoever must not wait; but for [`Device::open_on`], which
    /// never waits there.
    fn is_here(&self) -> bool {
        true
    }

    /// Why nothing of it can be relied on any more, if that is so: its process is to be replaced.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// Carries out what one session asks for, each after what was asked for before. A lane may answer
/// before it has computed; then what goes wrong is told later, [`Lane::finish`] at the latest.
/// After an error a lane is only good for [`Lane::free`]. Dropping it frees everything.
pub trait Lane: Send {
    /// Makes a buffer of these bytes.
    fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), LaneError>;

    /// The same of elements that it may keep, where that saves a copy.
    fn adopt(&mut self, buffer: BufferId, elements: HostBuffer) -> Result<(), LaneError> {
        self.write(buffer, elements.bytes())
    }

    /// Makes the buffers of the step's outputs and computes every element of them.
    fn execute(&mut self, step: &Step) -> Result<(), LaneError>;

    /// The elements of a tensor in row-major order, once what was asked for before is done.
    fn read(&mut self, operand: &Operand) -> Result<Vec<u8>, LaneError>;

    /// The same of a tensor that lies dense in its buffer: without a copy where that is memory of
    /// the host, which then is there for as long as they are.
    fn lend(&mut self, operand: &Operand) -> Result<Elements, LaneError> {
        self.read(operand).map(Elements::from)
    }

    /// Makes a buffer of elements that another lane has lent: the same memory where that was one of
    /// this device, they are all of a buffer, and it is the host's.
    fn share(&mut self, buffer: BufferId, elements: Elements) -> Result<(), LaneError> {
        self.write(buffer, elements.bytes())
    }

    /// Gives back a buffer once what was asked for before is done.
    fn free(&mut self, buffer: BufferId);

    /// Waits until everything that was asked for is done.
    fn finish(&mut self) -> Result<(), LaneError>;

    /// Sees to it that what was asked for is begun, as nothing more is asked for at the moment.
    fn flush(&mut self) -> Result<(), LaneError> {
        Ok(())
    }

    /// Gives back everything, and waits until that is done, as dropping it does.
    fn close(&mut self) {}

    /// How long the device has computed by what is known by now, in ns since this was last asked;
    /// none where that is as long as its calls took.
    fn computed_ns(&mut self) -> Option<u64> {
        None
    }
}

/// A buffer of a lane; its ids are given by the session and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BufferId(pub(crate) u64);

/// A tensor as devices know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    pub(crate) buffer: BufferId,
    pub(crate) dtype: Dtype,
    pub(crate) layout: Layout,
}

impl Operand {
    /// Where its elements are.
    pub fn buffer(&self) -> BufferId {
        self.buffer
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Where in the buffer they lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it is.
    pub fn description(&self) -> Description {
        Description::new(self.dtype, *self.layout.shape())
    }
}

/// A computation that is known to fit: nothing but a [`Ledger`](crate::Ledger) makes one. It may be
/// written for another process of this program, and is there what it was: it is read from nobody
/// else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    kernel: Kernel,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    work: u64,
}

impl Step {
    /// A step that carries out a plan of the kernel, with a buffer for each output.
    pub(crate) fn new(
        kernel: &Kernel,
        plan: &Plan,
        inputs: &[Operand],
        buffers: impl IntoIterator<Item = BufferId>,
    ) -> Self {
        let stretch = |(input, shape): (&Operand, &Shape)| {
            let layout = input.layout.broadcast(*shape).expect("a plan stretches what broadcasts");
            Operand { layout, ..*input }
        };
        let place = |(output, buffer): (&Description, BufferId)| Operand {
            buffer,
            dtype: output.dtype,
            layout: Layout::dense(output.shape),
        };
        Self {
            kernel: kernel.clone(),
            inputs: inputs.iter().zip(&plan.inputs).map(stretch).collect(),
            outputs: plan.outputs.iter().zip(buffers).map(place).collect(),
            work: plan.work,
        }
    }

    /// What is computed.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Of what, in the kernel's order; stretched already to where they meet.
    pub fn inputs(&self) -> &[Operand] {
        &self.inputs
    }

    /// What comes out; dense, in buffers that don't exist yet.
    pub fn outputs(&self) -> &[Operand] {
        &self.outputs
    }

    /// What its time grows with, as [`Plan::work`].
    pub fn work(&self) -> u64 {
        self.work
    }
}

/// A plan of a kernel on operands.
pub(crate) fn plan(kernel: &Kernel, inputs: &[Operand]) -> Result<Plan, OperatorError> {
    let descriptions: Vec<_> = inputs.iter().map(Operand::description).collect();
    kernel.plan(&descriptions)
}
