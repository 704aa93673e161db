//! Particular cases of a batcher, each a short story of events. What holds for all of them is in
//! the properties.

use quern_types::Priority;

use super::*;
use crate::BucketId;

mod overload;
mod time;

const LATE: u64 = 1_000_000;

fn config(lanes: u16, max_rows: u32, max_waiting: u32) -> BatcherConfig {
    BatcherConfig {
        lanes,
        max_rows,
        max_waiting,
        max_waiting_bytes: 1_000,
        max_delay_us: 0,
        one_bucket: false,
    }
}

fn batcher(lanes: u16, max_rows: u32, max_waiting: u32) -> Batcher {
    Batcher::new(config(lanes, max_rows, max_waiting))
}

fn call(call: u64, rows: u32, deadline_us: u64) -> Arrival {
    let (bucket, priority) = (BucketId(0), Priority::default());
    Arrival { call: CallId(call), rows, bytes: 1, bucket, priority, deadline_us }
}

fn arrive(calls: &[Arrival]) -> Event {
    Event::Arrivals { calls: calls.to_vec() }
}

fn arrival(number: u64, rows: u32, deadline_us: u64) -> Event {
    arrive(&[call(number, rows, deadline_us)])
}

fn urgent(number: u64, rows: u32, priority: u64) -> Event {
    let priority = Priority::from_parameter(priority);
    arrive(&[Arrival { priority, ..call(number, rows, LATE) }])
}

fn shaped(number: u64, rows: u32, bucket: u64) -> Event {
    arrive(&[Arrival { bucket: BucketId(bucket), ..call(number, rows, LATE) }])
}

fn together(calls: std::ops::RangeInclusive<u64>) -> Event {
    Event::Arrivals { calls: calls.map(|number| call(number, 1, LATE)).collect() }
}

fn free(lane: u16) -> Event {
    Event::LaneFree { lane: LaneId(lane) }
}

fn done(lane: u16) -> Event {
    Event::Completion { lane: LaneId(lane), rows: 1, compute_us: 50 }
}

fn cancel(call: u64) -> Event {
    Event::Cancel { call: CallId(call) }
}

/// Parts of calls, each with its first row and its rows.
fn parts(lane: u16, parts: &[(u64, u32, u32)]) -> Action {
    let part = |(call, first, rows): &(u64, u32, u32)| Part {
        call: CallId(*call),
        first: *first,
        rows: *rows,
    };
    Action::Dispatch { lane: LaneId(lane), parts: parts.iter().map(part).collect() }
}

/// Calls of one row.
fn dispatch(lane: u16, calls: &[u64]) -> Action {
    parts(lane, &calls.iter().map(|call| (*call, 0, 1)).collect::<Vec<_>>())
}

fn reject(call: u64, reason: Refusal) -> Action {
    Action::Reject { call: CallId(call), reason }
}

/// Feeds events at their times, and compares what each leads to.
fn check(mut batcher: Batcher, story: &[(u64, Event, &[Action])]) {
    for (index, (now_us, event, expected)) in story.iter().enumerate() {
        let actions = batcher.step(event.clone(), *now_us);
        assert_eq!(actions, *expected, "step {index}, {event:?}");
    }
}

#[test]
fn an_idle_lane_takes_a_call_at_once_the_lowest_first() {
    check(
        batcher(2, 8, 8),
        &[
            (0, free(1), &[]),
            (0, free(0), &[]),
            (1, arrival(1, 1, LATE), &[dispatch(0, &[1])]),
            (2, arrival(2, 1, LATE), &[dispatch(1, &[2])]),
            (3, arrival(3, 1, LATE), &[]),
            (4, done(1), &[dispatch(1, &[3])]),
        ],
    );
}

#[test]
fn a_batcher_is_at_rest_while_no_call_waits_or_runs() {
    let mut batcher = batcher(1, 1, 8);
    let story = [
        (free(0), true),
        (arrival(1, 1, LATE), false),
        (arrival(2, 1, LATE), false),
        (cancel(2), false),
        (done(0), true),
    ];
    for (event, at_rest) in story {
        let _ = batcher.step(event.clone(), 1);
        assert_eq!(batcher.is_at_rest(), at_rest, "{event:?}");
    }
}

#[test]
fn calls_that_come_together_share_the_idle_lanes() {
    check(
        batcher(3, 4, 8),
        &[
            (0, free(0), &[]),
            (0, free(1), &[]),
            (1, together(1..=4), &[dispatch(0, &[1, 2]), dispatch(1, &[3, 4])]),
            (2, done(1), &[]),
            (2, done(0), &[]),
            (3, together(5..=9), &[dispatch(0, &[5, 6, 7]), dispatch(1, &[8, 9])]),
            (4, done(0), &[]),
            (5, together(10..=16), &[dispatch(0, &[10, 11, 12, 13])]),
            (6, done(1), &[dispatch(1, &[14, 15, 16])]),
        ],
    );
}

