//! The buffers of one lane. Fresh memory comes zeroed from the system; what is freed is kept for
//! the same lane only, so that nobody ever sees what another session left.

use std::{
    collections::{HashMap, VecDeque},
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytemuck::{Pod, Zeroable};

use super::lent::Lent;
use crate::{BufferId, GRANULE_BYTES, LaneError};

/// Most buffers that are kept for another use.
const MAX_SPARE: usize = 64;

/// A cache line, so that buffers are aligned for every element and vector.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory of the host for the elements of a tensor.
#[derive(Default)]
pub struct Buffer {
    lines: Vec<Line>,
    bytes: usize,
}

impl Buffer {
    /// A copy of elements.
    pub fn of(elements: &[u8]) -> Result<Self, LaneError> {
        let mut buffer = Self::zeroed(elements.len() as u64)?;
        buffer.bytes_mut().copy_from_slice(elements);
        Ok(buffer)
    }

    /// Fresh memory, of which the system has not enough perhaps.
    fn zeroed(bytes: u64) -> Result<Self, LaneError> {
        let lines = bytemuck::allocation::try_zeroed_vec(lines(bytes)?);
        let lines = lines.map_err(|()| LaneError::Memory { bytes })?;
        // They are so many lines.
        Ok(Self { lines, bytes: bytes as usize })
    }

    /// The elements.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.bytes]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.bytes]
    }

    /// Memory that it takes.
    pub(super) fn held_bytes(&self) -> u64 {
        size_of_val(self.lines.as_slice()) as u64
    }
}

/// The buffers of one lane, in use and spare.
pub(super) struct Memory {
    buffers: HashMap<BufferId, Kept>,
    budget_bytes: u64,
    pool: Mutex<Pool>,
    device_bytes: Arc<AtomicU64>,
}

/// A buffer in use.
struct Kept {
    buffer: Arc<Buffer>,
    /// Whether another lane has filled it: then it is no memory for other tensors of this one.
    is_shared: bool,
}

/// What is held, and those parts of it that nothing uses.
struct Pool {
    spare: VecDeque<Buffer>,
    held_bytes: u64,
}

impl Memory {
    /// `device_bytes` is told what is held, by this lane beside others.
    pub(super) fn new(budget_bytes: u64, device_bytes: Arc<AtomicU64>) -> Self {
        let pool = Mutex::new(Pool { spare: VecDeque::new(), held_bytes: 0 });
        Self { buffers: HashMap::new(), budget_bytes, pool, device_bytes }
    }

    /// Memory whose content is zero, or what this lane left there: to be written as a whole.
    pub(super) fn allocate(&self, bytes: u64) -> Result<Buffer, LaneError> {
        let lines = lines(bytes)?;
        let mut pool = self.pool();
        let fits = |spare: &Buffer| spare.lines.len() == lines;
        if let Some(position) = pool.spare.iter().rposition(fits)
            && let Some(buffer) = pool.spare.remove(position)
        {
            return Ok(Buffer { bytes: bytes as usize, ..buffer });
        }
        let needed = (lines * size_of::<Line>()) as u64;
        self.make_room(&mut pool, needed).ok_or(LaneError::Memory { bytes })?;
        let buffer = Buffer::zeroed(bytes)?;
        self.take(&mut pool, &buffer);
        Ok(buffer)
    }

    /// Takes over memory that somebody else has filled, within the budget.
    pub(super) fn adopt(&self, buffer: Buffer) -> Result<Buffer, LaneError> {
        let mut pool = self.pool();
        let bytes = buffer.bytes().len() as u64;
        let room = self.make_room(&mut pool, buffer.held_bytes());
        room.ok_or(LaneError::Memory { bytes })?;
        self.take(&mut pool, &buffer);
        Ok(buffer)
    }

    /// Gives up spare memory until there is room within the budget; none if there can't be.
    fn make_room(&self, pool: &mut Pool, needed: u64) -> Option<()> {
        while pool.held_bytes.saturating_add(needed) > self.budget_bytes {
            let spare = pool.spare.pop_front()?;
            self.give_back(pool, spare);
        }
        Some(())
    }

    fn take(&self, pool: &mut Pool, buffer: &Buffer) {
        pool.held_bytes += buffer.held_bytes();
        self.device_bytes.fetch_add(buffer.held_bytes(), Ordering::Relaxed);
    }

