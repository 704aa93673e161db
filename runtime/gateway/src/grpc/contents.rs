//! Typed contents of an input (`InferTensorContents`): straight from the message into
//! little-endian elements, each checked against its datatype. Never makes room for more than the
//! shape asks for.

use bytes::{Buf, Bytes};
use quern_types::DataType;

use super::wire::{Fields, Malformed, Value, varint};

/// Why contents don't make the data of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentsError {
    /// It isn't protobuf.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The type can only be sent raw.
    #[error("{dtype} has no typed contents: send it in raw_input_contents")]
    RawOnly {
        /// The type.
        dtype: DataType,
    },
    /// They are in the field of another type.
    #[error("{dtype} takes {expected}, found {found}")]
    Field {
        /// The type.
        dtype: DataType,
        /// Its field.
        expected: &'static str,
        /// The field that was filled.
        found: &'static str,
    },
    /// A number that the type doesn't have.
    #[error("{value} is outside the range of {dtype}")]
    Range {
        /// The type.
        dtype: DataType,
        /// The number.
        value: i64,
    },
    /// There are more than the shape says.
    #[error("has more than the {expected} elements that its shape asks for")]
    TooMany {
        /// Elements that the shape asks for.
        expected: u64,
    },
    /// A byte string is too long for its length.
    #[error("a byte string is longer than 4 GiB")]
    LongString,
}

/// The fields, by their numbers less one.
const FIELDS: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

/// The number of a type's field.
fn field_of(dtype: DataType) -> Option<u32> {
    Some(match dtype {
        DataType::Bool => 1,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => 2,
        DataType::Int64 => 3,
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => 4,
        DataType::Uint64 => 5,
        DataType::Fp32 => 6,
        DataType::Fp64 => 7,
        DataType::Bytes => 8,
        DataType::Fp16 | DataType::Bf16 => return None,
    })
}

/// The contents of one input. Their message may come in several parts.
pub(crate) struct Contents<'a> {
    pub(crate) dtype: DataType,
    /// Elements that the shape asks for.
    pub(crate) elements: u64,
    pub(crate) parts: &'a [Bytes],
}

impl Contents<'_> {
    /// Bytes that reading them takes at most, beside the message.
    pub(crate) fn cost(&self) -> usize {
        let sent = self.parts.iter().map(Bytes::len).sum::<usize>();
        match self.dtype.size() {
            // An element takes a byte of the message at least.
            Some(size) => size.saturating_mul(self.count().min(sent)),
            None => sent.saturating_mul(2),
        }
    }

    /// Their elements, little-endian and in order.
    pub(crate) fn read(&self) -> Result<Bytes, ContentsError> {
        let Self { dtype, elements, parts } = *self;
        let number = field_of(dtype).ok_or(ContentsError::RawOnly { dtype })?;
        let out = Vec::with_capacity(self.cost());
        let mut taken = Elements { dtype, most: elements, count: 0, out };
        for field in parts.iter().flat_map(|part| Fields::of(part.clone())) {
            match field? {
                (found, value) if found == number => taken.take(value)?,
                (found @ 1..=8, _) => {
                    let name = |number: u32| FIELDS[number as usize - 1];
                    let (expected, found) = (name(number), name(found));
                    return Err(ContentsError::Field { dtype, expected, found });
                }
                _ => {}
            }
        }
        Ok(taken.out.into())
    }

    fn count(&self) -> usize {
        usize::try_from(self.elements).unwrap_or(usize::MAX)
    }
}

/// The elements that have been read.
struct Elements {
    dtype: DataType,
    most: u64,
    count: u64,
    out: Vec<u8>,
}

impl Elements {
    /// Reads one element, or several that are packed.
    fn take(&mut self, value: Value) -> Result<(), ContentsError> {
        match (self.dtype, value) {
            (DataType::Bytes, Value::Bytes(string)) => self.string(&string),
            (DataType::Fp32, Value::Fixed32(bits)) => self.floats(&bits.to_le_bytes(), 4),
            (DataType::Fp64, Value::Fixed64(bits)) => self.floats(&bits.to_le_bytes(), 8),
            (DataType::Fp32, Value::Bytes(packed)) => self.floats(&packed, 4),
            (DataType::Fp64, Value::Bytes(packed)) => self.floats(&packed, 8),
            (DataType::Bytes | DataType::Fp32 | DataType::Fp64, _) => Err(Malformed.into()),
            (_, Value::Varint(integer)) => self.integer(integer),
            (_, Value::Bytes(mut packed)) => {
                while packed.has_remaining() {
                    self.integer(varint(&mut packed)?)?;
                }
                Ok(())
            }
            (_, Value::Fixed32(_) | Value::Fixed64(_)) => Err(Malformed.into()),
        }
    }

