//! Cases of attention.

use super::{Host, Tolerance, Trial};
use quern_operators::{Attention, Dtype, Kernel, Shape};

/// Queries, keys and values: one of each, odd sizes, wide ones, none of something, several heads
/// that share keys, and more than a block of each.
const SHAPES: [[&[u64]; 3]; 10] = [
    [&[1, 1], &[1, 1], &[1, 1]],
    [&[3, 5], &[7, 5], &[7, 2]],
    [&[2, 3, 4, 8], &[2, 3, 6, 8], &[2, 3, 6, 8]],
    [&[2, 1, 2, 3], &[4, 5, 3], &[1, 5, 3]],
    [&[0, 3], &[2, 3], &[2, 3]],
    [&[2, 3], &[0, 3], &[0, 4]],
    [&[2, 0], &[3, 0], &[3, 2]],
    [&[2, 3], &[3, 3], &[3, 0]],
    [&[3, 70, 16], &[3, 300, 16], &[3, 300, 12]],
    [&[2, 530], &[5, 530], &[5, 520]],
];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for shapes in SHAPES {
            let inputs = shapes.map(|dims| trial.random(dtype, dims));
            for (scale, causal) in [(None, false), (None, true), (Some(-0.5), false)] {
                attend(trial, Attention { scale, causal }, &inputs, None);
            }
            let scores = scores(&inputs);
            for mask in masks(trial, dtype, scores) {
                attend(trial, Attention { scale: None, causal: false }, &inputs, Some(&mask));
                attend(trial, Attention { scale: None, causal: true }, &inputs, Some(&mask));
            }
        }
        special(trial, dtype);
    }
}

/// The shape of queries by keys.
fn scores([query, key, value]: &[Host; 3]) -> Shape {
    let batch = |host: &Host| {
        let (batch, _) = host.dims().split_last_chunk::<2>().expect("a matrix");
        Shape::new(batch).expect("shapes of the suite are small")
    };
    let rows = |host: &Host| host.dims()[host.dims().len() - 2];
    let all = batch(query).broadcast(&batch(key)).and_then(|all| all.broadcast(&batch(value)));
    let dims = [all.expect("they broadcast").dims(), &[rows(query), rows(key)]].concat();
    Shape::new(&dims).expect("shapes of the suite are small")
}

/// Of each head and query, one that stretches, and one that hides everything from some queries.
fn masks(trial: &mut Trial, dtype: Dtype, scores: Shape) -> [Host; 4] {
    let keys = *scores.dims().last().expect("a matrix");
    let seen = trial.random(Dtype::Bool, scores.dims());
    let few = Host::from_indices(Dtype::Bool, scores, |index| {
        let [query, key] = index.last_chunk().expect("a matrix");
        f64::from(u8::from(query % 2 == 0 && (key + 1) % 2 == 0))
    });
    let added = trial.random(dtype, &[1, keys]);
    let hidden = Host::from_indices(dtype, scores, |index| {
        let [query, key] = index.last_chunk().expect("a matrix");
        if query % 3 == 1 || key % 5 == 2 { f64::NEG_INFINITY } else { 0.5 }
    });
    [seen, few, added, hidden]
}

fn attend(trial: &mut Trial, attention: Attention, inputs: &[Host; 3], mask: Option<&Host>) {
    let expected = reference(attention, inputs, mask);
    let width = inputs[0].dims().last().expect("a matrix");
    let within = Tolerance::of_sum(expected.dtype, 16.0 + *width as f64);
    let inputs: Vec<_> = inputs.iter().chain(mask).collect();
    trial.operator(Kernel::Attention(attention), &inputs, &expected, within);
}

fn reference(attention: Attention, inputs: &[Host; 3], mask: Option<&Host>) -> Host {
    let [query, key, value] = inputs;
    let scores = scores(inputs);
    let (batch, &[queries, keys]) = scores.dims().split_last_chunk().expect("a matrix");
    let (width, value_width) = (query.dims().last(), value.dims().last());
    let (width, value_width) = (*width.expect("a matrix"), *value_width.expect("a matrix"));
    let mut rows = Vec::new();
    super::host::each_index(&scores.dims()[..batch.len() + 1], |index| {
        let (batch, &[row]) = index.split_last_chunk().expect("a query");
        let at = |host: &Host, row: u64, column: u64| host.at(&[batch, &[row, column]].concat());
        let score = |key_row: u64| {
            let product: f64 = (0..width).map(|k| at(query, row, k) * at(key, key_row, k)).sum();
            let product = product * attention.scale(width);
            match mask {
                _ if attention.causal && key_row > row => f64::NEG_INFINITY,
                None => product,
                Some(mask) if mask.dtype != Dtype::Bool => product + at(mask, row, key_row),
                Some(mask) if at(mask, row, key_row) == 0.0 => f64::NEG_INFINITY,
                Some(_) => product,
            }
        };
        let scores: Vec<_> = (0..keys).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, |max, score| {
            if max > score || max.is_nan() { max } else { score }
        });
        let weights: Vec<_> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        rows.extend((0..value_width).map(|column| {
            let weighted = weights.iter().zip(0..).map(|(w, row)| w * at(value, row, column));
            if max == f64::NEG_INFINITY { 0.0 } else { weighted.sum::<f64>() / sum }
        }));
    });
    Host::of(query.dtype, &[batch, &[queries, value_width]].concat(), rows)
}

/// Large products don't overflow, NaN spoils its query alone, and what is hidden has no weight,
/// even where the key is NaN.
fn special(trial: &mut Trial, dtype: Dtype) {
    let nan = f64::NAN;
    let query = Host::of(dtype, &[4, 1], vec![100.0, -100.0, nan, 0.0]);
    let key = Host::of(dtype, &[3, 1], vec![100.0, -100.0, nan]);
    let value = Host::of(dtype, &[3, 2], vec![1.0, 2.0, 3.0, 4.0, 7.0, 7.0]);
    let mask = Host::of(Dtype::Bool, &[1, 3], vec![1.0, 1.0, 0.0]);
    let expected = vec![1.0, 2.0, 3.0, 4.0, nan, nan, 2.0, 3.0];
    let expected = Host::of(dtype, &[4, 2], expected);
    let kernel = Kernel::Attention(Attention { scale: None, causal: false });
    let inputs = [&query, &key, &value, &mask];
    trial.operator(kernel, &inputs, &expected, Tolerance::of(dtype));
}
