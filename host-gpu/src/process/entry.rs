//! What a worker's process does from its start to its end: it learns what it is for, begins that,
//! and ends with the server, and by nothing else that is meant for the server.

use std::{convert::Infallible, io, os::fd::OwnedFd};

use quern_process::{
    outlive_nobody,
    socket::{self, MAX_MESSAGE},
};
use rustix::{
    net::{SocketType, sockopt::socket_type},
    stdio::stdin,
};
use serde::{Deserialize, Serialize};

use crate::{tensors::remote, worker};

/// What a server tells a worker that has just started, before anything else. As many messages
/// follow as there are channels, each an [`Opened`] with its socket.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Compute models.
    Models(worker::Setup),
    /// Compute device tensors.
    Tensors(remote::Setup),
    /// Say which GPUs there are.
    LookForGpus,
}

/// Comes with the socket of one channel.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) channel: u32,
}

/// What a worker says once it can compute.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Started<T> {
    Ready(T),
    Failed { reason: String },
}

/// Why a process can't be a device worker.
#[derive(Debug, thiserror::Error)]
pub enum DeviceWorkerError {
    /// Its standard input is not the socket of a server.
    #[error("this is what a server computes in: only `quern serve` can start it")]
    NotStartedByServer,
    /// The server is gone, or says something else than it has to.
    #[error("lost the server: {0}")]
    Server(#[from] io::Error),
}

/// Computes for the server that started this process, with its standard input for a socket, and
/// ends the process when the server is gone. To be called before there is any other thread, for
/// what confines this one would not confine others.
pub fn run_device_worker() -> Result<Infallible, DeviceWorkerError> {
    let control = stdin();
    if socket_type(control).ok() != Some(SocketType::SEQPACKET) {
        return Err(DeviceWorkerError::NotStartedByServer);
    }
    outlive_nobody()?;
    match socket::receive(control, &mut vec![0; MAX_MESSAGE])? {
        Task::Models(setup) => {
            let channels = channels(setup.lanes.saturating_add(setup.loaders))?;
            end_with_server(worker::begin(&setup, channels))
        }
        Task::Tensors(setup) => {
            let channels = channels(setup.lanes)?;
            end_with_server(remote::begin(&setup, channels))
        }
        Task::LookForGpus => end_with_server(Ok(remote::look_for_gpus())),
    }
}

/// Tells the server what came of the beginning, and waits for its end.
fn end_with_server<T: Serialize>(
    begun: Result<T, String>,
) -> Result<Infallible, DeviceWorkerError> {
    let control = stdin();
    let ready = match begun {
        Ok(ready) => ready,
        Err(reason) => {
            socket::send(control, &Started::<()>::Failed { reason }, None)?;
            std::process::exit(1);
        }
    };
    socket::send(control, &Started::Ready(ready), None)?;
    // Nothing is said here any more.
    let ended = socket::receive::<Opened>(control, &mut [0; 16]);
    let ended_well = ended.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
    std::process::exit(i32::from(!ended_well))
}

fn channels(count: u32) -> io::Result<Vec<OwnedFd>> {
    let channel = |expected| {
        let (Opened { channel }, socket) = socket::receive_with_file(stdin(), &mut [0; 16])?;
        let socket = socket.filter(|_| channel == expected);
        socket.ok_or_else(|| io::Error::other("a channel without its socket"))
    };
    (0..count).map(channel).collect()
}
