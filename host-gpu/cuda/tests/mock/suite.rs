//! Holds the device to the suite that every device is held to.

use quern_cuda::{CudaDevice, CudaOptions};
use quern_kernels::{Device, suite::suite};

use crate::driver::{with_mock, with_sanitized_mock};

/// Operators that there are no kernels for yet, and that say so.
const MISSING: [&str; 3] = ["attention", "sort", "top-k"];

/// Whether a case failed for no other reason than that there is no kernel for its operator.
fn is_missing(failure: &str) -> bool {
    let case = failure.split_once(": not on this device yet").map(|(case, _)| case);
    case.and_then(|case| case.rsplit(": ").next()).is_some_and(|name| MISSING.contains(&name))
}

fn check() {
    let device = CudaDevice::open(&CudaOptions::default()).expect("the mock's device");
    let report = suite(&device);
    let wrong: Vec<_> = report.failures.iter().filter(|failure| !is_missing(failure)).collect();
    let shown: Vec<_> = wrong.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", wrong.len(), report.cases);
    assert_eq!((device.held_bytes(), device.lost()), (0, None));
}

#[test]
fn the_cuda_device_answers_as_every_device_must() {
    with_mock("suite::the_cuda_device_answers_as_every_device_must", &[], check);
}

#[test]
fn no_kernel_leaves_its_memory() {
    if std::env::var_os("QUERN_LONG_TESTS").is_none() {
        return;
    }
    with_sanitized_mock("suite::no_kernel_leaves_its_memory", check);
}
