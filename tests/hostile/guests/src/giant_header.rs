//! Answers with half a megabyte of headers, or reports why it can't.

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let fields = Fields::new();
    let at_once = fields.append("x-giant", &vec![b'x'; 1 << 19]);
    let mut count = 0;
    let one_by_one = loop {
        match fields.append(&format!("x-{count}"), &[b'x'; 1000]) {
            Ok(()) if count < 1000 => count += 1,
            outcome => break outcome,
        }
    };
    drop(fields);
    let seen = format!("at once {at_once:?}\none by one {one_by_one:?} after {count}\n");
    hostile_guests::respond(out, &seen);
}

hostile_guests::hostile!(run);
