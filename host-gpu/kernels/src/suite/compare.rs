//! How near an answer has to be. Never nearer than its element type can be.

use super::Host;
use quern_operators::Dtype;

/// How far an element may be from its reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    relative: f64,
    absolute: f64,
}

impl Tolerance {
    /// Not at all.
    pub(super) const EXACT: Self = Self { relative: 0.0, absolute: 0.0 };

    /// A few units in the last place of a type; absolute ones beside numbers of size 1.
    pub(super) fn of(dtype: Dtype) -> Self {
        let unit = match dtype {
            Dtype::Fp16 => 1e-3,
            Dtype::Bf16 => 8e-3,
            Dtype::Fp32 => 1e-6,
            Dtype::Fp64 => 1e-13,
            _ => 0.0,
        };
        Self { relative: unit, absolute: unit }
    }

    /// For results that many elements added to, whose sizes add up to so much.
    pub(super) fn of_sum(dtype: Dtype, size: f64) -> Self {
        let Self { relative, absolute } = Self::of(dtype);
        let inner = match dtype {
            Dtype::Fp16 | Dtype::Bf16 => Self::of(Dtype::Fp32).absolute,
            _ => absolute,
        };
        Self { relative, absolute: absolute.min(1e-3) + inner * size }
    }
}

/// Whether results are what was expected, each of them.
pub(super) fn all_same(found: &[Host], expected: &[Host], within: Tolerance) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} results, not {}", found.len(), expected.len()));
    }
    let pairs = found.iter().zip(expected).enumerate();
    for (number, (found, expected)) in pairs {
        same(found, expected, within).map_err(|problem| format!("result {number}: {problem}"))?;
    }
    Ok(())
}

/// Whether a result is what was expected, and if not, where.
fn same(found: &Host, expected: &Host, within: Tolerance) -> Result<(), String> {
    if found.description() != expected.description() {
        return Err(format!("is {}, not {}", found.description(), expected.description()));
    }
    for (index, (found, expected)) in found.values.iter().zip(&expected.values).enumerate() {
        let near = (found - expected).abs() <= within.absolute + within.relative * expected.abs();
        let same = found == expected || found.is_nan() && expected.is_nan();
        if !same && !near {
            return Err(format!("element {index} is {found}, not {expected}"));
        }
    }
    Ok(())
}
