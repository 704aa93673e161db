//! Cases of deadlines, of measured times, and of waiting for more.

use super::*;

/// A batcher whose runs of these rows are known to take so long.
fn measured(config: BatcherConfig, runs: &[(u32, u64)]) -> Batcher {
    let mut batcher = Batcher::new(config);
    for (rows, compute_us) in runs {
        (0..64).for_each(|_| batcher.profile.record(*rows, *compute_us));
    }
    batcher
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
fn where_shapes_differ_the_fastest_run_says_what_is_too_late() {
    for (one_bucket, is_refused) in [(true, true), (false, false)] {
        let config = BatcherConfig { one_bucket, ..config(1, 4, 8) };
        let mut batcher = measured(config, &[(1, 20), (1, 1_000)]);
        assert!(batcher.step(free(0), 0).is_empty());
        let actions = batcher.step(arrival(1, 1, 500), 0);
        let refused = matches!(actions[..], [Action::Reject { .. }]);
        assert_eq!(refused, is_refused, "{actions:?}");
    }
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
