//! Holds the device to the suite that every device is held to.

use std::collections::BTreeSet;

use quern_cuda::{CudaDevice, CudaOptions, Gemm};
use quern_kernels::{
    Device,
    suite::{Selection, suite_of},
};
use quern_operators::{Binary, Comparison, Reduction, Unary};

use crate::driver::{with_cublaslt, with_sanitized_mock};

/// Operators that there are kernels for. Others say that they are not on this device yet.
fn computed() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::from([
        "fill",
        "copy",
        "cast",
        "and",
        "or",
        "xor",
        "where",
        "clamp",
        "arg-max",
        "arg-min",
        "cumulative-sum",
        "histogram",
        "sort",
        "top-k",
        "matmul",
        "distances",
        "attention",
        "softmax",
        "log-softmax",
        "layer-norm",
        "rms-norm",
        "concat",
        "gather",
        "scatter-add",
    ]);
    names.extend(Unary::ALL.map(Unary::name));
    names.extend(Binary::ALL.map(Binary::name));
    names.extend(Comparison::ALL.map(Comparison::name));
    names.extend(Reduction::ALL.map(Reduction::name));
    names
}

/// The operator of a case that failed for no other reason than that there is no kernel for it.
fn missing(failure: &str) -> Option<&str> {
    let (case, _) = failure.split_once(": not on this device yet")?;
    case.rsplit(": ").next()
}

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
    let computed = computed();
    let wrong = |failure: &&String| missing(failure).is_none_or(|name| computed.contains(name));
    let wrong: Vec<_> = report.failures.iter().filter(wrong).collect();
    let shown: Vec<_> = wrong.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", wrong.len(), report.cases);
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
