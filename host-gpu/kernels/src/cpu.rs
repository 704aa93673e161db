//! The device that is always there: tensors in the host's memory, computed by its processors as
//! soon as they are asked for. Trusts steps, but for the bounds of memory.

mod attention;
mod convolution;
mod cross_entropy;
mod dense;
mod distances;
mod element;
mod elementwise;
mod float;
mod histogram;
mod indexing;
mod integers;
mod launch;
mod lent;
mod matmul;
mod memory;
mod movement;
mod number;
mod optimizer;
mod ordering;
mod pooling;
mod random;
mod reduction;
mod rows;
mod scan;
mod source;
mod threads;
mod turned;
mod vector;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{BufferId, Device, Elements, Lane, LaneError, Operand, Step};
use bytes::Bytes;
use launch::Launch;
use lent::Lent;
pub use memory::Buffer as HostBuffer;
use memory::{Buffer, Memory};
use threads::Threads;
pub use threads::alone;

/// The host's processors as a device.
pub struct CpuDevice {
    threads: Arc<Threads>,
    held_bytes: Arc<AtomicU64>,
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
#[error("threads to compute with could not be started")]
pub struct CpuDeviceError(#[from] rayon::ThreadPoolBuildError);

impl CpuDevice {
    /// A device that computes large steps with so many threads, and small ones with that of its
    /// caller.
    pub fn new(threads: NonZeroUsize) -> Result<Self, CpuDeviceError> {
        Ok(Self { threads: Arc::new(Threads::new(threads)?), held_bytes: Arc::default() })
    }
}

impl Device for CpuDevice {
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError> {
        let memory = Memory::new(budget_bytes, self.held_bytes.clone());
        Ok(Box::new(CpuLane { threads: self.threads.clone(), memory }))
    }

    fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// Computes at once, so that nothing is ever under way.
struct CpuLane {
    threads: Arc<Threads>,
    memory: Memory,
}

impl CpuLane {
    /// Memory for each output of a step, all of it or none.
    fn allocate(&self, step: &Step) -> Result<Vec<Buffer>, LaneError> {
        let mut buffers = Vec::with_capacity(step.outputs().len());
        for output in step.outputs() {
            match self.memory.allocate(output.description().bytes()) {
                Ok(buffer) => buffers.push(buffer),
                Err(error) => {
                    buffers.into_iter().for_each(|buffer| self.memory.recycle(buffer));
                    return Err(error);
                }
            }
        }
        Ok(buffers)
    }
}

impl Lane for CpuLane {
    fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), LaneError> {
        let mut fresh = self.memory.allocate(bytes.len() as u64)?;
        self.threads.copy(bytes, fresh.bytes_mut());
        self.memory.keep(buffer, fresh);
        Ok(())
    }

    fn adopt(&mut self, buffer: BufferId, elements: Buffer) -> Result<(), LaneError> {
        let adopted = self.memory.adopt(elements)?;
        self.memory.keep(buffer, adopted);
        Ok(())
    }

    fn execute(&mut self, step: &Step) -> Result<(), LaneError> {
        let mut buffers = self.allocate(step)?;
        let mut out: Vec<_> = buffers.iter_mut().map(Buffer::bytes_mut).collect();
        let launch = Launch::new(&self.threads, &self.memory, step);
        let computed = launch.run(step.kernel(), &mut out);
        for (output, buffer) in step.outputs().iter().zip(buffers) {
            match computed {
                Ok(()) => self.memory.keep(output.buffer(), buffer),
                Err(_) => self.memory.recycle(buffer),
            }
        }
        computed
    }

    fn read(&mut self, operand: &Operand) -> Result<Vec<u8>, LaneError> {
        let bytes = operand.description().bytes();
        let too_much = || LaneError::Memory { bytes };
        let length = usize::try_from(bytes).map_err(|_| too_much())?;
        let mut out = bytemuck::allocation::try_zeroed_vec(length).map_err(|()| too_much())?;
        Launch::of_read(&self.threads, &self.memory, operand).read(&mut out);
        Ok(out)
    }

    fn lend(&mut self, operand: &Operand) -> Result<Elements, LaneError> {
        if !operand.layout().is_dense() {
            return self.read(operand).map(Elements::from);
        }
        let bytes = operand.description().bytes();
        let start = if bytes == 0 { 0 } else { operand.layout().offset() * operand.dtype().size() };
        // A buffer of the host has no more bytes than it can count.
        let part = start as usize..(start + bytes) as usize;
        let lent = self.memory.lend(operand.buffer());
        let whole = lent.bytes().len();
        let bytes = Bytes::from_owner(lent);
        if part != (0..whole) {
            return Ok(bytes.slice(part).into());
        }
        Ok(Elements::of_buffer(bytes, Box::new(self.memory.lend(operand.buffer()))))
    }

    fn share(&mut self, buffer: BufferId, mut elements: Elements) -> Result<(), LaneError> {
        match elements.take_buffer::<Lent>() {
            Some(lent) if self.memory.is_of_device(&lent) => self.memory.share(buffer, *lent),
            _ => self.write(buffer, elements.bytes()),
        }
    }

    fn free(&mut self, buffer: BufferId) {
        self.memory.free(buffer);
    }

    fn finish(&mut self) -> Result<(), LaneError> {
        Ok(())
    }
}
