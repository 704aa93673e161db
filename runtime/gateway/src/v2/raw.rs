//! A body without JSON: the binary data of a model's only input. Its shape follows from the
//! signature and the size of the body, or the body is refused.

use bytes::Bytes;
use quern_types::{
    ByteSize, DataType, Priority, Signature, Tensor, TensorError, TensorSpec, element_count,
};

use super::decode::InferenceRequest;
use crate::{
    body::ReadError,
    collect::{BodyRoom, Collected},
};

/// Why a body alone is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RawError {
    /// The body could be the data of several inputs, or of none.
    #[error("a body without JSON needs one input, but there are {inputs}: name them in JSON")]
    Inputs {
        /// How many there are.
        inputs: usize,
    },
    /// The shape does not follow from the size.
    #[error(
        "the shape of input {name:?}, {shape:?} in the signature, does not follow from the size of \
         a body: send it with JSON"
    )]
    Shape {
        /// The input.
        name: String,
        /// Its shape in the signature.
        shape: Vec<i64>,
    },
    /// The size fits no shape.
    #[error("a body of {bytes} bytes makes no input {name:?} of {dtype} and shape {shape:?}")]
    Size {
        /// The input.
        name: String,
        /// Its type.
        dtype: DataType,
        /// Its shape in the signature.
        shape: Vec<i64>,
        /// What the body has.
        bytes: usize,
    },
    /// The data are not what the type wants.
    #[error("the body as {0}")]
    Data(#[from] TensorError),
    /// There is no room for what becomes of the body.
    #[error("the body as a string: {0}")]
    Read(#[from] ReadError),
}

/// The request that a body means on its own; its outputs come as binary data. What becomes of the
/// body has its room until it is dropped, as the body has.
pub(crate) fn request(
    signature: &Signature,
    body: Collected,
    room: &BodyRoom,
) -> Result<InferenceRequest, RawError> {
    let [input] = signature.inputs() else {
        return Err(RawError::Inputs { inputs: signature.inputs().len() });
    };
    let tensor = match input.dtype.size() {
        Some(size) => plain(input, size, body.into_bytes())?,
        None => string(input, &body, room)?,
    };
    Ok(InferenceRequest {
        id: None,
        inputs: vec![tensor],
        shared: Vec::new(),
        outputs: Vec::new(),
        binary_outputs: true,
        timeout: None,
        priority: Priority::default(),
    })
}

/// A tensor at most one dimension of which is left open.
fn plain(input: &TensorSpec, size: usize, body: Bytes) -> Result<Tensor, RawError> {
    let fixed = |dim: &&i64| **dim >= 0;
    if input.shape.iter().filter(|dim| !fixed(dim)).count() > 1 {
        return Err(unclear(input));
    }
    let of_one = input
        .shape
        .iter()
        .filter(fixed)
        .try_fold(size as u64, |bytes, dim| bytes.checked_mul(u64::try_from(*dim).ok()?));
    let bytes = body.len() as u64;
    let open = match of_one {
        Some(0) if bytes == 0 => Some(0),
        Some(of_one) if of_one > 0 && bytes.is_multiple_of(of_one) => Some(bytes / of_one),
        _ => None,
    };
    let shape = open.map(|open| {
        input.shape.iter().map(|dim| u64::try_from(*dim).unwrap_or(open)).collect::<Vec<_>>()
    });
    let fits = |shape: &Vec<u64>| {
        element_count(shape).and_then(|elements| elements.checked_mul(size as u64)) == Some(bytes)
    };
    let shape = shape.filter(fits).ok_or_else(|| RawError::Size {
        name: input.name.to_string(),
        dtype: input.dtype,
        shape: input.shape.clone(),
        bytes: body.len(),
    })?;
    Ok(Tensor::new(input.name.clone(), input.dtype, shape, body)?)
}

/// A single byte string: all of the body.
fn string(input: &TensorSpec, body: &[u8], room: &BodyRoom) -> Result<Tensor, RawError> {
    let length = u32::try_from(body.len()).map_err(|_| unclear(input))?;
    if !input.shape.iter().all(|dim| matches!(dim, -1 | 1)) {
        return Err(unclear(input));
    }
    let prefix = length.to_le_bytes();
    let mut data = room.growing(ByteSize((prefix.len() + body.len()) as u64));
    data.push(&prefix)?;
    data.push(body)?;
    let shape = vec![1; input.shape.len()];
    Ok(Tensor::new(input.name.clone(), input.dtype, shape, data.finish().into_bytes())?)
}

fn unclear(input: &TensorSpec) -> RawError {
    RawError::Shape { name: input.name.to_string(), shape: input.shape.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EdgeLimits;

    fn spec(dtype: DataType, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: "x".into(), dtype, shape: shape.to_vec(), range: None }
    }

    /// Room for a body of 1 MiB, or several that have that much together.
    fn room() -> BodyRoom {
        BodyRoom::new(&EdgeLimits { body_memory: ByteSize::mib(1), ..EdgeLimits::default() })
    }

    fn collected(body: &[u8], room: &BodyRoom) -> Collected {
        let mut collected = room.growing(ByteSize::mib(1));
        collected.push(body).expect("has room");
        collected.finish()
    }

    fn input(dtype: DataType, shape: &[i64], body: &[u8]) -> Result<Tensor, String> {
        let signature = Signature::new(vec![spec(dtype, shape)], vec![]).expect("valid");
        let room = room();
        let request = request(&signature, collected(body, &room), &room);
        let mut request = request.map_err(|error| error.to_string())?;
        assert!(request.binary_outputs && request.outputs.is_empty());
        Ok(request.inputs.remove(0))
    }

    #[test]
    fn the_open_dimension_follows_from_the_size() {
        let cases: [(DataType, &[i64], usize, &[u64]); 6] = [
            (DataType::Fp32, &[-1, 2], 8, &[1, 2]),
            (DataType::Fp32, &[-1, 2], 24, &[3, 2]),
            (DataType::Uint8, &[3], 3, &[3]),
            (DataType::Fp16, &[2, -1, 2], 16, &[2, 2, 2]),
            (DataType::Fp32, &[-1], 0, &[0]),
            (DataType::Fp64, &[], 8, &[]),
        ];
        for (dtype, shape, bytes, expected) in cases {
            let tensor = input(dtype, shape, &vec![0; bytes]).expect("fits");
            assert_eq!((tensor.shape(), tensor.data().len()), (expected, bytes), "{shape:?}");
        }
        let words = input(DataType::Bytes, &[-1], b"a string").expect("one string");
        assert_eq!(words.strings().collect::<Vec<_>>(), [b"a string"]);
    }

    #[test]
    fn a_body_that_makes_no_input_is_refused() {
        let cases: [(DataType, &[i64], &[u8], &str); 7] = [
            (
                DataType::Fp32,
                &[-1, -1],
                &[0; 8],
                "the shape of input \"x\", [-1, -1] in the signature, does not follow from the \
                 size of a body: send it with JSON",
            ),
            (
                DataType::Bytes,
                &[2],
                b"a",
                "the shape of input \"x\", [2] in the signature, does not follow from the size of \
                 a body: send it with JSON",
            ),
            (
                DataType::Fp32,
                &[-1, 2],
                &[0; 9],
                "a body of 9 bytes makes no input \"x\" of FP32 and shape [-1, 2]",
            ),
            (
                DataType::Fp32,
                &[3],
                &[0; 24],
                "a body of 24 bytes makes no input \"x\" of FP32 and shape [3]",
            ),
            (
                DataType::Fp32,
                &[-1, 0],
                &[0; 4],
                "a body of 4 bytes makes no input \"x\" of FP32 and shape [-1, 0]",
            ),
            (
                DataType::Fp32,
                &[i64::MAX, i64::MAX],
                &[0; 4],
                "a body of 4 bytes makes no input \"x\" of FP32 and shape [9223372036854775807, \
                 9223372036854775807]",
            ),
            (
                DataType::Bool,
                &[-1],
                &[0, 1, 2],
                "the body as tensor \"x\": element 2 of BOOL is 2, not 0 or 1",
            ),
        ];
        for (dtype, shape, body, message) in cases {
            assert_eq!(input(dtype, shape, body), Err(message.into()));
        }
        let mut other = spec(DataType::Fp32, &[1]);
        other.name = "y".into();
        let two = Signature::new(vec![spec(DataType::Fp32, &[1]), other], vec![]).expect("valid");
        let room = room();
        let error = request(&two, collected(b"", &room), &room).expect_err("two inputs");
        let message = "a body without JSON needs one input, but there are 2: name them in JSON";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn a_string_has_room_until_it_is_answered() {
        let signature = Signature::new(vec![spec(DataType::Bytes, &[1])], vec![]).expect("valid");
        let (room, most) = (room(), 1 << 20);
        let string = |length: usize| {
            let body = collected(&vec![b'x'; length], &room);
            request(&signature, body, &room).map_err(|error| error.to_string())
        };
        let too_much = string(most).expect_err("there is room for the body alone");
        assert!(too_much.starts_with("the body as a string: "), "{too_much}");
        let held = string(most / 2 - 4).expect("has room");
        let mut rest = room.share(0);
        assert!(rest.cover(most / 2 + 1).is_err());
        drop(held);
        assert_eq!(rest.cover(most), Ok(()));
    }
}
