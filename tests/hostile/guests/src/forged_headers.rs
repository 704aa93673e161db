//! Forges the server's own headers, and splits its response; reports what it was refused.

use std::fmt::Write as _;

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, ResponseOutparam};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let fields = Fields::new();
    let mut seen = String::new();
    for (name, value) in [
        ("quern-error", "internal"),
        ("quern-invocation", "forged"),
        ("quern-version", "99"),
        ("connection", "x-one"),
        ("transfer-encoding", "chunked"),
        ("x-split", "a\r\nset-cookie: stolen"),
        ("x split", "a"),
        ("x-zero", "a\0b"),
    ] {
        let set = fields.append(name, value.as_bytes());
        let _ = writeln!(seen, "{name}: {set:?}");
    }
    let body = hostile_guests::begin(out, fields);
    let mut stream = body.write().expect("the first call");
    std::io::Write::write_all(&mut stream, seen.as_bytes()).expect("the client reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was declared");
}

hostile_guests::hostile!(run);
