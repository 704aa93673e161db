//! Sends a body that has no end, as fast as it is taken.

use std::io::Write;

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let chunk = vec![b'x'; 64 << 10];
    let body = hostile_guests::begin(out, Fields::new());
    let mut stream = body.write().expect("the first call");
    while stream.write_all(&chunk).is_ok() {}
}

hostile_guests::hostile!(run);
