//! Leases as requests and releases come, one by one and at random.

use proptest::{collection::vec, prelude::*};

use super::*;

const CPU: LeasedDevice = LeasedDevice {
    id: DeviceId::Cpu(0),
    memory_bytes: 100,
    tenant_bytes: 60,
    sessions: 4,
    lanes: 2,
};

fn request(lease: u64, tenant: &str, bytes: u64) -> LeaseEvent {
    let (lease, tenant) = (LeaseId(lease), TenantId::new(tenant));
    LeaseEvent::Request { lease, tenant, bytes, share_milli: 1_000, kind: None }
}

fn keep(lease: u64, tenant: &str, device: DeviceId, bytes: u64) -> LeaseEvent {
    LeaseEvent::Keep { lease: LeaseId(lease), tenant: TenantId::new(tenant), device, bytes }
}

fn release(lease: u64) -> LeaseEvent {
    LeaseEvent::Release { lease: LeaseId(lease) }
}

fn granted(device: DeviceId, lane: usize) -> Option<LeaseAction> {
    Some(LeaseAction::Grant { device, lane })
}

fn refused(refusal: LeaseRefusal) -> Option<LeaseAction> {
    Some(LeaseAction::Refuse(refusal))
}

#[test]
fn memory_is_leased_up_to_what_there_is_and_can_be_leased_again() {
    let mut leases = Leases::new([CPU]);
    assert_eq!(leases.step(request(1, "a", 60)), granted(CPU.id, 0));
    assert_eq!(leases.step(request(2, "b", 50)), refused(LeaseRefusal::Memory { left_bytes: 40 }));
    assert_eq!(leases.step(request(3, "b", 40)), granted(CPU.id, 1));
    assert_eq!(leases.step(release(1)), None);
    assert_eq!(leases.step(release(1)), None, "once is enough");
    assert_eq!(leases.step(release(2)), None, "it was refused");
    assert_eq!(leases.step(request(4, "c", 60)), granted(CPU.id, 0));
    let leased: Vec<_> = leases.leased().map(|leased| (leased.bytes, leased.leases)).collect();
    assert_eq!(leased, [(100, 2)]);
}

#[test]
fn a_tenant_gets_no_more_than_its_budget() {
    let mut leases = Leases::new([CPU]);
    let too_large = LeaseRefusal::TooLarge { most_bytes: 60 };
    assert_eq!(leases.step(request(1, "a", 61)), refused(too_large));
    assert_eq!(leases.step(request(2, "a", 35)), granted(CPU.id, 0));
    let used_up = LeaseRefusal::Tenant { left_bytes: 25, limit_bytes: 60 };
    assert_eq!(leases.step(request(3, "a", 26)), refused(used_up));
    assert_eq!(leases.step(request(4, "a", 25)), granted(CPU.id, 1));
    let of_tenants: Vec<_> = leases.of_tenants().collect();
    assert_eq!(of_tenants, [(CPU.id, &TenantId::new("a"), 60)]);
    let _ = (leases.step(release(2)), leases.step(release(4)));
    assert_eq!(leases.of_tenants().count(), 0);
}

#[test]
fn sessions_are_counted_even_if_they_want_no_memory() {
    let mut leases = Leases::new([CPU]);
    for (lease, tenant) in (0..).zip(["a", "b", "a", "b"]) {
        assert_eq!(leases.step(request(lease, tenant, 0)), granted(CPU.id, lease as usize % 2));
    }
    let full = LeaseRefusal::Sessions { limit: 4 };
    assert_eq!(leases.step(request(4, "c", 0)), refused(full));
}

