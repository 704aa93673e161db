//! Reads the protobuf framing of an ONNX file before anything decodes it: refuses files that
//! would grow far beyond their size in memory, and files that refer to other files. Never
//! allocates, and never looks into weights.

use prost::Message as _;
use tract_onnx::pb;

use crate::InspectError;

/// What decoding may take: a file of plain weights decodes to its own size, but an empty message
/// is two bytes in the file and hundreds in memory.
const GROWTH: u64 = 8;
const FREE_BYTES: u64 = 256 << 20;
/// As deep as `prost` goes.
const MAX_DEPTH: u32 = 100;

/// Decodes an ONNX file that was found to be bounded and self-contained.
pub(crate) fn decode(onnx: &[u8]) -> Result<pb::ModelProto, InspectError> {
    if onnx.is_empty() {
        return Err(InspectError::NotOnnx { reason: "it is empty".into() });
    }
    let limit = GROWTH * onnx.len() as u64 + FREE_BYTES;
    let mut walk = Walk { decoded: 0, limit };
    walk.message(Kind::Model, onnx, 0)?;
    pb::ModelProto::decode(onnx)
        .map_err(|error| InspectError::NotOnnx { reason: error.to_string() })
}

/// The messages of ONNX that hold others; `Flat` for those that hold none.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Annotation,
    Flat,
}

/// The fields of a tensor that name another file, as numbered in `onnx.proto`.
const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;
/// The value of `data_location` that means another file.
const EXTERNAL: u64 = 1;

/// The message that a field of `parent` holds, and what one takes in memory. Fields are numbered
/// as in `onnx.proto`.
fn child(parent: Kind, field: u64) -> Option<(Kind, usize)> {
    use std::mem::size_of;
    Some(match (parent, field) {
        (Kind::Model, 7) | (Kind::Training, 1 | 2) | (Kind::Attribute, 6 | 11) => {
            (Kind::Graph, size_of::<pb::GraphProto>())
        }
        (Kind::Model, 8) | (Kind::Function, 9) => (Kind::Flat, size_of::<pb::OperatorSetIdProto>()),
        (Kind::Model, 14) | (Kind::Annotation, 2) | (Kind::Training, 3 | 4) => {
            (Kind::Flat, size_of::<pb::StringStringEntryProto>())
        }
        (Kind::Model, 20) => (Kind::Training, size_of::<pb::TrainingInfoProto>()),
        (Kind::Model, 25) => (Kind::Function, size_of::<pb::FunctionProto>()),
        (Kind::Graph, 1) | (Kind::Function, 7) => (Kind::Node, size_of::<pb::NodeProto>()),
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::SparseTensor, 1 | 2) => {
            (Kind::Tensor, size_of::<pb::TensorProto>())
        }
        (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => {
            (Kind::SparseTensor, size_of::<pb::SparseTensorProto>())
        }
        (Kind::Graph, 11..=13) | (Kind::Function, 12) => {
            (Kind::ValueInfo, size_of::<pb::ValueInfoProto>())
        }
        (Kind::Graph, 14) => (Kind::Annotation, size_of::<pb::TensorAnnotation>()),
        (Kind::Node, 5) | (Kind::Function, 11) => {
            (Kind::Attribute, size_of::<pb::AttributeProto>())
        }
        (Kind::Attribute, 14 | 15) | (Kind::ValueInfo, 2) => {
            (Kind::Type, size_of::<pb::TypeProto>())
        }
        (Kind::Type, 1) => (Kind::TensorType, size_of::<pb::type_proto::Tensor>()),
        (Kind::TensorType, 2) => (Kind::Shape, size_of::<pb::TensorShapeProto>()),
        (Kind::Shape, 1) => (Kind::Flat, size_of::<pb::tensor_shape_proto::Dimension>()),
        _ => return None,
    })
}

/// Whether a length-delimited field holds packed integers, which take up to eight times as much.
fn is_packed(parent: Kind, field: u64) -> bool {
    matches!(
        (parent, field),
        (Kind::Tensor, 1 | 5 | 7 | 11) | (Kind::Attribute, 8) | (Kind::SparseTensor, 3)
    )
}

struct Walk {
    decoded: u64,
    limit: u64,
}

impl Walk {
    fn message(&mut self, kind: Kind, bytes: &[u8], depth: u32) -> Result<(), InspectError> {
        if depth > MAX_DEPTH {
            return Err(malformed("its messages are nested too deeply"));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            let field = tag >> 3;
            match tag & 7 {
                0 => {
                    let value = varint(&mut rest)?;
                    self.grow(8)?;
                    if (kind, field, value) == (Kind::Tensor, DATA_LOCATION, EXTERNAL) {
                        return Err(external(bytes));
                    }
                }
                1 => _ = take(&mut rest, 8)?,
                2 => {
                    let length = varint(&mut rest)?;
                    let content = take(&mut rest, length)?;
                    if (kind, field) == (Kind::Tensor, EXTERNAL_DATA) {
                        return Err(external(bytes));
                    }
                    match child(kind, field) {
                        Some((child, size)) => {
                            self.grow(size as u64)?;
                            self.message(child, content, depth + 1)?;
                        }
                        None if is_packed(kind, field) => self.grow(8 * length)?,
                        None => self.grow(size_of::<String>() as u64 + length)?,
                    }
                }
                5 => _ = take(&mut rest, 4)?,
                _ => return Err(malformed("it is not a protobuf message")),
            }
        }
        Ok(())
    }

    fn grow(&mut self, bytes: u64) -> Result<(), InspectError> {
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > self.limit {
            return Err(InspectError::Expands { limit_bytes: self.limit });
        }
        Ok(())
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, InspectError> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some((byte, tail)) = rest.split_first() else {
            return Err(malformed("it breaks off"));
        };
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("it is not a protobuf message"))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], InspectError> {
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((content, tail)) = split else {
        return Err(malformed("it breaks off"));
    };
    *rest = tail;
    Ok(content)
}

fn malformed(reason: &str) -> InspectError {
    InspectError::NotOnnx { reason: reason.into() }
}

fn external(tensor: &[u8]) -> InspectError {
    let name = pb::TensorProto::decode(tensor).map(|tensor| tensor.name).unwrap_or_default();
    InspectError::ExternalData { tensor: name }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn a_small_file_that_decodes_to_gigabytes_is_refused() {
        let attributes = field(5, &[]).repeat(2 << 20);
        let bomb = field(7, &field(1, &attributes));
        assert!(matches!(decode(&bomb), Err(InspectError::Expands { .. })));
    }

    #[test]
    fn broken_framing_is_refused() {
        let mut nested = vec![];
        for _ in 0..60 {
            nested = field(1, &field(5, &field(6, &nested)));
        }
        let cases = [
            (vec![], "it is empty"),
            (vec![0x3a, 5, 0], "it breaks off"),
            (vec![0x3a, 0x80], "it breaks off"),
            (vec![0xff; 11], "it is not a protobuf message"),
            (b"hello".to_vec(), "it is not a protobuf message"),
            (vec![0x0b], "it is not a protobuf message"),
            (field(7, &nested), "its messages are nested too deeply"),
        ];
        for (bytes, expected) in cases {
            let error = decode(&bytes).expect_err(expected);
            assert!(
                matches!(&error, InspectError::NotOnnx { reason } if reason == expected),
                "{error} instead of {expected}"
            );
        }
    }
}
