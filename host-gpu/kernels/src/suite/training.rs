//! Cases of what trains a model: losses with their gradients, and steps of optimizers.

use super::{Host, Tolerance, Trial};
use quern_operators::{Adam, CrossEntropy, Dtype, Kernel, Sgd};

const FLOATS: [Dtype; 4] = [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64];

/// Rows of logits; the labels are shaped as they are without the innermost dimension.
const LOGITS: [&[u64]; 8] =
    [&[1], &[10], &[3, 5], &[2, 3, 33], &[0, 4], &[7, 1], &[3, 2_500], &[300, 300]];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in FLOATS {
        for dims in LOGITS {
            for (ignored, smoothing) in [(None, 0.0), (Some(-100), 0.0), (Some(0), 0.1)] {
                cross_entropy(trial, dtype, dims, CrossEntropy { ignored, smoothing });
            }
        }
        special(trial, dtype);
        for dims in [&[][..], &[5], &[0, 3], &[3, 1_031], &[257, 300]] {
            sgd(trial, dtype, dims);
            adam(trial, dtype, dims);
        }
    }
    for label in [-1, 5, i64::MAX] {
        let logits = trial.random(Dtype::Fp32, &[2, 5]);
        let labels = Host::of(Dtype::Int64, &[2], vec![0.0, label as f64]);
        let kernel = Kernel::CrossEntropy(CrossEntropy::default());
        trial.out_of_range(kernel, &[&logits, &labels], label, 5);
    }
}

fn cross_entropy(trial: &mut Trial, dtype: Dtype, dims: &[u64], parameters: CrossEntropy) {
    let logits = trial.random(dtype, dims);
    let (classes, rows) = dims.split_last().expect("a row");
    let count = rows.iter().product::<u64>();
    let labels = (0..count).map(|row| match parameters.ignored {
        Some(ignored) if row % 3 == 1 => ignored as f64,
        _ => trial.random.below(*classes) as f64,
    });
    let labels = Host::of(Dtype::Int32, rows, labels.collect());
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for (row, label) in logits.values.chunks(*classes as usize).zip(&labels.values) {
        let (loss, gradient) = reference(row, *label as i64, &parameters);
        losses.push(loss);
        gradients.extend(gradient);
    }
    let expected = [Host::of(dtype, rows, losses), Host::of(dtype, dims, gradients)];
    let within = Tolerance::of_sum(dtype, 12.0);
    let kernel = Kernel::CrossEntropy(parameters);
    trial.operators(kernel, &[&logits, &labels], &expected, within);
}

fn reference(row: &[f64], label: i64, parameters: &CrossEntropy) -> (f64, Vec<f64>) {
    if parameters.ignored == Some(label) {
        return (0.0, vec![0.0; row.len()]);
    }
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (class, x) in row.iter().enumerate() {
        let whole = if class as i64 == label { 1.0 } else { 0.0 };
        let smoothing = parameters.smoothing;
        let target = whole * (1.0 - smoothing) + smoothing / row.len() as f64;
        gradient.push((x - max).exp() / sum - target);
        if target > 0.0 {
            loss -= target * (x - max - sum.ln());
        }
    }
    (loss, gradient)
}

/// Logits of two classes, the label, the loss and its gradient.
type Row = ([f64; 2], f64, f64, [f64; 2]);

/// Large logits don't overflow, an impossible class costs nothing unless it is the label, and NaN
/// spoils its row alone.
fn special(trial: &mut Trial, dtype: Dtype) {
    let (nan, low, inf) = (f64::NAN, f64::NEG_INFINITY, f64::INFINITY);
    let table = [
        ([1e4, 1e4], 0.0, 2f64.ln(), [-0.5, 0.5]),
        ([0.0, low], 0.0, 0.0, [0.0, 0.0]),
        ([0.0, low], 1.0, inf, [1.0, -1.0]),
        ([-1e4, 1e4], 0.0, 2e4, [-1.0, 1.0]),
        ([nan, 0.0], 1.0, nan, [nan, nan]),
    ];
    let rows = |part: fn(&Row) -> Vec<f64>| table.iter().flat_map(part).collect::<Vec<_>>();
    let logits = Host::of(dtype, &[5, 2], rows(|row| row.0.to_vec()));
    let labels = Host::of(Dtype::Int64, &[5], rows(|row| vec![row.1]));
    let loss = Host::of(dtype, &[5], rows(|row| vec![row.2]));
    let gradient = Host::of(dtype, &[5, 2], rows(|row| row.3.to_vec()));
    let kernel = Kernel::CrossEntropy(CrossEntropy::default());
    let within = Tolerance::of(dtype);
    trial.operators(kernel, &[&logits, &labels], &[loss, gradient], within);
}

