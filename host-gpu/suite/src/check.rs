//! The conformance suite on a device: each case with what came of it, as it comes.

use anyhow::Result;
use quern_cuda::Gemm;
use quern_kernels::{
    Device as _,
    suite::{Outcome, Selection, suite_of},
};

use crate::machine::{Machine, open};

/// Whether the device passes, with both who can compute products of matrices.
pub(crate) fn check(ordinal: usize, selection: &Selection) -> Result<bool> {
    let passed = check_with(ordinal, Gemm::Library, selection)?;
    // Where there is a library, products by our own kernels were not tried yet.
    let products = Selection { families: vec!["matmul".to_owned()], ..selection.clone() };
    let all = selection.families.is_empty();
    let wanted = all || selection.families.iter().any(|family| family == "matmul");
    if !wanted || !open(ordinal, Gemm::Library)?.gemm().starts_with("cublasLt") {
        return Ok(passed);
    }
    Ok(check_with(ordinal, Gemm::Own, &products)? && passed)
}

fn check_with(ordinal: usize, gemm: Gemm, selection: &Selection) -> Result<bool> {
    let device = open(ordinal, gemm)?;
    let machine = Machine::of(&device);
    println!("{machine}\n");
    let label = if machine.mock { "mock " } else { "" };
    let report =
        suite_of(&device, selection, &mut |Outcome { family, case, problem }| match problem {
            None => println!("{label}ok    {family}: {case}"),
            Some(problem) => println!("{label}WRONG {family}: {case}: {problem}"),
        });
    println!("\nimages loaded: {}", device.images().join(", "));
    println!("{label}{} cases, {} wrong", report.cases, report.failures.len());
    for failure in &report.failures {
        println!("{label}wrong: {failure}");
    }
    let (held, lost) = (device.held_bytes(), device.lost());
    if held > 0 || lost.is_some() {
        println!("{label}afterwards {held} bytes are held, and the device is lost: {lost:?}");
    }
    Ok(report.failures.is_empty() && report.cases > 0 && held == 0 && lost.is_none())
}
