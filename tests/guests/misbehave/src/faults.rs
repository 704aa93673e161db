//! Faults before the response, and burdens that are none.

use std::hint::black_box;

use wasip2::{clocks::monotonic_clock, http::types::ResponseOutparam};

use crate::reply::{Query, begin, respond};

pub(crate) fn run_forever() {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

pub(crate) fn panic_with_message() {
    panic!("the millstone cracked");
}

/// Takes memory in steps of 1 MiB, and touches it, until there is no more.
pub(crate) fn take_all_memory() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(black_box(vec![1; 1 << 20]));
    }
}

pub(crate) fn overflow_stack(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        return 0;
    }
    let frame = black_box([depth; 64]);
    black_box(overflow_stack(depth + 1)) + frame[0]
}

/// Waits `ms` on a clock, without using the processor.
pub(crate) fn sleep(query: &Query<'_>, out: ResponseOutparam) {
    let start = monotonic_clock::now();
    monotonic_clock::subscribe_duration(query.number("ms", 100) * 1_000_000).block();
    let slept_ms = (monotonic_clock::now() - start) / 1_000_000;
    respond(out, 200, &format!("slept {slept_ms} ms\n"));
}

/// Prints `lines` lines of `width` bytes to standard output, and the last words to standard error,
/// which do not end in a line break.
pub(crate) fn print(query: &Query<'_>, out: ResponseOutparam) {
    let line = "x".repeat(query.number("width", 10) as usize);
    for number in 0..query.number("lines", 1) {
        println!("{number} {line}");
    }
    eprint!("last words");
    respond(out, 200, "printed\n");
}

/// Answers with `count` headers of `width` bytes.
pub(crate) fn many_headers(query: &Query<'_>, out: ResponseOutparam) {
    let value = vec![b'x'; query.number("width", 10) as usize];
    let headers: Vec<_> =
        (0..query.number("count", 1)).map(|at| (format!("x-{at}"), value.clone())).collect();
    let body = begin(out, 200, &headers);
    wasip2::http::types::OutgoingBody::finish(body, None).expect("no length was declared");
}
