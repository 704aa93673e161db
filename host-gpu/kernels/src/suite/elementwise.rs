//! Cases of elementwise operators.

use super::{Host, Tolerance, Trial};
use quern_operators::{Binary, Clamp, Comparison, Dtype, Fill, Kernel, Logical, Scalar, Unary};

/// Pairs of shapes that broadcast: small, odd, empty, and larger than any block or vector.
const PAIRS: [(&[u64], &[u64]); 7] = [
    (&[], &[]),
    (&[7], &[7]),
    (&[3, 5], &[5]),
    (&[2, 1, 3], &[4, 1]),
    (&[0, 3], &[1, 3]),
    (&[2_053], &[1]),
    (&[3, 1_031], &[3, 1]),
];

pub(super) fn cases(trial: &mut Trial) {
    for (left, right) in PAIRS {
        for dtype in Dtype::ALL {
            unary(trial, dtype, left);
            binary(trial, dtype, left, right);
            choices(trial, dtype, left, right);
            for to in Dtype::ALL {
                cast(trial, dtype, to, left);
            }
        }
    }
    large(trial);
    special(trial);
}

fn map(x: &Host, function: impl Fn(f64) -> f64) -> Host {
    Host::new(x.description(), x.values.iter().map(|x| function(*x)).collect())
}

fn zip(dtype: Dtype, left: &Host, right: &Host, function: impl Fn(f64, f64) -> f64) -> Host {
    let shape = left.shape.broadcast(&right.shape).expect("pairs broadcast");
    Host::from_indices(dtype, shape, |index| function(left.at(index), right.at(index)))
}

fn reference(function: Unary) -> fn(f64) -> f64 {
    match function {
        Unary::Neg => |x| -x,
        Unary::Abs => f64::abs,
        Unary::Sign => |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
        Unary::Square => |x| x * x,
        Unary::Relu => |x| if x < 0.0 { 0.0 } else { x },
        Unary::Exp => f64::exp,
        Unary::Log => f64::ln,
        Unary::Sqrt => f64::sqrt,
        Unary::Rsqrt => |x| x.sqrt().recip(),
        Unary::Reciprocal => f64::recip,
        Unary::Sin => f64::sin,
        Unary::Cos => f64::cos,
        Unary::Tanh => f64::tanh,
        Unary::Erf => libm::erf,
        Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        Unary::Silu => |x| x / (1.0 + (-x).exp()),
        Unary::Gelu => |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        },
        Unary::Floor => f64::floor,
        Unary::Ceil => f64::ceil,
        Unary::Round => f64::round_ties_even,
        Unary::Not => |x| 1.0 - x,
    }
}

fn unary(trial: &mut Trial, dtype: Dtype, dims: &[u64]) {
    for function in Unary::ALL.into_iter().filter(|function| function.accepts().contains(dtype)) {
        let mut x = trial.random(dtype, dims);
        if dtype == Dtype::Uint8 && function == Unary::Neg {
            x = map(&x, |_| 0.0);
        }
        if matches!(function, Unary::Log | Unary::Sqrt | Unary::Rsqrt | Unary::Reciprocal) {
            x = map(&x, |x| x.abs() + 0.1);
        }
        let expected = map(&x, reference(function));
        trial.operator(Kernel::Unary(function), &[&x], &expected, Tolerance::of(dtype));
    }
}

