//! Computes forever.

use std::hint::black_box;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

hostile_guests::hostile!(run);
