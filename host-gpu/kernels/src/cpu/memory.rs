//! The buffers of one lane. Fresh memory comes zeroed from the system; what is freed is kept for
//! the same lane only, so that nobody ever sees what another session left.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytemuck::{Pod, Zeroable};

use crate::{BufferId, GRANULE_BYTES, LaneError};

/// Most buffers that are kept for another use.
const MAX_SPARE: usize = 64;

/// A cache line, so that buffers are aligned for every element and vector.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory for the elements of a tensor.
pub(super) struct Buffer {
    lines: Vec<Line>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.bytes]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.bytes]
    }

    fn held_bytes(&self) -> u64 {
        size_of_val(self.lines.as_slice()) as u64
    }
}

/// The buffers of one lane, in use and spare.
pub(super) struct Memory {
    buffers: HashMap<BufferId, Buffer>,
    spare: VecDeque<Buffer>,
    budget_bytes: u64,
    held_bytes: u64,
    device_bytes: Arc<AtomicU64>,
}

impl Memory {
    /// `device_bytes` is told what is held, by this lane beside others.
    pub(super) fn new(budget_bytes: u64, device_bytes: Arc<AtomicU64>) -> Self {
        let (buffers, spare) = (HashMap::new(), VecDeque::new());
        Self { buffers, spare, budget_bytes, held_bytes: 0, device_bytes }
    }

    /// Memory whose content is zero, or what this lane left there: to be written as a whole.
    pub(super) fn allocate(&mut self, bytes: u64) -> Result<Buffer, LaneError> {
        let too_much = || LaneError::Memory { bytes };
        let length = usize::try_from(bytes).map_err(|_| too_much())?;
        let lines = length.next_multiple_of(GRANULE_BYTES as usize) / size_of::<Line>();
        let fits = |spare: &Buffer| spare.lines.len() == lines;
        if let Some(position) = self.spare.iter().rposition(fits)
            && let Some(buffer) = self.spare.remove(position)
        {
            return Ok(Buffer { bytes: length, ..buffer });
        }
        let needed = (lines * size_of::<Line>()) as u64;
        while self.held_bytes.saturating_add(needed) > self.budget_bytes {
            let Some(buffer) = self.spare.pop_front() else { break };
            self.count_down(&buffer);
        }
        let lines = bytemuck::allocation::try_zeroed_vec(lines).map_err(|()| too_much())?;
        self.held_bytes += needed;
        self.device_bytes.fetch_add(needed, Ordering::Relaxed);
        Ok(Buffer { lines, bytes: length })
    }

    pub(super) fn keep(&mut self, id: BufferId, buffer: Buffer) {
        self.buffers.insert(id, buffer);
    }

    pub(super) fn get(&self, id: BufferId) -> &Buffer {
        self.buffers.get(&id).expect("a session frees buffers after their last tensor")
    }

    pub(super) fn free(&mut self, id: BufferId) {
        if let Some(buffer) = self.buffers.remove(&id) {
            self.recycle(buffer);
        }
    }

    pub(super) fn recycle(&mut self, buffer: Buffer) {
        self.spare.push_back(buffer);
        if self.spare.len() > MAX_SPARE
            && let Some(oldest) = self.spare.pop_front()
        {
            self.count_down(&oldest);
        }
    }

    fn count_down(&mut self, buffer: &Buffer) {
        self.held_bytes -= buffer.held_bytes();
        self.device_bytes.fetch_sub(buffer.held_bytes(), Ordering::Relaxed);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.device_bytes.fetch_sub(self.held_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_memory_is_used_again_and_given_up_for_the_budget() {
        let device = Arc::new(AtomicU64::new(0));
        let mut memory = Memory::new(1024, device.clone());
        let buffer = memory.allocate(500).expect("memory");
        assert_eq!((buffer.bytes().len(), buffer.bytes().iter().max()), (500, Some(&0)));
        memory.recycle(buffer);
        assert_eq!(device.load(Ordering::Relaxed), 512);
        let again = memory.allocate(512).expect("memory");
        assert_eq!(device.load(Ordering::Relaxed), 512);
        memory.recycle(again);
        let other = memory.allocate(1024).expect("memory");
        assert_eq!(device.load(Ordering::Relaxed), 1024);
        memory.recycle(other);
        drop(memory);
        assert_eq!(device.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_that_the_system_has_not_is_an_error() {
        let mut memory = Memory::new(u64::MAX, Arc::default());
        let bytes = 1 << 62;
        assert_eq!(memory.allocate(bytes).err(), Some(LaneError::Memory { bytes }));
    }
}
