//! Signatures: what goes into a function or model and what comes out, checked before it runs.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DataType, Tensor};

/// Inputs and outputs of a model or an inference function, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Signature {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

/// One tensor of a signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Its name, unique on its side.
    pub name: Arc<str>,
    /// Its element type.
    pub dtype: DataType,
    /// Its dimensions; -1 for one that may differ from call to call.
    pub shape: Vec<i64>,
    /// The values that its elements may have; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
}

/// An inclusive range of values, written `[min, max]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "(f64, f64)", into = "(f64, f64)")]
pub struct Range {
    min: f64,
    max: f64,
}

/// Which side of a signature is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What a caller gives.
    Input,
    /// What it gets.
    Output,
}

/// Why a set of tensors does not satisfy a signature: the tensor, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{side} {name:?} {violation}")]
pub struct Mismatch {
    /// The side that was checked.
    pub side: Side,
    /// The tensor's name.
    pub name: Arc<str>,
    /// What is wrong with it.
    pub violation: Violation,
}

/// What can be wrong with a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Violation {
    /// The signature names it, the call does not.
    #[error("is missing")]
    Missing,
    /// The call names it, the signature does not.
    #[error("is not in the signature, which has {known}")]
    Unknown {
        /// The names that exist.
        known: String,
    },
    /// It was given twice.
    #[error("is given more than once")]
    Duplicate,
    /// Another element type.
    #[error("has datatype {actual}, expected {expected}")]
    DataType {
        /// As in the signature.
        expected: DataType,
        /// As given.
        actual: DataType,
    },
    /// Another shape.
    #[error("has shape {actual:?}, expected {expected:?}")]
    Shape {
        /// As in the signature.
        expected: Vec<i64>,
        /// As given.
        actual: Vec<u64>,
    },
    /// A value outside the range.
    #[error("has value {value} at element {index}, outside the range {range}")]
    Value {
        /// Row-major index of the element.
        index: usize,
        /// The value.
        value: f64,
        /// The range of the signature.
        range: Range,
    },
}

