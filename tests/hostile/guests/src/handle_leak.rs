//! Makes the host keep timers, and never lets one go.

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam},
};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    loop {
        std::mem::forget(monotonic_clock::subscribe_duration(3_600_000_000_000));
    }
}

hostile_guests::hostile!(run);
