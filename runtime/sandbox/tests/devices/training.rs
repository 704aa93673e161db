//! The operators of ordering, attention, images and training are the catalogue's of their names, and
//! each attribute is the one of its name.

use serde_json::Value;

use crate::catalogue::{X, assert_computed, fp32, int64, truths};

fn row(at: usize) -> [f64; 3] {
    [X[3 * at], X[3 * at + 1], X[3 * at + 2]]
}

fn product(left: [f64; 3], right: [f64; 3]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn ordering() -> Vec<(&'static str, Value)> {
    let between = |distance: f64| fp32(&[2, 2], &[0.0, distance, distance, 0.0]);
    let lengths = product(row(0), row(0)) * product(row(1), row(1));
    vec![
        ("cumulative-sum", fp32(&[2, 3], &[1.0, -1.0, 2.0, -4.0, 1.0, -5.0])),
        ("histogram", int64(&[4], &[2, 1, 1, 2])),
        ("sort", fp32(&[2, 3], &[-2.0, 1.0, 3.0, -6.0, -4.0, 5.0])),
        ("sort-places", int64(&[2, 3], &[1, 0, 2, 2, 0, 1])),
        ("sort-descending", fp32(&[2, 3], &[3.0, 1.0, -2.0, 5.0, -4.0, -6.0])),
        ("top-k", fp32(&[2, 2], &[3.0, 1.0, 5.0, -4.0])),
        ("top-k-places", int64(&[2, 2], &[2, 0, 1, 0])),
        ("top-k-smallest", fp32(&[2, 2], &[-2.0, 1.0, -6.0, -4.0])),
        ("euclidean", between(155f64.sqrt())),
        ("squared-euclidean", between(155.0)),
        ("manhattan", between(21.0)),
        ("cosine", between(1.0 - product(row(0), row(1)) / lengths.sqrt())),
    ]
}

/// Rows of X that attend to those that they see, by products scaled by 0.01.
fn attended(sees: [[bool; 2]; 2]) -> Value {
    let mut values = Vec::new();
    for (query, sees) in sees.iter().enumerate() {
        let weigh =
            |key: usize| (0.01 * product(row(query), row(key))).exp() * f64::from(sees[key]);
        let weights = [weigh(0), weigh(1)];
        let mean = |at: usize| {
            (weights[0] * row(0)[at] + weights[1] * row(1)[at]) / (weights[0] + weights[1])
        };
        values.extend([0, 1, 2].map(mean));
    }
    fp32(&[2, 3], &values)
}

fn attention() -> Vec<(&'static str, Value)> {
    let causal = attended([[true, false], [true, true]]);
    vec![
        ("attention", attended([[true; 2]; 2])),
        ("attention-causal", causal.clone()),
        ("attention-masked", causal),
    ]
}

fn images() -> Vec<(&'static str, Value)> {
    let inside = [1.0, 2.0, 2.0, 2.0, 1.0, 1.0].map(|rows| [3.0, 3.0, 3.0, 1.0].map(|c| rows * c));
    let full = [1.0, 3.0, 2.0, 4.0, 10.0, 6.0, 3.0, 7.0, 4.0];
    vec![
        ("convolution", fp32(&[1, 1, 2, 2], &[37.0, 47.0, 67.0, 77.0])),
        ("convolution-strided", fp32(&[1, 1, 6, 4], inside.as_flattened())),
        ("convolution-grouped", fp32(&[1, 2, 1, 1], &[10.0, 21.0])),
        ("convolution-input-gradient", fp32(&[1, 1, 3, 3], &full)),
        ("convolution-weight-gradient", fp32(&[1, 1, 2, 2], &[12.0, 16.0, 24.0, 28.0])),
        ("max-pool", fp32(&[1, 1, 1, 2], &[5.0, 9.0])),
        ("max-pool-wide", fp32(&[1, 1, 1, 3], &[5.0, 5.0, 3.0])),
        ("max-pool-gradient", fp32(&[1, 1, 2, 4], &[0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 8.0, 0.0])),
        ("average-pool", fp32(&[1, 1, 1, 2], &[2.5, 5.5])),
        ("average-pool-gradient", fp32(&[1, 1, 2, 4], &[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0])),
    ]
}

/// The negative logarithms of the shares of a row's exponentials.
fn losses(at: usize) -> [f64; 3] {
    let sum = row(at).map(f64::exp).iter().sum::<f64>();
    row(at).map(|logit| sum.ln() - logit)
}

fn training() -> Vec<(&'static str, Value)> {
    let (first, second) = (losses(0), losses(1));
    let smoothed = |losses: [f64; 3], label: usize| {
        0.7 * losses[label] + 0.3 * losses.iter().sum::<f64>() / 3.0
    };
    let mut gradient = [first, second].concat();
    gradient.iter_mut().for_each(|loss| *loss = (-*loss).exp());
    gradient[2] -= 1.0;
    gradient[3] -= 1.0;
    vec![
        ("cross-entropy", fp32(&[2], &[first[2], second[0]])),
        ("cross-entropy-gradient", fp32(&[2, 3], &gradient)),
        ("cross-entropy-ignored", fp32(&[2], &[first[2], 0.0])),
        ("cross-entropy-smoothed", fp32(&[2], &[smoothed(first, 2), smoothed(second, 0)])),
        ("sgd", fp32(&[3], &[1.825, 2.6, 2.45])),
        ("sgd-momentum", fp32(&[3], &[1.835, 2.66, 2.51])),
        ("sgd-velocity", fp32(&[3], &[1.65, 3.4, 4.9])),
        ("adam", fp32(&[3], &[1.9, 2.9, 2.9])),
        ("adam-first", fp32(&[3], &[0.075, 0.25, 0.4])),
        ("adam-second", fp32(&[3], &[0.005_625, 0.0625, 0.16])),
        ("random-bounds", truths(&[8], &[1; 8])),
        ("random-offset", truths(&[4], &[1; 4])),
        ("random-seed", truths(&[8], &[0; 8])),
        ("random-normal", truths(&[], &[1])),
    ]
}

#[tokio::test]
async fn every_operator_of_training_is_that_of_its_name() {
    assert_computed(&[ordering(), attention(), images(), training()].concat()).await;
}
