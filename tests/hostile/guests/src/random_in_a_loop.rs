//! Asks for random bytes forever.

use std::hint::black_box;

use wasip2::{
    http::types::{IncomingRequest, ResponseOutparam},
    random::random::get_random_bytes,
};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    loop {
        black_box(get_random_bytes(64 << 10));
    }
}

hostile_guests::hostile!(run);
