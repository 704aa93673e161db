//! The way between operators, descriptions and errors of `quern:ml/gpu` and those of the catalogue.
//! Decides only what is no value of the catalogue at all; the rest is the session's to refuse.

use quern_operators::{
    ArgReduce, Binary, Clamp, Comparison, Description, Dtype, Extreme, Fill, Kernel, LaneError,
    Logical, Norm, OpenError, Operator, Range, Reduce, Reduction, Scalar, SessionError, Shape,
    Unary, View,
};

use super::contract::{
    self as guest, GuestDescription, GuestDtype, GuestError, GuestOperator, GuestRange, GuestScalar,
};

/// Writes the way from an enumeration of the guest to the catalogue's of the same cases.
macro_rules! same_cases {
    ($($way:ident $guest:ty => $host:ident: $($case:ident)*;)*) => {$(
        fn $way(value: $guest) -> $host {
            match value { $(<$guest>::$case => $host::$case,)* }
        }
    )*};
}

same_cases! {
    dtype_to_host GuestDtype => Dtype: Bool Uint8 Int32 Int64 Fp16 Bf16 Fp32 Fp64;
    unary guest::Unary => Unary:
        Neg Abs Sign Square Relu Exp Log Sqrt Rsqrt Reciprocal Sin Cos Tanh Erf Sigmoid Silu Gelu
        GeluTanh Floor Ceil Round Not;
    binary guest::Binary => Binary: Add Sub Mul Div Pow Min Max;
    comparison guest::Comparison => Comparison: Eq Ne Lt Le Gt Ge;
    logical guest::Logical => Logical: And Or Xor;
    reduction guest::Reduction => Reduction: Sum Mean Product Max Min Any All;
    extreme guest::Extreme => Extreme: Max Min;
}

fn dtype_to_guest(dtype: Dtype) -> GuestDtype {
    match dtype {
        Dtype::Bool => GuestDtype::Bool,
        Dtype::Uint8 => GuestDtype::Uint8,
        Dtype::Int32 => GuestDtype::Int32,
        Dtype::Int64 => GuestDtype::Int64,
        Dtype::Fp16 => GuestDtype::Fp16,
        Dtype::Bf16 => GuestDtype::Bf16,
        Dtype::Fp32 => GuestDtype::Fp32,
        Dtype::Fp64 => GuestDtype::Fp64,
    }
}

fn scalar(value: GuestScalar) -> Scalar {
    match value {
        GuestScalar::Bool(value) => Scalar::Bool(value),
        GuestScalar::Int(value) => Scalar::Int(value),
        GuestScalar::Float(value) => Scalar::Float(value),
    }
}

fn range(GuestRange { start, end, step }: GuestRange) -> Range {
    Range { start, end, step }
}

fn shape(dims: &[u64]) -> Result<Shape, String> {
    Shape::new(dims).map_err(|error| error.to_string())
}

/// A description of a guest; otherwise what is wrong with it.
pub(super) fn description_to_host(description: &GuestDescription) -> Result<Description, String> {
    Ok(Description::new(dtype_to_host(description.dtype), shape(&description.shape)?))
}

/// A description for a guest.
pub(super) fn description_to_guest(description: &Description) -> GuestDescription {
    let dtype = dtype_to_guest(description.dtype);
    GuestDescription { dtype, shape: description.shape.dims().to_vec() }
}

/// An operator of a guest; refused if it names a shape that is none.
pub(super) fn operator_to_host(operator: GuestOperator) -> Result<Operator, GuestError> {
    let shaped = |operator: &str, dims: &[u64]| {
        shape(dims).map_err(|problem| GuestError::Invalid(format!("{operator}: {problem}")))
    };
    let kernel = match operator {
        GuestOperator::Permute(axes) => return Ok(View::Permute(axes).into()),
        GuestOperator::Reshape(dims) => return Ok(View::Reshape(shaped("reshape", &dims)?).into()),
        GuestOperator::Broadcast(dims) => {
            return Ok(View::Broadcast(shaped("broadcast", &dims)?).into());
        }
        GuestOperator::Slice(ranges) => {
            return Ok(View::Slice(ranges.into_iter().map(range).collect()).into());
        }
        GuestOperator::Fill(fill) => Kernel::Fill(Fill {
            dtype: dtype_to_host(fill.description.dtype),
            shape: shaped("fill", &fill.description.shape)?,
            value: scalar(fill.value),
        }),
        GuestOperator::Copy => Kernel::Copy,
        GuestOperator::Cast(dtype) => Kernel::Cast(dtype_to_host(dtype)),
        GuestOperator::Unary(function) => Kernel::Unary(unary(function)),
        GuestOperator::Binary(function) => Kernel::Binary(binary(function)),
        GuestOperator::Compare(how) => Kernel::Compare(comparison(how)),
        GuestOperator::Logical(function) => Kernel::Logical(logical(function)),
        GuestOperator::Where => Kernel::Where,
        GuestOperator::Clamp(bounds) => {
            Kernel::Clamp(Clamp { min: bounds.min.map(scalar), max: bounds.max.map(scalar) })
        }
        GuestOperator::Reduce(reduce) => Kernel::Reduce(Reduce {
            function: reduction(reduce.function),
            axes: reduce.axes,
            keep: reduce.keep,
        }),
        GuestOperator::ArgReduce(reduce) => Kernel::ArgReduce(ArgReduce {
            extreme: extreme(reduce.extreme),
            axis: reduce.axis,
            keep: reduce.keep,
        }),
        GuestOperator::Matmul => Kernel::Matmul,
        GuestOperator::Softmax => Kernel::Softmax,
        GuestOperator::LogSoftmax => Kernel::LogSoftmax,
        GuestOperator::LayerNorm(norm) => Kernel::LayerNorm(Norm { epsilon: norm.epsilon }),
        GuestOperator::RmsNorm(norm) => Kernel::RmsNorm(Norm { epsilon: norm.epsilon }),
        GuestOperator::Concat(axis) => Kernel::Concat(axis),
        GuestOperator::Gather(axis) => Kernel::Gather(axis),
        GuestOperator::ScatterAdd(axis) => Kernel::ScatterAdd(axis),
    };
    Ok(kernel.into())
}

