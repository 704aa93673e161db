//! Operators of `quern:ml/gpu` as those of the catalogue, case by case. Decides only what is no shape
//! at all; the rest is the session's to refuse.

use quern_operators::{
    Adam, ArgReduce, Attention, AveragePoolGradient, Binary, Clamp, Comparison, Convolution,
    ConvolutionInputGradient, ConvolutionWeightGradient, CrossEntropy, Distribution, Dtype,
    Extreme, Fill, Histogram, Kernel, Logical, Metric, Norm, Operator, Padding, Pool, Random,
    Range, Reduce, Reduction, Scalar, Sgd, Shape, Sort, TopK, Unary, View,
};

use super::contract::{GuestError, GuestOperator, types};

/// An operator of a guest; refused if it names a shape that is none.
pub(super) fn operator_to_host(operator: GuestOperator) -> Result<Operator, GuestError> {
    use GuestOperator as Guest;
    Ok(match operator {
        Guest::Permute(axes) => View::Permute(axes).into(),
        Guest::Reshape(dims) => View::Reshape(shape("reshape", &dims)?).into(),
        Guest::Broadcast(dims) => View::Broadcast(shape("broadcast", &dims)?).into(),
        Guest::Slice(ranges) => View::Slice(ranges.into_iter().map(Range::from).collect()).into(),
        Guest::Fill(it) => fill(it)?.into(),
        Guest::Copy => Kernel::Copy.into(),
        Guest::Cast(it) => Kernel::Cast(it.into()).into(),
        Guest::Unary(it) => Kernel::Unary(it.into()).into(),
        Guest::Binary(it) => Kernel::Binary(it.into()).into(),
        Guest::Compare(it) => Kernel::Compare(it.into()).into(),
        Guest::Logical(it) => Kernel::Logical(it.into()).into(),
        Guest::Where => Kernel::Where.into(),
        Guest::Clamp(it) => Kernel::Clamp(it.into()).into(),
        Guest::Reduce(it) => Kernel::Reduce(it.into()).into(),
        Guest::ArgReduce(it) => Kernel::ArgReduce(it.into()).into(),
        Guest::Matmul => Kernel::Matmul.into(),
        Guest::Softmax => Kernel::Softmax.into(),
        Guest::LogSoftmax => Kernel::LogSoftmax.into(),
        Guest::LayerNorm(it) => Kernel::LayerNorm(it.into()).into(),
        Guest::RmsNorm(it) => Kernel::RmsNorm(it.into()).into(),
        Guest::Concat(axis) => Kernel::Concat(axis).into(),
        Guest::Gather(axis) => Kernel::Gather(axis).into(),
        Guest::ScatterAdd(axis) => Kernel::ScatterAdd(axis).into(),
        Guest::CumulativeSum(axis) => Kernel::CumulativeSum(axis).into(),
        Guest::Histogram(it) => Kernel::Histogram(it.into()).into(),
        Guest::Sort(it) => Kernel::Sort(it.into()).into(),
        Guest::TopK(it) => Kernel::TopK(it.into()).into(),
        Guest::Distances(it) => Kernel::Distances(it.into()).into(),
        Guest::Attention(it) => Kernel::Attention(it.into()).into(),
        Guest::Convolution(it) => Kernel::Convolution(it.into()).into(),
        Guest::ConvolutionInputGradient(it) => Kernel::ConvolutionInputGradient(it.into()).into(),
        Guest::ConvolutionWeightGradient(it) => Kernel::ConvolutionWeightGradient(it.into()).into(),
        Guest::MaxPool(it) => Kernel::MaxPool(it.into()).into(),
        Guest::MaxPoolGradient(it) => Kernel::MaxPoolGradient(it.into()).into(),
        Guest::AveragePool(it) => Kernel::AveragePool(it.into()).into(),
        Guest::AveragePoolGradient(it) => Kernel::AveragePoolGradient(it.into()).into(),
        Guest::CrossEntropy(it) => Kernel::CrossEntropy(it.into()).into(),
        Guest::Sgd(it) => Kernel::Sgd(it.into()).into(),
        Guest::Adam(it) => Kernel::Adam(it.into()).into(),
        Guest::Random(it) => random(it)?.into(),
    })
}

