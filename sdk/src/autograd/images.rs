//! Convolution and pooling of images N×C×H×W with their gradients.

use super::Variable;
use crate::gpu::{
    AveragePoolGradient, Convolution, ConvolutionInputGradient, ConvolutionWeightGradient, Error,
    Pool, Tensor,
};

impl Variable {
    /// Images of which channels become others, by weights: channels made × channels seen of a group
    /// × rows × columns.
    pub fn convolution(&self, weights: &Self, convolution: Convolution) -> Result<Self, Error> {
        let (x, w) = (self.value().clone(), weights.value().clone());
        let value = x.convolution(&w, convolution)?;
        let by_image = ConvolutionInputGradient { convolution, image: sides(&x)? };
        let by_weights = ConvolutionWeightGradient { convolution, window: sides(&w)? };
        let edges = [
            self.edge(move |gradient| gradient.convolution_input_gradient(&w, by_image)),
            weights.edge(move |gradient| x.convolution_weight_gradient(gradient, by_weights)),
        ];
        Self::computed(value, edges)
    }

    /// The largest pixel of each window.
    pub fn max_pool(&self, pool: Pool) -> Result<Self, Error> {
        let x = self.value().clone();
        let value = x.max_pool(pool)?;
        let edge = self.edge(move |gradient| x.max_pool_gradient(gradient, pool));
        Self::computed(value, [edge])
    }

    /// The mean of the pixels of each window.
    pub fn average_pool(&self, pool: Pool) -> Result<Self, Error> {
        let value = self.value().average_pool(pool)?;
        let by_image = AveragePoolGradient { pool, image: sides(self.value())? };
        let edge = self.edge(move |gradient| gradient.average_pool_gradient(by_image));
        Self::computed(value, [edge])
    }
}

/// Rows and columns.
fn sides(images: &Tensor) -> Result<(u64, u64), Error> {
    match images.shape()? {
        [.., rows, columns] => Ok((*rows, *columns)),
        _ => Err(Error::invalid(format!("{images:?} are no images"))),
    }
}
