//! Calls itself until there is no stack left.

use std::hint::black_box;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn deeper(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        return 0;
    }
    black_box(deeper(depth + 1)) + 1
}

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    black_box(deeper(0));
}

hostile_guests::hostile!(run);
