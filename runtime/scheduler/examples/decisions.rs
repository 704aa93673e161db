//! Prints how long a batcher's decisions take on this machine, per call: the median of many rounds.
//!
//!     cargo run --release --workspace --example decisions

use std::time::Instant;

use quern_scheduler::{
    Action, Arrival, Batcher, BatcherConfig, BucketId, CallId, Event, LaneId, Part,
};
use quern_types::Priority;

const ROUNDS: usize = 2_000;

fn main() {
    for (name, together, waiting, buckets) in [
        ("1 call to an idle lane", 1, 0, 1),
        ("32 calls to idle lanes", 32, 0, 1),
        ("32 calls behind 64", 32, 64, 1),
        ("32 calls behind 4000", 32, 4_000, 1),
        ("32 calls behind 4000 of 100 shapes", 32, 4_000, 100),
    ] {
        println!("{name}: {} ns each", median_ns(together, waiting, buckets));
    }
}

/// Calls come in, so many at a time, and are computed in turn behind so many that wait.
fn median_ns(together: u64, waiting: u64, buckets: u64) -> u128 {
    let config = BatcherConfig {
        lanes: 2,
        max_rows: 64,
        max_waiting: 1_000_000,
        max_waiting_bytes: u64::MAX,
        max_delay_us: 0,
        one_bucket: buckets == 1,
    };
    let mut batcher = Batcher::new(config);
    let mut next = 0;
    let mut arrivals = |count: u64| {
        let calls = next..next + count;
        next += count;
        let calls = calls.map(|number| Arrival {
            call: CallId(number),
            rows: 1,
            bytes: 1_024,
            bucket: BucketId(number % buckets),
            priority: Priority::default(),
            deadline_us: 30_000_000,
        });
        Event::Arrivals { calls: calls.collect() }
    };
    let mut busy = Vec::new();
    note(&batcher.step(arrivals(waiting), 0), &mut busy);
    for lane in [0, 1] {
        note(&batcher.step(Event::LaneFree { lane: LaneId(lane) }, 0), &mut busy);
    }
    let mut rounds: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let event = arrivals(together);
            let start = Instant::now();
            note(&batcher.step(event, 1), &mut busy);
            while batcher.waiting() as u64 > waiting || (waiting == 0 && !busy.is_empty()) {
                let (lane, rows) = busy.remove(0);
                let done = Event::Completion { lane, rows, compute_us: 50 };
                note(&batcher.step(done, 1), &mut busy);
            }
            start.elapsed().as_nanos() / u128::from(together)
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Takes down which lanes are busy, and with how many rows.
fn note(actions: &[Action], busy: &mut Vec<(LaneId, u32)>) {
    for action in actions {
        if let Action::Dispatch { lane, parts } = action {
            busy.push((*lane, parts.iter().map(|Part { rows, .. }| rows).sum()));
        }
    }
}
