//! On what something was measured. A report without it is worth nothing, and one over the mock
//! driver must not be taken for a GPU's.

use std::{
    fmt, fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use quern_cuda::{CudaDevice, CudaOptions, Gemm};
use serde::Serialize;

/// What the mock driver calls its device.
const MOCK: &str = "mock";

/// A device, its driver, and when.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    /// Whether it is no GPU, but the mock driver over the host's memory.
    pub(crate) mock: bool,
    pub(crate) device: String,
    pub(crate) capability: String,
    pub(crate) memory_bytes: u64,
    pub(crate) cuda: String,
    /// What the system says of the driver, if it does.
    pub(crate) driver: Option<String>,
    /// Who computes products of matrices.
    pub(crate) gemm: String,
}

impl Machine {
    pub(crate) fn of(device: &CudaDevice) -> Self {
        let found = device.found();
        let driver = fs::read_to_string("/proc/driver/nvidia/version").ok();
        let driver = driver.and_then(|text| text.lines().next().map(str::to_owned));
        let mock = found.name == MOCK;
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            mock,
            device: found.name.clone(),
            capability: format!("{}.{}", found.capability.0, found.capability.1),
            memory_bytes: found.memory_bytes,
            cuda: device.cuda_version(),
            driver: driver.filter(|_| !mock),
            gemm: device.gemm(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mock {
            writeln!(
                f,
                "MOCK DRIVER, no GPU: kernels run on the processor, and no time means anything.\n"
            )?;
        }
        let memory = self.memory_bytes >> 20;
        writeln!(f, "- date: {}", self.date)?;
        writeln!(f, "- device: {}, compute capability {}", self.device, self.capability)?;
        writeln!(f, "- memory: {memory} MiB")?;
        writeln!(f, "- driver: {}, for CUDA {}", self.driver.as_deref().unwrap_or("?"), self.cuda)?;
        write!(f, "- products of matrices: {}", self.gemm)
    }
}

/// For how long a device may not get on: under a sanitizer a kernel takes hundreds of times as long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Takes a device into use.
pub(crate) fn open(ordinal: usize, gemm: Gemm) -> Result<CudaDevice> {
    let options = CudaOptions { ordinal, gemm, patience: PATIENCE, ..CudaOptions::default() };
    CudaDevice::open(&options).with_context(|| format!("device {ordinal}"))
}
