//! Functions of rows, the innermost dimension, with their gradients.

use super::{
    Variable,
    elementwise::sum_to,
    reductions::{mean_of_rows, sum_of_rows},
};
use crate::gpu::{Dtype, Error, Tensor};

impl Variable {
    /// Shares of the exponentials.
    pub fn softmax(&self) -> Result<Self, Error> {
        let y = self.value().softmax()?;
        let result = y.clone();
        let edge = self.edge(move |gradient| {
            let weighted = gradient.mul(&result)?;
            weighted.sub(&result.mul(&sum_of_rows(&weighted)?)?)
        });
        Self::computed(y, [edge])
    }

    /// The logarithms of the shares.
    pub fn log_softmax(&self) -> Result<Self, Error> {
        let y = self.value().log_softmax()?;
        let result = y.clone();
        let edge =
            self.edge(move |gradient| gradient.sub(&result.exp()?.mul(&sum_of_rows(gradient)?)?));
        Self::computed(y, [edge])
    }

    /// Mean 0 and variance 1, then scaled and shifted.
    pub fn layer_norm(&self, scale: &Self, bias: &Self, epsilon: f64) -> Result<Self, Error> {
        let value = self.value().layer_norm(scale.value(), bias.value(), epsilon)?;
        let (x, weights) = (self.value().clone(), scale.value().clone());
        let (of_scale, of_bias) = (scale.shape()?.to_vec(), bias.shape()?.to_vec());
        let by_scale = {
            let x = x.clone();
            move |gradient: &Tensor| {
                let x = wide(&x)?;
                let centred = x.sub(&mean_of_rows(&x)?)?;
                let normed = centred.mul(&one_by_root(&centred, epsilon)?)?;
                as_of(gradient, sum_to(&wide(gradient)?.mul(&normed)?, &of_scale)?)
            }
        };
        let by_x = move |gradient: &Tensor| {
            let x = wide(&x)?;
            let centred = x.sub(&mean_of_rows(&x)?)?;
            let weighted = wide(gradient)?.mul(&wide(&weights)?)?;
            let inner = by_normed(&centred, &weighted, epsilon)?;
            // Each element moves the mean of its row.
            as_of(gradient, inner.sub(&mean_of_rows(&inner)?)?)
        };
        let by_bias = move |gradient: &Tensor| sum_to(gradient, &of_bias);
        Self::computed(value, [self.edge(by_x), scale.edge(by_scale), bias.edge(by_bias)])
    }

    /// Root mean square 1, then scaled.
    pub fn rms_norm(&self, scale: &Self, epsilon: f64) -> Result<Self, Error> {
        let value = self.value().rms_norm(scale.value(), epsilon)?;
        let (x, weights) = (self.value().clone(), scale.value().clone());
        let of_scale = scale.shape()?.to_vec();
        let by_scale = {
            let x = x.clone();
            move |gradient: &Tensor| {
                let x = wide(&x)?;
                let normed = x.mul(&one_by_root(&x, epsilon)?)?;
                as_of(gradient, sum_to(&wide(gradient)?.mul(&normed)?, &of_scale)?)
            }
        };
        let by_x = move |gradient: &Tensor| {
            let weighted = wide(gradient)?.mul(&wide(&weights)?)?;
            as_of(gradient, by_normed(&wide(&x)?, &weighted, epsilon)?)
        };
        Self::computed(value, [self.edge(by_x), scale.edge(by_scale)])
    }
}

/// FP16 and BF16 as FP32, which the device norms in, too: the squares are too large for FP16.
fn wide(x: &Tensor) -> Result<Tensor, Error> {
    match x.dtype()? {
        Dtype::Fp16 | Dtype::Bf16 => x.cast(Dtype::Fp32),
        _ => Ok(x.clone()),
    }
}

/// What was computed in FP32, as the type of a gradient.
fn as_of(gradient: &Tensor, computed: Tensor) -> Result<Tensor, Error> {
    let dtype = gradient.dtype()?;
    if computed.dtype()? == dtype { Ok(computed) } else { computed.cast(dtype) }
}

/// `1 / √(mean(x²) + ε)` of rows.
fn one_by_root(x: &Tensor, epsilon: f64) -> Result<Tensor, Error> {
    mean_of_rows(&x.square()?)?.add(&x.constant(epsilon)?)?.rsqrt()
}

/// What a gradient by `x × r`, `r = one_by_root(x)`, is by `x`: `r (g - n mean(g n))`, where `n` is
/// what was normed.
fn by_normed(x: &Tensor, gradient: &Tensor, epsilon: f64) -> Result<Tensor, Error> {
    let root = one_by_root(x, epsilon)?;
    let normed = x.mul(&root)?;
    let along = mean_of_rows(&gradient.mul(&normed)?)?;
    gradient.sub(&normed.mul(&along)?)?.mul(&root)
}
