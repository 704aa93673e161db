//! How a process begins that computes tensors: the device that it opens, what it is kept from, and
//! what it does then.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    thread,
};

use quern_cuda::{CudaDevice, CudaOptions};
use quern_kernels::{CpuDevice, Device};
use quern_process::{confine, confine_driver, leave_files, leave_files_but_drivers};

use super::{
    computer::Computer,
    protocol::{Computing, Ready, Setup},
};

/// Opens the device, confines the process, and starts a thread for each link.
pub(crate) fn begin(setup: &Setup, channels: Vec<OwnedFd>) -> Result<Ready, String> {
    // That files can't be opened holds for this thread and those that it starts from here on; the
    // rest holds for all that there are.
    let confinement = match setup.computing {
        Computing::Cpu { threads } => {
            let files = leave_files();
            let device = CpuDevice::new(threads).map_err(|error| error.to_string())?;
            start(channels, Arc::new(device))?;
            confine(&files, None)
        }
        Computing::Cuda { ordinal, memory_bytes, patience } => {
            let (ordinal, memory_bytes) = (ordinal.into(), Some(memory_bytes));
            let options = CudaOptions { ordinal, memory_bytes, patience, ..CudaOptions::default() };
            let device = CudaDevice::open(&options).map_err(|error| error.to_string())?;
            let files = leave_files_but_drivers();
            start(channels, Arc::new(device))?;
            confine_driver(&files)
        }
    };
    Ok(Ready { confinement })
}

/// Starts a thread for each link.
fn start(channels: Vec<OwnedFd>, device: Arc<dyn Device>) -> Result<(), String> {
    let reports = Arc::new(Mutex::new(0));
    for (number, socket) in channels.into_iter().enumerate() {
        let computer = Computer::new(number, socket, device.clone(), reports.clone());
        let thread = thread::Builder::new().name(format!("lane-{number}"));
        thread.spawn(move || serve(computer)).map_err(|error| format!("no thread: {error}"))?;
    }
    Ok(())
}

/// Serves one link. Where that fails, the process is at its end, for the server to start another:
/// at once, as what a driver does at the end of a process may take forever.
fn serve(computer: Computer) {
    if let Err(error) = computer.serve() {
        tracing::error!(%error, "a link of the device worker failed");
        std::process::abort();
    }
}
