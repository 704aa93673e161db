//! How long a process lives that a server has started: no longer than the server, and whatever
//! signals are meant for that.

use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Has this process end with the thread that started it, but not by signals that are meant for the
/// server: that may want to finish what it has begun. To be called before there is another thread.
pub fn outlive_nobody() -> io::Result<()> {
    // Beside the end of a socket: a process whose threads hang does not see that.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: ignoring a signal runs no code, and no other thread exists yet.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
