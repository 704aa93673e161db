//! Allocates one gigabyte and fills it.

use std::hint::black_box;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    black_box(vec![1u8; 1 << 30]);
}

hostile_guests::hostile!(run);