    /// Room for so many elements, within the budget like tensors and as little known of; spare
    /// again when it is dropped.
    pub(super) fn workspace<T: Pod>(&self, elements: usize) -> Result<Workspace<'_, T>, LaneError> {
        let bytes = (elements as u64).saturating_mul(size_of::<T>() as u64);
        let buffer = self.allocate(bytes)?;
        Ok(Workspace { buffer: Some(buffer), memory: self, elements: PhantomData })
    }

    pub(super) fn keep(&mut self, id: BufferId, buffer: Buffer) {
        self.buffers.insert(id, Kept { buffer: Arc::new(buffer), is_shared: false });
    }

    pub(super) fn get(&self, id: BufferId) -> &Buffer {
        &self.buffers.get(&id).expect("a session frees buffers after their last tensor").buffer
    }

    /// The content of a buffer, which stays what it is for as long as that is there.
    pub(super) fn lend(&self, id: BufferId) -> Lent {
        let kept = self.buffers.get(&id).expect("a session frees buffers after their last loan");
        Lent::new(Arc::clone(&kept.buffer), Arc::clone(&self.device_bytes))
    }

    /// Whether a buffer is of a lane of the same device.
    pub(super) fn is_of_device(&self, lent: &Lent) -> bool {
        lent.counts_in(&self.device_bytes)
    }

    /// Makes a buffer of one that another lane of the device has lent: both count it, the device
    /// once.
    pub(super) fn share(&mut self, id: BufferId, lent: Lent) -> Result<(), LaneError> {
        let Some(buffer) = lent.buffer() else { return Ok(()) };
        let (bytes, held_bytes) = (buffer.bytes().len() as u64, buffer.held_bytes());
        let mut pool = self.pool();
        self.make_room(&mut pool, held_bytes).ok_or(LaneError::Memory { bytes })?;
        pool.held_bytes += held_bytes;
        drop(pool);
        self.buffers.insert(id, Kept { buffer, is_shared: true });
        Ok(())
    }

    pub(super) fn free(&mut self, id: BufferId) {
        let Some(Kept { buffer, is_shared }) = self.buffers.remove(&id) else { return };
        let held_bytes = buffer.held_bytes();
        match Arc::into_inner(buffer) {
            Some(buffer) if is_shared => self.give_back(&mut self.pool(), buffer),
            Some(buffer) => self.recycle(buffer),
            // Somebody else has it still.
            None => self.pool().held_bytes -= held_bytes,
        }
    }

    pub(super) fn recycle(&self, buffer: Buffer) {
        let mut pool = self.pool();
        pool.spare.push_back(buffer);
        if pool.spare.len() > MAX_SPARE
            && let Some(oldest) = pool.spare.pop_front()
        {
            self.give_back(&mut pool, oldest);
        }
    }

    fn give_back(&self, pool: &mut Pool, buffer: Buffer) {
        pool.held_bytes -= buffer.held_bytes();
        self.device_bytes.fetch_sub(buffer.held_bytes(), Ordering::Relaxed);
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for id in self.buffers.keys().copied().collect::<Vec<_>>() {
            self.free(id);
        }
        self.device_bytes.fetch_sub(self.pool().held_bytes, Ordering::Relaxed);
    }
}

/// Memory that a kernel computes with.
pub(super) struct Workspace<'a, T> {
    /// There until it is dropped.
    buffer: Option<Buffer>,
    memory: &'a Memory,
    elements: PhantomData<T>,
}

impl<T: Pod> Deref for Workspace<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.buffer.as_ref().map_or(&[], |buffer| bytemuck::cast_slice(buffer.bytes()))
    }
}

impl<T: Pod> DerefMut for Workspace<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.buffer.as_mut().map_or(&mut [], |buffer| bytemuck::cast_slice_mut(buffer.bytes_mut()))
    }
}

impl<T> Drop for Workspace<'_, T> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.memory.recycle(buffer);
        }
    }
}

/// As many lines as so many bytes take.
fn lines(bytes: u64) -> Result<usize, LaneError> {
    let length = usize::try_from(bytes).ok();
    let length = length.and_then(|length| length.checked_next_multiple_of(GRANULE_BYTES as usize));
    Ok(length.ok_or(LaneError::Memory { bytes })? / size_of::<Line>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_memory_is_used_again_and_given_up_for_the_budget() {
        let device = Arc::new(AtomicU64::new(0));
        let memory = Memory::new(1024, device.clone());
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
    fn what_kernels_compute_with_is_counted_and_bounded_by_the_budget() {
        let device = Arc::new(AtomicU64::new(0));
        let memory = Memory::new(1024, device.clone());
        let output = memory.allocate(256).expect("memory");
        let workspace = memory.workspace::<usize>(96).expect("memory");
        assert_eq!((workspace.len(), device.load(Ordering::Relaxed)), (96, 1024));
        assert_eq!(memory.allocate(1).err(), Some(LaneError::Memory { bytes: 1 }));
        let refused = memory.workspace::<u64>(usize::MAX).err();
        assert_eq!(refused, Some(LaneError::Memory { bytes: u64::MAX }));
        drop(workspace);
        assert!(memory.allocate(512).is_ok(), "it is spare again");
        memory.recycle(output);
        drop(memory);
        assert_eq!(device.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_that_the_system_has_not_is_an_error() {
        let memory = Memory::new(u64::MAX, Arc::default());
        let bytes = 1 << 62;
        assert_eq!(memory.allocate(bytes).err(), Some(LaneError::Memory { bytes }));
    }
}
