//! Answers before it has read anything of the request, and then goes without reading it.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    hostile_guests::respond(out, "whatever you say\n");
}

hostile_guests::hostile!(run);
