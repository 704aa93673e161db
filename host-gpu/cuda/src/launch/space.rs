//! The indices that a kernel goes through, with as few dimensions as there can be: each of them
//! costs a division for every element.

use quern_kernels::Operand;
use quern_operators::MAX_RANK;

/// Indices in row-major order, and how far each dimension leads in some tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space<const N: usize> {
    pub(super) count: u64,
    /// At least 1.
    pub(super) rank: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) strides: [[u64; MAX_RANK]; N],
}

impl<const N: usize> Space<N> {
    /// Dimensions of size 1 go, and those that in all tensors lead from the end of one to the
    /// next of the other become one.
    pub(super) fn new(dims: &[u64], strides: [&[u64]; N]) -> Self {
        let (mut rank, mut merged) = (0, [1; MAX_RANK]);
        let mut kept = [[0; MAX_RANK]; N];
        for (axis, &dim) in dims.iter().enumerate().filter(|(_, dim)| **dim != 1) {
            let steps = strides.map(|strides| strides[axis]);
            let follows = |(kept, step): (&[u64; MAX_RANK], &u64)| {
                step.checked_mul(dim).is_some_and(|far| kept[rank - 1] == far)
            };
            if rank == 0 || !kept.iter().zip(&steps).all(follows) {
                rank += 1;
                merged[rank - 1] = 1;
            }
            merged[rank - 1] *= dim;
            for (kept, step) in kept.iter_mut().zip(steps) {
                kept[rank - 1] = step;
            }
        }
        let (count, rank) = (dims.iter().product(), rank.max(1) as u32);
        Self { count, rank, dims: merged, strides: kept }
    }

    /// Those of tensors of one shape.
    pub(super) fn of(operands: [&Operand; N]) -> Self {
        let dims = operands.first().map_or(&[][..], |operand| operand.layout().shape().dims());
        Self::new(dims, operands.map(|operand| operand.layout().strides()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_merge_where_all_tensors_allow_it() {
        type Case = (&'static [u64], [&'static [u64]; 2], u32, &'static [u64], [&'static [u64]; 2]);
        let table: [Case; 6] = [
            (&[], [&[], &[]], 1, &[1], [&[0], &[0]]),
            (&[2, 3], [&[3, 1], &[3, 1]], 1, &[6], [&[1], &[1]]),
            (&[2, 3], [&[3, 1], &[0, 0]], 1, &[6], [&[1], &[0]]),
            (&[2, 3], [&[3, 1], &[0, 1]], 2, &[2, 3], [&[3, 1], &[0, 1]]),
            (&[2, 1, 3], [&[3, 7, 1], &[1, 0, 2]], 2, &[2, 3], [&[3, 1], &[1, 2]]),
            (&[4, 2, 3], [&[12, 3, 1], &[6, 3, 1]], 2, &[4, 6], [&[12, 1], &[6, 1]]),
        ];
        for (dims, strides, rank, merged, kept) in table {
            let space = Space::new(dims, strides);
            let length = rank as usize;
            assert_eq!((space.rank, &space.dims[..length]), (rank, merged), "{dims:?}");
            assert_eq!(space.strides.map(|s| s[..length].to_vec()), kept.map(<[u64]>::to_vec));
            assert_eq!(space.count, dims.iter().product::<u64>());
        }
        assert_eq!(Space::new(&[5, 0], [&[1, 1]]).count, 0);
    }
}
