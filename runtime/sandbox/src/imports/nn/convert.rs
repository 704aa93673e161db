//! The way between tensors and errors of `wasi:nn` and ours. Never calls anything.

use quern_types::{DataType, ModelError, Signature, Tensor};

use super::{
    Failure, HeldTensor,
    generated::wasi::nn::{errors::ErrorCode, tensor::TensorType},
};

/// A guest's tensor as an input of this name, checked: its data must be as long as its dimensions
/// say. A tensor of one element stands for a number, for which the standard has no dimensions.
pub(super) fn to_host(
    name: String,
    tensor: HeldTensor,
    signature: &Signature,
) -> Result<Tensor, Failure> {
    let input = signature.inputs().iter().find(|input| *input.name == *name);
    let is_number = input.is_some_and(|input| input.shape.is_empty());
    let shape = match &tensor.dimensions[..] {
        [1] if is_number => Vec::new(),
        dimensions => dimensions.iter().map(|length| u64::from(*length)).collect(),
    };
    Tensor::new(name, dtype_of(tensor.kind), shape, tensor.data)
        .map_err(|error| Failure::new(ErrorCode::InvalidArgument, error.to_string()))
}

/// An output for a guest.
pub(super) fn from_host(tensor: &Tensor) -> Result<(String, HeldTensor), Failure> {
    let name = tensor.name();
    let Some(kind) = kind_of(tensor.dtype()) else {
        return Err(Failure::new(
            ErrorCode::InvalidEncoding,
            format!(
                "output {name:?} is of type {}, which wasi:nn does not have: call the model \
                 through quern:ml/models",
                tensor.dtype()
            ),
        ));
    };
    let dimensions = match tensor.shape() {
        [] => vec![1],
        shape => {
            let lengths = shape.iter().map(|length| u32::try_from(*length));
            lengths.collect::<Result<_, _>>().map_err(|_| {
                let text = format!("output {name:?} has a dimension of more than 32 bits");
                Failure::new(ErrorCode::TooLarge, text)
            })?
        }
    };
    Ok((name.to_string(), HeldTensor { dimensions, kind, data: tensor.data().clone() }))
}

/// The standard's code of a failed call.
pub(super) fn code_of(error: &ModelError) -> ErrorCode {
    match error {
        ModelError::NotFound { .. }
        | ModelError::NotShared { .. }
        | ModelError::VersionNotFound { .. }
        | ModelError::Unloaded { .. } => ErrorCode::NotFound,
        ModelError::Signature { .. } | ModelError::Rows { .. } => ErrorCode::InvalidArgument,
        ModelError::DeadlineExceeded { .. } => ErrorCode::Timeout,
        ModelError::QueueFull { .. }
        | ModelError::QueueMemory { .. }
        | ModelError::TooLate { .. }
        | ModelError::Device { .. }
        | ModelError::Unavailable { .. } => ErrorCode::RuntimeError,
    }
}

fn dtype_of(kind: TensorType) -> DataType {
    match kind {
        TensorType::Fp16 => DataType::Fp16,
        TensorType::Fp32 => DataType::Fp32,
        TensorType::Fp64 => DataType::Fp64,
        TensorType::Bf16 => DataType::Bf16,
        TensorType::U8 => DataType::Uint8,
        TensorType::I32 => DataType::Int32,
        TensorType::I64 => DataType::Int64,
    }
}

