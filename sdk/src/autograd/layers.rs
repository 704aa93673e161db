//! Layers of small networks. They begin as those of PyTorch do.

use super::{Parameter, Parameters, Variable};
use crate::gpu::{Convolution, Error, Padding, Tensor};

/// `x × weightᵀ + bias`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Outputs × inputs.
    pub weight: Parameter,
    /// One for each output.
    pub bias: Parameter,
}

impl Linear {
    /// Makes the parameters `name.weight` and `name.bias`.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        inputs: u64,
        outputs: u64,
    ) -> Result<Self, Error> {
        let bound = bound(inputs);
        let weight = parameters.uniform(format!("{name}.weight"), [outputs, inputs], bound)?;
        let bias = parameters.uniform(format!("{name}.bias"), [outputs], bound)?;
        Ok(Self { weight, bias })
    }

    /// Of rows, the innermost dimension.
    pub fn forward(&self, x: &Variable) -> Result<Variable, Error> {
        x.matmul(&self.weight.variable().transpose()?)?.add(&self.bias.variable())
    }
}

/// A convolution of images with a bias for each channel.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// Channels made × channels seen × rows × columns.
    pub weight: Parameter,
    /// One for each channel that is made.
    pub bias: Parameter,
    /// How the weights go over the images.
    pub convolution: Convolution,
}

impl Conv2d {
    /// Makes the parameters `name.weight` and `name.bias`, from so many channels to so many, by
    /// squares of so many pixels a side.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        (seen, made): (u64, u64),
        side: u64,
    ) -> Result<Self, Error> {
        let bound = bound(seen.saturating_mul(side).saturating_mul(side));
        let shape = [made, seen, side, side];
        let weight = parameters.uniform(format!("{name}.weight"), shape, bound)?;
        let bias = parameters.uniform(format!("{name}.bias"), [made], bound)?;
        Ok(Self { weight, bias, convolution: Convolution::default() })
    }

    /// The same with so many pixels around the images.
    #[must_use]
    pub fn padding(mut self, pixels: u32) -> Self {
        self.convolution.padding = Padding::even(pixels);
        self
    }

    /// The same with so many pixels from one place to the next.
    #[must_use]
    pub fn stride(mut self, pixels: u32) -> Self {
        self.convolution.strides = (pixels, pixels);
        self
    }

    /// Of images N×C×H×W.
    pub fn forward(&self, x: &Variable) -> Result<Variable, Error> {
        let bias = self.bias.variable();
        let channels = bias.shape()?.iter().product();
        let bias = bias.reshape([channels, 1, 1])?;
        x.convolution(&self.weight.variable(), self.convolution)?.add(&bias)
    }
}

/// A table of rows.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Rows × their length.
    pub weight: Parameter,
}

impl Embedding {
    /// Makes the parameter `name.weight`.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        rows: u64,
        length: u64,
    ) -> Result<Self, Error> {
        Ok(Self { weight: parameters.normal(format!("{name}.weight"), [rows, length], 1.0)? })
    }

    /// The rows that the indices name, INT32 or INT64.
    pub fn forward(&self, indices: &Tensor) -> Result<Variable, Error> {
        self.weight.variable().gather(0, indices)
    }
}

/// Rows of mean 0 and variance 1, then scaled and shifted.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// One for each element of a row.
    pub weight: Parameter,
    /// One for each element of a row.
    pub bias: Parameter,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    /// Makes the parameters `name.weight` and `name.bias` for rows of this length.
    pub fn new(parameters: &mut Parameters, name: &str, length: u64) -> Result<Self, Error> {
        let weight = parameters.full(format!("{name}.weight"), [length], 1.0)?;
        let bias = parameters.full(format!("{name}.bias"), [length], 0.0)?;
        Ok(Self { weight, bias, epsilon: 1e-5 })
    }

    /// Of rows, the innermost dimension.
    pub fn forward(&self, x: &Variable) -> Result<Variable, Error> {
        x.layer_norm(&self.weight.variable(), &self.bias.variable(), self.epsilon)
    }
}

/// How far from 0 a weight of a layer with so many inputs begins, at most.
fn bound(inputs: u64) -> f64 {
    1.0 / (inputs.max(1) as f64).sqrt()
}