    fn string(&mut self, string: &[u8]) -> Result<(), ContentsError> {
        self.more(1)?;
        let length = u32::try_from(string.len()).map_err(|_| ContentsError::LongString)?;
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(string);
        Ok(())
    }

    fn floats(&mut self, floats: &[u8], size: usize) -> Result<(), ContentsError> {
        if !floats.len().is_multiple_of(size) {
            return Err(Malformed.into());
        }
        self.more((floats.len() / size) as u64)?;
        self.out.extend_from_slice(floats);
        Ok(())
    }

    /// Integers of all types are 64 bits in the message; those of 32 bits are cut as protobuf cuts
    /// them, and smaller ones must fit.
    fn integer(&mut self, integer: u64) -> Result<(), ContentsError> {
        self.more(1)?;
        let dtype = self.dtype;
        macro_rules! narrow {
            ($from:ty, $to:ty) => {{
                let value = integer as $from;
                let outside = |_| ContentsError::Range { dtype, value: value.into() };
                self.out.extend_from_slice(&<$to>::try_from(value).map_err(outside)?.to_le_bytes())
            }};
        }
        match dtype {
            DataType::Bool => self.out.push((integer != 0).into()),
            DataType::Int8 => narrow!(i32, i8),
            DataType::Int16 => narrow!(i32, i16),
            DataType::Uint8 => narrow!(u32, u8),
            DataType::Uint16 => narrow!(u32, u16),
            DataType::Int32 | DataType::Uint32 => {
                self.out.extend_from_slice(&(integer as u32).to_le_bytes());
            }
            _ => self.out.extend_from_slice(&integer.to_le_bytes()),
        }
        Ok(())
    }

