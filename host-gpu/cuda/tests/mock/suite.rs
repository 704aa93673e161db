//! Holds the device to the suite that every device is held to.

use std::collections::BTreeSet;

use quern_cuda::{CudaDevice, CudaOptions};
use quern_kernels::{Device, suite::suite};

use crate::driver::{with_mock, with_sanitized_mock};

/// Operators that there are no kernels for yet: asked for, each says so.
const NOT_YET: [&str; 14] = [
    "adam",
    "attention",
    "average-pool",
    "average-pool-gradient",
    "convolution",
    "convolution-input-gradient",
    "convolution-weight-gradient",
    "cross-entropy",
    "max-pool",
    "max-pool-gradient",
    "random",
    "sgd",
    "sort",
    "top-k",
];

fn check() {
    let device = CudaDevice::open(&CudaOptions::default()).expect("the mock's device");
    let mut report = suite(&device);
    let mut missing = BTreeSet::new();
    report.failures.retain(|failure| {
        let said = |name: &&str| {
            failure.ends_with(&format!(": {name}: not on this device yet; use another one"))
        };
        let operator = NOT_YET.into_iter().find(said);
        missing.extend(operator);
        operator.is_none()
    });
    let shown: Vec<_> = report.failures.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", report.failures.len(), report.cases);
    assert_eq!(missing, BTreeSet::from(NOT_YET), "operators that say that they are not there");
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