#[test]
fn of_calls_that_come_together_the_last_are_refused() {
    check(
        batcher(1, 2, 2),
        &[
            (0, free(0), &[]),
            (1, together(1..=5), &[dispatch(0, &[1, 2]), reject(5, Refusal::QueueFull)]),
        ],
    );
}

#[test]
fn calls_wait_for_the_model_to_load() {
    check(
        batcher(1, 8, 8),
        &[
            (0, arrival(1, 1, LATE), &[]),
            (1, arrival(2, 1, LATE), &[]),
            (9, free(0), &[dispatch(0, &[1, 2])]),
        ],
    );
}

#[test]
fn a_free_lane_takes_from_the_front_what_fits() {
    check(
        batcher(1, 8, 8),
        &[
            (0, arrival(1, 5, LATE), &[]),
            (0, arrival(2, 3, LATE), &[]),
            (0, arrival(3, 6, LATE), &[]),
            (0, arrival(4, 3, LATE), &[]),
            (0, arrival(5, 1, LATE), &[]),
            (1, free(0), &[parts(0, &[(1, 0, 5), (2, 0, 3)])]),
            (2, done(0), &[parts(0, &[(3, 0, 6)])]),
            (3, done(0), &[parts(0, &[(4, 0, 3), (5, 0, 1)])]),
        ],
    );
}

#[test]
fn without_a_batch_axis_each_call_runs_alone() {
    check(
        batcher(1, 1, 8),
        &[
            (0, arrival(1, 0, LATE), &[]),
            (0, arrival(2, 0, LATE), &[]),
            (1, free(0), &[parts(0, &[(1, 0, 0)])]),
            (2, done(0), &[parts(0, &[(2, 0, 0)])]),
        ],
    );
}

#[test]
fn parts_of_an_oversized_call_take_turns_with_the_calls_after_it() {
    check(
        batcher(1, 4, 8),
        &[
            (0, arrival(1, 10, LATE), &[]),
            (0, arrival(2, 1, LATE), &[]),
            (0, arrival(3, 3, LATE), &[]),
            (1, free(0), &[parts(0, &[(1, 0, 4)])]),
            (2, arrival(4, 2, LATE), &[]),
            (3, done(0), &[parts(0, &[(2, 0, 1), (3, 0, 3)])]),
            // Call 4 came after the first part was set off, and before the second.
            (4, done(0), &[parts(0, &[(1, 4, 4)])]),
            (5, done(0), &[parts(0, &[(4, 0, 2), (1, 8, 2)])]),
            (6, done(0), &[]),
        ],
    );
}

#[test]
fn an_oversized_call_is_spread_over_the_idle_lanes_and_fills_up_others_batches() {
    check(
        batcher(2, 8, 8),
        &[
            (0, free(0), &[]),
            (0, free(1), &[]),
            (1, arrival(1, 9, LATE), &[parts(0, &[(1, 0, 5)]), parts(1, &[(1, 5, 4)])]),
            (2, arrival(2, 5, LATE), &[]),
            (2, arrival(3, 20, LATE), &[]),
            (3, done(0), &[parts(0, &[(2, 0, 5), (3, 0, 3)])]),
            // It was not its turn that it used: it still stands before whoever came later.
            (4, arrival(4, 1, LATE), &[]),
            (5, done(1), &[parts(1, &[(3, 3, 8)])]),
            (6, done(0), &[parts(0, &[(4, 0, 1), (3, 11, 7)])]),
            (7, done(1), &[parts(1, &[(3, 18, 2)])]),
        ],
    );
}

#[test]
fn a_cancelled_or_expired_call_runs_no_further_part() {
    check(
        batcher(1, 4, 8),
        &[
            (0, arrival(1, 10, LATE), &[]),
            (0, arrival(2, 10, 5), &[]),
            (1, free(0), &[parts(0, &[(1, 0, 4)])]),
            (2, done(0), &[parts(0, &[(2, 0, 4)])]),
            (3, cancel(1), &[]),
            (5, done(0), &[reject(2, Refusal::Expired)]),
            (6, arrival(3, 1, LATE), &[dispatch(0, &[3])]),
        ],
    );
}

#[test]
fn a_batch_holds_one_bucket_and_the_oldest_call_says_which() {
    check(
        batcher(1, 8, 8),
        &[
            (0, shaped(1, 1, 7), &[]),
            (0, shaped(2, 1, 3), &[]),
            (0, shaped(3, 1, 7), &[]),
            (0, shaped(4, 1, 3), &[]),
            (0, shaped(5, 1, 9), &[]),
            (1, free(0), &[dispatch(0, &[1, 3])]),
            (2, shaped(6, 1, 7), &[]),
            (3, done(0), &[dispatch(0, &[2, 4])]),
            (4, done(0), &[dispatch(0, &[5])]),
            (5, done(0), &[dispatch(0, &[6])]),
        ],
    );
    check(
        batcher(2, 8, 8),
        &[
            (0, free(0), &[]),
            (0, free(1), &[]),
            (
                1,
                arrive(&[call(1, 1, LATE), Arrival { bucket: BucketId(1), ..call(2, 1, LATE) }]),
                &[dispatch(0, &[1]), dispatch(1, &[2])],
            ),
        ],
    );
}

