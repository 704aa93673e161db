//! The catalogue of operators: plain data that may come from anywhere. [`Kernel::plan`] is the one
//! place that decides whether inputs fit and what comes out, before anything is allocated; it
//! never looks at elements.

mod attention;
mod check;
mod distances;
mod elementwise;
mod error;
mod histogram;
mod indexing;
mod joining;
mod matmul;
mod ordering;
mod reduction;
mod rows;
mod scan;
mod view;

pub use attention::Attention;
pub use distances::Metric;
pub use elementwise::{Binary, Clamp, Comparison, Fill, Logical, Scalar, Unary};
pub use error::OperatorError;
pub use histogram::Histogram;
pub use ordering::{Sort, TopK};
pub use reduction::{ArgReduce, Extreme, Reduce, Reduction};
pub use rows::Norm;
pub use view::{Range, Seen, View};

use serde::{Deserialize, Serialize};

use crate::{Description, Dtype, Shape};
use check::Check;

/// Something that makes tensors of tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Operator {
    /// Another way to look at the same elements: costs neither memory nor time, but for a
    /// reshape of elements that don't lie one after another, which copies.
    View(View),
    /// A computation.
    Kernel(Kernel),
}

/// A computation. Inputs are given in the order in which the variants name them; see
/// [the catalogue](crate#the-catalogue) for element types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kernel {
    /// `()`: a tensor of one value.
    Fill(Fill),
    /// `(x)`: its elements, one after another.
    Copy,
    /// `(x)`: its elements as another type. Floats become integers towards zero and saturate (NaN
    /// becomes 0), integers wrap, everything but 0 becomes true, and FP16 and BF16 are reached
    /// through FP32.
    Cast(Dtype),
    /// `(x)`: a function of each element.
    Unary(Unary),
    /// `(left, right)`: a function of pairs.
    Binary(Binary),
    /// `(left, right)`: BOOL, how pairs compare; nothing but `Ne` holds for NaN.
    Compare(Comparison),
    /// `(left, right)`: a function of pairs of BOOL.
    Logical(Logical),
    /// `(condition, left, right)`: elements of `left` where the condition holds, else of `right`.
    Where,
    /// `(x)`: its elements, none beyond the bounds.
    Clamp(Clamp),
    /// `(x)`: one element of many along axes.
    Reduce(Reduce),
    /// `(x)`: INT64, where along an axis the first extreme element is.
    ArgReduce(ArgReduce),
    /// `(x)`: along an axis, the sum of each element and all before it; INT64 of integers, wrapping.
    CumulativeSum(u8),
    /// `(x)`: INT64, how many elements lie in each bin.
    Histogram(Histogram),
    /// `(x)`: the elements along an axis in order, and INT64, where they were.
    Sort(Sort),
    /// `(x)`: the first few of them, and INT64, where they were.
    TopK(TopK),
    /// `(left, right)`: products of matrices, the two innermost dimensions; those before are
    /// broadcast. Turn a factor by a view: it costs nothing.
    Matmul,
    /// `(left, right)`: how far each row of one matrix is from each row of another, the two innermost
    /// dimensions; those before are broadcast.
    Distances(Metric),
    /// `(query, key, value)` or `(query, key, value, mask)`: for each query the mean of the values,
    /// by the softmax of how the query multiplies with their keys. All are rows of matrices, the two
    /// innermost dimensions; those before are broadcast. The mask broadcasts to queries by keys: of
    /// BOOL it says which keys a query sees, else it is added to the scaled products. A query that
    /// sees no key, or whose products are all -∞, gets 0. What is hidden has no weight, but its
    /// value should be finite: 0 times infinity is NaN.
    Attention(Attention),
    /// `(x)`: shares of the exponentials along the innermost axis.
    Softmax,
    /// `(x)`: their logarithms.
    LogSoftmax,
    /// `(x, scale, bias)`: mean 0 and variance 1 along the innermost axis.
    LayerNorm(Norm),
    /// `(x, scale)`: root mean square 1 along the innermost axis.
    RmsNorm(Norm),
    /// `(x, …)`: one after another along an axis.
    Concat(u8),
    /// `(x, indices)`: slices of `x` along an axis; the shape of the indices takes its place.
    /// Along axis 0 of a table of rows it is an embedding.
    Gather(u8),
    /// `(x, indices, updates)`: `x` with updates, shaped as what a gather gives, added to the
    /// slices that the indices name, in their order.
    ScatterAdd(u8),
}