fn shape(operator: &str, dims: &[u64]) -> Result<Shape, GuestError> {
    Shape::new(dims).map_err(|error| GuestError::Invalid(format!("{operator}: {error}")))
}

fn fill(fill: types::Fill) -> Result<Kernel, GuestError> {
    let types::Fill { description, value } = fill;
    let shape = shape("fill", &description.shape)?;
    Ok(Kernel::Fill(Fill { dtype: description.dtype.into(), shape, value: value.into() }))
}

fn random(random: types::Random) -> Result<Kernel, GuestError> {
    let types::Random { distribution, description, seed, offset } = random;
    let shape = shape("random", &description.shape)?;
    let (distribution, dtype) = (distribution.into(), description.dtype.into());
    Ok(Kernel::Random(Random { distribution, dtype, shape, seed, offset }))
}

/// Writes the way from enumerations of the guest to the catalogue's of the same cases.
macro_rules! same_cases {
    ($($name:ident: $($case:ident)*;)*) => {$(
        impl From<types::$name> for $name {
            fn from(value: types::$name) -> Self {
                match value { $(types::$name::$case => Self::$case,)* }
            }
        }
    )*};
}

same_cases! {
    Dtype: Bool Uint8 Int32 Int64 Fp16 Bf16 Fp32 Fp64;
    Unary:
        Neg Abs Sign Square Relu Exp Log Sqrt Rsqrt Reciprocal Sin Cos Tanh Erf Sigmoid Silu Gelu
        GeluTanh Floor Ceil Round Not;
    Binary: Add Sub Mul Div Pow Min Max;
    Comparison: Eq Ne Lt Le Gt Ge;
    Logical: And Or Xor;
    Reduction: Sum Mean Product Max Min Any All;
    Extreme: Max Min;
    Metric: Euclidean SquaredEuclidean Manhattan Cosine;
    Distribution: Uniform Normal;
}

/// Writes the way from records of the guest to the catalogue's of the same fields, each of which
/// has its own way.
macro_rules! same_fields {
    ($($name:ident: $($field:ident)*;)*) => {$(
        impl From<types::$name> for $name {
            fn from(value: types::$name) -> Self {
                let types::$name { $($field),* } = value;
                Self { $($field: $field.into()),* }
            }
        }
    )*};
}

same_fields! {
    Range: start end step;
    Reduce: function axes keep;
    ArgReduce: extreme axis keep;
    Norm: epsilon;
    Histogram: bins min max;
    Sort: axis descending;
    TopK: axis count largest;
    Attention: scale causal;
    Padding: top bottom left right;
    Convolution: strides dilations padding groups;
    ConvolutionInputGradient: convolution image;
    ConvolutionWeightGradient: convolution window;
    Pool: window strides padding;
    AveragePoolGradient: pool image;
    CrossEntropy: ignored smoothing;
    Sgd: rate momentum weight_decay nesterov;
    Adam: rate betas epsilon weight_decay decoupled step;
}

impl From<types::Scalar> for Scalar {
    fn from(value: types::Scalar) -> Self {
        match value {
            types::Scalar::Bool(value) => Self::Bool(value),
            types::Scalar::Int(value) => Self::Int(value),
            types::Scalar::Float(value) => Self::Float(value),
        }
    }
}

impl From<types::Clamp> for Clamp {
    fn from(types::Clamp { min, max }: types::Clamp) -> Self {
        Self { min: min.map(Scalar::from), max: max.map(Scalar::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_shape_is_refused_with_the_operator() {
        let refused = operator_to_host(GuestOperator::Reshape(vec![1; 9]));
        let Err(GuestError::Invalid(problem)) = refused else { panic!("refused") };
        assert_eq!(problem, "reshape: 9 dimensions are more than 8");
    }
}
