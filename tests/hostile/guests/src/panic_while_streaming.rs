//! Panics in the middle of its response.

use std::io::Write;

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let body = hostile_guests::begin(out, Fields::new());
    let mut stream = body.write().expect("the first call");
    stream
        .write_all(b"half a ")
        .and_then(|()| Write::flush(&mut stream))
        .expect("the client reads");
    panic!("the sack burst");
}

hostile_guests::hostile!(run);
