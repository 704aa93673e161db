//! Every operator that has a gradient, in each way in which it may be used.

use quern_sdk::{
    autograd::Variable,
    gpu::{Convolution, CrossEntropy, Error, Padding, Pool, Range},
};

/// A function of inputs of such shapes, whose elements lie between two numbers.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) shapes: &'static [&'static [u64]],
    pub(crate) between: (f64, f64),
    pub(crate) function: fn(&[Variable]) -> Result<Variable, Error>,
}

/// A case of inputs around 0.
const fn case(
    name: &'static str,
    shapes: &'static [&'static [u64]],
    function: fn(&[Variable]) -> Result<Variable, Error>,
) -> Case {
    Case { name, shapes, between: (-2.0, 2.0), function }
}

/// A case of positive inputs.
const fn positive(
    name: &'static str,
    shapes: &'static [&'static [u64]],
    function: fn(&[Variable]) -> Result<Variable, Error>,
) -> Case {
    Case { name, shapes, between: (0.5, 2.0), function }
}

const STRIDED: Convolution = Convolution {
    strides: (2, 1),
    dilations: (1, 2),
    padding: Padding { top: 1, bottom: 0, left: 2, right: 1 },
    groups: 2,
};

const OVERLAPPING: Pool = Pool {
    window: (3, 2),
    strides: (2, 1),
    padding: Padding { top: 1, bottom: 1, left: 0, right: 1 },
};

