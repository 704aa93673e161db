//! Products of matrices with their gradients.

use super::{Variable, elementwise::sum_to};
use crate::gpu::{Error, Tensor};

impl Variable {
    /// Products of matrices, the two innermost dimensions; those before are broadcast.
    pub fn matmul(&self, right: &Self) -> Result<Self, Error> {
        let (x, y) = (self.value().clone(), right.value().clone());
        let value = x.matmul(&y)?;
        let (left_shape, right_shape) = (x.shape()?.to_vec(), y.shape()?.to_vec());
        let edges = [
            self.edge(move |gradient| sum_to(&gradient.matmul(&y.transpose()?)?, &left_shape)),
            right.edge(move |gradient| by_right(&x, gradient, &right_shape)),
        ];
        Self::computed(value, edges)
    }
}

/// What a gradient by the products is by the right matrices. Where one of them is the right one of
/// a whole batch, as weights are, the batch counts as rows of one product: a product for each, to be
/// summed up, would take as many times the memory.
fn by_right(x: &Tensor, gradient: &Tensor, shape: &[u64]) -> Result<Tensor, Error> {
    if shape.len() == 2 {
        return rows(x)?.transpose()?.matmul(&rows(gradient)?);
    }
    sum_to(&x.transpose()?.matmul(gradient)?, shape)
}

/// A tensor as one matrix, whose rows are those of all.
fn rows(matrices: &Tensor) -> Result<Tensor, Error> {
    match matrices.shape()? {
        [outer @ .., size] if outer.len() > 1 => matrices.reshape([outer.iter().product(), *size]),
        _ => Ok(matrices.clone()),
    }
}