/// What a kernel is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Shapes to which the inputs are stretched.
    pub inputs: Vec<Shape>,
    /// What comes out.
    pub outputs: Vec<Description>,
    /// Elements touched, or multiplied and added: what its time grows with.
    pub work: u64,
}

impl Kernel {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fill(_) => "fill",
            Self::Copy => "copy",
            Self::Cast(_) => "cast",
            Self::Unary(function) => function.name(),
            Self::Binary(function) => function.name(),
            Self::Compare(comparison) => comparison.name(),
            Self::Logical(function) => function.name(),
            Self::Where => "where",
            Self::Clamp(_) => "clamp",
            Self::Reduce(reduce) => reduce.function.name(),
            Self::ArgReduce(reduce) => reduce.name(),
            Self::CumulativeSum(_) => "cumulative-sum",
            Self::Histogram(_) => "histogram",
            Self::Sort(_) => "sort",
            Self::TopK(_) => "top-k",
            Self::Matmul => "matmul",
            Self::Distances(_) => "distances",
            Self::Attention(_) => "attention",
            Self::Softmax => "softmax",
            Self::LogSoftmax => "log-softmax",
            Self::LayerNorm(_) => "layer-norm",
            Self::RmsNorm(_) => "rms-norm",
            Self::Concat(_) => "concat",
            Self::Gather(_) => "gather",
            Self::ScatterAdd(_) => "scatter-add",
        }
    }

    /// What it makes of such inputs, or why it can't.
    pub fn plan(&self, inputs: &[Description]) -> Result<Plan, OperatorError> {
        let check = Check::new(self.name(), inputs);
        match self {
            Self::Fill(fill) => fill.plan(&check),
            Self::Copy => elementwise::copy(&check),
            Self::Cast(to) => elementwise::cast(*to, &check),
            Self::Unary(function) => function.plan(&check),
            Self::Binary(function) => function.plan(&check),
            Self::Compare(_) => elementwise::compare(&check),
            Self::Logical(_) => elementwise::logical(&check),
            Self::Where => elementwise::choose(&check),
            Self::Clamp(clamp) => clamp.plan(&check),
            Self::Reduce(reduce) => reduce.plan(&check),
            Self::ArgReduce(reduce) => reduce.plan(&check),
            Self::CumulativeSum(axis) => scan::cumulative_sum(*axis, &check),
            Self::Histogram(histogram) => histogram.plan(&check),
            Self::Sort(sort) => sort.plan(&check),
            Self::TopK(top) => top.plan(&check),
            Self::Matmul => matmul::plan(&check),
            Self::Distances(_) => Metric::plan(&check),
            Self::Attention(attention) => attention.plan(&check),
            Self::Softmax | Self::LogSoftmax => rows::softmax(&check),
            Self::LayerNorm(norm) => norm.plan(&check, 2),
            Self::RmsNorm(norm) => norm.plan(&check, 1),
            Self::Concat(axis) => joining::concat(*axis, &check),
            Self::Gather(axis) => indexing::gather(*axis, &check),
            Self::ScatterAdd(axis) => indexing::scatter_add(*axis, &check),
        }
    }
}

impl From<View> for Operator {
    fn from(view: View) -> Self {
        Self::View(view)
    }
}

impl From<Kernel> for Operator {
    fn from(kernel: Kernel) -> Self {
        Self::Kernel(kernel)
    }
}

#[cfg(test)]
mod tests;