impl Signature {
    /// A signature, unless a name stands twice on one side, a dimension is below -1, or a range is
    /// given for a type without an order.
    pub fn new(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Result<Self, String> {
        for (side, specs) in [(Side::Input, &inputs), (Side::Output, &outputs)] {
            for (position, spec) in specs.iter().enumerate() {
                let name = &spec.name;
                if name.is_empty() {
                    return Err(format!("{side} {position} has an empty name"));
                }
                if specs[..position].iter().any(|earlier| earlier.name == *name) {
                    return Err(format!("{side} {name:?} is declared more than once"));
                }
                if let Some(dim) = spec.shape.iter().find(|dim| **dim < -1) {
                    return Err(format!(
                        "{side} {name:?} has dimension {dim}: use -1 for a dynamic one"
                    ));
                }
                if spec.range.is_some() && matches!(spec.dtype, DataType::Bool | DataType::Bytes) {
                    return Err(format!("{side} {name:?}: {} can't have a range", spec.dtype));
                }
            }
        }
        Ok(Self { inputs, outputs })
    }

    /// What a caller gives, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What it gets, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Checks `tensors` against the inputs and puts them into the signature's order.
    pub fn check_inputs(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Mismatch> {
        check(Side::Input, &self.inputs, tensors)
    }

    /// Checks `tensors` against the outputs and puts them into the signature's order.
    pub fn check_outputs(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Mismatch> {
        check(Side::Output, &self.outputs, tensors)
    }
}

fn check(side: Side, specs: &[TensorSpec], tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Mismatch> {
    let mut slots: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
    for tensor in tensors {
        let name = tensor.name().clone();
        let wrong = |violation| Mismatch { side, name: name.clone(), violation };
        let Some(position) = specs.iter().position(|spec| spec.name == name) else {
            let known = specs.iter().map(|spec| format!("{:?}", spec.name)).collect::<Vec<_>>();
            return Err(wrong(Violation::Unknown { known: known.join(", ") }));
        };
        if slots[position].is_some() {
            return Err(wrong(Violation::Duplicate));
        }
        specs[position].check(&tensor).map_err(wrong)?;
        slots[position] = Some(tensor.renamed(specs[position].name.clone()));
    }
    let missing = |spec: &TensorSpec| Mismatch {
        side,
        name: spec.name.clone(),
        violation: Violation::Missing,
    };
    specs.iter().zip(slots).map(|(spec, slot)| slot.ok_or_else(|| missing(spec))).collect()
}

impl TensorSpec {
    /// Checks element type, shape and values.
    pub fn check(&self, tensor: &Tensor) -> Result<(), Violation> {
        if tensor.dtype() != self.dtype {
            return Err(Violation::DataType { expected: self.dtype, actual: tensor.dtype() });
        }
        if !self.accepts_shape(tensor.shape()) {
            let actual = tensor.shape().to_vec();
            return Err(Violation::Shape { expected: self.shape.clone(), actual });
        }
        match self.range.and_then(|range| Some((range, range.first_outside(tensor)?))) {
            Some((range, (index, value))) => Err(Violation::Value { index, value, range }),
            None => Ok(()),
        }
    }

    fn accepts_shape(&self, shape: &[u64]) -> bool {
        let fits = |(expected, actual): (&i64, &u64)| {
            *expected == -1 || u64::try_from(*expected).is_ok_and(|dim| dim == *actual)
        };
        shape.len() == self.shape.len() && self.shape.iter().zip(shape).all(fits)
    }
}

impl Range {
    /// The first element outside the range, and its index; NaN is outside of every range.
    fn first_outside(self, tensor: &Tensor) -> Option<(usize, f64)> {
        macro_rules! scan {
            ($type:ty, $convert:expr) => {
                tensor
                    .to_elements::<$type>()
                    .iter()
                    .map($convert)
                    .enumerate()
                    .find(|(_, value): &(usize, f64)| !(self.min..=self.max).contains(value))
            };
        }
        match tensor.dtype() {
            DataType::Uint8 => scan!(u8, |x| f64::from(*x)),
            DataType::Uint16 => scan!(u16, |x| f64::from(*x)),
            DataType::Uint32 => scan!(u32, |x| f64::from(*x)),
            DataType::Uint64 => scan!(u64, |x| *x as f64),
            DataType::Int8 => scan!(i8, |x| f64::from(*x)),
            DataType::Int16 => scan!(i16, |x| f64::from(*x)),
            DataType::Int32 => scan!(i32, |x| f64::from(*x)),
            DataType::Int64 => scan!(i64, |x| *x as f64),
            DataType::Fp16 => scan!(half::f16, |x| x.to_f64()),
            DataType::Bf16 => scan!(half::bf16, |x| x.to_f64()),
            DataType::Fp32 => scan!(f32, |x| f64::from(*x)),
            DataType::Fp64 => scan!(f64, |x| *x),
            DataType::Bool | DataType::Bytes => None,
        }
    }
}

impl TryFrom<(f64, f64)> for Range {
    type Error = String;

    fn try_from((min, max): (f64, f64)) -> Result<Self, String> {
        if min <= max {
            Ok(Self { min, max })
        } else {
            Err(format!("range [{min}, {max}] is empty: write [min, max] with min <= max"))
        }
    }
}

impl From<Range> for (f64, f64) {
    fn from(range: Range) -> Self {
        (range.min, range.max)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.min, self.max)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DataType, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec(), range: None }
    }

    fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
        Tensor::from_elements(name, DataType::Fp32, shape.to_vec(), values.to_vec())
            .expect("valid tensor")
    }

    #[test]
    fn inputs_come_back_in_the_signatures_order() {
        let signature = Signature::new(
            vec![spec("a", DataType::Fp32, &[-1, 2]), spec("b", DataType::Fp32, &[1])],
            vec![],
        )
        .expect("valid");
        let (a, b) = (floats("a", &[1, 2], &[1., 2.]), floats("b", &[1], &[3.]));
        assert_eq!(signature.check_inputs(vec![b.clone(), a.clone()]), Ok(vec![a, b]));
    }

    #[test]
    fn each_violation_names_the_tensor() {
        let mut ranged = spec("a", DataType::Fp32, &[-1, 2]);
        ranged.range = Some((0., 16.).try_into().expect("a range"));
        let signature = Signature::new(vec![ranged], vec![]).expect("valid");
        let good = floats("a", &[1, 2], &[0., 16.]);
        let ints = Tensor::new("a", DataType::Int32, vec![1, 2], vec![0; 8]).expect("valid");
        let cases = [
            (vec![], "input \"a\" is missing"),
            (vec![good.clone(), good.clone()], "input \"a\" is given more than once"),
            (
                vec![floats("b", &[1], &[0.])],
                "input \"b\" is not in the signature, which has \"a\"",
            ),
            (vec![ints], "input \"a\" has datatype INT32, expected FP32"),
            (vec![floats("a", &[2], &[0., 0.])], "input \"a\" has shape [2], expected [-1, 2]"),
            (
                vec![floats("a", &[1, 2], &[0., 16.5])],
                "input \"a\" has value 16.5 at element 1, outside the range [0, 16]",
            ),
            (
                vec![floats("a", &[1, 2], &[f32::NAN, 0.])],
                "input \"a\" has value NaN at element 0, outside the range [0, 16]",
            ),
        ];
        for (tensors, message) in cases {
            let mismatch = signature.check_inputs(tensors).expect_err(message);
            assert_eq!(mismatch.to_string(), message);
        }
    }

    #[test]
    fn bad_signatures_can_not_be_built() {
        let twice = vec![spec("a", DataType::Fp32, &[1]), spec("a", DataType::Fp32, &[1])];
        assert!(Signature::new(twice, vec![]).is_err());
        assert!(Signature::new(vec![spec("a", DataType::Fp32, &[-2])], vec![]).is_err());
        assert!(Signature::new(vec![], vec![spec("", DataType::Fp32, &[1])]).is_err());
        assert!(Range::try_from((1., 0.)).is_err());
        assert!(Range::try_from((f64::NAN, 0.)).is_err());
    }
}
