//! Holds the CPU device to the suite that every device is held to.

use std::num::NonZeroUsize;

use quern_kernels::{CpuDevice, suite::suite};

#[test]
fn the_cpu_device_answers_as_every_device_must() {
    let threads = NonZeroUsize::new(4).expect("some threads");
    let report = suite(&CpuDevice::new(threads).expect("threads"));
    let shown: Vec<_> = report.failures.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", report.failures.len(), report.cases);
}