#[test]
fn a_tenant_gets_as_large_a_part_of_the_sessions_as_of_the_memory() {
    // Bytes for a tenant, of 100, and how many of 4 sessions it may have.
    for (tenant_bytes, limit) in [(1, 1), (49, 1), (60, 2), (75, 3), (100, 4), (1_000, 4)] {
        let mut leases = Leases::new([LeasedDevice { tenant_bytes, ..CPU }]);
        for lease in 0..limit {
            let action = leases.step(request(lease, "a", 0));
            assert!(
                matches!(action, Some(LeaseAction::Grant { .. })),
                "{tenant_bytes}: {action:?}"
            );
        }
        let limit = limit as usize;
        let refusal = leases.step(request(9, "a", 0));
        assert_eq!(refusal, refused(LeaseRefusal::TenantSessions { limit }));
        if limit < 4 {
            let other = leases.step(request(10, "b", 0));
            assert!(matches!(other, Some(LeaseAction::Grant { .. })), "{other:?}");
            assert_eq!(leases.step(release(0)), None);
            assert_eq!(leases.of_tenants().count(), if limit > 1 { 2 } else { 1 });
            let again = leases.step(request(11, "a", 0));
            assert!(matches!(again, Some(LeaseAction::Grant { .. })), "{again:?}");
        }
    }
}

#[test]
fn kept_memory_counts_as_a_sessions_does_and_is_no_session() {
    let mut leases = Leases::new([LeasedDevice { sessions: 1, ..CPU }]);
    assert_eq!(leases.step(request(1, "a", 20)), granted(CPU.id, 0));
    assert_eq!(leases.step(keep(2, "a", CPU.id, 40)), granted(CPU.id, 0));
    let used_up = LeaseRefusal::Tenant { left_bytes: 0, limit_bytes: 60 };
    assert_eq!(leases.step(keep(3, "a", CPU.id, 1)), refused(used_up));
    assert_eq!(leases.step(keep(4, "b", CPU.id, 40)), granted(CPU.id, 0));
    let full = LeaseRefusal::Memory { left_bytes: 0 };
    assert_eq!(leases.step(keep(5, "b", CPU.id, 1)), refused(full));
    let too_large = LeaseRefusal::TooLarge { most_bytes: 60 };
    assert_eq!(leases.step(keep(5, "b", CPU.id, 61)), refused(too_large));
    let nowhere = LeaseRefusal::TooLarge { most_bytes: 0 };
    assert_eq!(leases.step(keep(5, "b", DeviceId::Cuda(0), 1)), refused(nowhere));
    let leased: Vec<_> = leases.leased().map(|leased| (leased.bytes, leased.leases)).collect();
    assert_eq!(leased, [(100, 1)]);
    assert_eq!(leases.step(release(1)), None);
    let of_tenants: Vec<_> =
        leases.of_tenants().map(|(_, tenant, bytes)| (tenant.as_str(), bytes)).collect();
    assert_eq!(of_tenants, [("a", 40), ("b", 40)]);
    let _ = (leases.step(release(2)), leases.step(release(4)));
    assert_eq!(leases.of_tenants().count(), 0);
}

#[test]
fn without_devices_there_is_nothing_to_lease() {
    let nothing = LeaseRefusal::TooLarge { most_bytes: 0 };
    assert_eq!(Leases::new([]).step(request(1, "a", 1)), refused(nothing));
}

#[test]
fn gpus_come_first_and_then_what_has_most_left() {
    let gpu = |ordinal| LeasedDevice { id: DeviceId::Cuda(ordinal), tenant_bytes: 100, ..CPU };
    let mut leases = Leases::new([CPU, gpu(1), gpu(0)]);
    let expected = [(60, gpu(0).id), (30, gpu(1).id), (50, gpu(1).id), (50, CPU.id)];
    for (lease, (bytes, device)) in (0..).zip(expected) {
        let action = leases.step(request(lease, "a", bytes));
        assert!(
            matches!(action, Some(LeaseAction::Grant { device: on, .. }) if on == device),
            "{bytes} bytes: {action:?}"
        );
    }
    // What would help soonest is what is said: the GPU has room for it at another time.
    let nearest = LeaseRefusal::Tenant { left_bytes: 40, limit_bytes: 100 };
    assert_eq!(leases.step(request(9, "a", 60)), refused(nearest));
    assert_eq!(leases.step(request(9, "b", 60)), refused(LeaseRefusal::Memory { left_bytes: 50 }));
}

