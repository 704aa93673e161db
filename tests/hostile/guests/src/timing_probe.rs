//! Watches the clock at its full resolution, and reports what it can tell of its surroundings: the
//! smallest step, and the gaps in which something else ran.

use wasip2::{
    clocks::{monotonic_clock, wall_clock},
    http::types::{IncomingRequest, ResponseOutparam},
};

/// Gaps of this many nanoseconds are not its own doing.
const GAP: u64 = 100_000;

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let start = monotonic_clock::now();
    let (mut last, mut steps, mut smallest) = (start, 0u64, u64::MAX);
    let (mut gaps, mut longest, mut backwards) = (0u64, 0, 0u64);
    while last - start < 20_000_000 {
        let now = monotonic_clock::now();
        backwards += u64::from(now < last);
        let step = now.saturating_sub(last);
        last = now.max(last);
        steps += 1;
        if step > 0 {
            smallest = smallest.min(step);
        }
        longest = longest.max(step);
        gaps += u64::from(step > GAP);
    }
    let wall = wall_clock::now();
    let (resolution, seconds) = (monotonic_clock::resolution(), wall.seconds);
    hostile_guests::respond(
        out,
        &format!(
            "resolution {resolution} ns\nsmallest step {smallest} ns\nreadings {steps}\n\
             gaps {gaps}\nlongest {longest} ns\nbackwards {backwards}\nwall {seconds} s\n"
        ),
    );
}

hostile_guests::hostile!(run);