fn binary(trial: &mut Trial, dtype: Dtype, left: &[u64], right: &[u64]) {
    let (mut left, mut right) = (trial.random(dtype, left), trial.random(dtype, right));
    for comparison in Comparison::ALL {
        let compare: fn(&f64, &f64) -> bool = match comparison {
            Comparison::Eq => f64::eq,
            Comparison::Ne => f64::ne,
            Comparison::Lt => f64::lt,
            Comparison::Le => f64::le,
            Comparison::Gt => f64::gt,
            Comparison::Ge => f64::ge,
        };
        let expected = zip(Dtype::Bool, &left, &right, |left, right| {
            f64::from(u8::from(compare(&left, &right)))
        });
        let kernel = Kernel::Compare(comparison);
        trial.operator(kernel, &[&left, &right], &expected, Tolerance::EXACT);
    }
    for function in Binary::ALL.into_iter().filter(|function| function.accepts().contains(dtype)) {
        let combine: fn(f64, f64) -> f64 = match function {
            Binary::Add => |left, right| left + right,
            Binary::Sub => |left, right| left - right,
            Binary::Mul => |left, right| left * right,
            Binary::Div => |left, right| left / right,
            Binary::Pow => f64::powf,
            Binary::Min => f64::min,
            Binary::Max => f64::max,
        };
        if function == Binary::Sub && dtype == Dtype::Uint8 {
            left = map(&left, |left| left + 10.0);
        }
        if function == Binary::Div {
            right = map(&right, |right| right.abs() + 0.5);
        }
        if function == Binary::Pow {
            left = map(&left, |left| left.abs() + 0.1);
        }
        let expected = zip(dtype, &left, &right, |left, right| {
            // An integer divided is 0 by 0, and cut towards zero as it is encoded.
            if right == 0.0 && function == Binary::Div { 0.0 } else { combine(left, right) }
        });
        let kernel = Kernel::Binary(function);
        trial.operator(kernel, &[&left, &right], &expected, Tolerance::of(dtype));
    }
}

fn choices(trial: &mut Trial, dtype: Dtype, left: &[u64], right: &[u64]) {
    let (left, right) = (trial.random(dtype, left), trial.random(dtype, right));
    let condition = trial.random(Dtype::Bool, right.dims());
    let shape = left.shape.broadcast(&right.shape).expect("pairs broadcast");
    let expected = Host::from_indices(dtype, shape, |index| {
        if condition.at(index) == 1.0 { left.at(index) } else { right.at(index) }
    });
    trial.operator(Kernel::Where, &[&condition, &left, &right], &expected, Tolerance::EXACT);
    trial.operator(Kernel::Copy, &[&left], &left, Tolerance::EXACT);
    let one = match dtype {
        Dtype::Bool => Scalar::Bool(true),
        dtype if dtype.is_integer() => Scalar::Int(1),
        _ => Scalar::Float(1.0),
    };
    let fill = Kernel::Fill(Fill { dtype, shape: left.shape, value: one });
    trial.operator(fill, &[], &map(&left, |_| 1.0), Tolerance::EXACT);
    if dtype == Dtype::Bool {
        for function in Logical::ALL {
            let combine: fn(bool, bool) -> bool = match function {
                Logical::And => |left, right| left && right,
                Logical::Or => |left, right| left || right,
                Logical::Xor => |left, right| left != right,
            };
            let expected = zip(dtype, &left, &right, |left, right| {
                f64::from(u8::from(combine(left == 1.0, right == 1.0)))
            });
            let kernel = Kernel::Logical(function);
            trial.operator(kernel, &[&left, &right], &expected, Tolerance::EXACT);
        }
        return;
    }
    let clamped = map(&left, |x| x.min(1.0));
    let clamp = Kernel::Clamp(Clamp { min: None, max: Some(one) });
    trial.operator(clamp, &[&left], &clamped, Tolerance::EXACT);
    let clamp = Kernel::Clamp(Clamp { min: Some(one), max: Some(one) });
    trial.operator(clamp, &[&left], &map(&left, |_| 1.0), Tolerance::EXACT);
}

fn cast(trial: &mut Trial, from: Dtype, to: Dtype, dims: &[u64]) {
    let mut x = trial.random(from, dims);
    if to == Dtype::Uint8 {
        x = map(&x, f64::abs);
    }
    let expected = Host::of(to, dims, x.values.clone());
    trial.operator(Kernel::Cast(to), &[&x], &expected, Tolerance::EXACT);
}

