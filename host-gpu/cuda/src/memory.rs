//! The device's memory of one lane, within its budget. What was freed is used again by the lane
//! for as many bytes, in the order of its stream; what comes from elsewhere is cleared first, as
//! another lane's elements may be in it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use cudarc::driver::{CudaStream, DriverError, sys::CUresult};
use quern_kernels::{BufferId, GRANULE_BYTES, LaneError};

use crate::{device::Core, driver};

/// Most buffers that wait for being used again.
const MAX_SPARE: usize = 256;

/// So many bytes of the device; none for an empty tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) at: u64,
    bytes: u64,
}

/// The memory of a lane.
pub(crate) struct Memory {
    core: Arc<Core>,
    budget_bytes: u64,
    held_bytes: u64,
    buffers: HashMap<BufferId, Block>,
    spare: VecDeque<Block>,
}

impl Memory {
    pub(crate) fn new(core: &Arc<Core>, budget_bytes: u64) -> Self {
        Self {
            core: core.clone(),
            budget_bytes,
            held_bytes: 0,
            buffers: HashMap::new(),
            spare: VecDeque::new(),
        }
    }

    /// Room for so many bytes, which may be the lane's own of before. The lane never holds more
    /// than its budget, which is checked before the driver is asked.
    pub(crate) fn allocate(&mut self, stream: &CudaStream, bytes: u64) -> Result<Block, LaneError> {
        let too_much = LaneError::Memory { bytes };
        let rounded = bytes.checked_next_multiple_of(GRANULE_BYTES).ok_or(too_much.clone())?;
        if rounded == 0 {
            return Ok(Block { at: 0, bytes: 0 });
        }
        let fits = |spare: &Block| spare.bytes == rounded;
        if let Some(position) = self.spare.iter().rposition(fits)
            && let Some(block) = self.spare.remove(position)
        {
            return Ok(block);
        }
        while self.held_bytes.saturating_add(rounded) > self.budget_bytes {
            let Some(block) = self.spare.pop_front() else { return Err(too_much) };
            self.give_back(stream, block)?;
        }
        if !self.core.count_up(rounded) {
            self.give_up_spare(stream)?;
            if !self.core.count_up(rounded) {
                return Err(too_much);
            }
        }
        let taken = self.take(stream, rounded);
        let Ok(Some(at)) = taken else {
            self.core.count_down(rounded);
            return Err(taken.err().unwrap_or(too_much));
        };
        self.held_bytes += rounded;
        let block = Block { at, bytes: rounded };
        // SAFETY: the memory was just given to this stream.
        let cleared = unsafe { driver::clear(stream, at, rounded) };
        match self.core.check("clearing memory", cleared) {
            Ok(()) => Ok(block),
            Err(error) => {
                self.spare.push_back(block);
                Err(error)
            }
        }
    }

    /// Memory of the driver's, or none if it has not so much.
    fn take(&mut self, stream: &CudaStream, bytes: u64) -> Result<Option<u64>, LaneError> {
        const FULL: DriverError = DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        let mut taken = self.core.pool.allocate(bytes, stream);
        if taken == Err(FULL) {
            // Others' memory that is not in use may lie in pieces that don't fit.
            self.give_up_spare(stream)?;
            self.core.check("trimming the pool of memory", self.core.pool.trim())?;
            taken = self.core.pool.allocate(bytes, stream);
        }
        if taken == Err(FULL) {
            return Ok(None);
        }
        self.core.check("taking memory", taken).map(Some)
    }

    pub(crate) fn keep(&mut self, id: BufferId, block: Block) {
        self.buffers.insert(id, block);
    }

    /// Where a buffer begins.
    pub(crate) fn at(&self, id: BufferId) -> u64 {
        self.buffers.get(&id).expect("a session frees buffers after their last tensor").at
    }

    pub(crate) fn free(&mut self, stream: &CudaStream, id: BufferId) {
        if let Some(block) = self.buffers.remove(&id) {
            self.recycle(stream, block);
        }
    }

    /// Keeps memory for what comes next; the oldest goes where there is too much of it.
    pub(crate) fn recycle(&mut self, stream: &CudaStream, block: Block) {
        if block.bytes == 0 {
            return;
        }
        self.spare.push_back(block);
        if self.spare.len() > MAX_SPARE
            && let Some(oldest) = self.spare.pop_front()
        {
            // An error is final, and so is told by whatever is asked for next.
            let _ = self.give_back(stream, oldest);
        }
    }

    fn give_up_spare(&mut self, stream: &CudaStream) -> Result<(), LaneError> {
        while let Some(block) = self.spare.pop_front() {
            self.give_back(stream, block)?;
        }
        Ok(())
    }

    fn give_back(&mut self, stream: &CudaStream, block: Block) -> Result<(), LaneError> {
        self.held_bytes -= block.bytes;
        self.core.count_down(block.bytes);
        self.core.check("giving back memory", self.core.pool.free(block.at, stream))
    }

    /// Gives back everything.
    pub(crate) fn clear(&mut self, stream: &CudaStream) -> Result<(), LaneError> {
        let buffers = std::mem::take(&mut self.buffers);
        self.spare.extend(buffers.into_values().filter(|block| block.bytes > 0));
        self.give_up_spare(stream)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What could not be given back went with the device.
        self.core.count_down(self.held_bytes);
    }
}
