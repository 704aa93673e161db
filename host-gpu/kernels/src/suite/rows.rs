//! Cases of operators on rows.

use super::{Host, Tolerance, Trial};
use quern_operators::{Dtype, Kernel, Norm};

const SHAPES: [&[u64]; 8] =
    [&[1], &[7], &[3, 5], &[2, 3, 33], &[0, 4], &[4, 0], &[3, 2_500], &[300, 300]];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for dims in SHAPES {
            softmax(trial, dtype, dims);
            norms(trial, dtype, dims);
        }
        special(trial, dtype);
    }
}

fn each_row(x: &Host, mut run: impl FnMut(&[f64]) -> Vec<f64>) -> Host {
    let length = *x.dims().last().expect("a row") as usize;
    let rows = x.values.chunks(length.max(1));
    Host::new(x.description(), rows.flat_map(&mut run).collect())
}

fn shares(row: &[f64], log: bool) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
    let share = |x: &f64| if log { x - max - sum.ln() } else { (x - max).exp() / sum };
    row.iter().map(share).collect()
}

fn softmax(trial: &mut Trial, dtype: Dtype, dims: &[u64]) {
    let x = trial.random(dtype, dims);
    let within = Tolerance::of_sum(dtype, 8.0);
    let expected = each_row(&x, |row| shares(row, false));
    trial.operator(Kernel::Softmax, &[&x], &expected, within);
    let expected = each_row(&x, |row| shares(row, true));
    trial.operator(Kernel::LogSoftmax, &[&x], &expected, within);
}

fn norms(trial: &mut Trial, dtype: Dtype, dims: &[u64]) {
    let x = trial.random(dtype, dims);
    let length = dims[dims.len() - 1];
    let (scale, bias) = (trial.random(dtype, &[length]), trial.random(dtype, &[length]));
    let norm = Norm { epsilon: 1e-5 };
    let within = Tolerance::of_sum(dtype, 20.0);
    let mean = |row: &mut dyn Iterator<Item = f64>| row.sum::<f64>() / length as f64;
    let expected = each_row(&x, |row| {
        let middle = mean(&mut row.iter().copied());
        let variance = mean(&mut row.iter().map(|x| (x - middle).powi(2)));
        let factor = (variance + norm.epsilon).sqrt();
        let weights = scale.values.iter().zip(&bias.values);
        let scaled = row.iter().zip(weights);
        scaled.map(|(x, (scale, bias))| (x - middle) / factor * scale + bias).collect()
    });
    trial.operator(Kernel::LayerNorm(norm), &[&x, &scale, &bias], &expected, within);
    let expected = each_row(&x, |row| {
        let square = mean(&mut row.iter().map(|x| x * x));
        let factor = (square + norm.epsilon).sqrt();
        row.iter().zip(&scale.values).map(|(x, scale)| x / factor * scale).collect()
    });
    trial.operator(Kernel::RmsNorm(norm), &[&x, &scale], &expected, within);
}

/// A row and its shares.
type Rows = ([f64; 4], [f64; 4]);

/// Large numbers don't overflow, NaN spoils its row alone, and a row of no weight has no shares.
fn special(trial: &mut Trial, dtype: Dtype) {
    let (nan, low) = (f64::NAN, f64::NEG_INFINITY);
    let table = [
        ([1e4, 1e4, 1e4, 1e4], [0.25; 4]),
        ([0.0, low, 0.0, low], [0.5, 0.0, 0.5, 0.0]),
        ([nan, 0.0, 1.0, 2.0], [nan; 4]),
        ([low; 4], [nan; 4]),
        ([-1e4, 0.0, -1e4, -1e4], [0.0, 1.0, 0.0, 0.0]),
    ];
    let rows = |part: fn(&Rows) -> [f64; 4]| {
        Host::of(dtype, &[5, 4], table.iter().flat_map(part).collect())
    };
    let (x, expected) = (rows(|(x, _)| *x), rows(|(_, shares)| *shares));
    trial.operator(Kernel::Softmax, &[&x], &expected, Tolerance::of(dtype));
}
