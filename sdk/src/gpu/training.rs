//! What networks are made of and trained with, as methods of tensors: attention, images, losses and
//! steps of optimizers. Gradients are operators like any other; nothing here keeps track of what
//! was computed.

use super::{
    Adam, Attention, AveragePoolGradient, Convolution, ConvolutionInputGradient,
    ConvolutionWeightGradient, CrossEntropy, Error, Operator, Padding, Pool, Sgd, Tensor,
};

impl Default for Attention {
    /// Scaled by `1 / √width`, every query sees every key.
    fn default() -> Self {
        Self { scale: None, causal: false }
    }
}

impl Padding {
    /// So many pixels on all four sides.
    pub fn even(pixels: u32) -> Self {
        Self { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }
}

impl Default for Convolution {
    /// Every place, pixels that are neighbours, no padding, one group.
    fn default() -> Self {
        Self { strides: (1, 1), dilations: (1, 1), padding: Padding::even(0), groups: 1 }
    }
}

impl Pool {
    /// Squares side by side.
    pub fn squares(size: u32) -> Self {
        Self { window: (size, size), strides: (size, size), padding: Padding::even(0) }
    }
}

impl Default for CrossEntropy {
    /// Every label counts, and as it is.
    fn default() -> Self {
        Self { ignored: None, smoothing: 0.0 }
    }
}

impl Default for Adam {
    /// The first step, with what the paper recommends.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            step: 1,
        }
    }
}

/// Attention.
impl Tensor {
    /// For each query, a row of this matrix, the mean of the values by the softmax of how it
    /// multiplies with their keys. A mask of BOOL says which keys a query sees; another is added to
    /// the scaled products.
    pub fn attention(
        &self,
        key: &Self,
        value: &Self,
        mask: Option<&Self>,
        attention: Attention,
    ) -> Result<Self, Error> {
        let operator = Operator::Attention(attention);
        match mask {
            Some(mask) => self.apply_with(operator, [key, value, mask]),
            None => self.apply_with(operator, [key, value]),
        }
    }
}

/// Images N×C×H×W: how many, channels, rows, columns.
impl Tensor {
    /// Images of other channels, by weights: channels made × channels seen of a group × rows ×
    /// columns.
    pub fn convolution(&self, weights: &Self, convolution: Convolution) -> Result<Self, Error> {
        self.apply_with(Operator::Convolution(convolution), [weights])
    }

    /// What this gradient of a convolution's results is by its images.
    pub fn convolution_input_gradient(
        &self,
        weights: &Self,
        gradient: ConvolutionInputGradient,
    ) -> Result<Self, Error> {
        self.apply_with(Operator::ConvolutionInputGradient(gradient), [weights])
    }

    /// What a gradient of the results is by the weights that went over these images.
    pub fn convolution_weight_gradient(
        &self,
        gradient: &Self,
        of: ConvolutionWeightGradient,
    ) -> Result<Self, Error> {
        self.apply_with(Operator::ConvolutionWeightGradient(of), [gradient])
    }

    /// The largest pixel of each window.
    pub fn max_pool(&self, pool: Pool) -> Result<Self, Error> {
        self.apply(Operator::MaxPool(pool))
    }

    /// What a gradient of the largest pixels is by these images.
    pub fn max_pool_gradient(&self, gradient: &Self, pool: Pool) -> Result<Self, Error> {
        self.apply_with(Operator::MaxPoolGradient(pool), [gradient])
    }

    /// The mean of the pixels of each window.
    pub fn average_pool(&self, pool: Pool) -> Result<Self, Error> {
        self.apply(Operator::AveragePool(pool))
    }

    /// What this gradient of means is by the images.
    pub fn average_pool_gradient(&self, gradient: AveragePoolGradient) -> Result<Self, Error> {
        self.apply(Operator::AveragePoolGradient(gradient))
    }
}

/// Training.
impl Tensor {
    /// How far the shares of these exponentials are from labels, for each row; and the gradient of
    /// that by these logits.
    pub fn cross_entropy(&self, labels: &Self, loss: CrossEntropy) -> Result<[Self; 2], Error> {
        self.session().make(&Operator::CrossEntropy(loss), &[self, labels])
    }

    /// This parameter after a step without momentum.
    pub fn sgd(&self, gradient: &Self, step: Sgd) -> Result<Self, Error> {
        self.apply_with(Operator::Sgd(step), [gradient])
    }

    /// This parameter and its velocity after a step with momentum.
    pub fn sgd_with_momentum(
        &self,
        gradient: &Self,
        velocity: &Self,
        step: Sgd,
    ) -> Result<[Self; 2], Error> {
        self.session().make(&Operator::Sgd(step), &[self, gradient, velocity])
    }

    /// This parameter and its two moments after a step.
    pub fn adam(
        &self,
        gradient: &Self,
        moments: [&Self; 2],
        step: Adam,
    ) -> Result<[Self; 3], Error> {
        let [first, second] = moments;
        self.session().make(&Operator::Adam(step), &[self, gradient, first, second])
    }
}
