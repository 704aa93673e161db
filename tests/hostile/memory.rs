//! Guests that take memory, their own and the host's.

use crate::{
    row::{Ends, Row},
    siege,
};

const MEMORY: Ends = Ends::Error { status: 507, code: "out-of-memory", limit: Some("memory") };
const HANDLES: Ends = Ends::Error { status: 507, code: "too-many-handles", limit: Some("handles") };

#[tokio::test]
async fn whoever_takes_memory_is_refused_at_the_limit() {
    siege::besiege(&[
        Row::new("memory_at_once", "grows its memory to 4 GiB in one step", MEMORY),
        Row::new("memory_in_tiny_steps", "grows its memory page by page", MEMORY),
        Row::new("huge_allocation", "allocates 1 GiB", MEMORY),
        Row::new("handle_leak", "makes timers and keeps them", HANDLES),
        Row::new("fields_leak", "makes large sets of headers and keeps them", HANDLES),
    ])
    .await;
}
