//! A lane: a stream, on which one session's steps are done in order while the host goes on. Waits
//! only where elements are read, or too much is ahead.

use std::{mem::ManuallyDrop, sync::Arc};

use cudarc::driver::CudaStream;
use quern_kernels::{BufferId, Lane, Operand, Step};
use quern_operators::LaneError;

use crate::{
    device::{Core, abandon_if_lost},
    driver::{self, Fixed, Pinned},
    launch::{self, FAULT_BYTES, Fault, Launcher, SCRATCH_BYTES},
    memory::Memory,
    progress::Progress,
    staging::Staging,
};

/// A stream and what belongs to it, for one lane after another.
pub(crate) struct Equipment {
    pub(crate) progress: Progress,
    pub(crate) staging: Staging,
    /// Where kernels tell of bad indices, then where they put what they need for a moment, then
    /// where the library of products does.
    pub(crate) scratch: Fixed,
    /// Whether the library has used its part.
    used_library: bool,
    fault: Pinned,
    pub(crate) stream: Arc<CudaStream>,
}

impl Equipment {
    pub(crate) fn new(core: &Core) -> Result<Self, LaneError> {
        let stream = core.check("making a stream", core.context.new_stream())?;
        let bytes = FAULT_BYTES + SCRATCH_BYTES + core.products.workspace_bytes();
        let scratch = Fixed::new(&core.context, bytes);
        let scratch = core.check("taking memory for a stream", scratch)?;
        let fault = Pinned::new(&core.context, FAULT_BYTES as usize);
        let fault = core.check("taking pinned memory", fault)?;
        let staging = Staging::new(core)?;
        let (progress, used_library) = (Progress::new(core), false);
        Ok(Self { progress, staging, scratch, used_library, fault, stream })
    }
}

/// A lane of a device.
pub(crate) struct CudaLane {
    core: Arc<Core>,
    equipment: ManuallyDrop<Equipment>,
    memory: Memory,
    /// Steps so far; indices are told apart by it.
    steps: u64,
    /// Whether indices were looked at of which nothing is known yet.
    unsure: bool,
}

impl CudaLane {
    pub(crate) fn new(core: &Arc<Core>, budget_bytes: u64) -> Result<Self, LaneError> {
        let equipment = ManuallyDrop::new(core.equip()?);
        let memory = Memory::new(core, budget_bytes);
        let mut lane = Self { core: core.clone(), equipment, memory, steps: 0, unsure: false };
        // What another lane left there is nobody's business, and no fault of this one.
        let used_library = std::mem::take(&mut lane.equipment.used_library);
        let of_library = if used_library { core.products.workspace_bytes() } else { 0 };
        let (at, bytes) = (lane.equipment.scratch.at(), FAULT_BYTES + SCRATCH_BYTES + of_library);
        // SAFETY: the scratch memory is as long, and used by this stream alone.
        let cleared = unsafe { driver::clear(&lane.equipment.stream, at, bytes) };
        lane.core.check("clearing memory", cleared)?;
        Ok(lane)
    }

    /// The first bad index, if there was one. Everything must be done.
    fn check_indices(&mut self) -> Result<(), LaneError> {
        if !self.unsure {
            return Ok(());
        }
        let Equipment { stream, scratch, fault, progress, .. } = &mut *self.equipment;
        // SAFETY: both are as long; the pinned bytes are read after the wait.
        let copied = unsafe { driver::copy_out(stream, fault, scratch.at(), FAULT_BYTES as usize) };
        self.core.check("asking for bad indices", copied)?;
        progress.finish(&self.core, stream)?;
        self.unsure = false;
        Fault::parse(fault.bytes()).map_or(Ok(()), Err)
    }