#[test]
fn the_more_urgent_level_goes_first_and_the_less_urgent_fills_up() {
    check(
        batcher(1, 2, 8),
        &[
            (0, urgent(1, 1, 7), &[]),
            (0, urgent(2, 1, 4), &[]),
            (0, urgent(3, 1, 1), &[]),
            (0, urgent(4, 1, 4), &[]),
            (1, free(0), &[dispatch(0, &[3, 2])]),
            (2, urgent(5, 1, 2), &[]),
            (3, done(0), &[dispatch(0, &[5, 4])]),
            (4, done(0), &[dispatch(0, &[1])]),
        ],
    );
}

#[test]
fn a_level_that_was_passed_over_for_long_gets_a_batch() {
    let mut batcher = batcher(1, 1, 8);
    assert!(batcher.step(urgent(1, 1, 7), 0).is_empty());
    assert!(batcher.step(urgent(2, 1, 1), 0).is_empty());
    let mut event = free(0);
    for number in 2..2 + u64::from(PATIENCE) {
        assert_eq!(batcher.step(event, 1), [dispatch(0, &[number])]);
        assert!(batcher.step(urgent(number + 1, 1, 1), 1).is_empty());
        event = done(0);
    }
    assert_eq!(batcher.step(done(0), 1), [dispatch(0, &[1])]);
    assert_eq!(batcher.step(done(0), 1), [dispatch(0, &[2 + u64::from(PATIENCE)])]);
}

#[test]
fn one_call_too_many_is_refused_the_last_of_the_least_urgent() {
    check(
        batcher(1, 8, 2),
        &[
            (0, free(0), &[]),
            (0, arrival(1, 1, LATE), &[dispatch(0, &[1])]),
            (0, arrival(2, 1, LATE), &[]),
            (0, urgent(3, 1, 7), &[]),
            (0, arrival(4, 1, LATE), &[reject(3, Refusal::QueueFull)]),
            (0, arrival(5, 1, LATE), &[reject(5, Refusal::QueueFull)]),
            (1, cancel(2), &[]),
            (1, arrival(6, 1, LATE), &[]),
            (2, done(0), &[dispatch(0, &[4, 6])]),
        ],
    );
}

#[test]
fn calls_beyond_the_memory_for_inputs_are_refused() {
    let heavy = |number, bytes| arrive(&[Arrival { bytes, ..call(number, 1, LATE) }]);
    check(
        batcher(1, 8, 8),
        &[
            (0, free(0), &[]),
            (0, heavy(1, 5_000), &[dispatch(0, &[1])]),
            (0, heavy(2, 600), &[]),
            (0, heavy(3, 500), &[reject(3, Refusal::MemoryFull)]),
            (0, heavy(4, 400), &[]),
            (1, done(0), &[dispatch(0, &[2, 4])]),
            (1, heavy(5, 1_000), &[]),
        ],
    );
}

#[test]
fn a_call_that_has_run_in_part_is_not_refused_for_want_of_room() {
    let heavy = Arrival { bytes: 5_000, ..call(1, 3, LATE) };
    check(
        batcher(1, 2, 1),
        &[
            (0, free(0), &[]),
            (0, arrive(&[heavy]), &[parts(0, &[(1, 0, 2)])]),
            (0, arrival(2, 1, LATE), &[reject(2, Refusal::QueueFull)]),
            (1, done(0), &[parts(0, &[(1, 2, 1)])]),
            (1, arrival(3, 1, LATE), &[]),
        ],
    );
}

#[test]
fn a_cancelled_call_is_neither_run_nor_refused() {
    check(
        batcher(1, 8, 8),
        &[
            (0, arrival(1, 1, 10), &[]),
            (0, arrival(2, 1, LATE), &[]),
            (10, cancel(1), &[]),
            (11, cancel(7), &[]),
            (12, free(0), &[dispatch(0, &[2])]),
            (13, cancel(2), &[]),
        ],
    );
}

#[test]
fn completions_are_measured() {
    let mut batcher = batcher(1, 8, 8);
    let done = Event::Completion { lane: LaneId(0), rows: 6, compute_us: 90 };
    assert!(batcher.step(done, 0).is_empty());
    assert_eq!(batcher.profile().measured(8).map(|measured| measured.mean_us), Some(90));
    assert!(batcher.step(free(0), 0).is_empty());
    assert_eq!(batcher.profile().measured(1), None);
}
