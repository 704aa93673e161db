//! How a process ended, in a few words: its status, and what it said last, which may be that there
//! was no memory. Waits no longer than for a process that is ending.

use std::{
    io::Read,
    process::{Child, ChildStderr},
    thread,
    time::Duration,
};

use rustix::io::ioctl_fionbio;

/// How often, and in what steps, it is looked whether a process has ended that hung up.
const LOOKS: u32 = 100;
const STEP: Duration = Duration::from_millis(10);
/// What is read of its last words, and told of them.
const LAST_BYTES: u64 = 4 << 10;
const LAST_CHARS: usize = 200;

/// Waits for the end of a process that has hung up, and says what it was. One that goes on is
/// ended.
pub(crate) fn ending(child: &mut Child) -> String {
    let status = (0..LOOKS).find_map(|_| {
        let status = child.try_wait().transpose();
        if status.is_none() {
            thread::sleep(STEP);
        }
        status
    });
    let how = match status {
        Some(Ok(status)) => status.to_string(),
        Some(Err(error)) => format!("it can't be waited for: {error}"),
        None => {
            end(child);
            "it hung up without an end".into()
        }
    };
    match child.stderr.take().map(last_words) {
        Some(words) if !words.is_empty() => format!("{how}, with the words {words:?}"),
        _ => how,
    }
}

/// Ends a process, if it has not ended, and has the system forget it.
pub(crate) fn end(child: &mut Child) {
    // Both fail where it has been waited for already.
    let _ = child.kill();
    let _ = child.wait();
}

/// What a process that has ended said at last.
fn last_words(stderr: ChildStderr) -> String {
    // Should anybody else hold its other end, nothing more is waited for.
    if ioctl_fionbio(&stderr, true).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = stderr.take(LAST_BYTES).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    // What follows is where to look further.
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default().chars().filter(|char| !char.is_control()).take(LAST_CHARS).collect()
}
