//! Reads the protobuf framing of an ONNX file before anything decodes it: refuses files that
//! would grow far beyond their size in memory, and files that refer to other files unless those
//! are at hand. Never allocates, and never looks into weights.

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
    bounded(onnx, External::Refused)?;
    pb::ModelProto::decode(onnx)
        .map_err(|error| InspectError::NotOnnx { reason: error.to_string() })
}

/// Whether a file may refer to others.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum External {
    Refused,
    Allowed,
}

/// Refuses a file whose framing is broken, and one that would take far more memory than its size.
pub(crate) fn bounded(onnx: &[u8], external: External) -> Result<(), InspectError> {
    if onnx.is_empty() {
        return Err(InspectError::NotOnnx { reason: "it is empty".into() });
    }
    let limit = GROWTH * onnx.len() as u64 + FREE_BYTES;
    let mut walk = Walk { decoded: 0, limit, external };
    walk.message(Kind::Model, onnx, 0)
}

/// The messages of ONNX that hold others; `Flat` for those that hold none.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
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
pub(crate) const EXTERNAL_DATA: u64 = 13;
pub(crate) const DATA_LOCATION: u64 = 14;
/// The value of `data_location` that means another file.
pub(crate) const EXTERNAL: u64 = 1;

/// The message that a field of `parent` holds, and what one takes in memory. Fields are numbered
/// as in `onnx.proto`.
pub(crate) fn child(parent: Kind, field: u64) -> Option<(Kind, usize)> {
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

/// One field of a message.
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
}

pub(crate) enum Value<'a> {
    Integer(u64),
    /// A message, a text, bytes or packed numbers.
    Content(&'a [u8]),
    Fixed,
}

/// Takes the first field off a message.
pub(crate) fn field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, InspectError> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Integer(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = varint(rest)?;
            Value::Content(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return Err(malformed("it is not a protobuf message")),
    };
    Ok(Field { number: tag >> 3, value })
}

struct Walk {
    decoded: u64,
    limit: u64,
    external: External,
}

impl Walk {
    fn message(&mut self, kind: Kind, bytes: &[u8], depth: u32) -> Result<(), InspectError> {
        if depth > MAX_DEPTH {
            return Err(malformed("its messages are nested too deeply"));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Field { number, value } = field(&mut rest)?;
            if self.external == External::Refused && is_external(kind, number, &value) {
                return Err(external(bytes));
            }
            match value {
                Value::Integer(_) => self.grow(8)?,
                Value::Content(content) => match child(kind, number) {
                    Some((child, size)) => {
                        self.grow(size as u64)?;
                        self.message(child, content, depth + 1)?;
                    }
                    None if is_packed(kind, number) => self.grow(8 * content.len() as u64)?,
                    None => self.grow((size_of::<String>() + content.len()) as u64)?,
                },
                Value::Fixed => {}
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

/// Whether a field says that a tensor has its data in another file.
pub(crate) fn is_external(kind: Kind, number: u64, value: &Value<'_>) -> bool {
    kind == Kind::Tensor
        && match value {
            Value::Integer(location) => (number, *location) == (DATA_LOCATION, EXTERNAL),
            Value::Content(_) => number == EXTERNAL_DATA,
            Value::Fixed => false,
        }
}

/// What the declared type of an input or output is, if it is no dense tensor.
pub(crate) fn other_type(onnx: &[u8], name: &str) -> Option<&'static str> {
    /// The fields of a model, graph and value that lead to a type, as in `onnx.proto`.
    const GRAPH: u64 = 7;
    const PORTS: [u64; 2] = [11, 12];
    const NAME: u64 = 1;
    const TYPE: u64 = 2;
    let graphs = contents(onnx).filter(|(number, _)| *number == GRAPH);
    let ports = graphs.flat_map(|(_, graph)| contents(graph));
    let mut ports = ports.filter(|(number, _)| PORTS.contains(number)).map(|(_, port)| port);
    let named = |port: &&[u8]| contents(port).any(|field| field == (NAME, name.as_bytes()));
    let kind = contents(ports.find(named)?).find(|(number, _)| *number == TYPE)?.1;
    contents(kind).find_map(|(number, _)| match number {
        4 => Some("a sequence"),
        5 => Some("a map"),
        8 => Some("a sparse tensor"),
        9 => Some("an optional value"),
        _ => None,
    })
}

/// The length-delimited fields of a message, up to where it is broken.
fn contents(message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = message;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            if let Field { number, value: Value::Content(content) } = field(&mut rest).ok()? {
                return Some((number, content));
            }
        }
        None
    })
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
    fn content(number: u8, content: &[u8]) -> Vec<u8> {
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
        let attributes = content(5, &[]).repeat(2 << 20);
        let bomb = content(7, &content(1, &attributes));
        assert!(matches!(decode(&bomb), Err(InspectError::Expands { .. })));
    }

    #[test]
    fn broken_framing_is_refused() {
        let mut nested = vec![];
        for _ in 0..60 {
            nested = content(1, &content(5, &content(6, &nested)));
        }
        let cases = [
            (vec![], "it is empty"),
            (vec![0x3a, 5, 0], "it breaks off"),
            (vec![0x3a, 0x80], "it breaks off"),
            (vec![0xff; 11], "it is not a protobuf message"),
            (b"hello".to_vec(), "it is not a protobuf message"),
            (vec![0x0b], "it is not a protobuf message"),
            (content(7, &nested), "its messages are nested too deeply"),
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
