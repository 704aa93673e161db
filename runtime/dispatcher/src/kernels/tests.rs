//! Sessions as functions get them, on the CPU.

use std::num::NonZeroUsize;

use prometheus::{Encoder as _, TextEncoder};
use quern_host_gpu::TensorConfig;
use quern_operators::{Dtype, Fill, Kernel, LaneError, Scalar, Shape};

use quern_types::{AbsenceCause, DeviceKind};

use super::*;

const MIB: u64 = 1 << 20;

fn kernels() -> (Kernels, Registry) {
    let lanes = NonZeroUsize::new(2).expect("two");
    let config = TensorConfig { lanes, work: 1 << 20, tensors: 100, on_the_spot: true };
    let device = TensorDevice::cpu(NonZeroUsize::MIN, config).expect("threads");
    let registry = Registry::new();
    let config = KernelsConfig {
        memory: ByteSize::mib(4),
        tenant_memory: Some(ByteSize::mib(3)),
        sessions: 3,
    };
    let kernels = Kernels::new(config, vec![device], &registry).expect("new metrics");
    (kernels, registry)
}

fn open(
    kernels: &Kernels,
    tenant: &str,
    memory_bytes: u64,
) -> Result<Box<dyn KernelSession>, OpenError> {
    let request = SessionRequest {
        tenant: TenantId::new(tenant),
        function: "trainer".parse().expect("a name"),
        memory_bytes,
        share_milli: SessionRequest::WHOLE_MILLI,
        device: None,
    };
    kernels.open(request).now_or_never().expect("it waits for nobody")
}

fn refusal(outcome: Result<Box<dyn KernelSession>, OpenError>) -> OpenError {
    outcome.err().expect("it is refused")
}

fn metrics(registry: &Registry) -> String {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).expect("encodes");
    String::from_utf8(text).expect("text")
}

