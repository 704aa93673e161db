//! Particular cases of a batcher, each a short story of events. What holds for all of them is in
//! the properties.

use quern_types::Priority;

use super::*;
use crate::BucketId;

const LATE: u64 = 1_000_000;

fn config(lanes: u16, max_rows: u32, max_waiting: u32) -> BatcherConfig {
    let (max_waiting_bytes, max_delay_us) = (1_000, 0);
    BatcherConfig { lanes, max_rows, max_waiting, max_waiting_bytes, max_delay_us }
}

fn batcher(lanes: u16, max_rows: u32, max_waiting: u32) -> Batcher {
    Batcher::new(config(lanes, max_rows, max_waiting))
}

/// A batcher whose runs of these rows are known to take so long.
fn measured(config: BatcherConfig, runs: &[(u32, u64)]) -> Batcher {
    let mut batcher = Batcher::new(config);
    for (rows, compute_us) in runs {
        (0..64).for_each(|_| batcher.profile.record(*rows, *compute_us));
    }
    batcher
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
fn expired_calls_are_refused_by_whatever_comes_first() {
    check(
        batcher(1, 8, 2),
        &[
            (0, arrival(1, 1, 10), &[]),
            (0, arrival(2, 1, 20), &[]),
            (9, Event::Tick, &[]),
            (10, Event::Tick, &[reject(1, Refusal::Expired)]),
            (11, arrival(3, 1, LATE), &[]),
            // Its room goes to the next.
            (20, arrival(4, 1, LATE), &[reject(2, Refusal::Expired)]),
            (21, arrival(5, 1, 21), &[reject(5, Refusal::Expired)]),
            (LATE - 1, free(0), &[dispatch(0, &[3, 4])]),
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
fn a_call_that_can_not_be_done_in_time_is_refused_at_once() {
    let late = |needed_us| Refusal::TooLate { needed_us };
    check(
        measured(config(1, 4, 8), &[(1, 100), (4, 200)]),
        &[
            (0, free(0), &[]),
            // A run of one row takes 100 µs, which leaves this one no time, and this one enough.
            (0, arrival(1, 1, 99), &[reject(1, late(100))]),
            (0, arrival(2, 1, 100), &[dispatch(0, &[2])]),
            // The lane is busy until 100.
            (50, arrival(3, 1, 199), &[reject(3, late(150))]),
            (50, arrival(4, 1, 200), &[]),
            // Of two rows nothing is known.
            (50, arrival(5, 2, 60), &[]),
            (60, Event::Tick, &[reject(5, Refusal::Expired)]),
            // Full batches ahead take 200 µs each.
            (60, arrival(6, 4, 390), &[]),
            (60, arrival(7, 1, 399), &[reject(7, late(340))]),
            (60, arrival(8, 1, 400), &[]),
        ],
    );
}

#[test]
fn an_unmeasured_model_refuses_nobody_early() {
    check(
        batcher(1, 4, 8),
        &[
            (0, arrival(1, 1, 1), &[]),
            (0, arrival(2, 4, 1), &[]),
            (0, free(0), &[dispatch(0, &[1])]),
        ],
    );
}

#[test]
fn a_call_that_waited_until_it_was_too_late_does_not_run() {
    check(
        measured(config(1, 2, 8), &[(1, 100)]),
        &[
            (0, arrival(1, 1, 150), &[]),
            (0, arrival(2, 1, 500), &[]),
            (0, arrival(3, 1, 120), &[]),
            (
                60,
                free(0),
                &[
                    reject(1, Refusal::TooLate { needed_us: 100 }),
                    reject(3, Refusal::TooLate { needed_us: 100 }),
                    dispatch(0, &[2]),
                ],
            ),
        ],
    );
}

#[test]
fn of_many_calls_that_seem_too_late_one_is_run_to_see() {
    let mut batcher = measured(config(1, 1, 8), &[(1, 1_000)]);
    assert!(batcher.step(free(0), 0).is_empty());
    let outcomes: Vec<_> =
        (1..=16).map(|number| batcher.step(arrival(number, 1, 500), 0)).collect();
    let refused = |number| vec![reject(number, Refusal::TooLate { needed_us: 1_000 })];
    assert_eq!(outcomes[..15], (1..16).map(refused).collect::<Vec<_>>());
    assert_eq!(outcomes[15], [dispatch(0, &[16])]);
    // A trial that has to wait for its lane runs as well.
    for number in 17..32 {
        assert_eq!(batcher.step(arrival(number, 1, 700), 0).len(), 1);
    }
    assert!(batcher.step(arrival(32, 1, 700), 0).is_empty());
    assert_eq!(batcher.step(done(0), 1), [dispatch(0, &[32])]);
}

#[test]
fn the_earliest_deadline_goes_first_where_it_would_be_missed_otherwise() {
    let story = |deadline_us, expected: [Action; 2]| {
        let [first, second] = expected;
        check(
            measured(config(1, 1, 8), &[(1, 100)]),
            &[
                (0, free(0), &[]),
                (0, arrival(1, 1, LATE), &[dispatch(0, &[1])]),
                (0, arrival(2, 1, LATE), &[]),
                (0, arrival(3, 1, deadline_us), &[]),
                (100, Event::Completion { lane: LaneId(0), rows: 1, compute_us: 100 }, &[first]),
                (200, Event::Completion { lane: LaneId(0), rows: 1, compute_us: 100 }, &[second]),
            ],
        );
    };
    // There is time for another batch before it, or there is not.
    story(300, [dispatch(0, &[2]), dispatch(0, &[3])]);
    story(299, [dispatch(0, &[3]), dispatch(0, &[2])]);
}

#[test]
fn a_batch_waits_for_more_where_that_is_configured_and_pays() {
    let patient = BatcherConfig { max_delay_us: 1_000, ..config(1, 4, 8) };
    let [steep, flat] = [&[(1, 100), (2, 200), (4, 400)], &[(1, 100), (2, 110), (4, 120)]];
    // Twice the rows take twice as long: nothing is gained.
    check(
        measured(patient, steep),
        &[(0, free(0), &[]), (0, arrival(1, 1, LATE), &[dispatch(0, &[1])])],
    );
    // Nothing was measured.
    check(
        Batcher::new(patient),
        &[(0, free(0), &[]), (0, arrival(1, 1, LATE), &[dispatch(0, &[1])])],
    );
    // Until the time is over, the batch is full, another bucket comes, or a deadline is near.
    check(
        measured(patient, flat),
        &[
            (0, free(0), &[]),
            (0, arrival(1, 1, LATE), &[]),
            (999, arrival(2, 1, LATE), &[]),
            (1_000, Event::Tick, &[dispatch(0, &[1, 2])]),
            (1_100, done(0), &[]),
            (1_100, arrival(3, 1, LATE), &[]),
            (1_200, together(4..=6), &[dispatch(0, &[3, 4, 5, 6])]),
            (1_300, done(0), &[]),
            (1_300, arrival(7, 1, LATE), &[]),
            (1_300, shaped(8, 1, 1), &[dispatch(0, &[7])]),
            (1_400, done(0), &[]),
        ],
    );
    // What is full does not wait.
    check(
        measured(BatcherConfig { max_waiting: 1, ..patient }, flat),
        &[
            (0, free(0), &[]),
            (0, arrival(1, 1, LATE), &[]),
            (1, arrival(2, 1, LATE), &[dispatch(0, &[1, 2])]),
        ],
    );
    let mut held = measured(patient, flat);
    assert!(held.step(free(0), 0).is_empty());
    assert!(held.step(arrival(1, 1, 610), 0).is_empty());
    // Two rows take 110 µs.
    assert_eq!((held.held_until_us(), held.next_tick_us()), (Some(500), Some(500)));
    assert_eq!(held.step(Event::Tick, 500), [dispatch(0, &[1])]);
    assert_eq!((held.held_until_us(), held.next_tick_us()), (None, None));
}

#[test]
fn the_next_tick_is_the_earliest_deadline_that_waits() {
    let mut batcher = batcher(1, 1, 8);
    assert_eq!(batcher.next_tick_us(), None);
    assert!(batcher.step(arrival(1, 1, 30), 0).is_empty());
    assert!(batcher.step(arrival(2, 1, 20), 0).is_empty());
    assert_eq!(batcher.next_tick_us(), Some(20));
    assert!(batcher.step(cancel(2), 1).is_empty());
    assert_eq!((batcher.next_tick_us(), batcher.waiting()), (Some(30), 1));
    assert_eq!(batcher.waiting_bytes(), 1);
    assert_eq!(batcher.step(free(0), 2), [dispatch(0, &[1])]);
    assert_eq!((batcher.next_tick_us(), batcher.waiting()), (None, 0));
    assert_eq!(batcher.waiting_bytes(), 0);
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
