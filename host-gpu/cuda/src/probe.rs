//! What NVIDIA's driver has to offer on this machine, or why it is nothing. Never panics, whatever
//! is missing, and takes no memory of a device.

use cudarc::driver::{
    DriverError, result,
    sys::{self, CUdevice_attribute, CUresult},
};

use crate::driver::text;

/// The oldest driver that takes kernels compiled by CUDA 13.0: that of the series 580.
const OLDEST_DRIVER: u32 = 13_000;

/// The oldest architecture that the kernels are written for.
const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// A device that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number, from 0.
    pub ordinal: usize,
    /// What its maker calls it.
    pub name: String,
    /// Its architecture, as the major and minor number.
    pub capability: (u32, u32),
    /// All memory that it has.
    pub memory_bytes: u64,
}

/// Why there is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// NVIDIA's driver is not installed, or not where libraries are looked for.
    #[error(
        "libcuda.so.1 was not found: install NVIDIA's driver (series 580 or newer); in a \
         container, start it with the devices and NVIDIA's container toolkit"
    )]
    NoLibrary,
    /// The driver is older than the kernels.
    #[error(
        "the driver is for CUDA {}, the kernels need {}: install series 580 or newer",
        version(*found),
        version(*needed)
    )]
    OldDriver {
        /// Its version of CUDA, as 1000 times the major and 10 times the minor number.
        found: u32,
        /// What it has to be at least.
        needed: u32,
    },
    /// The driver is there, a device is not.
    #[error(
        "the driver finds no device: look at the output of nvidia-smi, and whether \
         CUDA_VISIBLE_DEVICES hides them"
    )]
    NoDevice,
    /// The system does not let this process use the devices.
    #[error(
        "this process may not use the devices: let its user read and write /dev/nvidia* \
         (commonly the group video), and let its sandbox pass them"
    )]
    NotPermitted,
    /// Another process has the device for itself, or it is being reset.
    #[error(
        "the device is not available: another process may have it exclusively, or it is being \
         reset; look at the output of nvidia-smi"
    )]
    Unavailable,
    /// The parts of the driver don't fit together.
    #[error("the driver's library and its kernel module differ: restart the machine")]
    Mismatch,
    /// Devices are there, but none that the kernels run on.
    #[error(
        "{name} has compute capability {}.{}, the kernels need {}.{} or newer",
        found.0, found.1, OLDEST_CAPABILITY.0, OLDEST_CAPABILITY.1
    )]
    OldDevice {
        /// What its maker calls it.
        name: String,
        /// Its architecture.
        found: (u32, u32),
    },
    /// The device has no pools of memory, as some virtual ones.
    #[error("{name} has no pools of memory, on which tensors rely: use a device that has")]
    NoPools {
        /// What its maker calls it.
        name: String,
    },
    /// There is no device of this number.
    #[error("there is no device {ordinal}: the driver has {count}")]
    Ordinal {
        /// What was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// Something else that the driver answers.
    #[error("{action}: the driver answers {answer}")]
    Driver {
        /// What it was asked.
        action: &'static str,
        /// What it says.
        answer: String,
    },
}

/// Every device that can be used, or why there is none.
pub fn probe() -> Result<Vec<Found>, Absence> {
    let count = devices()?;
    let found: Vec<_> = (0..count).map(look_at).collect();
    let mut usable: Vec<_> = found.iter().filter_map(|device| device.clone().ok()).collect();
    match found.into_iter().find_map(Result::err) {
        Some(absence) if usable.is_empty() => Err(absence),
        _ => {
            usable.sort_by_key(|device| device.ordinal);
            Ok(usable)
        }
    }
}

/// The device of a number.
pub(crate) fn find(ordinal: usize) -> Result<Found, Absence> {
    let count = devices()?;
    if ordinal >= count {
        return Err(Absence::Ordinal { ordinal, count });
    }
    look_at(ordinal)
}

/// How many devices there are; at least one.
fn devices() -> Result<usize, Absence> {
    // SAFETY: loading the driver's library runs its initialisers, which is what it is for.
    if !unsafe { sys::is_culib_present() } {
        return Err(Absence::NoLibrary);
    }
    let found = driver_version()?;
    if found < OLDEST_DRIVER {
        return Err(Absence::OldDriver { found, needed: OLDEST_DRIVER });
    }
    result::init().map_err(|error| absence("starting the driver", error))?;
    let count = result::device::get_count();
    let count = count.map_err(|error| absence("counting the devices", error))?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Absence::NoDevice),
    }
}

/// The version of CUDA that the driver is for, as 1000 times the major and 10 times the minor
/// number. Its library must be there.
pub(crate) fn driver_version() -> Result<u32, Absence> {
    let mut found = 0;
    // SAFETY: the library is there, and has had this function since its first version; it may be
    // called before anything else, and writes one number.
    let version = unsafe { sys::cuDriverGetVersion(&raw mut found) }.result();
    version.map_err(|error| absence("asking for the driver's version", error))?;
    Ok(u32::try_from(found).unwrap_or(0))
}

fn look_at(ordinal: usize) -> Result<Found, Absence> {
    let failed = |error| absence("looking at a device", error);
    let device = result::device::get(ordinal as i32).map_err(failed)?;
    let attribute = |attribute| {
        // SAFETY: the device was given by the driver.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value.map(|value| u32::try_from(value).unwrap_or(0)).map_err(failed)
    };
    let name = result::device::get_name(device).map_err(failed)?;
    let capability = (
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    if capability < OLDEST_CAPABILITY {
        return Err(Absence::OldDevice { name, found: capability });
    }
    if attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? == 0 {
        return Err(Absence::NoPools { name });
    }
    // SAFETY: the device was given by the driver.
    let memory_bytes = unsafe { result::device::total_mem(device) }.map_err(failed)? as u64;
    Ok(Found { ordinal, name, capability, memory_bytes })
}

/// What an answer of the driver means for whoever wanted a device.
pub(crate) fn absence(action: &'static str, error: DriverError) -> Absence {
    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => Absence::NoDevice,
        CUresult::CUDA_ERROR_OPERATING_SYSTEM | CUresult::CUDA_ERROR_NOT_PERMITTED => {
            Absence::NotPermitted
        }
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => Absence::Unavailable,
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => Absence::Mismatch,
        CUresult::CUDA_ERROR_STUB_LIBRARY => Absence::NoLibrary,
        _ => Absence::Driver { action, answer: text(error) },
    }
}

/// As people write it.
pub(crate) fn version(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}
