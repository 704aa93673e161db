//! The operators as methods of tensors. What they take and give, and in which words they refuse, is
//! the host's to say.
//!
//! Axes are counted from the outermost dimension, or, if they are negative, from the innermost:
//! -1 is the last.

use super::{
    ArgReduce, Binary, Clamp, Comparison, Dtype, Error, Extreme, Logical, Norm, Operator, Range,
    Reduce, Reduction, Scalar, Tensor, Unary,
};

/// Views: other ways to look at the same elements, which cost neither memory nor time.
impl Tensor {
    /// Its dimensions in another order; each is named once.
    pub fn permute(&self, axes: &[isize]) -> Result<Self, Error> {
        self.apply(Operator::Permute(self.axes(axes)?))
    }

    /// The two innermost dimensions exchanged.
    pub fn transpose(&self) -> Result<Self, Error> {
        let mut axes: Vec<u8> = (0..).take(self.shape()?.len()).collect();
        if let [.., rows, columns] = &mut axes[..] {
            std::mem::swap(rows, columns);
        }
        self.apply(Operator::Permute(axes))
    }

    /// The same elements in the same order under another shape; copied if they don't lie one after
    /// another.
    pub fn reshape(&self, shape: impl Into<Vec<u64>>) -> Result<Self, Error> {
        self.apply(Operator::Reshape(shape.into()))
    }

    /// Stretched to a shape that its own broadcasts to.
    pub fn broadcast(&self, shape: impl Into<Vec<u64>>) -> Result<Self, Error> {
        self.apply(Operator::Broadcast(shape.into()))
    }

    /// A part of each dimension.
    pub fn slice(&self, ranges: &[Range]) -> Result<Self, Error> {
        self.apply(Operator::Slice(ranges.to_vec()))
    }

    /// A part of one dimension.
    pub fn narrow(&self, axis: isize, part: std::ops::Range<u64>) -> Result<Self, Error> {
        let axis = usize::from(self.axis(axis)?);
        let whole = |(at, size): (usize, &u64)| match at == axis {
            true => Range { start: part.start, end: part.end, step: 1 },
            false => Range { start: 0, end: *size, step: 1 },
        };
        let shape = self.shape()?;
        if axis >= shape.len() {
            return Err(Error::invalid(format!("narrow: {self:?} has no axis {axis}")));
        }
        self.slice(&shape.iter().enumerate().map(whole).collect::<Vec<_>>())
    }
}

