//! Takes the request's body, never reads it, and never answers.

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam},
};

fn run(request: IncomingRequest, _out: ResponseOutparam) {
    let _body = request.consume().expect("the first call");
    monotonic_clock::subscribe_duration(3_600_000_000_000).block();
}

hostile_guests::hostile!(run);
