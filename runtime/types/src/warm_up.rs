//! What a model computes between being loaded and being called, as its manifest says. Runs nothing
//! itself.

use std::sync::Arc;

use half::{bf16, f16};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DataType, Signature, Tensor, TensorSpec};

/// Most runs of a warm-up: it holds up a deployment, and the first call after a restart.
const MAX_RUNS: u32 = 1_000;

/// Runs before the first call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// How many, on each lane.
    #[serde(default = "one")]
    pub runs: u32,
    /// What goes into each of them; empty: inputs are made up from the signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<SampleInput>,
}

/// One input of a warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleInput {
    /// Its name.
    pub name: Arc<str>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its elements in row-major order, without any nesting.
    pub data: Vec<SampleValue>,
}

/// One element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SampleValue {
    /// For BOOL.
    Bool(bool),
    /// For numbers of any type.
    Integer(i64),
    /// For floating-point numbers.
    Float(f64),
    /// For BYTES.
    Text(String),
}

fn one() -> u32 {
    1
}

impl WarmUp {
    /// Checks what can be checked without a model.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_RUNS).contains(&self.runs) {
            return Err(format!("warm_up.runs is {}: write 1 to {MAX_RUNS}", self.runs));
        }
        // They are kept as JSON, which has no word for them.
        let endless =
            |value: &SampleValue| matches!(value, SampleValue::Float(x) if !x.is_finite());
        match self.inputs.iter().find(|input| input.data.iter().any(endless)) {
            Some(input) => Err(format!("warm_up: input {:?} is not finite", input.name)),
            None => Ok(()),
        }
    }

    /// The inputs that are given, checked against the signature and in its order; none where they
    /// are to be made up.
    pub fn tensors(&self, signature: &Signature) -> Result<Option<Vec<Tensor>>, String> {
        if self.inputs.is_empty() {
            return Ok(None);
        }
        let given = self.inputs.iter().map(|input| {
            let of_name = |spec: &&TensorSpec| spec.name == input.name;
            // Inputs that don't exist are named by the signature below.
            let dtype = signature.inputs().iter().find(of_name).map(|spec| spec.dtype);
            input.tensor(dtype.unwrap_or(DataType::Fp64))
        });
        let given = given.collect::<Result<Vec<_>, String>>()?;
        let checked = signature.check_inputs(given);
        checked.map(Some).map_err(|mismatch| format!("warm_up: {mismatch}"))
    }
}

impl SampleInput {
    fn tensor(&self, dtype: DataType) -> Result<Tensor, String> {
        let name = &self.name;
        let mut data = Vec::with_capacity(self.data.len() * dtype.size().unwrap_or(0));
        for (index, value) in self.data.iter().enumerate() {
            if !value.write(dtype, &mut data) {
                return Err(format!(
                    "warm_up: input {name:?} has {value:?} at element {index}, which is no {dtype}"
                ));
            }
        }
        let tensor = Tensor::new(name.clone(), dtype, self.shape.clone(), data);
        tensor.map_err(|error| format!("warm_up: {error}"))
    }
}

