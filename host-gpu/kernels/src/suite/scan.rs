//! Cases of sums of what came before.

use super::{Host, Tolerance, Trial};
use quern_operators::{Description, Dtype, Kernel};

/// Shapes with an axis: lines that are short, long, empty, side by side, and in several pieces.
const SHAPES: [(&[u64], u8); 9] = [
    (&[1], 0),
    (&[3, 5], 0),
    (&[3, 5], 1),
    (&[2, 7, 3], 1),
    (&[4, 0], 1),
    (&[0, 4], 0),
    (&[140_003], 0),
    (&[70, 1_100], 0),
    (&[20, 70, 30], 1),
];

pub(super) fn cases(trial: &mut Trial) {
    for (dims, axis) in SHAPES {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| *dtype != Dtype::Bool) {
            let x = trial.random(dtype, dims);
            sums(trial, &x, axis);
        }
    }
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        let values = vec![1.0, f64::INFINITY, -2.0, f64::NEG_INFINITY, 5.0];
        sums(trial, &Host::of(dtype, &[5], values), 0);
    }
}

fn sums(trial: &mut Trial, x: &Host, axis: u8) {
    let result = if x.dtype.is_integer() { Dtype::Int64 } else { x.dtype };
    let at = usize::from(axis);
    let inner = x.dims()[at + 1..].iter().product::<u64>() as usize;
    let length = x.dims()[at] as usize;
    let mut values = x.values.clone();
    for slab in values.chunks_mut((length * inner).max(1)) {
        for place in inner..slab.len() {
            slab[place] += slab[place - inner];
        }
    }
    let expected = Host::new(Description::new(result, x.shape), values);
    // Sums are kept in FP64, so that only what comes out is rounded.
    let within = match result {
        Dtype::Fp64 => Tolerance::of_sum(result, x.values.len() as f64),
        _ => Tolerance::of(result),
    };
    trial.operator(Kernel::CumulativeSum(axis), &[x], &expected, within);
}
