//! The catalogue of operators: plain data that may come from anywhere. [`Kernel::plan`] is the one
//! place that decides whether inputs fit and what comes out, before anything is allocated; it
//! never looks at elements.

mod attention;
mod check;
mod convolution;
mod cost;
mod cross_entropy;
mod distances;
mod elementwise;
mod error;
mod histogram;
mod indexing;
mod joining;
mod matmul;
mod optimizer;
mod ordering;
mod pooling;
mod random;
mod reduction;
mod rows;
mod scan;
mod sliding;
mod view;

pub use attention::Attention;
pub use convolution::{Convolution, ConvolutionInputGradient, ConvolutionWeightGradient};
pub use cross_entropy::CrossEntropy;
pub use distances::Metric;
pub use elementwise::{Binary, Clamp, Comparison, Fill, Logical, Scalar, Unary};
pub use error::OperatorError;
pub use histogram::Histogram;
pub use optimizer::{Adam, Sgd};
pub use ordering::{Sort, TopK};
pub use pooling::{AveragePoolGradient, Pool};
pub use random::{Distribution, Random};
pub use reduction::{ArgReduce, Extreme, Reduce, Reduction};
pub use rows::Norm;
pub use sliding::Padding;
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
    /// `(x, weights)`: images, of which channels become others. Images are N×C×H×W: how many,
    /// channels, rows, columns; weights are channels made × channels seen of a group × rows ×
    /// columns.
    Convolution(Convolution),
    /// `(gradient, weights)`: what a gradient of the results is by the images.
    ConvolutionInputGradient(ConvolutionInputGradient),
    /// `(x, gradient)`: what a gradient of the results is by the weights.
    ConvolutionWeightGradient(ConvolutionWeightGradient),
    /// `(x)`: of images N×C×H×W the largest pixel of each window, or NaN.
    MaxPool(Pool),
    /// `(x, gradient)`: what a gradient of the results is by the images: it goes to the first of
    /// the largest pixels of a window, or the first NaN.
    MaxPoolGradient(Pool),
    /// `(x)`: of images N×C×H×W the mean of the pixels of each window.
    AveragePool(Pool),
    /// `(gradient)`: what a gradient of the results is by the images.
    AveragePoolGradient(AveragePoolGradient),
    /// `(logits, labels)`: for each row the negative logarithm of its label's share of the
    /// exponentials; and its gradient by the logits.
    CrossEntropy(CrossEntropy),
    /// `(parameter, gradient)`: the parameter after a step. With momentum `(parameter, gradient,
    /// velocity)`: the parameter and the velocity.
    Sgd(Sgd),
    /// `(parameter, gradient, first moment, second moment)`: the parameter after a step, and both
    /// moments.
    Adam(Adam),
    /// `()`: numbers of a random stream.
    Random(Random),
}

/// What a kernel is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Shapes to which the inputs are stretched.
    pub inputs: Vec<Shape>,
    /// What comes out.
    pub outputs: Vec<Description>,
    /// Elements touched, or multiplied and added: what its time grows with. Products of matrices
    /// count what they load, too.
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
            Self::Convolution(_) => "convolution",
            Self::ConvolutionInputGradient(_) => "convolution-input-gradient",
            Self::ConvolutionWeightGradient(_) => "convolution-weight-gradient",
            Self::MaxPool(_) => "max-pool",
            Self::MaxPoolGradient(_) => "max-pool-gradient",
            Self::AveragePool(_) => "average-pool",
            Self::AveragePoolGradient(_) => "average-pool-gradient",
            Self::CrossEntropy(_) => "cross-entropy",
            Self::Sgd(_) => "sgd",
            Self::Adam(_) => "adam",
            Self::Random(_) => "random",
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
            Self::Convolution(convolution) => convolution.plan(&check),
            Self::ConvolutionInputGradient(gradient) => gradient.plan(&check),
            Self::ConvolutionWeightGradient(gradient) => gradient.plan(&check),
            Self::MaxPool(pool) | Self::AveragePool(pool) => pool.plan(&check),
            Self::MaxPoolGradient(pool) => pool.plan_gradient(&check),
            Self::AveragePoolGradient(gradient) => gradient.plan(&check),
            Self::CrossEntropy(loss) => loss.plan(&check),
            Self::Sgd(sgd) => sgd.plan(&check),
            Self::Adam(adam) => adam.plan(&check),
            Self::Random(random) => random.plan(&check),
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
