//! A process that is started to say one thing, and ends.

use std::io;

use quern_process::socket;
use serde::de::DeserializeOwned;

use super::{
    Task, log, ready,
    supervisor::{self, WorkerProgram},
};

/// What a process says that is started for a task. Waits for it, no longer than a worker may take to
/// start.
pub(crate) fn ask_once<T: DeserializeOwned>(program: &WorkerProgram, task: &Task) -> io::Result<T> {
    let (control, theirs) = socket::pair()?;
    let mut child = program.command(theirs).spawn()?;
    let relay = log::relay(child.stderr.take());
    let asked = supervisor::limit_start(&control)
        .and_then(|()| socket::send(&control, task, None))
        .and_then(|()| ready(&control));
    let said = match asked {
        Ok(said) => {
            // It has nothing more to do, but may not see that.
            let _ = child.kill();
            child.wait().map(|_| said)
        }
        Err(error) => Err(supervisor::failed(&mut child, error)),
    };
    if relay?.join().is_err() {
        tracing::error!("the thread that reads a process's log panicked");
    }
    said
}
