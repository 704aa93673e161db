//! What a guest can have of a device, and that it is all given back.

use std::time::Duration;

use quern_types::{ByteSize, Exceeded, FunctionSpec, GpuGrant, InvokeError, Period, Reuse};
use serde_json::json;

use crate::{
    function::{Guest, granting},
    kernels::Patience,
};

#[tokio::test]
async fn elements_go_there_and_come_back() {
    let guest = Guest::new();
    for bytes in [0, 1, 600_000] {
        let charged = bytes_charged(bytes);
        let expected = json!({ "same": true, "bytes": charged, "tensors": 1, "left": 0 });
        assert_eq!(guest.ok(&format!("upload?bytes={bytes}")).await, expected);
    }
    assert_eq!(guest.kernels.held_bytes(), 0);
}

/// Devices allocate in multiples of 256 bytes.
fn bytes_charged(bytes: u64) -> u64 {
    bytes.next_multiple_of(256)
}

#[tokio::test]
async fn thousands_of_tiny_operators_end_well() {
    let guest = Guest::new();
    assert_eq!(guest.ok("many?count=20000").await, 20_000.0);
    assert_eq!(guest.kernels.held_bytes(), 0);
}

#[tokio::test]
async fn a_trap_in_the_middle_frees_everything() {
    let guest = Guest::new();
    let (answer, report) = guest.call("trap").await;
    assert!(matches!(answer, Err(InvokeError::Trap { .. })), "{answer:?}");
    assert!(report.failure.is_some());
    assert_eq!(guest.kernels.held_bytes(), 0);
}

#[tokio::test]
async fn whoever_waits_for_a_device_waits_no_longer_than_its_request() {
    let timeout = Period::from_millis(200);
    let mut spec = granting(ByteSize::mib(1));
    spec.limits.timeout = timeout;
    let guest = Guest::with(&spec, GpuGrant::CEILING, Patience::Stuck);
    let (answer, report) = guest.call_within(timeout.0, "layer").await;
    assert_eq!(answer, Err(InvokeError::Limit(Exceeded::Timeout(timeout))));
    assert!(report.cpu < Duration::from_millis(200), "waiting is no work: {:?}", report.cpu);
    assert_eq!(guest.kernels.held_bytes(), 0);
}

#[tokio::test]
async fn a_grant_is_lowered_to_what_the_operator_allows() {
    let spec = granting(ByteSize::mib(16));
    let guest = Guest::with(&spec, ByteSize::mib(1), Patience::Prompt);
    assert_eq!(guest.ok("upload?bytes=1000000").await["same"], true);
    let (kind, text) = guest.refused("upload?bytes=1100000").await;
    assert_eq!(kind, "Exhausted");
    assert!(text.contains("of 1048576 are in use"), "{text}");
}

#[tokio::test]
async fn what_the_guest_could_not_hold_is_not_read() {
    let mut spec = granting(ByteSize::mib(16));
    spec.limits.memory = ByteSize::mib(4);
    let guest = Guest::with(&spec, GpuGrant::CEILING, Patience::Prompt);
    let (kind, text) = guest.refused("fault/large").await;
    assert_eq!(kind, "Exhausted");
    let expected = "UINT8 8388608 is larger than limits.memory of 4.0 MiB: read parts of it";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn an_instance_that_keeps_a_session_serves_no_other_request() {
    let reuse = Some(Reuse { requests: 100, idle: Period::from_millis(60_000) });
    let spec = FunctionSpec { reuse, ..granting(ByteSize::mib(1)) };
    let guest = Guest::with(&spec, GpuGrant::CEILING, Patience::Prompt);
    assert_eq!(guest.ok("requests").await, 1);
    assert_eq!(guest.ok("requests").await, 2);
    assert_eq!(guest.ok("keep").await, 3);
    assert_eq!(guest.ok("requests").await, 1);
    assert_eq!(guest.kernels.held_bytes(), 0);
}
