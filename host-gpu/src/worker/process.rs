//! The worker's side: what the process does from its start to its end. It ends with the server,
//! and by nothing else that is meant for the server.

use std::{
    convert::Infallible,
    io,
    os::fd::OwnedFd,
    sync::{Arc, RwLock},
    thread,
};

use quern_process::{confine, leave_files, outlive_nobody, socket};
use rustix::{
    net::{SocketType, sockopt::socket_type},
    stdio::stdin,
};

use super::{
    computer::{Computer, Loaded},
    protocol::{MAX_MESSAGE, Opened, Ready, Setup, Started},
};
use crate::engine::onnxruntime::{OpenError, Runtime};

/// Why a process can't be a device worker.
#[derive(Debug, thiserror::Error)]
pub enum DeviceWorkerError {
    /// Its standard input is not the socket of a server.
    #[error("this is what a server computes models in: only `quern serve` can start it")]
    NotStartedByServer,
    /// The server is gone, or says something else than it has to.
    #[error("lost the server: {0}")]
    Server(#[from] io::Error),
}

/// Computes models for the server that started this process, with its standard input for a socket,
/// and ends the process when the server is gone. To be called before there is any other thread,
/// for what confines this one would not confine others.
pub fn run_device_worker() -> Result<Infallible, DeviceWorkerError> {
    let control = stdin();
    if socket_type(control).ok() != Some(SocketType::SEQPACKET) {
        return Err(DeviceWorkerError::NotStartedByServer);
    }
    outlive_nobody()?;
    let mut buffer = vec![0; MAX_MESSAGE];
    let setup: Setup = socket::receive(control, &mut buffer)?;
    let channels = channels(&setup)?;
    let ready = match begin(&setup, channels) {
        Ok(ready) => ready,
        Err(reason) => {
            socket::send(control, &Started::Failed { reason }, None)?;
            std::process::exit(1);
        }
    };
    socket::send(control, &Started::Ready(ready), None)?;
    // Nothing is said here any more: this waits for the end of the server.
    let ended = socket::receive::<Opened>(control, &mut buffer);
    let ended_well = ended.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
    std::process::exit(i32::from(!ended_well))
}

fn channels(setup: &Setup) -> io::Result<Vec<OwnedFd>> {
    let count = setup.lanes.saturating_add(setup.loaders);
    let channel = |expected| {
        let (Opened { channel }, socket) = socket::receive_with_file(stdin(), &mut [0; 16])?;
        let socket = socket.filter(|_| channel == expected);
        socket.ok_or_else(|| io::Error::other("a channel without its socket"))
    };
    (0..count).map(channel).collect()
}

/// Opens the engines, confines the process, and starts a thread for each channel.
fn begin(setup: &Setup, channels: Vec<OwnedFd>) -> Result<Ready, String> {
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
