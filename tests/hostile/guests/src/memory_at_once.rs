//! Asks for all of a 32-bit memory in one step, and won't live without it.

use core::arch::wasm32;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    let all = (1 << 16) - wasm32::memory_size(0) - 1;
    assert_ne!(wasm32::memory_grow(0, all), usize::MAX, "it was refused");
}

hostile_guests::hostile!(run);
