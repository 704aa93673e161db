//! How a process begins that computes models: what it opens, what it is kept from after that, and
//! what it does then.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, RwLock},
    thread,
};

use quern_process::{confine, leave_files};

use super::{
    computer::{Computer, Loaded},
    protocol::{Ready, Setup},
};
use crate::engine::onnxruntime::{OpenError, Runtime};

/// Opens the engines, confines the process, and starts a thread for each channel.
pub(crate) fn begin(setup: &Setup, channels: Vec<OwnedFd>) -> Result<Ready, String> {
    let open = |library| {
        Runtime::open(library).map_err(|error| match error {
            OpenError::Load(reason) => format!(
                "ONNX Runtime can't be loaded from {}: {reason}: run `make ort`, or give another \
                 library",
                library.display()
            ),
            OpenError::Another(loaded) => format!("{} is loaded already", loaded.display()),
        })
    };
    let runtime = setup.ort_library.as_deref().map(open).transpose()?;
    let ort_version = runtime.as_ref().map(|runtime| runtime.version.clone());
    let lanes = usize::try_from(setup.lanes).map_err(|error| error.to_string())?;
    let loaded = Arc::new(Loaded { runtime, lanes, models: RwLock::default() });
    // That no file can be opened holds for this thread and those that it starts from here on; the
    // rest holds for all that there are.
    let files = leave_files();
    for (index, socket) in channels.into_iter().enumerate() {
        let computer = Computer::new(index, socket, loaded.clone());
        let name = if index < lanes { "lane" } else { "loader" };
        let thread = thread::Builder::new().name(format!("{name}-{index}"));
        thread.spawn(move || serve(computer)).map_err(|error| format!("no thread: {error}"))?;
    }
    let confinement = confine(&files, setup.memory_bytes);
    Ok(Ready { ort_version, confinement })
}

/// Serves one channel. Where that fails, the server finds the channel closed and ends the process.
fn serve(computer: Computer) {
    if let Err(error) = computer.serve() {
        tracing::error!(%error, "a channel of the device worker failed");
    }
}
