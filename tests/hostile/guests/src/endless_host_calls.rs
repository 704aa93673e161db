//! Asks the host for the time, forever.

use std::hint::black_box;

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam},
};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    loop {
        black_box(monotonic_clock::now());
    }
}

hostile_guests::hostile!(run);