/// What a session refuses, for the guest that asked.
pub(super) fn refusal(error: &SessionError) -> GuestError {
    let text = error.to_string();
    match error {
        SessionError::Operator(_) | SessionError::Length { .. } | SessionError::Bool { .. } => {
            GuestError::Invalid(text)
        }
        SessionError::Budget { .. } | SessionError::Tensors { .. } | SessionError::Work { .. } => {
            GuestError::Exhausted(text)
        }
        // The ids in their texts are nothing that a guest has seen.
        SessionError::Unknown(_) => GuestError::Unknown("there is no such tensor".into()),
        SessionError::Foreign(_) => {
            GuestError::Unknown("an input belongs to another session".into())
        }
        SessionError::Lane(LaneError::Memory { .. }) => GuestError::Overloaded(text),
        SessionError::Lane(LaneError::Index { .. }) => GuestError::Index(text),
        SessionError::Lane(LaneError::Unsupported { .. } | LaneError::Lost { .. }) => {
            GuestError::Unavailable(text)
        }
    }
}

/// Why there is no session, for the guest that asked.
pub(super) fn open_error(error: &OpenError) -> GuestError {
    let text = error.to_string();
    match error {
        OpenError::NoDevice { .. } | OpenError::Lost { .. } => GuestError::Unavailable(text),
        OpenError::Budget { .. } | OpenError::Busy { .. } | OpenError::Sessions { .. } => {
            GuestError::Overloaded(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use quern_operators::TensorId;

    use super::*;

    /// The case of an error, by its name.
    fn case(error: &GuestError) -> &'static str {
        match error {
            GuestError::Invalid(_) => "invalid",
            GuestError::Unknown(_) => "unknown",
            GuestError::Exhausted(_) => "exhausted",
            GuestError::Overloaded(_) => "overloaded",
            GuestError::Index(_) => "index",
            GuestError::Unavailable(_) => "unavailable",
        }
    }

    #[test]
    fn every_refusal_has_its_case() {
        let id = TensorId::new(7, 8);
        let description = Description::new(Dtype::Fp32, Shape::SCALAR);
        let lost = LaneError::Lost { reason: "it fell".into() };
        let unplanned = Kernel::Matmul.plan(&[]).expect_err("no inputs");
        let cases = [
            (SessionError::Operator(unplanned), "invalid"),
            (SessionError::Length { description, expected: 4, actual: 3 }, "invalid"),
            (SessionError::Bool { index: 0, value: 2 }, "invalid"),
            (SessionError::Budget { needed: 3, used: 2, limit: 4 }, "exhausted"),
            (SessionError::Tensors { limit: 1 }, "exhausted"),
            (SessionError::Work { operator: "matmul", work: 2, limit: 1 }, "exhausted"),
            (SessionError::Unknown(id), "unknown"),
            (SessionError::Foreign(id), "unknown"),
            (SessionError::Lane(LaneError::Memory { bytes: 1 }), "overloaded"),
            (
                SessionError::Lane(LaneError::Index { operator: "gather", index: 2, size: 2 }),
                "index",
            ),
            (SessionError::Lane(LaneError::Unsupported { operator: "sort" }), "unavailable"),
            (SessionError::Lane(lost.clone()), "unavailable"),
        ];
        for (error, expected) in cases {
            assert_eq!(case(&refusal(&error)), expected, "{error}");
        }
        let cases = [
            (OpenError::NoDevice { needed: 2, most: 1 }, "unavailable"),
            (OpenError::Lost { device: "cpu:0".into(), error: lost }, "unavailable"),
            (OpenError::Budget { needed: 2, left: 1, limit: 3 }, "overloaded"),
            (OpenError::Busy { needed: 2, left: 1 }, "overloaded"),
            (OpenError::Sessions { limit: 1 }, "overloaded"),
        ];
        for (error, expected) in cases {
            assert_eq!(case(&open_error(&error)), expected, "{error}");
        }
    }

    #[test]
    fn what_is_no_shape_is_refused_with_the_operator() {
        let refused = operator_to_host(GuestOperator::Reshape(vec![1; 9]));
        let Err(GuestError::Invalid(problem)) = refused else { panic!("refused") };
        assert_eq!(problem, "reshape: 9 dimensions are more than 8");
    }

    #[test]
    fn element_types_survive_the_way_there_and_back() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype_to_host(dtype_to_guest(dtype)), dtype);
        }
    }
}
