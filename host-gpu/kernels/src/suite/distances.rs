//! Cases of distances between rows.

use super::{Host, Tolerance, Trial};
use quern_operators::{Dtype, Kernel, Metric, Shape};

/// Matrices: single rows, odd sizes, empty ones, batches that broadcast, and more than one block.
const MATRICES: [(&[u64], &[u64]); 9] = [
    (&[1, 1], &[1, 1]),
    (&[3, 4], &[5, 4]),
    (&[2, 1, 3, 5], &[4, 2, 5]),
    (&[0, 3], &[2, 3]),
    (&[2, 3], &[0, 3]),
    (&[2, 0], &[3, 0]),
    (&[0, 2, 3], &[2, 3]),
    (&[37, 33], &[70, 33]),
    (&[2, 3, 530], &[2, 5, 530]),
];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for metric in Metric::ALL {
            for (left, right) in MATRICES {
                let (left, right) = (trial.random(dtype, left), trial.random(dtype, right));
                compare(trial, metric, &left, &right);
            }
            special(trial, metric, dtype);
        }
    }
}

fn compare(trial: &mut Trial, metric: Metric, left: &Host, right: &Host) {
    let (left_batch, &[rows, width]) = left.dims().split_last_chunk().expect("a matrix");
    let (right_batch, &[columns, _]) = right.dims().split_last_chunk().expect("a matrix");
    let shape = |dims: &[u64]| Shape::new(dims).expect("shapes of the suite are small");
    let batch = shape(left_batch).broadcast(&shape(right_batch)).expect("they broadcast");
    let dims = [batch.dims(), &[rows, columns]].concat();
    let expected = Host::from_indices(left.dtype, shape(&dims), |index| {
        let (batch, &[row, column]) = index.split_last_chunk().expect("a matrix");
        let line = |host: &Host, row: u64| -> Vec<f64> {
            (0..width).map(|k| host.at(&[batch, &[row, k]].concat())).collect()
        };
        distance(metric, &line(left, row), &line(right, column))
    });
    let size = match metric {
        Metric::SquaredEuclidean | Metric::Manhattan => 8.0 * width as f64,
        Metric::Euclidean | Metric::Cosine => 16.0,
    };
    let within = Tolerance::of_sum(left.dtype, size);
    trial.operator(Kernel::Distances(metric), &[left, right], &expected, within);
}

fn distance(metric: Metric, left: &[f64], right: &[f64]) -> f64 {
    let sum = |term: fn(f64, f64) -> f64| -> f64 {
        left.iter().zip(right).map(|(left, right)| term(*left, *right)).sum()
    };
    let size = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    match metric {
        Metric::Euclidean => sum(|left, right| (left - right).powi(2)).sqrt(),
        Metric::SquaredEuclidean => sum(|left, right| (left - right).powi(2)),
        Metric::Manhattan => sum(|left, right| (left - right).abs()),
        Metric::Cosine if size(left) == 0.0 || size(right) == 0.0 => 1.0,
        Metric::Cosine => 1.0 - sum(|left, right| left * right) / (size(left) * size(right)),
    }
}

/// Rows that are close to each other far from 0, rows of zeros, and NaN in one row.
fn special(trial: &mut Trial, metric: Metric, dtype: Dtype) {
    let left = Host::of(dtype, &[3, 2], vec![100.0, 100.0, 0.0, 0.0, f64::NAN, 1.0]);
    let right = Host::of(dtype, &[3, 2], vec![100.0, 101.0, 0.0, 0.0, 1.0, -1.0]);
    compare(trial, metric, &left, &right);
}