#[test]
fn sessions_have_what_they_lease_until_they_are_dropped() {
    let (kernels, registry) = kernels();
    let mut first = open(&kernels, "a", 2 * MIB).expect("room");
    let shape = Shape::new(&[100]).expect("a shape");
    let fill = Fill { dtype: Dtype::Fp32, shape, value: Scalar::Float(1.0) };
    first.run(&Kernel::Fill(fill).into(), &[]).expect("room");
    let described = kernels.describe(DeviceId::Cpu(0)).expect("a device");
    assert_eq!(
        described,
        TensorDescription {
            memory_bytes: 4 * MIB,
            tenant_memory_bytes: 3 * MIB,
            leased_bytes: 2 * MIB,
            held_bytes: 512,
            lanes: 2,
            sessions: 1,
            max_sessions: 3,
            waiting: 0,
        }
    );
    assert_eq!(kernels.describe(DeviceId::Cuda(0)), None);
    let shown = metrics(&registry);
    for line in [
        r#"quern_device_tensor_memory_bytes{device="cpu:0"} 4194304"#,
        r#"quern_device_tensor_leased_bytes{device="cpu:0"} 2097152"#,
        r#"quern_device_tensor_held_bytes{device="cpu:0"} 512"#,
        r#"quern_device_sessions{device="cpu:0"} 1"#,
        r#"quern_device_waiting_operators{device="cpu:0"} 0"#,
        r#"quern_device_lane_busy_seconds_total{device="cpu:0",lane="1"} 0"#,
        r#"quern_device_tenant_leased_bytes{device="cpu:0",tenant="a"} 2097152"#,
        r#"quern_device_tenant_used_bytes{device="cpu:0",tenant="a"} 512"#,
        r#"quern_device_tenant_kernel_seconds_total{device="cpu:0",tenant="a"} "#,
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    drop(first);
    let described = kernels.describe(DeviceId::Cpu(0)).expect("a device");
    assert_eq!((described.leased_bytes, described.held_bytes, described.sessions), (0, 0, 0));
    kernels.sweep(|_| false);
    assert!(!metrics(&registry).contains("tenant="), "what is gone has no series");
}

#[test]
fn whoever_gets_no_session_is_told_why() {
    let (kernels, registry) = kernels();
    let too_large = refusal(open(&kernels, "a", 4 * MIB));
    assert_eq!(too_large, OpenError::NoDevice { needed: 4 * MIB, most: 3 * MIB });
    assert_eq!(
        too_large.to_string(),
        "no device has 4194304 bytes for one function, 3145728 at most: lower grants.gpu.memory \
         in the manifest"
    );
    let _own = open(&kernels, "a", 2 * MIB).expect("room");
    let budget = refusal(open(&kernels, "a", 2 * MIB));
    assert_eq!(budget, OpenError::Budget { needed: 2 * MIB, left: MIB, limit: 3 * MIB });
    assert_eq!(
        budget.to_string(),
        "2097152 bytes exceed the tenant's device memory, 1048576 of 3145728 are left: end other \
         sessions, or lower grants.gpu.memory in the manifest"
    );
    let busy = refusal(open(&kernels, "b", 3 * MIB));
    assert_eq!(busy, OpenError::Busy { needed: 3 * MIB, left: 2 * MIB });
    assert_eq!(
        busy.to_string(),
        "the devices have no 3145728 bytes left, 2097152 at most: try again later"
    );
    let _others = [(); 2].map(|()| open(&kernels, "b", 0).expect("room"));
    let many = refusal(open(&kernels, "b", 0));
    assert_eq!(many, OpenError::TenantSessions { limit: 2 });
    assert_eq!(
        many.to_string(),
        "the tenant has 2 sessions on the devices, its limit: end other sessions, or try again later"
    );
    let full = refusal(open(&kernels, "c", 0));
    assert_eq!(full, OpenError::Sessions { limit: 3 });
    assert_eq!(full.to_string(), "the devices have 3 sessions, their limit: try again later");
    let shown = metrics(&registry);
    for reason in ["too-large", "tenant", "memory", "tenant-sessions", "sessions"] {
        let line = format!("quern_device_refused_sessions_total{{reason=\"{reason}\"}} 1");
        assert!(shown.contains(&line), "{line} is not in\n{shown}");
    }
}

#[test]
fn a_kind_of_device_that_is_not_there_is_refused_and_explained() {
    let (kernels, _) = kernels();
    let absent = AbsentDevice {
        device: "cuda".to_owned(),
        cause: AbsenceCause::NoDriver,
        reason: "install it".to_owned(),
    };
    let kernels = kernels.without(vec![absent.clone()]);
    let request = SessionRequest {
        tenant: TenantId::new("a"),
        function: "trainer".parse().expect("a name"),
        memory_bytes: 1,
        share_milli: SessionRequest::WHOLE_MILLI,
        device: Some(DeviceKind::Cuda),
    };
    let refused = refusal(kernels.open(request).now_or_never().expect("it waits for nobody"));
    assert_eq!(refused, OpenError::NoneOfKind { kind: DeviceKind::Cuda });
    assert_eq!(
        refused.to_string(),
        "this server has no device of the kind cuda: `quern devices` says why; otherwise change \
         grants.gpu.device in the manifest"
    );
    assert_eq!((kernels.absent(), kernels.devices().count()), (&[absent][..], 0));
}

#[test]
fn without_devices_there_are_no_sessions() {
    let config = KernelsConfig { memory: ByteSize::mib(1), tenant_memory: None, sessions: 1 };
    let kernels = Kernels::new(config, Vec::new(), &Registry::new()).expect("new metrics");
    let none = refusal(open(&kernels, "a", 0));
    assert_eq!(none, OpenError::NoDevice { needed: 0, most: 0 });
}

#[test]
fn a_device_that_is_lost_is_named() {
    let error = LaneError::Lost { reason: "unplugged".to_owned() };
    let lost = OpenError::Lost { device: "cuda:0".to_owned(), error };
    assert_eq!(lost.to_string(), "device cuda:0: the device is lost: unplugged");
}

/// A tensor of so many bytes that a session of the tenant has packed.
fn parcel(kernels: &Kernels, bytes: u64) -> Parcel {
    let mut session = open(kernels, "packer", MIB).expect("room");
    let shape = Shape::new(&[bytes]).expect("a shape");
    let elements = vec![7; usize::try_from(bytes).expect("small")];
    let tensor = session.upload(Description::new(Dtype::Uint8, shape), &elements).expect("room");
    session.pack(tensor).now_or_never().expect("it is computed at once").expect("a parcel")
}

#[test]
fn what_is_offered_waits_for_its_tenant_until_its_time_has_passed() {
    let (kernels, registry) = kernels();
    let (a, b) = (TenantId::new("a"), TenantId::new("b"));
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let shared = &kernels.shared;
    let [first, late] = [MIB, 600]
        .map(|bytes| shared.offer(&a, parcel(&kernels, bytes), second, now).expect("room"));
    let leased = |kernels: &Kernels| {
        let described = kernels.describe(DeviceId::Cpu(0)).expect("a device");
        (described.leased_bytes, described.held_bytes, described.sessions)
    };
    assert_eq!(leased(&kernels), (MIB + 768, MIB + 768, 0));
    let shown = |offers: &Offers, tenant, ticket, now| {
        offers.describe(tenant, ticket, now).map(|description| description.to_string())
    };
    assert_eq!(shown(&shared.offers, &a, late, now).as_deref(), Some("UINT8 600"));
    assert_eq!(shown(&shared.offers, &b, late, now), None);
    assert!(shared.offers.take(&b, first, now).is_none());
    let taken = kernels.accept(&a, first).expect("it waits");
    assert!(kernels.accept(&a, first).is_none(), "one can take it");
    assert_eq!(leased(&kernels), (768, MIB + 768, 0));
    drop(taken);
    assert_eq!(shown(&shared.offers, &a, late, now + second), None, "its time has passed");
    assert!(shared.offers.take(&a, late, now + second).is_none());
    assert_eq!(leased(&kernels), (768, 768, 0), "and it is counted for as long as it is there");
    shared.offers.expire(now + second);
    assert_eq!(leased(&kernels), (0, 0, 0));
    let shown = metrics(&registry);
    for line in [
        r#"quern_device_offers_total{outcome="accepted"} 1"#,
        r#"quern_device_offers_total{outcome="expired"} 1"#,
        r#"quern_device_offered_tensors{device="cpu:0"} 0"#,
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
}

#[test]
fn offers_beyond_what_a_tenant_may_have_are_refused() {
    let (kernels, _) = kernels();
    let (a, b) = (TenantId::new("a"), TenantId::new("b"));
    let minute = Duration::from_secs(60);
    let offer = |tenant: &TenantId, bytes| kernels.offer(tenant, parcel(&kernels, bytes), minute);
    for _ in 0..offers::MOST_OF_TENANT {
        offer(&a, 1).expect("room");
    }
    assert_eq!(offer(&a, 1), Err(OfferError::Waiting { limit: 64 }));
    let _session = open(&kernels, "b", 2 * MIB).expect("room");
    let (needed, left, limit) = (MIB, MIB - 256, 3 * MIB);
    offer(&b, 1).expect("another tenant may have as many");
    assert_eq!(offer(&b, MIB), Err(OfferError::Budget { needed, left, limit }));
    let device = "cpu:0".to_owned();
    let of_others = parcel(&kernels, MIB);
    let _more = open(&kernels, "c", 3 * MIB / 2).expect("room");
    let left = 4 * MIB - 2 * MIB - 65 * 256 - 3 * MIB / 2;
    let busy = kernels.offer(&TenantId::new("d"), of_others, minute);
    assert_eq!(busy, Err(OfferError::Busy { device, needed, left }));
}
