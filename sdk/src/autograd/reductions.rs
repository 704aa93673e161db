//! Sums and means with their gradients.

use super::Variable;
use crate::gpu::{Error, Reduction, Tensor};

impl Variable {
    /// The sum along axes, which go; negative ones are counted from the innermost.
    pub fn sum(&self, axes: &[isize]) -> Result<Self, Error> {
        self.folded(Reduction::Sum, axes)
    }

    /// The mean along axes, which go; negative ones are counted from the innermost.
    pub fn mean(&self, axes: &[isize]) -> Result<Self, Error> {
        self.folded(Reduction::Mean, axes)
    }

    /// The sum of all elements: a scalar.
    pub fn sum_all(&self) -> Result<Self, Error> {
        self.sum(&self.every_axis()?)
    }

    /// The mean of all elements: a scalar.
    pub fn mean_all(&self) -> Result<Self, Error> {
        self.mean(&self.every_axis()?)
    }

    fn every_axis(&self) -> Result<Vec<isize>, Error> {
        Ok((0..).take(self.shape()?.len()).collect())
    }

    fn folded(&self, function: Reduction, axes: &[isize]) -> Result<Self, Error> {
        let x = self.value();
        let shape = x.shape()?.to_vec();
        let kept = x.reduce(function, axes, true)?;
        let narrow = kept.shape()?.to_vec();
        let gone: Vec<usize> = axes.iter().filter_map(|axis| counted(*axis, shape.len())).collect();
        let left = narrow.iter().enumerate().filter(|(axis, _)| !gone.contains(axis));
        let value = kept.reshape(left.map(|(_, size)| *size).collect::<Vec<_>>())?;
        // Each of those that became one: a mean has so much of each.
        let many: u64 = gone.iter().map(|axis| shape[*axis]).product();
        let share = (function == Reduction::Mean).then(|| 1.0 / many as f64);
        let edge = self.edge(move |gradient| {
            let gradient = match share {
                Some(share) => gradient.mul(&gradient.constant(share)?)?,
                None => gradient.clone(),
            };
            gradient.reshape(&narrow[..])?.broadcast(&shape[..])
        });
        Self::computed(value, [edge])
    }
}

/// An axis counted from the outermost. The device has already refused those that are not there.
fn counted(axis: isize, rank: usize) -> Option<usize> {
    if axis < 0 { rank.checked_add_signed(axis) } else { axis.try_into().ok() }
}

/// The mean along the innermost axis, which stays with size 1.
pub(super) fn mean_of_rows(x: &Tensor) -> Result<Tensor, Error> {
    x.reduce(Reduction::Mean, &[-1], true)
}

/// The sum along the innermost axis, which stays with size 1.
pub(super) fn sum_of_rows(x: &Tensor) -> Result<Tensor, Error> {
    x.reduce(Reduction::Sum, &[-1], true)
}