#[test]
fn who_names_a_kind_of_device_gets_that_or_nothing() {
    let gpu = LeasedDevice { id: DeviceId::Cuda(0), tenant_bytes: 30, ..CPU };
    let on = |kind, lease, bytes| {
        let (lease, tenant) = (LeaseId(lease), TenantId::default());
        LeaseEvent::Request { lease, tenant, bytes, share_milli: 1_000, kind: Some(kind) }
    };
    let mut leases = Leases::new([CPU, gpu]);
    assert_eq!(leases.step(on(DeviceKind::Cpu, 1, 1)), granted(CPU.id, 0));
    assert_eq!(leases.step(on(DeviceKind::Cuda, 2, 20)), granted(gpu.id, 0));
    // The CPU has room for it, but was not asked for.
    let used_up = LeaseRefusal::Tenant { left_bytes: 10, limit_bytes: 30 };
    assert_eq!(leases.step(on(DeviceKind::Cuda, 3, 20)), refused(used_up));
    let mut leases = Leases::new([CPU]);
    let kind = DeviceKind::Cuda;
    assert_eq!(leases.step(on(kind, 1, 1)), refused(LeaseRefusal::NoneOfKind { kind }));
}

#[test]
fn a_lane_with_smaller_shares_gets_more_leases() {
    let mut leases = Leases::new([LeasedDevice { tenant_bytes: 100, ..CPU }]);
    let mut lane = |lease, share_milli| {
        let event = LeaseEvent::Request {
            lease: LeaseId(lease),
            tenant: TenantId::default(),
            bytes: 1,
            share_milli,
            kind: None,
        };
        match leases.step(event) {
            Some(LeaseAction::Grant { lane, .. }) => lane,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([lane(1, 1_000), lane(2, 300), lane(3, 300), lane(4, 300)], [0, 1, 1, 1]);
}

fn events() -> impl Strategy<Value = Vec<LeaseEvent>> {
    let tenant = prop::sample::select(&["a", "b", "c"][..]);
    let bytes = prop_oneof![8 => 0..50u64, 1 => any::<u64>()];
    let asks = (0..40u64, tenant, bytes, any::<u32>()).prop_map(|(lease, tenant, bytes, share)| {
        let (lease, tenant) = (LeaseId(lease), TenantId::new(tenant));
        LeaseEvent::Request { lease, tenant, bytes, share_milli: share, kind: None }
    });
    let gives = (0..40u64).prop_map(release);
    vec(prop_oneof![3 => asks, 2 => gives], 1..200)
}

proptest! {
    #[test]
    fn whatever_comes_nobody_has_more_than_there_is(events in events()) {
        let gpu = LeasedDevice { id: DeviceId::Cuda(0), memory_bytes: 70, lanes: 1, ..CPU };
        let mut leases = Leases::new([CPU, gpu]);
        let mut held: BTreeMap<LeaseId, (DeviceId, TenantId, u64)> = BTreeMap::new();
        for event in events {
            // A name is never used again.
            if matches!(&event, LeaseEvent::Request { lease, .. } if held.contains_key(lease)) {
                continue;
            }
            let action = leases.step(event.clone());
            match (event, action) {
                (LeaseEvent::Request { lease, tenant, bytes, .. }, Some(LeaseAction::Grant { device, .. })) => {
                    held.insert(lease, (device, tenant, bytes));
                }
                (LeaseEvent::Release { lease }, None) => _ = held.remove(&lease),
                (LeaseEvent::Request { .. }, Some(LeaseAction::Refuse(_))) => {}
                other => prop_assert!(false, "{:?}", other),
            }
            for leased in leases.leased() {
                let here = || held.values().filter(|lease| lease.0 == leased.device.id);
                prop_assert_eq!(leased.bytes, here().map(|lease| lease.2).sum::<u64>());
                prop_assert_eq!(leased.leases, here().count());
                prop_assert!(leased.bytes <= leased.device.memory_bytes);
                prop_assert!(leased.leases <= leased.device.sessions);
            }
            for (_, _, bytes) in leases.of_tenants() {
                prop_assert!(bytes <= 60);
            }
        }
    }
}
