//! What a fleet decides, event by event.

use quern_types::Priority;

use super::*;
use crate::{ServingAction::*, TenantIndex};

const DEVICE: DeviceIndex = DeviceIndex(0);
const SLOT: Slot = Slot { device: DEVICE, lane: 0 };

/// A batch takes 100 µs and 10 for each of up to four rows; loading takes a millisecond.
fn model(index: u32) -> ServingEvent {
    ServingEvent::Deploy(ServedModel {
        model: ModelIndex(index),
        bytes: 1,
        load_us: 1_000,
        max_rows: 4,
        profile: BatchProfile::linear(100, 10, 4),
    })
}

fn device(resident: &[u32]) -> ServingEvent {
    ServingEvent::DeviceUp(ServingDevice {
        device: DEVICE,
        memory_bytes: 1,
        lanes: 1,
        resident: resident.iter().map(|model| ModelIndex(*model)).collect(),
    })
}

/// A fleet of two models and a device that has room for one, and has these.
fn fleet(resident: &[u32]) -> Fleet {
    let mut fleet = Fleet::default();
    for event in [model(0), model(1), device(resident)] {
        assert_eq!(fleet.step(event, 0), []);
    }
    fleet
}

fn call(number: u64, model: u32, deadline_us: u64) -> ServingCall {
    ServingCall {
        call: CallId(number),
        model: ModelIndex(model),
        tenant: TenantIndex(0),
        rows: 1,
        priority: Priority::default(),
        deadline_us,
    }
}

fn run(model: u32, calls: &[u64]) -> ServingAction {
    let calls = calls.iter().map(|call| CallId(*call)).collect();
    Dispatch { slot: SLOT, model: ModelIndex(model), calls }
}

fn late(number: u64) -> ServingAction {
    Reject { call: CallId(number), reason: Refusal::TooLate { needed_us: 110 } }
}

fn done(compute_us: u64) -> ServingEvent {
    ServingEvent::Completion { slot: SLOT, compute_us }
}

#[test]
fn an_idle_lane_takes_a_call_at_once_and_then_all_that_waits() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    for number in 2..=6 {
        assert_eq!(fleet.step(ServingEvent::Arrival(call(number, 0, 9_000)), 10), []);
    }
    assert_eq!(fleet.step(done(110), 110), [run(0, &[2, 3, 4, 5])]);
    assert_eq!(fleet.step(done(140), 250), [run(0, &[6])]);
}

#[test]
fn what_can_not_be_in_time_is_refused_at_once() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 109)), 0), [late(1)]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 0, 110)), 0), [run(0, &[2])]);
}

#[test]
fn a_deadline_that_passes_in_the_queue_is_told() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 0, 200)), 0), []);
    assert_eq!(fleet.next_tick_us(), Some(200));
    let expired = Reject { call: CallId(2), reason: Refusal::Expired };
    assert_eq!(fleet.step(ServingEvent::Tick, 200), [expired]);
    assert_eq!(fleet.next_tick_us(), None);
}

#[test]
fn one_with_little_time_gives_way_to_a_full_batch_behind_it() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    // At 110 there is time for a batch of one alone.
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 0, 225)), 0), []);
    for number in 3..=6 {
        assert_eq!(fleet.step(ServingEvent::Arrival(call(number, 0, 9_000)), 0), []);
    }
    assert_eq!(fleet.step(done(110), 110), [late(2), run(0, &[3, 4, 5, 6])]);
}

#[test]
fn the_urgent_go_first_then_whoever_has_had_fewest_turns_then_the_earliest_deadline() {
    for (took_us, expected) in [(110, [7, 2, 3, 4]), (25_000, [7, 6, 2, 3])] {
        let mut fleet = fleet(&[0]);
        assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 90_000)), 0), [run(0, &[1])]);
        for number in 2..=5 {
            assert_eq!(fleet.step(ServingEvent::Arrival(call(number, 0, 80_000)), 1), []);
        }
        let other = ServingCall { tenant: TenantIndex(1), ..call(6, 0, 90_000) };
        let urgent = ServingCall { priority: Priority::HIGHEST, ..call(7, 0, 90_000) };
        assert_eq!(fleet.step(ServingEvent::Arrival(other), 2), []);
        assert_eq!(fleet.step(ServingEvent::Arrival(urgent), 3), []);
        assert_eq!(fleet.step(done(took_us), took_us), [run(0, &expected)]);
    }
}