/// What is kept of a parameter.
fn kept(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::Fp16 | Dtype::Bf16 => Dtype::Fp32,
        dtype => dtype,
    }
}

fn sgd(trial: &mut Trial, dtype: Dtype, dims: &[u64]) {
    let (parameter, gradient) = (trial.random(dtype, dims), trial.random(dtype, dims));
    let velocity = trial.random(kept(dtype), dims);
    let within = Tolerance::of_sum(dtype, 8.0);
    for (momentum, weight_decay, nesterov) in
        [(0.0, 0.0, false), (0.0, 0.1, false), (0.9, 0.01, false), (0.9, 0.0, true)]
    {
        let rate = 0.05;
        let (mut parameters, mut velocities) = (Vec::new(), Vec::new());
        for ((p, g), v) in parameter.values.iter().zip(&gradient.values).zip(&velocity.values) {
            let g = g + weight_decay * p;
            let v = momentum * v + g;
            velocities.push(v);
            parameters.push(p - rate * if nesterov { g + momentum * v } else { v });
        }
        let kernel = Kernel::Sgd(Sgd { rate, momentum, weight_decay, nesterov });
        if momentum == 0.0 {
            let plain = parameter.values.iter().zip(&gradient.values);
            let plain = plain.map(|(p, g)| p - rate * (g + weight_decay * p)).collect();
            let expected = Host::of(dtype, dims, plain);
            trial.operator(kernel, &[&parameter, &gradient], &expected, within);
            continue;
        }
        let inputs = [&parameter, &gradient, &velocity];
        let expected = Host::of(dtype, dims, parameters);
        let velocities = Host::of(kept(dtype), dims, velocities);
        trial.operators(kernel, &inputs, &[expected, velocities], within);
    }
}

fn adam(trial: &mut Trial, dtype: Dtype, dims: &[u64]) {
    let (parameter, gradient) = (trial.random(dtype, dims), trial.random(dtype, dims));
    let first = trial.random(kept(dtype), dims);
    let second = trial.random(kept(dtype), dims);
    let second = second.values.iter().map(|v| v * v).collect();
    let second = Host::of(kept(dtype), dims, second);
    let inputs = [&parameter, &gradient, &first, &second];
    for (weight_decay, decoupled, step) in [(0.0, false, 1), (0.1, false, 7), (0.1, true, 100_000)]
    {
        let (rate, betas, epsilon) = (0.01, [0.9, 0.999], 1e-8);
        let unbiased = betas.map(|beta: f64| 1.0 - beta.powf(step as f64));
        let (mut parameters, mut moments) = (Vec::new(), [Vec::new(), Vec::new()]);
        for place in 0..parameter.values.len() {
            let [p, g, m, v] = inputs.map(|input| input.values[place]);
            let (p, g) = match decoupled {
                true => (p * (1.0 - rate * weight_decay), g),
                false => (p, g + weight_decay * p),
            };
            let m = betas[0] * m + (1.0 - betas[0]) * g;
            let v = betas[1] * v + (1.0 - betas[1]) * g * g;
            moments[0].push(m);
            moments[1].push(v);
            parameters.push(p - rate * (m / unbiased[0]) / ((v / unbiased[1]).sqrt() + epsilon));
        }
        let kernel = Kernel::Adam(Adam { rate, betas, epsilon, weight_decay, decoupled, step });
        let expected = Host::of(dtype, dims, parameters);
        let [first, second] = moments.map(|moment| Host::of(kept(dtype), dims, moment));
        let within = Tolerance::of_sum(dtype, 8.0);
        trial.operators(kernel, &inputs, &[expected, first, second], within);
    }
}
