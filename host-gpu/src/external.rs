//! Models whose weights lie in other files: which files those are, and one file made of all. Works
//! on the protobuf framing, so that whatever else the model holds stays as it is, known or not.
//! Never opens a file.

use std::{borrow::Cow, collections::BTreeSet};

use prost::Message as _;
use tract_onnx::pb::{self, tensor_proto::DataType as OnnxType};

use crate::{
    InspectError,
    wire::{self, DATA_LOCATION, EXTERNAL_DATA, External, Field, Kind, Value, child, is_external},
};

/// The largest message that protobuf libraries read.
const MOST_BYTES: u64 = i32::MAX as u64;
/// The field of a tensor that holds its elements, as numbered in `onnx.proto`.
const RAW_DATA: u64 = 9;

/// Why a model and its other files don't make one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// It is no model.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The data lie outside of the model's folder, or nowhere.
    #[error(
        "tensor {tensor:?} has its data in {location:?}, which is no path below the model's folder"
    )]
    Location {
        /// The tensor.
        tensor: String,
        /// Where it says that its data are.
        location: String,
    },
    /// There is no such file.
    #[error("tensor {tensor:?} has its data in {location:?}, which is not there")]
    Missing {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
    },
    /// An offset or a length is no number.
    #[error(
        "tensor {tensor:?} has external data with the {key} {value:?}, which is no number of bytes"
    )]
    Number {
        /// The tensor.
        tensor: String,
        /// Offset or length.
        key: String,
        /// What stands there.
        value: String,
    },
    /// The file is too short.
    #[error(
        "tensor {tensor:?} has {length} bytes of data from byte {offset} of {location:?}, which has {file_bytes}"
    )]
    Beyond {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
        /// Where its data begin.
        offset: u64,
        /// How long they are.
        length: u64,
        /// How long the file is.
        file_bytes: u64,
    },
    /// The data are not as long as type and shape say.
    #[error("tensor {tensor:?} has {length} bytes of external data, its shape needs {expected}")]
    Length {
        /// The tensor.
        tensor: String,
        /// The length of its data.
        length: u64,
        /// The length that its shape and type ask for.
        expected: u64,
    },
    /// Texts can't be kept this way, and a shape must have a size.
    #[error("tensor {tensor:?} of {dtype} and shape {shape:?} can't have its data in another file")]
    Unsized {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
        /// Its dimensions.
        shape: Vec<i64>,
    },
    /// The whole is too large.
    #[error(
        "model and external data have {bytes} bytes as one file, more than the {limit} that are possible here"
    )]
    TooLarge {
        /// The whole, as far as it was read.
        bytes: u64,
        /// What is possible: the caller's limit, or that of protobuf, 2 GiB.
        limit: u64,
    },
}

/// The files that hold data of a model's tensors: paths below its folder, with `/` between names.
pub fn external_files(onnx: &[u8]) -> Result<BTreeSet<String>, MergeError> {
    let mut found = BTreeSet::new();
    walk(onnx, &mut |tensor| {
        found.insert(tensor.location()?);
        Ok(Cow::Borrowed(&[]))
    })?;
    Ok(found)
}

/// The model with the data of all its tensors inside, which `file` gives by their paths. A model
/// without external data stays as it is.
pub fn merge<'f>(
    onnx: &[u8],
    file: impl Fn(&str) -> Option<&'f [u8]>,
    limit_bytes: u64,
) -> Result<Vec<u8>, MergeError> {
    let limit = limit_bytes.min(MOST_BYTES);
    let too_large = |bytes| MergeError::TooLarge { bytes, limit };
    let mut bytes = onnx.len() as u64;
    let merged = walk(onnx, &mut |tensor| {
        let location = tensor.location()?;
        let content = file(&location).ok_or_else(|| MergeError::Missing {
            tensor: tensor.0.name.clone(),
            location: location.clone(),
        })?;
        let data = tensor.cut(&location, content)?;
        // Many tensors may have the same bytes of one file.
        bytes = bytes.saturating_add(data.len() as u64);
        if bytes > limit { Err(too_large(bytes)) } else { Ok(Cow::Borrowed(data)) }
    })?;
    let Some(merged) = merged else { return Ok(onnx.to_vec()) };
    if merged.length > limit {
        return Err(too_large(merged.length));
    }
    Ok(merged.pieces.concat())
}

/// A message in pieces, so that weights are copied once, however deep they lie.
#[derive(Default)]
struct Rope<'a> {
    pieces: Vec<Cow<'a, [u8]>>,
    length: u64,
}

impl<'a> Rope<'a> {
    fn push(&mut self, piece: Cow<'a, [u8]>) {
        self.length += piece.len() as u64;
        self.pieces.push(piece);
    }

    /// Appends the head of a length-delimited field.
    fn push_head(&mut self, number: u64, length: u64) {
        let mut head = Vec::new();
        prost::encoding::encode_varint(number << 3 | 2, &mut head);
        prost::encoding::encode_varint(length, &mut head);
        self.push(head.into());
    }
}

/// Gives the elements of a tensor whose data are elsewhere.
type Data<'d, 'a> = dyn FnMut(&Tensor) -> Result<Cow<'a, [u8]>, MergeError> + 'd;

fn walk<'a>(onnx: &'a [u8], data: &mut Data<'_, 'a>) -> Result<Option<Rope<'a>>, MergeError> {
    // Bounds the depth, and the number of pieces.
    wire::bounded(onnx, External::Allowed)?;
    rewrite(Kind::Model, onnx, data)
}

