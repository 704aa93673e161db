//! Sends a byte now and then, forever.

use std::io::Write;

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, IncomingRequest, ResponseOutparam},
};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let body = hostile_guests::begin(out, Fields::new());
    let mut stream = body.write().expect("the first call");
    while stream.write_all(b"x").and_then(|()| Write::flush(&mut stream)).is_ok() {
        monotonic_clock::subscribe_duration(20_000_000).block();
    }
}

hostile_guests::hostile!(run);
