//! Counts the bytes of the request's body: whether the host has unpacked it.

use wasip2::{
    http::types::{IncomingRequest, ResponseOutparam},
    io::streams::StreamError,
};

fn run(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the first call");
    let stream = body.stream().expect("the first call");
    let mut count = 0;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(part) => count += part.len(),
            Err(StreamError::Closed) => break,
            Err(error) => panic!("the body broke off: {error}"),
        }
    }
    hostile_guests::respond(out, &format!("{count} bytes\n"));
}

hostile_guests::hostile!(run);
