//! Canaries in made-up time: what takes them on, what stops them, and how seldom chance does.

use quern_types::VersionNumber;

use super::*;

const SECOND_US: u64 = 1_000_000;

fn canary(steps: &str, step: usize) -> Canary {
    let number = |number| VersionNumber::new(number).expect("not zero");
    Canary {
        version: number(2),
        from: number(1),
        steps: steps.parse().expect("steps"),
        limits: CanaryLimits::default(),
        started_us: 0,
        token: None,
        state: CanaryState::Running { step, since_us: 0 },
    }
}

/// So many requests, of which so many failed and trapped, that all took so long.
fn counts(requests: u64, errors: u64, traps: u64, ms: u64) -> OutcomeCounts {
    let mut counts = OutcomeCounts { requests, errors, traps, ..OutcomeCounts::default() };
    for _ in 0..requests {
        counts.latency.add(Duration::from_millis(ms));
    }
    counts
}

fn after(canary: &Canary, seconds: u64, old: OutcomeCounts, new: OutcomeCounts) -> Action {
    let observed = Observed { since_us: 0, old, new };
    step(canary, &observed, seconds * SECOND_US).expect("it runs")
}

#[test]
fn a_canary_goes_through_its_steps_and_is_promoted() {
    let good = || counts(1_000, 1, 0, 5);
    let waits = after(&canary("5% 10s, 50% 20s, 100%", 0), 4, good(), good());
    let time = Period::from_millis(6_000);
    assert_eq!(waits, Action::Wait(Waiting { time, requests: 0, old_requests: 0 }));
    let next = after(&canary("5% 10s, 50% 20s, 100%", 0), 10, good(), good());
    let running = CanaryState::Running { step: 1, since_us: 10 * SECOND_US };
    assert_eq!(next, Action::Enter(running));
    for canary in [canary("5% 10s, 50% 20s, 100%", 1), canary("100%", 0)] {
        let last = after(&canary, 20, good(), good());
        assert!(matches!(last, Action::Enter(CanaryState::Promoted { .. })), "{last:?}");
    }
    let ended = Canary { state: promoted(1), ..canary("100%", 0) };
    assert_eq!(step(&ended, &Observed::default(), 2), None);
}

#[test]
fn a_step_goes_on_until_there_are_enough_requests() {
    let (few, many) = (counts(12, 12, 12, 900), counts(100_000, 0, 0, 1));
    let waits = after(&canary("5% 10s, 100%", 0), 1_000_000, many, few);
    let time = Period::from_millis(0);
    let expected = Waiting { time, requests: 38, old_requests: 0 };
    assert_eq!(waits, Action::Wait(expected), "and is not judged by them");
    let alone = after(&canary("95% 10s, 100%", 0), 60, counts(3, 0, 0, 5), counts(900, 1, 0, 5));
    let expected = Waiting { time, requests: 0, old_requests: 47 };
    assert_eq!(alone, Action::Wait(expected), "there is too little to compare with");
    let idle = after(&canary("95% 10s, 100%", 0), 60, counts(0, 0, 0, 5), counts(0, 0, 0, 5));
    assert_eq!(idle, Action::Wait(Waiting { time, requests: 50, old_requests: 50 }));
}

#[test]
fn what_has_nothing_to_be_compared_with_is_held_to_a_bound() {
    let rolls_back = |old, new| {
        let action = after(&canary("95% 1s, 100%", 0), 2, old, new);
        matches!(action, Action::Enter(CanaryState::RolledBack { reason, .. })
            if reason.ends_with("which is too few to compare with"))
    };
    for (case, old, new, expected) in [
        ("all fail", counts(0, 0, 0, 5), counts(50, 50, 0, 5), true),
        ("a third fails", counts(1, 0, 0, 5), counts(51, 17, 0, 5), true),
        ("a sixth of many fails", counts(2, 0, 0, 5), counts(2_000, 300, 0, 5), true),
        ("a tenth traps", counts(0, 0, 0, 5), counts(60, 6, 6, 5), true),
        ("a few fail", counts(0, 0, 0, 5), counts(50, 6, 0, 5), false),
        ("a tenth of many fails", counts(0, 0, 0, 5), counts(2_000, 210, 0, 5), false),
        ("one traps", counts(0, 0, 0, 5), counts(50, 1, 1, 5), false),
        ("the old one's only request failed", counts(1, 1, 0, 5), counts(60, 30, 0, 5), true),
        ("the old one's only request trapped", counts(1, 1, 1, 5), counts(60, 30, 30, 5), true),
        ("the old one trapped once", counts(40, 1, 1, 5), counts(500, 30, 30, 5), true),
        ("two of the old one's failed", counts(10, 2, 0, 5), counts(190, 60, 0, 5), true),
        ("the old one fails, too", counts(3, 3, 3, 5), counts(57, 30, 30, 5), false),
        ("the old one fails as often", counts(40, 15, 0, 5), counts(800, 300, 0, 5), false),
        ("the old one traps as often", counts(20, 3, 3, 5), counts(400, 60, 60, 5), false),
        (
            "two traps of the old one are as many",
            counts(49, 2, 2, 5),
            counts(1_000, 40, 40, 5),
            false,
        ),
        ("two traps of the old one are fewer", counts(49, 2, 2, 5), counts(1_000, 41, 41, 5), true),
        ("there is enough to compare with", counts(50, 10, 10, 5), counts(950, 200, 200, 5), false),
    ] {
        assert_eq!(rolls_back(old, new), expected, "{case}");
    }
}

