//! A GPU that is in use: its context, what its lanes share, and whether it can still be relied on.
//! Lanes are streams of it. Never computes itself.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cudarc::driver::{CudaContext, DriverError, sys::CUdevice_attribute};
use quern_kernels::{Device, Lane, LaneError};

use crate::{
    Absence, Found, Gemm,
    driver::{Pool, is_final, text},
    gemm::Products,
    lane::{CudaLane, Equipment},
    modules::Modules,
    probe,
    progress::Pulse,
};

/// Most streams, with what belongs to them, that wait for another lane.
const MAX_IDLE: usize = 16;

/// How a device is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaOptions {
    /// Its number, as [`probe`](crate::probe()) tells it.
    pub ordinal: usize,
    /// The memory that all its lanes may hold together; all of the device's if none is named.
    pub memory_bytes: Option<u64>,
    /// How long it may not get on with any lane's work before it counts as lost: longer than one
    /// operator may take.
    pub patience: Duration,
    /// Who is to compute products of matrices.
    pub gemm: Gemm,
}

impl Default for CudaOptions {
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self { ordinal: 0, memory_bytes: None, patience, gemm: Gemm::default() }
    }
}

/// Why a device can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaDeviceError {
    /// There is none.
    #[error(transparent)]
    Absent(#[from] Absence),
    /// Its kernels can't be loaded.
    #[error("the kernels for compute capability {}.{} can't be had: {reason}", capability.0, capability.1)]
    Kernels {
        /// Its architecture.
        capability: (u32, u32),
        /// What is known of it.
        reason: String,
    },
}

/// A GPU.
pub struct CudaDevice {
    core: Arc<Core>,
}

impl CudaDevice {
    /// Takes a device into use.
    pub fn open(options: &CudaOptions) -> Result<Self, CudaDeviceError> {
        let found = probe::find(options.ordinal)?;
        let failed = |error| probe::absence("opening the device", error);
        let context = CudaContext::new(options.ordinal).map_err(failed)?;
        // SAFETY: the tracking is of `cudarc`'s own slices, none of which are made here.
        unsafe { context.disable_event_tracking() };
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = context.attribute(attribute).map_err(failed)?;
        let core = Core {
            pool: Pool::new(&context).map_err(failed)?,
            modules: Modules::new(&context, found.capability)?,
            products: Products::choose(options.gemm, &context),
            context,
            limit_bytes: options.memory_bytes.unwrap_or(found.memory_bytes).min(found.memory_bytes),
            found,
            patience: options.patience,
            multiprocessors: u32::try_from(multiprocessors).unwrap_or(1).max(1),
            held_bytes: AtomicU64::new(0),
            lanes: Mutex::default(),
            pulse: Pulse::default(),
            lost: OnceLock::new(),
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// What it is.
    pub fn found(&self) -> &Found {
        &self.core.found
    }

    /// Who computes products of matrices: `cublasLt 13.0.2`, or `own kernels` and why.
    pub fn gemm(&self) -> String {
        self.core.products.to_string()
    }

    /// The images of kernels that it has loaded so far: each file's name, with what it is for.
    pub fn images(&self) -> Vec<String> {
        self.core.modules.loaded()
    }

    /// For which version of CUDA its driver is: `13.0`.
    pub fn cuda_version(&self) -> String {
        probe::driver_version().map_or_else(|_| "?".to_owned(), probe::version)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Why it can't be relied on any more, if that is so: the process should be replaced.
    pub fn lost(&self) -> Option<String> {
        self.core.lost.get().cloned()
    }
}

impl Device for CudaDevice {
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError> {
        Ok(Box::new(CudaLane::new(&self.core, budget_bytes)?))
    }

    fn held_bytes(&self) -> u64 {
        self.core.held_bytes.load(Ordering::Relaxed)
    }

    fn lost(&self) -> Option<String> {
        self.core.lost.get().cloned()
    }
}

/// What a device's lanes share.
pub(crate) struct Core {
    pub(crate) context: Arc<CudaContext>,
    pub(crate) pool: Pool,
    pub(crate) modules: Modules,
    pub(crate) products: Products,
    pub(crate) multiprocessors: u32,
    pub(crate) patience: Duration,
    pub(crate) pulse: Pulse,
    found: Found,
    limit_bytes: u64,
    held_bytes: AtomicU64,
    lanes: Mutex<Lanes>,
    lost: OnceLock<String>,
}

/// The lanes that are open, and streams for further ones.
#[derive(Default)]
struct Lanes {
    open: usize,
    idle: Vec<Equipment>,
}

impl Core {
    /// What came of a call of the driver, of which `action` says what it was for.
    pub(crate) fn check<T>(
        &self,
        action: &str,
        result: Result<T, DriverError>,
    ) -> Result<T, LaneError> {
        result.map_err(|error| {
            let reason = format!("{action}: {}", text(error));
            if is_final(error) {
                return self.lose(reason);
            }
            LaneError::Lost { reason }
        })
    }

    /// Notes that the device can't be relied on any more; what is known first counts.
    pub(crate) fn lose(&self, reason: String) -> LaneError {
        LaneError::Lost { reason: self.lost.get_or_init(|| reason).clone() }
    }

    /// An error if the device is lost.
    pub(crate) fn check_there(&self) -> Result<(), LaneError> {
        match self.lost.get() {
            Some(reason) => Err(LaneError::Lost { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Counts memory that a lane is about to take, if there may be so much.
    pub(crate) fn count_up(&self, bytes: u64) -> bool {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.limit_bytes);
        self.held_bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts memory that a lane has given back.
    pub(crate) fn count_down(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A stream for a lane, with what belongs to it.
    pub(crate) fn equip(&self) -> Result<Equipment, LaneError> {
        self.check_there()?;
        let idle = {
            let mut lanes = self.lanes();
            lanes.open += 1;
            lanes.idle.pop()
        };
        let equipment = idle.map_or_else(|| Equipment::new(self), Ok);
        equipment.inspect_err(|_| self.lanes().open -= 1)
    }

    /// Takes back the stream of a lane that has ended, unless the device is lost. With the last lane
    /// no memory may be in use.
    pub(crate) fn retire(&self, equipment: Equipment) {
        let mut lanes = self.lanes();
        lanes.open -= 1;
        lanes.idle.push(equipment);
        let surplus = if lanes.idle.len() > MAX_IDLE { lanes.idle.pop() } else { None };
        if lanes.open == 0 && self.lost.get().is_none() {
            match self.check("asking what memory is in use", self.pool.used_bytes()) {
                Ok(0) | Err(_) => {}
                Ok(bytes) => {
                    self.lose(format!("{bytes} bytes were released, but not given back"));
                }
            }
        }
        drop(lanes);
        drop(surplus);
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaks what a lost device has. Giving up its context waits for what it does, which may be
/// forever, and the process is at its end anyway.
pub(crate) fn abandon_if_lost(core: &Arc<Core>) {
    if core.lost.get().is_some() {
        std::mem::forget(core.clone());
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        abandon_if_lost(&self.core);
    }
}
