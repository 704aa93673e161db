//! Bodies that are streamed, and those that break.

use std::io::{self, Write};

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, OutgoingBody, ResponseOutparam},
};

use crate::reply::{Query, begin};

/// Sends `chunks` chunks of `bytes` bytes, `ms` apart.
pub(crate) fn chunks(query: &Query<'_>, out: ResponseOutparam) {
    let chunk = vec![b'q'; query.number("bytes", 6) as usize];
    let pause = query.number("ms", 0) * 1_000_000;
    let body = begin(out, 200, &[]);
    let mut stream = body.write().expect("the first call");
    for _ in 0..query.number("chunks", 3) {
        if let Err(error) = stream.write_all(&chunk).and_then(|()| Write::flush(&mut stream)) {
            eprintln!("the client left: {error}");
            return;
        }
        monotonic_clock::subscribe_duration(pause).block();
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was declared");
}

/// Sends back what arrives, while it arrives.
pub(crate) fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the first call");
    let mut source = incoming.stream().expect("the first call");
    let body = begin(out, 200, &[]);
    let mut stream = body.write().expect("the first call");
    let copied = io::copy(&mut source, &mut stream);
    drop((source, stream));
    match copied {
        Ok(_) => OutgoingBody::finish(body, None).expect("no length was declared"),
        Err(error) => eprintln!("the copy ended early: {error}"),
    }
}

/// Sends a head and a part of the body, then panics, or with `?then=loop` runs forever.
pub(crate) fn half(query: &Query<'_>, out: ResponseOutparam) {
    let body = begin(out, 200, &[]);
    let mut stream = body.write().expect("the first call");
    stream
        .write_all(b"half a ")
        .and_then(|()| Write::flush(&mut stream))
        .expect("the client reads");
    match query.text("then") {
        Some("loop") => crate::faults::run_forever(),
        _ => panic!("the sack burst"),
    }
}

/// Sends a head, and then waits longer than any limit allows.
pub(crate) fn never_end(out: ResponseOutparam) {
    let _body = begin(out, 200, &[]);
    monotonic_clock::subscribe_duration(3_600_000_000_000).block();
}

/// Declares `declared` bytes, sends three, and ends.
pub(crate) fn three_bytes(query: &Query<'_>, out: ResponseOutparam) {
    let declared = query.number("declared", 10).to_string().into_bytes();
    let body = begin(out, 200, &[("content-length".into(), declared)]);
    let mut stream = body.write().expect("the first call");
    if let Err(error) = stream.write_all(b"abc") {
        eprintln!("writing failed: {error}");
    }
    drop(stream);
    if let Err(error) = OutgoingBody::finish(body, None) {
        eprintln!("finishing failed: {error:?}");
    }
}

/// Sends a part, and returns without ever ending the body.
pub(crate) fn never_finished(out: ResponseOutparam) {
    let body = begin(out, 200, &[]);
    let mut stream = body.write().expect("the first call");
    stream.write_all(b"a part").and_then(|()| Write::flush(&mut stream)).expect("is read");
    std::mem::forget((stream, body));
}

/// Sends a whole response of `status`, with its length if `length=1`, and goes on for a while.
pub(crate) fn work_after(query: &Query<'_>, out: ResponseOutparam) {
    let status = query.number("status", 200) as u16;
    let text: &[u8] = if status == 204 { b"" } else { b"hello" };
    let length = ("content-length".to_owned(), text.len().to_string().into_bytes());
    let headers = if query.number("length", 0) == 1 { vec![length] } else { vec![] };
    let body = begin(out, status, &headers);
    let mut stream = body.write().expect("the first call");
    stream.write_all(text).expect("is read");
    drop(stream);
    OutgoingBody::finish(body, None).expect("as long as declared");
    monotonic_clock::subscribe_duration(50_000_000).block();
    println!("done after {}", query.0);
}
