//! Cases of matrix products.

use super::{Host, Tolerance, Trial};
use quern_operators::{Dtype, Kernel, Shape};

/// Factors: vectors, odd sizes, empty ones, batches that broadcast, and more than one panel.
const FACTORS: [(&[u64], &[u64]); 11] = [
    (&[1, 1], &[1, 1]),
    (&[3, 4], &[4, 5]),
    (&[1, 37], &[37, 1]),
    (&[37, 1], &[1, 29]),
    (&[65, 33], &[33, 71]),
    (&[2, 3, 5], &[2, 5, 4]),
    (&[2, 1, 3, 5], &[4, 5, 2]),
    (&[0, 3], &[3, 2]),
    (&[2, 0], &[0, 3]),
    (&[0, 2, 3], &[3, 2]),
    (&[40, 530], &[530, 520]),
];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for (left, right) in FACTORS {
            let (left, right) = (trial.random(dtype, left), trial.random(dtype, right));
            let inner = *left.dims().last().expect("a matrix");
            let expected = product(&left, &right);
            let within = Tolerance::of_sum(dtype, 4.0 * inner as f64);
            trial.operator(Kernel::Matmul, &[&left, &right], &expected, within);
        }
    }
}

fn product(left: &Host, right: &Host) -> Host {
    let (left_batch, &[rows, inner]) = left.dims().split_last_chunk().expect("a matrix");
    let (right_batch, &[_, columns]) = right.dims().split_last_chunk().expect("a matrix");
    let shape = |dims: &[u64]| Shape::new(dims).expect("shapes of the suite are small");
    let batch = shape(left_batch).broadcast(&shape(right_batch)).expect("factors broadcast");
    let dims = [batch.dims(), &[rows, columns]].concat();
    Host::from_indices(left.dtype, shape(&dims), |index| {
        let (batch, &[row, column]) = index.split_last_chunk().expect("a matrix");
        let mut left_index = [batch, &[row, 0]].concat();
        let mut right_index = [batch, &[0, column]].concat();
        let (last, before) = (index.len() - 1, index.len() - 2);
        let term = |k: u64| {
            (left_index[last], right_index[before]) = (k, k);
            left.at(&left_index) * right.at(&right_index)
        };
        (0..inner).map(term).sum()
    })
}