#[test]
fn what_is_worse_rolls_back_at_once_and_says_why() {
    let old = || counts(2_000, 2, 0, 5);
    for (new, reason) in [
        (
            counts(100, 20, 20, 5),
            "20 of 100 requests (20.00 %) to version 2 trapped, and 0 of 2000",
        ),
        (counts(100, 9, 0, 5), "9 of 100 requests (9.00 %) to version 2 failed, and 2 of 2000"),
        (counts(100, 0, 0, 12), "the median of version 2's latency is at least 11"),
    ] {
        let action = after(&canary("5% 10m, 100%", 0), 1, old(), new);
        let Action::Enter(CanaryState::RolledBack { reason: found, .. }) = action else {
            panic!("{action:?} should be for {reason}")
        };
        assert!(found.starts_with(reason), "{found}");
    }
    let mut slow_tail = counts(940, 0, 0, 5);
    slow_tail.requests += 60;
    (0..60).for_each(|_| slow_tail.latency.add(Duration::from_millis(50)));
    let action = after(&canary("5% 10m, 100%", 0), 1, old(), slow_tail);
    let tail = matches!(&action, Action::Enter(CanaryState::RolledBack { reason, .. })
        if reason.starts_with("the 99th percentile"));
    assert!(tail, "{action:?}");
}

#[test]
fn what_fails_throughout_is_found_out_by_a_few_requests_to_the_old_version() {
    let action = after(&canary("95% 1s, 100%", 0), 2, counts(3, 0, 0, 5), counts(57, 57, 57, 5));
    assert!(matches!(action, Action::Enter(CanaryState::RolledBack { .. })), "{action:?}");
    // Both of two failures among five of nine requests: 5 × 4 of 9 × 8 ways.
    assert!((drawn(2, 2, 5, 9) - 10.0 / 36.0).abs() < 1e-9);
    assert!((drawn(0, 2, 5, 9) - 1.0).abs() < 1e-9);
}

#[test]
fn what_may_be_chance_or_is_within_limits_does_not_roll_back() {
    let cases = [
        ("as bad as the old one", counts(2_000, 200, 200, 5), counts(100, 12, 12, 5)),
        ("a little slower", counts(2_000, 0, 0, 5), counts(1_000, 0, 0, 7)),
        ("faster", counts(2_000, 0, 0, 50), counts(1_000, 0, 0, 5)),
        ("two of a hundred", counts(2_000, 0, 0, 5), counts(100, 2, 2, 5)),
        ("slow, with nothing to compare with", counts(0, 0, 0, 5), counts(100, 0, 0, 500)),
        ("within the limit", counts(1_000_000, 0, 0, 5), counts(1_000_000, 900, 0, 5)),
        ("one slow request", counts(2_000, 0, 0, 5), {
            let mut counts = counts(99, 0, 0, 5);
            counts.requests += 1;
            counts.latency.add(Duration::from_secs(9));
            counts
        }),
    ];
    for (case, old, new) in cases {
        let action = after(&canary("5% 10m, 100%", 0), 1, old, new);
        assert!(matches!(action, Action::Wait(_)), "{case}: {action:?}");
    }
}

#[test]
fn the_exact_probability_meets_the_normal_one() {
    // Of 10 coins, 8 or more are heads in 56 of 1024 cases.
    assert!((at_least(8, 10, 0.5) - 56.0 / 1024.0).abs() < 1e-12);
    assert!((at_least(0, 10, 0.3) - 1.0).abs() < 1e-9);
    assert!((at_least(3, 3, 0.05) - 0.05f64.powi(3)).abs() < 1e-12);
    assert!((at_least(0, 0, 0.1) - 1.0).abs() < 1e-12, "nothing is no excuse");
    let (exact, normal) = (at_least(590, 1_000, 0.5), at_least(591, 1_001, 0.5));
    assert!(exact < CHANCE && normal < CHANCE && normal < 10.0 * exact, "{exact} {normal}");
    assert!(at_least(501, 1_001, 0.5) > 0.1);
}

/// Numbers from 0 to 1 that are always the same.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Canaries that see so many requests a second, looked at every second: how many of them roll back.
fn rolled_back(canaries: u64, old_rate: f64, new_rate: f64, slower: f64) -> u64 {
    let mut chance = Chance(canaries);
    let mut rolled_back = 0;
    for _ in 0..canaries {
        let canary = canary("10% 1m, 100%", 0);
        let mut observed = Observed::default();
        for second in 0..60 {
            for _ in 0..100 {
                let (counts, rate, factor) = match chance.next() < 0.1 {
                    true => (&mut observed.new, new_rate, slower),
                    false => (&mut observed.old, old_rate, 1.0),
                };
                counts.requests += 1;
                counts.errors += u64::from(chance.next() < rate);
                let ms = -10.0 * (1.0 - chance.next()).ln() * factor;
                counts.latency.add(Duration::from_secs_f64(ms / 1e3));
            }
            let action = step(&canary, &observed, second * SECOND_US).expect("it runs");
            if matches!(action, Action::Enter(CanaryState::RolledBack { .. })) {
                rolled_back += 1;
                break;
            }
        }
    }
    rolled_back
}

#[test]
fn chance_seldom_rolls_back_and_what_is_worse_hardly_ever_escapes() {
    assert!(rolled_back(200, 0.01, 0.01, 1.0) <= 1, "versions that are alike");
    assert!(rolled_back(40, 0.2, 0.2, 1.0) <= 1, "that often fail");
    assert_eq!(rolled_back(40, 0.01, 0.15, 1.0), 40, "errors");
    assert_eq!(rolled_back(40, 0.01, 0.01, 3.0), 40, "latency");
}
