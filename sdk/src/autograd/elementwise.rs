//! Functions of elements with their gradients. Shapes broadcast; a gradient is summed over what was
//! stretched.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Edge, Variable};
use crate::gpu::{Error, Reduction, Tensor};

/// Functions of pairs, whose shapes broadcast.
impl Variable {
    /// `self + right`
    pub fn add(&self, right: &Self) -> Result<Self, Error> {
        let value = self.value().add(right.value())?;
        let edges = [
            self.stretched_edge(|gradient| Ok(gradient.clone()))?,
            right.stretched_edge(|gradient| Ok(gradient.clone()))?,
        ];
        Self::computed(value, edges)
    }

    /// `self - right`
    pub fn sub(&self, right: &Self) -> Result<Self, Error> {
        let value = self.value().sub(right.value())?;
        let edges = [
            self.stretched_edge(|gradient| Ok(gradient.clone()))?,
            right.stretched_edge(Tensor::neg)?,
        ];
        Self::computed(value, edges)
    }

    /// `self × right`
    pub fn mul(&self, right: &Self) -> Result<Self, Error> {
        let (x, y) = (self.value().clone(), right.value().clone());
        let value = x.mul(&y)?;
        let edges = [
            self.stretched_edge(move |gradient| gradient.mul(&y))?,
            right.stretched_edge(move |gradient| gradient.mul(&x))?,
        ];
        Self::computed(value, edges)
    }

    /// `self / right`
    pub fn div(&self, right: &Self) -> Result<Self, Error> {
        let value = self.value().div(right.value())?;
        let (divisor, quotient) = (right.value().clone(), value.clone());
        let by_right = {
            let divisor = divisor.clone();
            move |gradient: &Tensor| gradient.mul(&quotient)?.div(&divisor)?.neg()
        };
        let edges = [
            self.stretched_edge(move |gradient| gradient.div(&divisor))?,
            right.stretched_edge(by_right)?,
        ];
        Self::computed(value, edges)
    }

    /// Each element plus a number.
    pub fn add_scalar(&self, number: f64) -> Result<Self, Error> {
        self.add(&Self::constant(self.value().constant(number)?))
    }

    /// Each element times a number.
    pub fn mul_scalar(&self, number: f64) -> Result<Self, Error> {
        self.mul(&Self::constant(self.value().constant(number)?))
    }

    /// An edge by which a gradient that is shaped as the result is summed to this shape.
    fn stretched_edge(
        &self,
        product: impl Fn(&Tensor) -> Result<Tensor, Error> + 'static,
    ) -> Result<Option<Edge>, Error> {
        let shape = self.shape()?.to_vec();
        Ok(self.edge(move |gradient| sum_to(&product(gradient)?, &shape)))
    }
}

/// Functions of one element. The way back needs either what went in or what came out, and no more
/// is kept.
impl Variable {
    /// `-x`
    pub fn neg(&self) -> Result<Self, Error> {
        Self::computed(self.value().neg()?, [self.edge(Tensor::neg)])
    }

    /// `|x|`; its gradient at 0 is 0.
    pub fn abs(&self) -> Result<Self, Error> {
        self.by_input(Tensor::abs, |x, gradient| gradient.mul(&x.sign()?))
    }

    /// `x²`
    pub fn square(&self) -> Result<Self, Error> {
        self.by_input(Tensor::square, |x, gradient| gradient.mul(&scaled(x, 2.0)?))
    }

    /// Square root.
    pub fn sqrt(&self) -> Result<Self, Error> {
        self.by_result(Tensor::sqrt, |y, gradient| gradient.div(&scaled(y, 2.0)?))
    }

    /// `max(x, 0)`; its gradient at 0 is 0.
    pub fn relu(&self) -> Result<Self, Error> {
        self.by_result(Tensor::relu, |y, gradient| {
            let zero = y.constant(0.0)?;
            y.gt(&zero)?.select(gradient, &zero)
        })
    }

    /// `eˣ`
    pub fn exp(&self) -> Result<Self, Error> {
        self.by_result(Tensor::exp, |y, gradient| gradient.mul(y))
    }

