//! Copies between host and device without sessions, lanes or staging: what staging is measured
//! against. Nothing else uses it.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use quern_kernels::LaneError;

use crate::{
    CudaDevice,
    device::Core,
    driver::{self, Fixed, Pinned},
    progress::Progress,
};

/// As many bytes on the device, pinned on the host, and anywhere.
pub struct PlainCopies {
    core: Arc<Core>,
    stream: Arc<CudaStream>,
    progress: Progress,
    pinned: Pinned,
    memory: Fixed,
    bytes: usize,
}

impl PlainCopies {
    /// Memory for copies of so many bytes.
    pub fn new(device: &CudaDevice, bytes: usize) -> Result<Self, LaneError> {
        let core = device.core().clone();
        core.check_there()?;
        let stream = core.check("making a stream", core.context.new_stream())?;
        let pinned = core.check("taking pinned memory", Pinned::new(&core.context, bytes))?;
        let memory = core.check("taking memory", Fixed::new(&core.context, bytes as u64))?;
        let progress = Progress::new(&core);
        Ok(Self { core, stream, progress, pinned, memory, bytes })
    }

    /// From pinned memory to the device.
    pub fn pinned_in(&mut self) -> Result<(), LaneError> {
        let (stream, at) = (&self.stream, self.memory.at());
        // SAFETY: both are as long, and this waits before anything touches them.
        let copied = unsafe { driver::copy_in(stream, at, &self.pinned, self.bytes) };
        self.core.check("copying to the device", copied)?;
        self.progress.finish(&self.core, &self.stream)
    }

    /// From the device to pinned memory.
    pub fn pinned_out(&mut self) -> Result<(), LaneError> {
        let (stream, at) = (&self.stream, self.memory.at());
        // SAFETY: both are as long, and this waits before anything touches them.
        let copied = unsafe { driver::copy_out(stream, &mut self.pinned, at, self.bytes) };
        self.core.check("copying from the device", copied)?;
        self.progress.finish(&self.core, &self.stream)
    }

    /// From any memory to the device: as many of the bytes as fit.
    pub fn copy_in(&mut self, bytes: &[u8]) -> Result<(), LaneError> {
        let bytes = &bytes[..bytes.len().min(self.bytes)];
        // SAFETY: the memory is as long; the driver has read the bytes when it returns, or does so
        // before this has waited.
        let copied = unsafe { driver::copy_bytes_in(&self.stream, self.memory.at(), bytes) };
        self.core.check("copying to the device", copied)?;
        self.progress.finish(&self.core, &self.stream)
    }
}
