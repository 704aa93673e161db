//! Hostile guests against the real binary: each is stopped with its own error while a neighbour is
//! served, and leaves nothing behind. Never asserts how fast anything is.
//!
//! `make test` lets each do its harm a few times; `QUERN_LONG_TESTS=1` in bursts, and holds the
//! server's memory against bursts of calls that do none.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

mod bodies;
mod components;
mod compute;
mod host_calls;
mod memory;
mod neighbour;
mod outbound;
mod resolver;
mod row;
mod siege;
mod streams;
mod tensors;
mod timing;
mod uploads;

/// Whether to run what takes minutes.
fn long() -> bool {
    std::env::var_os("QUERN_LONG_TESTS").is_some()
}
