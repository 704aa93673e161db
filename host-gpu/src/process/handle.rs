//! A process that the server has started, for as long as anybody wants to end it.

use std::{io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, even when its number is another's by now.
pub(crate) struct Process {
    pub(crate) id: u32,
    handle: OwnedFd,
}

impl Process {
    /// Of a child that has not been waited for.
    pub(crate) fn of(id: u32) -> io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { id, handle: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Ends it at once: it has nothing that could be lost.
    pub(crate) fn kill(&self) {
        // It may have ended already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}