impl SampleValue {
    /// Appends the value as an element of a type; says whether it is one.
    fn write(&self, dtype: DataType, data: &mut Vec<u8>) -> bool {
        macro_rules! integer {
            ($type:ty, $value:expr) => {
                <$type>::try_from(*$value).map(|value| data.extend(value.to_le_bytes())).is_ok()
            };
        }
        match (dtype, self) {
            (DataType::Bool, Self::Bool(value)) => data.push((*value).into()),
            (DataType::Uint8, Self::Integer(value)) => return integer!(u8, value),
            (DataType::Uint16, Self::Integer(value)) => return integer!(u16, value),
            (DataType::Uint32, Self::Integer(value)) => return integer!(u32, value),
            (DataType::Uint64, Self::Integer(value)) => return integer!(u64, value),
            (DataType::Int8, Self::Integer(value)) => return integer!(i8, value),
            (DataType::Int16, Self::Integer(value)) => return integer!(i16, value),
            (DataType::Int32, Self::Integer(value)) => return integer!(i32, value),
            (DataType::Int64, Self::Integer(value)) => data.extend(value.to_le_bytes()),
            (_, Self::Integer(value)) => return Self::Float(*value as f64).write(dtype, data),
            (DataType::Fp16, Self::Float(value)) => {
                data.extend(f16::from_f64(*value).to_le_bytes());
            }
            (DataType::Bf16, Self::Float(value)) => {
                data.extend(bf16::from_f64(*value).to_le_bytes());
            }
            (DataType::Fp32, Self::Float(value)) => data.extend((*value as f32).to_le_bytes()),
            (DataType::Fp64, Self::Float(value)) => data.extend(value.to_le_bytes()),
            (DataType::Bytes, Self::Text(text)) => {
                let Ok(length) = u32::try_from(text.len()) else { return false };
                data.extend(length.to_le_bytes());
                data.extend(text.as_bytes());
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(dtype: DataType) -> Signature {
        let spec = TensorSpec { name: "x".into(), dtype, shape: vec![-1, 2], range: None };
        Signature::new(vec![spec], vec![]).expect("valid")
    }

    fn warm_up(text: &str) -> WarmUp {
        toml::from_str(text).expect(text)
    }

    fn tensors(text: &str, dtype: DataType) -> Result<Option<Vec<Tensor>>, String> {
        warm_up(text).tensors(&signature(dtype))
    }

    #[test]
    fn samples_become_elements_of_the_inputs_type() {
        let sample = |data: &str| format!("[[inputs]]\nname = 'x'\nshape = [1, 2]\ndata = {data}");
        let cases = [
            (DataType::Fp32, "[1, -0.5]", [1f32.to_le_bytes(), (-0.5f32).to_le_bytes()].concat()),
            (DataType::Fp16, "[1.0, 2]", vec![0, 0x3c, 0, 0x40]),
            (DataType::Bf16, "[1.0, 2]", vec![0x80, 0x3f, 0, 0x40]),
            (DataType::Fp64, "[0, 2]", [0f64.to_le_bytes(), 2f64.to_le_bytes()].concat()),
            (DataType::Bool, "[true, false]", vec![1, 0]),
            (DataType::Uint8, "[0, 255]", vec![0, 255]),
            (DataType::Int16, "[-1, 2]", vec![255, 255, 2, 0]),
            (DataType::Int64, "[-1, 0]", [[255; 8], [0; 8]].concat()),
            (DataType::Bytes, "['a', '']", vec![1, 0, 0, 0, b'a', 0, 0, 0, 0]),
        ];
        for (dtype, data, expected) in cases {
            let tensors = tensors(&sample(data), dtype).expect(data).expect("given");
            assert_eq!((tensors[0].dtype(), &tensors[0].data()[..]), (dtype, &expected[..]));
        }
        assert_eq!(tensors("", DataType::Fp32), Ok(None));
        assert_eq!(warm_up("").runs, 1, "one run unless it says otherwise");
    }

    #[test]
    fn samples_that_do_not_fit_are_named() {
        let sample = |name: &str, shape: &str, data: &str| {
            format!("[[inputs]]\nname = '{name}'\nshape = {shape}\ndata = {data}")
        };
        let cases = [
            (sample("x", "[1, 2]", "[0, 256]"), DataType::Uint8, "Integer(256) at element 1"),
            (sample("x", "[1, 2]", "[0, 0.5]"), DataType::Int64, "is no INT64"),
            (sample("x", "[1, 2]", "[0, 1]"), DataType::Bool, "is no BOOL"),
            (sample("x", "[1, 2]", "['a', 1]"), DataType::Bytes, "Integer(1) at element 1"),
            (sample("x", "[1, 2]", "['a', 'b']"), DataType::Fp32, "is no FP32"),
            (sample("x", "[1, 2]", "[1]"), DataType::Fp32, "needs 8 bytes, got 4"),
            (sample("x", "[1, 3]", "[1, 2, 3]"), DataType::Fp32, "expected [-1, 2]"),
            (sample("y", "[1]", "[1]"), DataType::Fp32, "input \"y\" is not in the signature"),
        ];
        for (text, dtype, expected) in cases {
            let error = tensors(&text, dtype).expect_err(expected);
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