    /// Has the elements of a tensor written to `out`.
    fn copy_out(&mut self, operand: &Operand, out: &mut [u8]) -> Result<(), LaneError> {
        let at = self.memory.at(operand.buffer());
        let Equipment { stream, staging, progress, .. } = &mut *self.equipment;
        let (core, stream): (&Core, &CudaStream) = (&self.core, stream);
        staging.download((core, stream), progress, out, |part, pinned| {
            if operand.layout().is_dense() {
                let offset = operand.layout().offset() * operand.dtype().size();
                let from = at + offset + part.start as u64;
                // SAFETY: the tensor reaches as far as its bytes; the staging waits.
                let copied = unsafe { driver::copy_out(stream, pinned, from, part.len()) };
                return core.check("copying from the device", copied);
            }
            launch::pack((core, stream), operand, at, part, pinned)
        })
    }
}

impl Lane for CudaLane {
    fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), LaneError> {
        self.core.check_there()?;
        let Equipment { stream, staging, progress, .. } = &mut *self.equipment;
        let stream: &CudaStream = stream;
        let block = self.memory.allocate(stream, bytes.len() as u64)?;
        self.memory.keep(buffer, block);
        staging.upload((&self.core, stream), progress, bytes, block.at)
    }

    fn execute(&mut self, step: &Step) -> Result<(), LaneError> {
        self.core.check_there()?;
        self.steps += 1;
        for output in step.outputs() {
            let bytes = output.description().bytes();
            let block = self.memory.allocate(&self.equipment.stream, bytes)?;
            self.memory.keep(output.buffer(), block);
        }
        let workspace = launch::workspace_bytes(step);
        let workspace = self.memory.allocate(&self.equipment.stream, workspace)?;
        let Equipment { stream, progress, scratch, used_library, .. } = &mut *self.equipment;
        let mut launcher = Launcher::new(&self.core, stream, progress, &self.memory);
        launcher.scratch_at = scratch.at() + FAULT_BYTES;
        launcher.library_at = launcher.scratch_at + SCRATCH_BYTES;
        launcher.workspace_at = workspace.at;
        launcher.fault_at = scratch.at();
        launcher.step = self.steps;
        let launched = launch::launch(&mut launcher, step);
        self.unsure |= launcher.unsure;
        *used_library |= launcher.used_library;
        // What comes next on this stream begins when this is done.
        self.memory.recycle(&self.equipment.stream, workspace);
        if launched.is_err() {
            for output in step.outputs() {
                self.memory.free(&self.equipment.stream, output.buffer());
            }
        }
        launched
    }

    fn read(&mut self, operand: &Operand) -> Result<Vec<u8>, LaneError> {
        self.core.check_there()?;
        self.check_indices()?;
        let bytes = operand.description().bytes();
        let too_much = || LaneError::Memory { bytes };
        let length = usize::try_from(bytes).map_err(|_| too_much())?;
        let mut out = Vec::new();
        out.try_reserve_exact(length).map_err(|_| too_much())?;
        out.resize(length, 0);
        self.copy_out(operand, &mut out)?;
        Ok(out)
    }

    fn free(&mut self, buffer: BufferId) {
        self.memory.free(&self.equipment.stream, buffer);
    }

    fn finish(&mut self) -> Result<(), LaneError> {
        self.core.check_there()?;
        self.check_indices()?;
        let Equipment { stream, progress, .. } = &mut *self.equipment;
        progress.finish(&self.core, stream)
    }
}

impl Drop for CudaLane {
    /// Gives back everything once the stream is done, so that what is counted as free is.
    fn drop(&mut self) {
        // SAFETY: it is taken once, as this is the end of its lane.
        let mut equipment = unsafe { ManuallyDrop::take(&mut self.equipment) };
        let there = self.core.check_there();
        let cleared = there.and_then(|()| self.memory.clear(&equipment.stream));
        let ended = cleared.and_then(|()| {
            equipment.progress.finish(&self.core, &equipment.stream)?;
            equipment.staging.rest(&self.core, &mut equipment.progress)
        });
        match ended {
            Ok(()) => self.core.retire(equipment),
            Err(_) => {
                // Whatever the driver does with them could take forever.
                self.core.lose("a lane did not end".to_owned());
                std::mem::forget(equipment);
            }
        }
        abandon_if_lost(&self.core);
    }
}