/// Enough elements for several threads, or thread blocks.
fn large(trial: &mut Trial) {
    for dtype in [Dtype::Fp32, Dtype::Bf16, Dtype::Int32] {
        let (left, right) = (trial.random(dtype, &[257, 1_031]), trial.random(dtype, &[257, 1]));
        let expected = zip(dtype, &left, &right, |left, right| left + right);
        let kernel = Kernel::Binary(Binary::Add);
        trial.operator(kernel, &[&left, &right], &expected, Tolerance::of(dtype));
    }
}

/// NaN, infinities, and what is cut, saturated and wrapped.
fn special(trial: &mut Trial) {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        let float = |values: &[f64]| Host::of(dtype, &[values.len() as u64], values.to_vec());
        let x = float(&[nan, inf, -inf, 0.0, -1.0]);
        for function in [
            Unary::Exp,
            Unary::Log,
            Unary::Sqrt,
            Unary::Tanh,
            Unary::Erf,
            Unary::Relu,
            Unary::Sigmoid,
            Unary::Sign,
        ] {
            let expected = map(&x, reference(function));
            trial.operator(Kernel::Unary(function), &[&x], &expected, Tolerance::of(dtype));
        }
        let (left, right) = (float(&[nan, 1.0, nan]), float(&[1.0, nan, nan]));
        for function in [Binary::Min, Binary::Max, Binary::Add] {
            let kernel = Kernel::Binary(function);
            trial.operator(kernel, &[&left, &right], &float(&[nan; 3]), Tolerance::EXACT);
        }
        let ne = Host::of(Dtype::Bool, &[3], vec![1.0; 3]);
        let kernel = Kernel::Compare(Comparison::Ne);
        trial.operator(kernel, &[&left, &right], &ne, Tolerance::EXACT);
        let bounds = Clamp { min: Some(Scalar::Float(-1.0)), max: Some(Scalar::Float(1.0)) };
        let clamped = float(&[nan, 1.0, -1.0, 0.0, -1.0]);
        trial.operator(Kernel::Clamp(bounds), &[&x], &clamped, Tolerance::EXACT);
        let cut = Host::of(Dtype::Int32, &[3], vec![0.0, i32::MAX.into(), i32::MIN.into()]);
        let kernel = Kernel::Cast(Dtype::Int32);
        trial.operator(kernel, &[&float(&[nan, inf, -inf])], &cut, Tolerance::EXACT);
        let truths = Host::of(Dtype::Bool, &[5], vec![1.0, 1.0, 1.0, 0.0, 1.0]);
        trial.operator(Kernel::Cast(Dtype::Bool), &[&x], &truths, Tolerance::EXACT);
    }
    let int = |values: &[f64]| Host::of(Dtype::Int32, &[values.len() as u64], values.to_vec());
    let (min, max) = (f64::from(i32::MIN), f64::from(i32::MAX));
    let table = [
        (Binary::Add, max, 1.0, min),
        (Binary::Sub, min, 1.0, max),
        (Binary::Mul, max, 2.0, -2.0),
        (Binary::Div, min, -1.0, min),
        (Binary::Div, 7.0, 0.0, 0.0),
        (Binary::Div, -7.0, 2.0, -3.0),
    ];
    for (function, left, right, expected) in table {
        let (left, right, expected) = (int(&[left]), int(&[right]), int(&[expected]));
        trial.operator(Kernel::Binary(function), &[&left, &right], &expected, Tolerance::EXACT);
    }
    let wrapped = Host::of(Dtype::Uint8, &[2], vec![255.0, 44.0]);
    trial.operator(Kernel::Cast(Dtype::Uint8), &[&int(&[-1.0, 300.0])], &wrapped, Tolerance::EXACT);
    trial.operator(Kernel::Unary(Unary::Abs), &[&int(&[min])], &int(&[min]), Tolerance::EXACT);
    let halves = Host::of(Dtype::Fp32, &[4], vec![0.5, 1.5, -0.5, 2.5]);
    let even = Host::of(Dtype::Fp32, &[4], vec![0.0, 2.0, -0.0, 2.0]);
    trial.operator(Kernel::Unary(Unary::Round), &[&halves], &even, Tolerance::EXACT);
}