    /// Natural logarithm.
    pub fn log(&self) -> Result<Self, Error> {
        self.by_input(Tensor::log, |x, gradient| gradient.div(x))
    }

    /// Sine of radians.
    pub fn sin(&self) -> Result<Self, Error> {
        self.by_input(Tensor::sin, |x, gradient| gradient.mul(&x.cos()?))
    }

    /// Cosine of radians.
    pub fn cos(&self) -> Result<Self, Error> {
        self.by_input(Tensor::cos, |x, gradient| gradient.mul(&x.sin()?.neg()?))
    }

    /// Hyperbolic tangent.
    pub fn tanh(&self) -> Result<Self, Error> {
        // 1 - y²
        self.by_result(Tensor::tanh, |y, gradient| gradient.mul(&rest(&y.square()?)?))
    }

    /// `1 / (1 + e⁻ˣ)`
    pub fn sigmoid(&self) -> Result<Self, Error> {
        // y (1 - y)
        self.by_result(Tensor::sigmoid, |y, gradient| gradient.mul(&y.mul(&rest(y)?)?))
    }

    /// `x × sigmoid(x)`
    pub fn silu(&self) -> Result<Self, Error> {
        // s + x s (1 - s)
        self.by_input(Tensor::silu, |x, gradient| {
            let s = x.sigmoid()?;
            gradient.mul(&s.add(&x.mul(&s)?.mul(&rest(&s)?)?)?)
        })
    }

    /// `x × Φ(x)`, by the error function.
    pub fn gelu(&self) -> Result<Self, Error> {
        // Φ + x φ, where Φ = (1 + erf(x / √2)) / 2 and φ = e^(-x² / 2) / √(2π)
        self.by_input(Tensor::gelu, |x, gradient| {
            let error = scaled(x, FRAC_1_SQRT_2)?.erf()?;
            let below = scaled(&error.add(&x.constant(1.0)?)?, 0.5)?;
            let density = scaled(&scaled(&x.square()?, -0.5)?.exp()?, (2.0 * PI).sqrt().recip())?;
            gradient.mul(&below.add(&x.mul(&density)?)?)
        })
    }

    /// A function whose gradient follows from what went in and the gradient by what came out.
    fn by_input(
        &self,
        function: impl Fn(&Tensor) -> Result<Tensor, Error>,
        product: impl Fn(&Tensor, &Tensor) -> Result<Tensor, Error> + 'static,
    ) -> Result<Self, Error> {
        let x = self.value().clone();
        let y = function(&x)?;
        Self::computed(y, [self.edge(move |gradient| product(&x, gradient))])
    }

    /// A function whose gradient follows from what came out and the gradient by it.
    fn by_result(
        &self,
        function: impl Fn(&Tensor) -> Result<Tensor, Error>,
        product: impl Fn(&Tensor, &Tensor) -> Result<Tensor, Error> + 'static,
    ) -> Result<Self, Error> {
        let y = function(self.value())?;
        let result = y.clone();
        Self::computed(y, [self.edge(move |gradient| product(&result, gradient))])
    }
}

/// `1 - x`
fn rest(x: &Tensor) -> Result<Tensor, Error> {
    x.constant(1.0)?.sub(x)
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor, Error> {
    x.mul(&x.constant(factor)?)
}

/// A gradient summed over all along which a tensor of this shape was stretched.
pub(super) fn sum_to(gradient: &Tensor, shape: &[u64]) -> Result<Tensor, Error> {
    let stretched = gradient.shape()?;
    if stretched == shape {
        return Ok(gradient.clone());
    }
    let added = stretched.len().saturating_sub(shape.len());
    let inner = stretched[added..].iter().zip(shape);
    let grown = inner.enumerate().filter(|(_, (large, small))| large != small);
    let mut axes: Vec<isize> = (0..).take(added).collect();
    axes.extend(grown.map(|(axis, _)| (added + axis) as isize));
    gradient.reduce(Reduction::Sum, &axes, true)?.reshape(shape)
}
