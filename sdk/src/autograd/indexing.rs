//! Slices by their indices, and losses by labels, with their gradients. Indices have none.

use super::Variable;
use crate::gpu::{CrossEntropy, Error, Tensor};

impl Variable {
    /// Slices along an axis, whose place the shape of the indices takes; along axis 0 of a table of
    /// rows it is an embedding. An index that is out of range ends the session.
    pub fn gather(&self, axis: isize, indices: &Tensor) -> Result<Self, Error> {
        let value = self.value().gather(axis, indices)?;
        let (shape, indices) = (self.shape()?.to_vec(), indices.clone());
        let edge = self.edge(move |gradient| {
            let zeros = gradient.constant(0.0)?.broadcast(&shape[..])?;
            zeros.scatter_add(axis, &indices, gradient)
        });
        Self::computed(value, [edge])
    }

    /// For each row of logits, the innermost dimension, the negative logarithm of its label's share
    /// of the exponentials. The gradient is computed along with it. A label that is no class ends
    /// the session.
    pub fn cross_entropy(&self, labels: &Tensor) -> Result<Self, Error> {
        self.cross_entropy_with(labels, CrossEntropy::default())
    }

    /// The same with rows that are left out, or labels that are smoothed.
    pub fn cross_entropy_with(&self, labels: &Tensor, how: CrossEntropy) -> Result<Self, Error> {
        let [loss, by_logits] = self.value().cross_entropy(labels, how)?;
        let mut of_rows = loss.shape()?.to_vec();
        of_rows.push(1);
        let edge = self.edge(move |gradient| by_logits.mul(&gradient.reshape(&of_rows[..])?));
        Self::computed(loss, [edge])
    }
}
