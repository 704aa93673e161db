//! Asks for more random bytes in one call than any machine should make for it.

use std::hint::black_box;

use wasip2::{
    http::types::{IncomingRequest, ResponseOutparam},
    random::random::get_random_bytes,
};

fn run(request: IncomingRequest, _out: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let count = path.trim_start_matches('/').parse().unwrap_or(u64::MAX);
    black_box(get_random_bytes(count));
}

hostile_guests::hostile!(run);
