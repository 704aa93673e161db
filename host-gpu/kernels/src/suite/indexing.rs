//! Cases of operators that join tensors, or are told by indices where to look.

use super::{Host, Tolerance, Trial, host::each_index};
use quern_operators::{Dtype, Kernel, Shape};

/// A tensor, an axis of it, and the shape of indices.
const CASES: [(&[u64], u8, &[u64]); 8] = [
    (&[5], 0, &[]),
    (&[5, 3], 0, &[4]),
    (&[5, 3], 1, &[2, 2]),
    (&[2, 4, 3], 1, &[6]),
    (&[4, 3], 0, &[0]),
    (&[4, 0], 0, &[3]),
    (&[0, 4], 0, &[0]),
    (&[20, 1_100], 0, &[61]),
];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in Dtype::ALL {
        for (dims, axis, indices) in CASES {
            for index in [Dtype::Int32, Dtype::Int64] {
                gather(trial, dtype, dims, axis, (index, indices));
            }
        }
        // Many of one place, and of one index.
        gather(trial, dtype, &[3, 2], 0, (Dtype::Int32, &[5_000]));
        concat(trial, dtype);
    }
    for index in [-1.0, 3.0] {
        out_of_range(trial, index);
    }
}

fn indices(trial: &mut Trial, dtype: Dtype, dims: &[u64], size: u64) -> Host {
    let shape = Shape::new(dims).expect("shapes of the suite are small");
    let mut value = |_: &[u64]| trial.random.below(size.max(1)) as f64;
    Host::from_indices(dtype, shape, &mut value)
}

fn gather(trial: &mut Trial, dtype: Dtype, dims: &[u64], axis: u8, of: (Dtype, &[u64])) {
    let axis_at = usize::from(axis);
    let x = trial.random(dtype, dims);
    let indices = indices(trial, of.0, of.1, dims[axis_at]);
    let dims = [&dims[..axis_at], of.1, &dims[axis_at + 1..]].concat();
    let shape = Shape::new(&dims).expect("shapes of the suite are small");
    let taken = |index: &[u64]| {
        let (before, rest) = index.split_at(axis_at);
        let (inside, after) = rest.split_at(of.1.len());
        [before, &[indices.at(inside) as u64], after].concat()
    };
    let expected = Host::from_indices(dtype, shape, |index| x.at(&taken(index)));
    trial.operator(Kernel::Gather(axis), &[&x, &indices], &expected, Tolerance::EXACT);
    if dtype == Dtype::Bool {
        return;
    }
    let updates = trial.random(dtype, &dims);
    let mut sums = x.clone();
    each_index(&dims, |index| {
        let place = taken(index).iter().zip(x.dims()).fold(0, |place, (i, dim)| place * dim + i);
        sums.values[place as usize] += updates.at(index);
    });
    let expected = if dtype == Dtype::Uint8 {
        // References don't wrap.
        Host { values: sums.values.iter().map(|sum| sum % 256.0).collect(), ..sums }
    } else {
        sums
    };
    let each = indices.values.len() as u64 / x.dims()[axis_at].max(1);
    let within = Tolerance::of_sum(dtype, 20.0 + 2.0 * each as f64);
    trial.operator(Kernel::ScatterAdd(axis), &[&x, &indices, &updates], &expected, within);
}

fn concat(trial: &mut Trial, dtype: Dtype) {
    for (axis, widths) in [(0, [2, 0, 3]), (1, [1, 4, 2]), (2, [0, 0, 1]), (1, [300, 5, 700])] {
        let mut dims = [3, 2, 5];
        let parts = widths.map(|width| {
            dims[axis] = width;
            trial.random(dtype, &dims)
        });
        dims[axis] = widths.iter().sum();
        let shape = Shape::new(&dims).expect("shapes of the suite are small");
        let expected = Host::from_indices(dtype, shape, |index| {
            let (mut index, mut part) = (index.to_vec(), 0);
            while index[axis] >= widths[part] {
                index[axis] -= widths[part];
                part += 1;
            }
            // Not by `at`: a part of width 1 does not stretch, but its index is 0 anyway.
            parts[part].at(&index)
        });
        let parts: Vec<_> = parts.iter().collect();
        trial.operator(Kernel::Concat(axis as u8), &parts, &expected, Tolerance::EXACT);
    }
}

fn out_of_range(trial: &mut Trial, index: f64) {
    let x = trial.random(Dtype::Fp32, &[3, 2]);
    let indices = Host::of(Dtype::Int64, &[2], vec![0.0, index]);
    let updates = trial.random(Dtype::Fp32, &[2, 2]);
    for (kernel, inputs) in [
        (Kernel::Gather(0), vec![&x, &indices]),
        (Kernel::ScatterAdd(0), vec![&x, &indices, &updates]),
    ] {
        trial.out_of_range(kernel, &inputs, index as i64, 3);
    }
}
