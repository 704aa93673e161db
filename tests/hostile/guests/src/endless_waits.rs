//! Waits for what is over already, forever: each turn makes the host poll.

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam},
};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    loop {
        monotonic_clock::subscribe_duration(0).block();
    }
}

hostile_guests::hostile!(run);