/// The standard's name of an element type; none for those that it does not have.
fn kind_of(dtype: DataType) -> Option<TensorType> {
    Some(match dtype {
        DataType::Fp16 => TensorType::Fp16,
        DataType::Fp32 => TensorType::Fp32,
        DataType::Fp64 => TensorType::Fp64,
        DataType::Bf16 => TensorType::Bf16,
        DataType::Uint8 => TensorType::U8,
        DataType::Int32 => TensorType::I32,
        DataType::Int64 => TensorType::I64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quern_types::{ByteSize, DeviceError, Engine, Name, TensorSpec, VersionNumber};

    use super::*;

    fn signature(shape: &[i64]) -> Signature {
        let (name, dtype) = ("x".into(), DataType::Int32);
        let input = TensorSpec { name, dtype, shape: shape.to_vec(), range: None };
        Signature::new(vec![input], vec![]).expect("valid")
    }

    fn held(dimensions: &[u32], kind: TensorType, length: usize) -> HeldTensor {
        HeldTensor { dimensions: dimensions.to_vec(), kind, data: vec![1; length].into() }
    }

    #[test]
    fn every_type_of_the_standard_comes_back() {
        for dtype in DataType::ALL {
            let size = dtype.size().unwrap_or(0);
            let data = if dtype == DataType::Bytes { vec![0; 4] } else { vec![1; size] };
            let tensor = Tensor::new("y", dtype, vec![1], data).expect("one element");
            match from_host(&tensor) {
                Ok((name, held)) => {
                    let back =
                        to_host(name, held, &signature(&[1])).map_err(|failure| failure.text);
                    assert_eq!(back, Ok(tensor));
                }
                Err(failure) => {
                    assert_eq!(failure.code, ErrorCode::InvalidEncoding);
                    assert!(failure.text.contains(dtype.as_str()), "{}", failure.text);
                    assert!(kind_of(dtype).is_none());
                }
            }
        }
    }

    #[test]
    fn data_and_dimensions_must_agree() {
        let cases = [(&[2, 2][..], 15), (&[2, 2], 17), (&[], 0), (&[u32::MAX; 4], 4)];
        for (dimensions, length) in cases {
            let tensor = held(dimensions, TensorType::I32, length);
            let failure = to_host("x".into(), tensor, &signature(&[-1, 2])).expect_err("refused");
            assert_eq!(failure.code, ErrorCode::InvalidArgument, "{}", failure.text);
        }
    }

    #[test]
    fn one_element_stands_for_a_number() {
        let shape = |declared: &[i64]| {
            let tensor = held(&[1], TensorType::I32, 4);
            to_host("x".into(), tensor, &signature(declared)).expect("valid").shape().to_vec()
        };
        assert_eq!((shape(&[]), shape(&[-1])), (vec![], vec![1]));
        let number = Tensor::new("y", DataType::Fp64, vec![], vec![0; 8]).expect("a number");
        assert_eq!(from_host(&number).expect("has a type").1.dimensions, [1]);
        let endless = Tensor::new("y", DataType::Uint8, vec![0, 1 << 40], vec![]).expect("empty");
        assert_eq!(
            from_host(&endless).err().map(|failure| failure.code),
            Some(ErrorCode::TooLarge)
        );
    }

    #[test]
    fn failed_calls_have_the_codes_of_the_standard() {
        let name: Name = "m".parse().expect("a name");
        let reason = String::new();
        let mismatch = signature(&[1]).check_inputs(vec![]).expect_err("one is missing");
        let cases = [
            (ModelError::NotFound { name: name.clone() }, ErrorCode::NotFound),
            (ModelError::NotShared { name: name.clone().into() }, ErrorCode::NotFound),
            (
                ModelError::VersionNotFound { name: name.clone(), version: VersionNumber::FIRST },
                ErrorCode::NotFound,
            ),
            (ModelError::Unloaded { name: name.clone() }, ErrorCode::NotFound),
            (ModelError::Signature { name: name.clone(), mismatch }, ErrorCode::InvalidArgument),
            (
                ModelError::Rows { name: name.clone(), reason: reason.clone() },
                ErrorCode::InvalidArgument,
            ),
            (ModelError::QueueFull { name: name.clone(), waiting: 1 }, ErrorCode::RuntimeError),
            (
                ModelError::QueueMemory { name: name.clone(), limit: ByteSize(1) },
                ErrorCode::RuntimeError,
            ),
            (
                ModelError::TooLate {
                    name: name.clone(),
                    allowed: Duration::ZERO,
                    needed: Duration::ZERO,
                },
                ErrorCode::RuntimeError,
            ),
            (
                ModelError::DeadlineExceeded { name: name.clone(), allowed: Duration::ZERO },
                ErrorCode::Timeout,
            ),
            (
                ModelError::Device {
                    name: name.clone(),
                    error: DeviceError::Load { engine: Engine::Tract, reason: reason.clone() },
                },
                ErrorCode::RuntimeError,
            ),
            (ModelError::Unavailable { name, reason }, ErrorCode::RuntimeError),
        ];
        for (error, code) in cases {
            assert_eq!(code_of(&error), code, "{error}");
        }
    }
}
