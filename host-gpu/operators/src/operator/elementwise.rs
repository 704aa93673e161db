//! Operators that look at one element of each input: what they take and give.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, Dtype, OperatorError, Shape};

/// A function of one element. Integers wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unary {
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// -1, 0 or 1; NaN stays.
    Sign,
    /// `x²`
    Square,
    /// `max(x, 0)`; NaN stays.
    Relu,
    /// `eˣ`
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / √x`
    Rsqrt,
    /// `1 / x`
    Reciprocal,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid,
    /// `x × sigmoid(x)`
    Silu,
    /// `x × Φ(x)`, by the error function.
    Gelu,
    /// The same by a hyperbolic tangent, as in GPT-2.
    GeluTanh,
    /// Down to a whole number.
    Floor,
    /// Up to a whole number.
    Ceil,
    /// To the nearest whole number, halves to the even one.
    Round,
    /// The other truth.
    Not,
}

impl Unary {
    /// Every function.
    pub const ALL: [Self; 22] = [
        Self::Neg,
        Self::Abs,
        Self::Sign,
        Self::Square,
        Self::Relu,
        Self::Exp,
        Self::Log,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Reciprocal,
        Self::Sin,
        Self::Cos,
        Self::Tanh,
        Self::Erf,
        Self::Sigmoid,
        Self::Silu,
        Self::Gelu,
        Self::GeluTanh,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Not,
    ];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neg => "neg",
            Self::Abs => "abs",
            Self::Sign => "sign",
            Self::Square => "square",
            Self::Relu => "relu",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Reciprocal => "reciprocal",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Tanh => "tanh",
            Self::Erf => "erf",
            Self::Sigmoid => "sigmoid",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu-tanh",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Round => "round",
            Self::Not => "not",
        }
    }

    /// The element types that it takes.
    pub fn accepts(self) -> Accepts {
        match self {
            Self::Neg | Self::Abs | Self::Sign | Self::Square | Self::Relu => Accepts::Numbers,
            Self::Not => Accepts::Bool,
            _ => Accepts::Floats,
        }
    }

    pub(super) fn plan(self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        check.accepts(x.dtype, self.accepts())?;
        check.elementwise(x.dtype)
    }
}

/// A function of two elements of one type. Integers wrap; of two floats of which one is NaN, the
/// result is NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binary {
    /// `left + right`
    Add,
    /// `left - right`
    Sub,
    /// `left × right`
    Mul,
    /// `left / right`; integers towards zero, and by 0 it is 0.
    Div,
    /// `left` to the power of `right`, as IEEE 754 has it (so that `pow(1, NaN)` is 1).
    Pow,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
}

impl Binary {
    /// Every function.
    pub const ALL: [Self; 7] =
        [Self::Add, Self::Sub, Self::Mul, Self::Div, Self::Pow, Self::Min, Self::Max];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Pow => "pow",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// The element types that it takes.
    pub fn accepts(self) -> Accepts {
        if self == Self::Pow { Accepts::Floats } else { Accepts::Numbers }
    }

    pub(super) fn plan(self, check: &Check) -> Result<Plan, OperatorError> {
        let [left, right] = check.inputs()?;
        check.accepts(left.dtype, self.accepts())?;
        check.same(left.dtype, right.dtype)?;
        check.elementwise(left.dtype)
    }
}

/// How two elements of one type compare; false is less than true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `left = right`
    Eq,
    /// `left ≠ right`
    Ne,
    /// `left < right`
    Lt,
    /// `left ≤ right`
    Le,
    /// `left > right`
    Gt,
    /// `left ≥ right`
    Ge,
}

impl Comparison {
    /// Every comparison.
    pub const ALL: [Self; 6] = [Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
        }
    }
}

/// A function of two truths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Logical {
    /// Both.
    And,
    /// At least one.
    Or,
    /// Exactly one.
    Xor,
}

impl Logical {
    /// Every function.
    pub const ALL: [Self; 3] = [Self::And, Self::Or, Self::Xor];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Xor => "xor",
        }
    }
}

/// A value for elements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// For BOOL.
    Bool(bool),
    /// For integers whose range it is in.
    Int(i64),
    /// For floats, rounded to their precision.
    Float(f64),
}

impl Scalar {
    fn fits(self, dtype: Dtype) -> bool {
        match self {
            Self::Bool(_) => dtype == Dtype::Bool,
            Self::Int(value) => match dtype {
                Dtype::Uint8 => u8::try_from(value).is_ok(),
                Dtype::Int32 => i32::try_from(value).is_ok(),
                _ => dtype == Dtype::Int64,
            },
            Self::Float(_) => dtype.is_float(),
        }
    }

    fn check(self, dtype: Dtype, check: &Check) -> Result<(), OperatorError> {
        if self.fits(dtype) {
            return Ok(());
        }
        Err(check.attribute(format!("{self:?} is no value of {dtype}")))
    }
}

/// A tensor of one value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Shape,
    /// What each of them is.
    pub value: Scalar,
}

impl Fill {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [] = check.inputs()?;
        self.value.check(self.dtype, check)?;
        Ok(check.plan(Description::new(self.dtype, self.shape), self.shape.elements()))
    }
}

/// Bounds of elements; NaN passes them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Clamp {
    /// None is smaller, if there is one.
    pub min: Option<Scalar>,
    /// None is larger, if there is one.
    pub max: Option<Scalar>,
}

impl Clamp {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        check.accepts(x.dtype, Accepts::Numbers)?;
        for bound in [self.min, self.max].into_iter().flatten() {
            bound.check(x.dtype, check)?;
        }
        let ordered = match (self.min, self.max) {
            (Some(Scalar::Int(min)), Some(Scalar::Int(max))) => min <= max,
            (Some(Scalar::Float(min)), Some(Scalar::Float(max))) => min <= max,
            (Some(Scalar::Float(bound)), None) | (None, Some(Scalar::Float(bound))) => {
                !bound.is_nan()
            }
            _ => true,
        };
        if !ordered {
            return Err(check.attribute("min is not at most max".to_owned()));
        }
        check.elementwise(x.dtype)
    }
}

pub(super) fn copy(check: &Check) -> Result<Plan, OperatorError> {
    let [x] = check.inputs()?;
    check.elementwise(x.dtype)
}

pub(super) fn cast(to: Dtype, check: &Check) -> Result<Plan, OperatorError> {
    let [_] = check.inputs()?;
    check.elementwise(to)
}

pub(super) fn compare(check: &Check) -> Result<Plan, OperatorError> {
    let [left, right] = check.inputs()?;
    check.same(left.dtype, right.dtype)?;
    check.elementwise(Dtype::Bool)
}

pub(super) fn logical(check: &Check) -> Result<Plan, OperatorError> {
    let [left, right] = check.inputs()?;
    check.accepts(left.dtype, Accepts::Bool)?;
    check.accepts(right.dtype, Accepts::Bool)?;
    check.elementwise(Dtype::Bool)
}

pub(super) fn choose(check: &Check) -> Result<Plan, OperatorError> {
    let [condition, left, right] = check.inputs()?;
    check.accepts(condition.dtype, Accepts::Bool)?;
    check.same(left.dtype, right.dtype)?;
    check.elementwise(left.dtype)
}
