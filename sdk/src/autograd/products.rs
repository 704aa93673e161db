//! Products of matrices with their gradients.

use super::{Variable, elementwise::sum_to};
use crate::gpu::Error;

impl Variable {
    /// Products of matrices, the two innermost dimensions; those before are broadcast.
    pub fn matmul(&self, right: &Self) -> Result<Self, Error> {
        let (x, y) = (self.value().clone(), right.value().clone());
        let value = x.matmul(&y)?;
        let (left_shape, right_shape) = (x.shape()?.to_vec(), y.shape()?.to_vec());
        let edges = [
            self.edge(move |gradient| sum_to(&gradient.matmul(&y.transpose()?)?, &left_shape)),
            right.edge(move |gradient| sum_to(&x.transpose()?.matmul(gradient)?, &right_shape)),
        ];
        Self::computed(value, edges)
    }
}
