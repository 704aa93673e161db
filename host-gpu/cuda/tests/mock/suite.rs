//! Holds the device to the suite that every device is held to.

use quern_cuda::{CudaDevice, CudaOptions, Gemm};
use quern_kernels::{
    Device,
    suite::{Selection, suite_of},
};

use crate::driver::{with_cublaslt, with_sanitized_mock};

/// All of it where cuBLASLt is there, and products by our own kernels once more.
fn check() {
    check_with(Gemm::Library, &Selection::default());
    let products = Selection { families: vec!["matmul".to_owned()], ..Selection::default() };
    check_with(Gemm::Own, &products);
}

fn check_with(gemm: Gemm, selection: &Selection) {
    let options = CudaOptions { gemm, ..CudaOptions::default() };
    let device = CudaDevice::open(&options).expect("the mock's device");
    assert_eq!(device.gemm().starts_with("cublasLt"), gemm == Gemm::Library);
    let report = suite_of(&device, selection, &mut |_| {});
    let shown: Vec<_> = report.failures.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", report.failures.len(), report.cases);
    assert_eq!((device.held_bytes(), device.lost()), (0, None));
}

#[test]
fn the_cuda_device_answers_as_every_device_must() {
    with_cublaslt("suite::the_cuda_device_answers_as_every_device_must", &[], check);
}

#[test]
fn no_kernel_leaves_its_memory() {
    if std::env::var_os("QUERN_LONG_TESTS").is_none() {
        return;
    }
    with_sanitized_mock("suite::no_kernel_leaves_its_memory", check);
}
