//! More calls than lanes can do, on a clock of the test's: most of what could be done in time is.

use std::collections::BTreeMap;

use super::*;

const SECOND: u64 = 1_000_000;
const LANES: u16 = 4;
const MOST: u32 = 64;

/// A model by what a run of so many rows takes, in µs.
type Cost = fn(u64) -> u64;

/// Calls of one row, each with a second of time, at so many times the rate that the lanes can do
/// with the best size of which a run takes half of that; how much of that best is answered in time, in percent, in the last half of
/// twenty seconds.
fn goodput(cost: Cost, times: u64) -> u64 {
    let sizes = (1..=u64::from(MOST)).filter(|rows| cost(*rows) <= SECOND / 2);
    let best_us = sizes.map(|rows| cost(rows) / rows).min().expect("a size");
    let capacity = SECOND / best_us * u64::from(LANES);
    let config = BatcherConfig {
        one_bucket: true,
        max_waiting_bytes: u64::MAX,
        ..config(LANES, MOST, 1_024)
    };
    let mut batcher = Batcher::new(config);
    for lane in 0..LANES {
        assert_eq!(batcher.step(free(lane), 0), []);
    }
    let (mut runs, mut deadlines) = (BTreeMap::new(), BTreeMap::new());
    let (mut next, mut number, mut in_time) = (0, 0, 0);
    while next < 20 * SECOND {
        let end = runs.first_key_value().map(|((end_us, _), _): (&(u64, u16), &Vec<u64>)| *end_us);
        let (event, now_us) = match end.filter(|end_us| *end_us <= next) {
            Some(end_us) => {
                let ((_, lane), calls) = runs.pop_first().expect("there is one");
                let mut is_late =
                    |call: &u64| deadlines.remove(call).is_none_or(|late| late <= end_us);
                let done = calls.iter().filter(|call| !is_late(call)).count() as u64;
                in_time += if end_us > 10 * SECOND { done } else { 0 };
                let rows = calls.len() as u32;
                let compute_us = cost(calls.len() as u64);
                (Event::Completion { lane: LaneId(lane), rows, compute_us }, end_us)
            }
            None => {
                number += 1;
                deadlines.insert(number, next + SECOND);
                let arrived = (arrival(number, 1, next + SECOND), next);
                // The second half of the gaps is a little longer than the first.
                next += SECOND * (90 + number % 21) / (100 * capacity * times);
                arrived
            }
        };
        for action in batcher.step(event, now_us) {
            if let Action::Dispatch { lane, parts } = action {
                let calls: Vec<_> = parts.iter().map(|part| part.call.0).collect();
                runs.insert((now_us + cost(calls.len() as u64), lane.0), calls);
            }
        }
    }
    in_time * 100 / (capacity * 10)
}

#[test]
fn an_overload_leaves_most_of_what_could_be_done() {
    let costs: [(&str, Cost); 3] = [
        ("batches save nothing", |rows| 35_000 * rows),
        ("batches save a little", |rows| 10_000 + 30_000 * rows),
        ("batches save a lot", |rows| 30_000 + 1_000 * rows),
    ];
    for (name, cost) in costs {
        for times in [3, 10] {
            let percent = goodput(cost, times);
            assert!(percent >= 90, "{name}, {times} times: {percent} %");
        }
    }
}