#[test]
fn a_call_that_nobody_wants_any_more_does_not_run() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 0, 9_000)), 0), []);
    for number in [1, 2, 2, 3] {
        assert_eq!(fleet.step(ServingEvent::Cancel(CallId(number)), 5), []);
    }
    assert_eq!(fleet.step(done(110), 110), []);
    assert_eq!(fleet.next_tick_us(), None);
}

#[test]
fn a_model_is_loaded_for_its_calls_once_and_nothing_goes_that_computes() {
    let mut fleet = fleet(&[0]);
    let [load, evict] = [
        Load { model: ModelIndex(1), device: DEVICE },
        Evict { model: ModelIndex(0), device: DEVICE },
    ];
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 1, 9_000)), 5), [], "it computes");
    assert_eq!(fleet.step(done(110), 110), [evict, load]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(3, 1, 9_000)), 120), [], "on its way");
    let loaded = ServingEvent::Loaded { model: ModelIndex(1), device: DEVICE, load_us: 1_000 };
    assert_eq!(fleet.step(loaded, 1_110), [run(1, &[2, 3])]);
}

#[test]
fn what_ran_on_a_lost_device_runs_again_when_there_is_one() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    assert_eq!(fleet.step(ServingEvent::DeviceDown(DEVICE), 50), []);
    assert_eq!(fleet.step(done(110), 110), [], "of what was lost");
    assert_eq!(fleet.step(device(&[0]), 200), [run(0, &[1])]);
    // Said to be up again, it was lost in between; it comes back with nothing, and loads.
    let load = Load { model: ModelIndex(0), device: DEVICE };
    assert_eq!(fleet.step(device(&[]), 300), [load]);
    let loaded = ServingEvent::Loaded { model: ModelIndex(0), device: DEVICE, load_us: 1_000 };
    assert_eq!(fleet.step(loaded.clone(), 1_300), [run(0, &[1])]);
    assert_eq!(fleet.step(loaded, 1_310), [], "once");
}

#[test]
fn a_model_that_can_not_be_loaded_is_tried_again() {
    let mut fleet = fleet(&[]);
    let load = || Load { model: ModelIndex(1), device: DEVICE };
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 1, 9_000)), 0), [load()]);
    let failed = ServingEvent::LoadFailed { model: ModelIndex(1), device: DEVICE };
    assert_eq!(fleet.step(failed, 500), [load()]);
}

#[test]
fn calls_of_a_model_that_had_to_go_bring_it_back() {
    let mut fleet = Fleet::default();
    let roomy = ServingDevice {
        device: DEVICE,
        memory_bytes: 2,
        lanes: 1,
        resident: vec![ModelIndex(0), ModelIndex(1)],
    };
    for event in [model(0), model(1), model(2), ServingEvent::DeviceUp(roomy)] {
        assert_eq!(fleet.step(event, 0), []);
    }
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 1, 9_000)), 5), []);
    let [evict, load] = [
        |model| Evict { model: ModelIndex(model), device: DEVICE },
        |model| Load { model: ModelIndex(model), device: DEVICE },
    ];
    assert_eq!(fleet.step(ServingEvent::Arrival(call(3, 2, 9_000)), 6), [evict(1), load(2)]);
    assert_eq!(fleet.step(done(110), 110), [], "the other is on its way");
    let loaded = ServingEvent::Loaded { model: ModelIndex(2), device: DEVICE, load_us: 1_000 };
    assert_eq!(fleet.step(loaded, 1_006), [run(2, &[3]), evict(0), load(1)]);
}

#[test]
fn a_call_of_more_rows_than_a_batch_is_refused() {
    let mut fleet = fleet(&[0]);
    let reason = Refusal::TooLate { needed_us: u64::MAX };
    let large = ServingCall { rows: 5, ..call(1, 0, 9_000) };
    let refused = [Reject { call: CallId(1), reason }];
    assert_eq!(fleet.step(ServingEvent::Arrival(large), 0), refused);
}

#[test]
fn a_model_that_is_said_anew_keeps_its_calls() {
    let mut fleet = fleet(&[0]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 0, 9_000)), 0), [run(0, &[1])]);
    assert_eq!(fleet.step(ServingEvent::Arrival(call(2, 0, 9_000)), 0), []);
    assert_eq!(fleet.step(model(0), 5), []);
    assert_eq!(fleet.step(done(110), 110), [run(0, &[2])]);
}

#[test]
fn a_call_of_no_model_is_refused() {
    let mut fleet = fleet(&[0]);
    let reason = Refusal::TooLate { needed_us: u64::MAX };
    let refused = [Reject { call: CallId(1), reason }];
    assert_eq!(fleet.step(ServingEvent::Arrival(call(1, 7, 9_000)), 0), refused);
}