/// A message with its external data inside; none where it has none.
fn rewrite<'a>(
    kind: Kind,
    message: &'a [u8],
    data: &mut Data<'_, 'a>,
) -> Result<Option<Rope<'a>>, MergeError> {
    if kind == Kind::Tensor {
        return rewrite_tensor(message, data);
    }
    let (mut rope, mut rest, mut unchanged) = (Rope::default(), message, message);
    while !rest.is_empty() {
        let before = unchanged.len() - rest.len();
        let Field { number, value } = wire::field(&mut rest)?;
        let Value::Content(content) = value else { continue };
        let Some((child, _)) = child(kind, number) else { continue };
        if let Some(changed) = rewrite(child, content, data)? {
            rope.push(unchanged[..before].into());
            rope.push_head(number, changed.length);
            changed.pieces.into_iter().for_each(|piece| rope.push(piece));
            unchanged = rest;
        }
    }
    if rope.pieces.is_empty() {
        return Ok(None);
    }
    rope.push(unchanged.into());
    Ok(Some(rope))
}

fn rewrite_tensor<'a>(
    message: &'a [u8],
    data: &mut Data<'_, 'a>,
) -> Result<Option<Rope<'a>>, MergeError> {
    let (mut rope, mut rest, mut external) = (Rope::default(), message, false);
    while !rest.is_empty() {
        let before = rest;
        let Field { number, value } = wire::field(&mut rest)?;
        external |= is_external(Kind::Tensor, number, &value);
        if ![EXTERNAL_DATA, DATA_LOCATION, RAW_DATA].contains(&number) {
            rope.push(before[..before.len() - rest.len()].into());
        }
    }
    if !external {
        return Ok(None);
    }
    let tensor = pb::TensorProto::decode(message)
        .map_err(|error| InspectError::NotOnnx { reason: error.to_string() })?;
    let elements = data(&Tensor(tensor))?;
    rope.push_head(RAW_DATA, elements.len() as u64);
    rope.push(elements);
    Ok(Some(rope))
}

/// A tensor whose data are elsewhere.
struct Tensor(pb::TensorProto);

impl Tensor {
    fn entry(&self, key: &str) -> Option<&str> {
        let entry = self.0.external_data.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.as_str())
    }

    /// The path of its file, below the model's folder.
    fn location(&self) -> Result<String, MergeError> {
        let given = self.entry("location").unwrap_or_default();
        let names: Vec<_> = given.split('/').filter(|name| *name != ".").collect();
        let odd = |name: &&str| name.is_empty() || *name == ".." || name.contains(['\\', '\0']);
        if names.is_empty() || names.iter().any(odd) {
            let (tensor, location) = (self.0.name.clone(), given.to_owned());
            return Err(MergeError::Location { tensor, location });
        }
        Ok(names.join("/"))
    }

    /// Its part of a file.
    fn cut<'f>(&self, location: &str, file: &'f [u8]) -> Result<&'f [u8], MergeError> {
        let offset = self.number("offset")?.unwrap_or(0);
        let file_bytes = file.len() as u64;
        let length = self.number("length")?.unwrap_or(file_bytes.saturating_sub(offset));
        let end = offset.checked_add(length).filter(|end| *end <= file_bytes);
        let Some(end) = end else {
            let (tensor, location) = (self.0.name.clone(), location.to_owned());
            return Err(MergeError::Beyond { tensor, location, offset, length, file_bytes });
        };
        let expected = self.byte_length()?;
        if length != expected {
            return Err(MergeError::Length { tensor: self.0.name.clone(), length, expected });
        }
        // Both are at most the length of a slice.
        Ok(&file[offset as usize..end as usize])
    }

    fn number(&self, key: &str) -> Result<Option<u64>, MergeError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| MergeError::Number {
                tensor: self.0.name.clone(),
                key: key.to_owned(),
                value: value.to_owned(),
            })
        };
        self.entry(key).map(parse).transpose()
    }

    /// The length that its shape and element type ask for.
    fn byte_length(&self) -> Result<u64, MergeError> {
        let dtype = OnnxType::try_from(self.0.data_type);
        let bits = dtype.as_ref().ok().copied().and_then(bits).and_then(|bits| {
            self.0
                .dims
                .iter()
                .try_fold(bits, |product, dim| product.checked_mul(u64::try_from(*dim).ok()?))
        });
        bits.map(|bits| bits.div_ceil(8)).ok_or_else(|| MergeError::Unsized {
            tensor: self.0.name.clone(),
            dtype: match dtype {
                Ok(dtype) => dtype.as_str_name().to_owned(),
                Err(_) => format!("type number {}", self.0.data_type),
            },
            shape: self.0.dims.clone(),
        })
    }
}

/// Bits of an element; none for texts.
fn bits(dtype: OnnxType) -> Option<u64> {
    Some(match dtype {
        OnnxType::Undefined | OnnxType::String => return None,
        OnnxType::Uint4 | OnnxType::Int4 | OnnxType::Float4e2m1 => 4,
        OnnxType::Uint8 | OnnxType::Int8 | OnnxType::Bool => 8,
        OnnxType::Float8e4m3fn
        | OnnxType::Float8e4m3fnuz
        | OnnxType::Float8e5m2
        | OnnxType::Float8e5m2fnuz => 8,
        OnnxType::Uint16 | OnnxType::Int16 | OnnxType::Float16 | OnnxType::Bfloat16 => 16,
        OnnxType::Uint32 | OnnxType::Int32 | OnnxType::Float => 32,
        OnnxType::Uint64 | OnnxType::Int64 | OnnxType::Double | OnnxType::Complex64 => 64,
        OnnxType::Complex128 => 128,
    })
}