    fn more(&mut self, count: u64) -> Result<(), ContentsError> {
        self.count += count;
        if self.count > self.most {
            return Err(ContentsError::TooMany { expected: self.most });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::grpc::protocol::InferTensorContents;

    fn read(
        dtype: DataType,
        elements: u64,
        contents: &InferTensorContents,
    ) -> Result<Vec<u8>, String> {
        let parts = [contents.encode_to_vec().into()];
        let contents = Contents { dtype, elements, parts: &parts };
        let read = contents.read().map_err(|error| error.to_string())?;
        assert!(read.len() <= contents.cost(), "{dtype}: {} bytes", read.len());
        Ok(read.to_vec())
    }

    #[test]
    fn every_type_has_its_field() {
        let contents = InferTensorContents {
            bool_contents: vec![true, false],
            ..InferTensorContents::default()
        };
        assert_eq!(read(DataType::Bool, 2, &contents), Ok(vec![1, 0]));
        let contents =
            InferTensorContents { int_contents: vec![-1, 100], ..InferTensorContents::default() };
        let le = |numbers: &[&[u8]]| Ok(numbers.concat());
        assert_eq!(read(DataType::Int8, 2, &contents), Ok(vec![0xff, 100]));
        let (minus, hundred) = ((-1i16).to_le_bytes(), 100i16.to_le_bytes());
        assert_eq!(read(DataType::Int16, 2, &contents), le(&[&minus, &hundred]));
        let (minus, hundred) = ((-1i32).to_le_bytes(), 100i32.to_le_bytes());
        assert_eq!(read(DataType::Int32, 2, &contents), le(&[&minus, &hundred]));
        let contents = InferTensorContents {
            int64_contents: vec![i64::MIN, i64::MAX],
            ..InferTensorContents::default()
        };
        let (least, most) = (i64::MIN.to_le_bytes(), i64::MAX.to_le_bytes());
        assert_eq!(read(DataType::Int64, 2, &contents), le(&[&least, &most]));
        let contents =
            InferTensorContents { uint_contents: vec![7, 200], ..InferTensorContents::default() };
        assert_eq!(read(DataType::Uint8, 2, &contents), Ok(vec![7, 200]));
        assert_eq!(read(DataType::Uint16, 2, &contents), Ok(vec![7, 0, 200, 0]));
        assert_eq!(read(DataType::Uint32, 2, &contents), Ok(vec![7, 0, 0, 0, 200, 0, 0, 0]));
        let contents = InferTensorContents {
            uint64_contents: vec![u64::MAX],
            ..InferTensorContents::default()
        };
        assert_eq!(read(DataType::Uint64, 1, &contents), Ok(vec![0xff; 8]));
        let contents = InferTensorContents {
            fp32_contents: vec![1.5, f32::INFINITY],
            ..InferTensorContents::default()
        };
        let (number, infinity) = (1.5f32.to_le_bytes(), f32::INFINITY.to_le_bytes());
        assert_eq!(read(DataType::Fp32, 2, &contents), le(&[&number, &infinity]));
        let contents =
            InferTensorContents { fp64_contents: vec![-2.5], ..InferTensorContents::default() };
        assert_eq!(read(DataType::Fp64, 1, &contents), le(&[&(-2.5f64).to_le_bytes()]));
        let contents = InferTensorContents {
            bytes_contents: vec![b"ab".to_vec().into(), Bytes::new()],
            ..InferTensorContents::default()
        };
        assert_eq!(read(DataType::Bytes, 2, &contents), le(&[b"\x02\0\0\0ab", b"\0\0\0\0"]));
    }

    #[test]
    fn numbers_need_not_be_packed_nor_in_one_part() {
        let parts =
            [Bytes::from_static(b"\x10\x01\x12\x02\x02\x03"), Bytes::from_static(b"\x10\x04")];
        let contents = Contents { dtype: DataType::Uint8, elements: 4, parts: &parts };
        assert!(matches!(contents.read(), Err(ContentsError::Field { .. })));
        let contents = Contents { dtype: DataType::Int8, elements: 4, parts: &parts };
        assert_eq!(contents.read(), Ok(Bytes::from_static(&[1, 2, 3, 4])));
        let parts = [Bytes::from_static(b"\x35\0\0\xc0\x3f")];
        let contents = Contents { dtype: DataType::Fp32, elements: 1, parts: &parts };
        assert_eq!(contents.read(), Ok(1.5f32.to_le_bytes().to_vec().into()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let small =
            InferTensorContents { int_contents: vec![1, -129], ..InferTensorContents::default() };
        for (dtype, elements, message) in [
            (DataType::Int8, 2, "-129 is outside the range of INT8"),
            (DataType::Int16, 1, "has more than the 1 elements that its shape asks for"),
            (DataType::Fp32, 2, "FP32 takes fp32_contents, found int_contents"),
            (DataType::Uint8, 2, "UINT8 takes uint_contents, found int_contents"),
            (DataType::Fp16, 2, "FP16 has no typed contents: send it in raw_input_contents"),
        ] {
            assert_eq!(read(dtype, elements, &small), Err(message.into()), "{dtype}");
        }
        let malformed = Err(ContentsError::Malformed(Malformed));
        for (dtype, bytes) in [
            (DataType::Fp32, &b"\x32\x03abc"[..]),
            (DataType::Fp32, b"\x30\x01"),
            (DataType::Int8, b"\x12\x01\x80"),
            (DataType::Int8, b"\x15\0\0\0\0"),
            (DataType::Bytes, b"\x40\x01"),
            (DataType::Bool, b"\x0a\x05"),
        ] {
            let parts = [Bytes::from_static(bytes)];
            let contents = Contents { dtype, elements: 9, parts: &parts };
            assert_eq!(contents.read(), malformed, "{dtype} {bytes:?}");
        }
    }

    #[test]
    fn little_is_set_aside_for_a_shape_that_asks_for_much() {
        let parts = [Bytes::from_static(b"\x1a\x01\x07")];
        let contents = Contents { dtype: DataType::Int64, elements: u64::MAX, parts: &parts };
        assert_eq!(contents.cost(), 3 * 8);
        assert_eq!(contents.read(), Ok(7u64.to_le_bytes().to_vec().into()));
    }
}
