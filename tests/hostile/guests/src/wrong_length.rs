//! Declares five bytes and sends a whole second response after them.

use std::io::Write;

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, ResponseOutparam};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let fields = Fields::new();
    fields.append("content-length", b"5").expect("a length may be declared");
    let body = hostile_guests::begin(out, fields);
    let mut stream = body.write().expect("the first call");
    let written = stream.write_all(b"helloHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen");
    drop(stream);
    println!("written {written:?}, finished {:?}", OutgoingBody::finish(body, None));
}

hostile_guests::hostile!(run);