/// Writes a method for each function of one element.
macro_rules! unary {
    ($($(#[doc = $doc:literal])* $name:ident: $function:ident;)*) => {
        /// Functions of each element.
        impl Tensor {$(
            $(#[doc = $doc])*
            pub fn $name(&self) -> Result<Self, Error> {
                self.apply(Operator::Unary(Unary::$function))
            }
        )*}
    };
}

unary! {
    /// `-x`
    neg: Neg;
    /// `|x|`
    abs: Abs;
    /// -1, 0 or 1; NaN stays.
    sign: Sign;
    /// `x²`
    square: Square;
    /// `max(x, 0)`; NaN stays.
    relu: Relu;
    /// `eˣ`
    exp: Exp;
    /// Natural logarithm.
    log: Log;
    /// Square root.
    sqrt: Sqrt;
    /// `1 / √x`
    rsqrt: Rsqrt;
    /// `1 / x`
    reciprocal: Reciprocal;
    /// Sine of radians.
    sin: Sin;
    /// Cosine of radians.
    cos: Cos;
    /// Hyperbolic tangent.
    tanh: Tanh;
    /// Error function.
    erf: Erf;
    /// `1 / (1 + e⁻ˣ)`
    sigmoid: Sigmoid;
    /// `x × sigmoid(x)`
    silu: Silu;
    /// `x × Φ(x)`, by the error function.
    gelu: Gelu;
    /// The same by a hyperbolic tangent, as in GPT-2.
    gelu_tanh: GeluTanh;
    /// Down to a whole number.
    floor: Floor;
    /// Up to a whole number.
    ceil: Ceil;
    /// To the nearest whole number, halves to the even one.
    round: Round;
    /// The other truth.
    not: Not;
}

/// Writes a method for each function of two elements.
macro_rules! pairs {
    ($about:literal $case:ident($functions:ident):
        $($(#[doc = $doc:literal])* $name:ident: $function:ident;)*) => {
        #[doc = $about]
        impl Tensor {$(
            $(#[doc = $doc])*
            pub fn $name(&self, right: &Self) -> Result<Self, Error> {
                self.apply_with(Operator::$case($functions::$function), [right])
            }
        )*}
    };
}

pairs! {
    "Functions of pairs of elements of one type." Binary(Binary):
    /// `self + right`
    add: Add;
    /// `self - right`
    sub: Sub;
    /// `self × right`
    mul: Mul;
    /// `self / right`; integers towards zero, and by 0 it is 0.
    div: Div;
    /// `self` to the power of `right`.
    pow: Pow;
    /// The smaller one.
    min: Min;
    /// The larger one.
    max: Max;
}

pairs! {
    "How pairs of elements compare, as BOOL; nothing but `ne` holds for NaN." Compare(Comparison):
    /// `self = right`
    eq: Eq;
    /// `self ≠ right`
    ne: Ne;
    /// `self < right`
    lt: Lt;
    /// `self ≤ right`
    le: Le;
    /// `self > right`
    gt: Gt;
    /// `self ≥ right`
    ge: Ge;
}

pairs! {
    "Functions of pairs of BOOL." Logical(Logical):
    /// Both.
    and: And;
    /// At least one.
    or: Or;
    /// Exactly one.
    xor: Xor;
}

/// What else is computed of each element.
impl Tensor {
    /// Its elements, one after another.
    pub fn copy(&self) -> Result<Self, Error> {
        self.apply(Operator::Copy)
    }

    /// Its elements as another type. Floats become integers towards zero and saturate, integers
    /// wrap, and everything but 0 becomes true.
    pub fn cast(&self, dtype: Dtype) -> Result<Self, Error> {
        self.apply(Operator::Cast(dtype))
    }

    /// Elements of `left` where this, of BOOL, holds, else of `right`.
    pub fn select(&self, left: &Self, right: &Self) -> Result<Self, Error> {
        self.apply_with(Operator::Where, [left, right])
    }

    /// Its elements, none beyond the bounds; NaN passes them.
    pub fn clamp(&self, min: Option<Scalar>, max: Option<Scalar>) -> Result<Self, Error> {
        self.apply(Operator::Clamp(Clamp { min, max }))
    }
}

/// One element of many.
impl Tensor {
    /// One element of many along axes, which stay with size 1 if `keep` says so, and go otherwise.
    pub fn reduce(&self, function: Reduction, axes: &[isize], keep: bool) -> Result<Self, Error> {
        self.apply(Operator::Reduce(Reduce { function, axes: self.axes(axes)?, keep }))
    }

    /// The sum along axes, which go; of integers INT64.
    pub fn sum(&self, axes: &[isize]) -> Result<Self, Error> {
        self.reduce(Reduction::Sum, axes, false)
    }

    /// The mean along axes, which go.
    pub fn mean(&self, axes: &[isize]) -> Result<Self, Error> {
        self.reduce(Reduction::Mean, axes, false)
    }

    /// The largest element along axes, which go.
    pub fn max_along(&self, axes: &[isize]) -> Result<Self, Error> {
        self.reduce(Reduction::Max, axes, false)
    }

    /// The smallest element along axes, which go.
    pub fn min_along(&self, axes: &[isize]) -> Result<Self, Error> {
        self.reduce(Reduction::Min, axes, false)
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

    /// INT64: where along an axis, which goes, the first largest element is.
    pub fn arg_max(&self, axis: isize) -> Result<Self, Error> {
        self.arg_reduce(Extreme::Max, axis)
    }

    /// INT64: where along an axis, which goes, the first smallest element is.
    pub fn arg_min(&self, axis: isize) -> Result<Self, Error> {
        self.arg_reduce(Extreme::Min, axis)
    }

    fn arg_reduce(&self, extreme: Extreme, axis: isize) -> Result<Self, Error> {
        let axis = self.axis(axis)?;
        self.apply(Operator::ArgReduce(ArgReduce { extreme, axis, keep: false }))
    }
}

/// Matrices and rows.
impl Tensor {
    /// Products of matrices, the two innermost dimensions; those before are broadcast.
    pub fn matmul(&self, right: &Self) -> Result<Self, Error> {
        self.apply_with(Operator::Matmul, [right])
    }

    /// Shares of the exponentials along the innermost axis.
    pub fn softmax(&self) -> Result<Self, Error> {
        self.apply(Operator::Softmax)
    }

    /// The logarithms of the shares.
    pub fn log_softmax(&self) -> Result<Self, Error> {
        self.apply(Operator::LogSoftmax)
    }

    /// Mean 0 and variance 1 along the innermost axis, then scaled and shifted.
    pub fn layer_norm(&self, scale: &Self, bias: &Self, epsilon: f64) -> Result<Self, Error> {
        self.apply_with(Operator::LayerNorm(Norm { epsilon }), [scale, bias])
    }

    /// Root mean square 1 along the innermost axis, then scaled.
    pub fn rms_norm(&self, scale: &Self, epsilon: f64) -> Result<Self, Error> {
        self.apply_with(Operator::RmsNorm(Norm { epsilon }), [scale])
    }
}

/// Joining and indexing.
impl Tensor {
    /// Tensors one after another along an axis.
    pub fn concat(parts: &[&Self], axis: isize) -> Result<Self, Error> {
        let first = parts.first().ok_or_else(|| {
            Error::invalid("concat: there must be at least one tensor".to_owned())
        })?;
        let operator = Operator::Concat(first.axis(axis)?);
        let [joined] = first.session().make(&operator, parts)?;
        Ok(joined)
    }

    /// Slices along an axis, whose place the shape of the indices takes; along axis 0 of a table of
    /// rows it is an embedding. An index that is out of range ends the session.
    pub fn gather(&self, axis: isize, indices: &Self) -> Result<Self, Error> {
        self.apply_with(Operator::Gather(self.axis(axis)?), [indices])
    }

    /// This with updates, shaped as what a gather gives, added to the slices that the indices name.
    pub fn scatter_add(&self, axis: isize, indices: &Self, updates: &Self) -> Result<Self, Error> {
        self.apply_with(Operator::ScatterAdd(self.axis(axis)?), [indices, updates])
    }
}
