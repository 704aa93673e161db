//! A buffer of a lane that somebody outside reads, or another lane shares, for longer perhaps than
//! the lane is there. Nobody writes to it meanwhile: tensors never change, and it is not used again
//! before.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::memory::Buffer;

/// One use of a buffer that is lent.
pub(super) struct Lent {
    /// There until it is dropped.
    buffer: Option<Arc<Buffer>>,
    device_bytes: Arc<AtomicU64>,
}

impl Lent {
    /// `device_bytes` is told if this is the last that has it.
    pub(super) fn new(buffer: Arc<Buffer>, device_bytes: Arc<AtomicU64>) -> Self {
        Self { buffer: Some(buffer), device_bytes }
    }

    /// Its content.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.bytes())
    }

    /// Another use of it.
    pub(super) fn buffer(&self) -> Option<Arc<Buffer>> {
        self.buffer.clone()
    }

    /// Whether it counts where this does.
    pub(super) fn counts_in(&self, device_bytes: &Arc<AtomicU64>) -> bool {
        Arc::ptr_eq(&self.device_bytes, device_bytes)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take().and_then(Arc::into_inner) {
            self.device_bytes.fetch_sub(buffer.held_bytes(), Ordering::Relaxed);
        }
    }
}
