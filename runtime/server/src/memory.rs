//! Gives memory that was freed back to the system. The allocator does that by itself, some time
//! after a page was freed, but only when other pages are freed later: a server that has unloaded a
//! model and is idle since would keep its memory.

use std::time::Duration;

/// How often what has been free for a while is given back.
const EVERY: Duration = Duration::from_secs(1);

/// Starts a task that gives memory back for as long as the runtime lives.
pub(crate) fn give_back_while_running() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(EVERY).await;
            give_back();
        }
    });
}

fn give_back() {
    // SAFETY: any thread may call this at any time. Without force it touches only memory that
    // nobody has allocated, and of that only what was freed longer ago than the allocator's delay.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