pub(crate) const CASES: &[Case] = &[
    case("add", &[&[2, 3], &[2, 3]], |v| v[0].add(&v[1])),
    case("add-broadcast", &[&[2, 1, 3], &[4, 1]], |v| v[0].add(&v[1])),
    case("sub-broadcast", &[&[3], &[2, 3]], |v| v[0].sub(&v[1])),
    case("mul-broadcast", &[&[2, 3], &[]], |v| v[0].mul(&v[1])),
    case("mul-self", &[&[3]], |v| v[0].mul(&v[0])),
    positive("div-broadcast", &[&[2, 3], &[2, 1]], |v| v[0].div(&v[1])),
    positive("div-scalar", &[&[], &[2, 2]], |v| v[0].div(&v[1])),
    case("scalars", &[&[3]], |v| v[0].mul_scalar(-0.5)?.add_scalar(3.0)?.square()),
    case("neg", &[&[3]], |v| v[0].neg()),
    case("abs", &[&[5]], |v| v[0].abs()),
    case("square", &[&[3]], |v| v[0].square()),
    positive("sqrt", &[&[3]], |v| v[0].sqrt()),
    case("relu", &[&[6]], |v| v[0].relu()),
    case("exp", &[&[3]], |v| v[0].exp()),
    positive("log", &[&[3]], |v| v[0].log()),
    case("sin", &[&[3]], |v| v[0].sin()),
    case("cos", &[&[3]], |v| v[0].cos()),
    case("tanh", &[&[3]], |v| v[0].tanh()),
    case("sigmoid", &[&[3]], |v| v[0].sigmoid()),
    case("silu", &[&[3]], |v| v[0].silu()),
    case("gelu", &[&[5]], |v| v[0].gelu()),
    case("matmul", &[&[2, 3], &[3, 4]], |v| v[0].matmul(&v[1])),
    case("matmul-batched", &[&[2, 1, 2, 3], &[3, 3, 2]], |v| v[0].matmul(&v[1])),
    case("matmul-weights", &[&[2, 3, 2, 3], &[3, 4]], |v| v[0].matmul(&v[1])),
    case("matmul-weights-turned", &[&[3, 2, 4], &[4, 2]], |v| {
        v[0].permute(&[1, 0, 2])?.matmul(&v[1])
    }),
    case("matmul-weights-of-none", &[&[0, 2, 3], &[3, 4]], |v| v[0].matmul(&v[1])),
    case("sum", &[&[2, 3, 2]], |v| v[0].sum(&[0, -1])),
    case("sum-all", &[&[2, 3]], |v| v[0].sum_all()),
    case("mean", &[&[2, 3, 2]], |v| v[0].mean(&[1])),
    case("mean-all", &[&[2, 3]], |v| v[0].square()?.mean_all()),
    case("reshape", &[&[2, 3]], |v| v[0].reshape([3, 2])?.square()),
    case("flatten", &[&[2, 2, 2]], |v| v[0].flatten(1)?.square()),
    case("permute", &[&[2, 3, 2]], |v| v[0].permute(&[2, 0, -2])?.square()),
    case("transpose", &[&[2, 3]], |v| v[0].transpose()?.square()),
    case("broadcast", &[&[2, 1]], |v| v[0].broadcast([3, 2, 2])?.square()),
    case("slice", &[&[5, 4]], |v| {
        let rows = Range { start: 1, end: 5, step: 2 };
        v[0].slice(&[rows, Range { start: 1, end: 3, step: 1 }])?.square()
    }),
    case("narrow", &[&[2, 4]], |v| v[0].narrow(-1, 0..3)?.square()),
    case("narrow-to-none", &[&[2, 2]], |v| v[0].sum_all()?.add(&v[0].narrow(0, 1..1)?.sum_all()?)),
    case("concat", &[&[2, 1], &[2, 3], &[2, 2]], |v| {
        Variable::concat(&[&v[0], &v[1], &v[2], &v[0]], -1)?.square()
    }),
    case("gather", &[&[4, 3]], |v| {
        let indices = v[0].value().session().tensor([2, 2], &[1i64, 3, 1, 0])?;
        v[0].gather(0, &indices)?.square()
    }),
    case("gather-inner", &[&[2, 3, 2]], |v| {
        let indices = v[0].value().session().tensor([4], &[2i32, 0, 2, 2])?;
        v[0].gather(1, &indices)?.square()
    }),
    case("softmax", &[&[2, 4]], |v| v[0].softmax()),
    case("log-softmax", &[&[2, 4]], |v| v[0].log_softmax()),
    case("layer-norm", &[&[3, 4], &[4], &[4]], |v| v[0].layer_norm(&v[1], &v[2], 1e-3)),
    case("rms-norm", &[&[2, 2, 3], &[3]], |v| v[0].rms_norm(&v[1], 1e-3)),
    case("convolution", &[&[2, 2, 4, 3], &[3, 2, 3, 2]], |v| {
        v[0].convolution(&v[1], Convolution::default())
    }),
    case("convolution-strided", &[&[1, 4, 5, 4], &[2, 2, 2, 2]], |v| {
        v[0].convolution(&v[1], STRIDED)
    }),
    case("max-pool", &[&[2, 1, 4, 4]], |v| v[0].max_pool(Pool::squares(2))),
    case("max-pool-overlapping", &[&[1, 2, 5, 4]], |v| v[0].max_pool(OVERLAPPING)),
    case("average-pool", &[&[2, 1, 5, 4]], |v| v[0].average_pool(Pool::squares(2))),
    case("average-pool-overlapping", &[&[1, 2, 5, 4]], |v| v[0].average_pool(OVERLAPPING)),
    case("cross-entropy", &[&[3, 4]], |v| {
        let labels = v[0].value().session().tensor([3], &[2i64, 0, 3])?;
        v[0].cross_entropy(&labels)
    }),
    case("cross-entropy-smoothed", &[&[2, 2, 3]], |v| {
        let labels = v[0].value().session().tensor([2, 2], &[2i64, -1, 0, 1])?;
        let how = CrossEntropy { ignored: Some(-1), smoothing: 0.1 };
        v[0].cross_entropy_with(&labels, how)
    }),
    case("diamond", &[&[3], &[3]], |v| {
        // What is used in several ways gets the sum of all.
        let shared = v[0].mul(&v[1])?;
        shared.exp()?.add(&shared.sin()?)?.mul(&shared)?.sub(&v[0])
    }),
    case("network", &[&[2, 1, 6, 6], &[2, 1, 3, 3], &[2, 1, 1], &[8, 3], &[3]], |v| {
        let hidden = v[0].convolution(&v[1], Convolution::default())?.add(&v[2])?.tanh()?;
        let scores =
            hidden.average_pool(Pool::squares(2))?.flatten(1)?.matmul(&v[3])?.add(&v[4])?;
        let labels = scores.value().session().tensor([2], &[0i64, 2])?;
        scores.cross_entropy(&labels)?.mean_all()
    }),
];
