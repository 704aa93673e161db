//! Tensors on the host: little-endian, row-major, cheap to clone.

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Element types, under the names of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 binary16.
    Fp16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// Byte strings, each preceded by its length as a little-endian u32.
    Bytes,
}

impl DataType {
    /// Every element type.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Bytes per element; none for [`DataType::Bytes`], whose elements differ in length.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// The protocol's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DataType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|dtype| dtype.as_str() == text).ok_or(())
    }
}

/// A named, dense tensor. The element count of its shape always agrees with its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    name: Arc<str>,
    dtype: DataType,
    shape: Vec<u64>,
    data: Bytes,
}

/// As much of a name as an error shows: callers choose how long it is.
fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

/// Why parts don't make a [`Tensor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the dimensions does not fit.
    #[error("tensor {:?}: shape {shape:?} has too many elements", short(name))]
    TooLarge {
        /// The tensor.
        name: Arc<str>,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// Shape and data disagree.
    #[error(
        "tensor {:?}: shape {shape:?} of {dtype} needs {expected} bytes, got {actual}",
        short(name)
    )]
    Length {
        /// The tensor.
        name: Arc<str>,
        /// Its shape.
        shape: Vec<u64>,
        /// Its element type.
        dtype: DataType,
        /// Bytes that the shape asks for.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// The byte strings of a BYTES tensor don't add up.
    #[error(
        "tensor {:?}: data are not {elements} byte strings with their lengths before them",
        short(name)
    )]
    Strings {
        /// The tensor.
        name: Arc<str>,
        /// Strings that the shape asks for.
        elements: u64,
    },
    /// A BOOL element is neither 0 nor 1.
    #[error("tensor {:?}: element {index} of BOOL is {value}, not 0 or 1", short(name))]
    Bool {
        /// The tensor.
        name: Arc<str>,
        /// Row-major index of the element.
        index: usize,
        /// The byte found.
        value: u8,
    },
}

impl Tensor {
    /// A tensor of `data`, which is little-endian and row-major.
    pub fn new(
        name: impl Into<Arc<str>>,
        dtype: DataType,
        shape: Vec<u64>,
        data: impl Into<Bytes>,
    ) -> Result<Self, TensorError> {
        let (name, data) = (name.into(), data.into());
        let Some(elements) = element_count(&shape) else {
            return Err(TensorError::TooLarge { name, shape });
        };
        match dtype.size() {
            Some(size) => {
                let Some(expected) = elements.checked_mul(size as u64) else {
                    return Err(TensorError::TooLarge { name, shape });
                };
                let actual = data.len() as u64;
                if expected != actual {
                    return Err(TensorError::Length { name, shape, dtype, expected, actual });
                }
            }
            None if byte_strings(&data).count_exactly(elements) => {}
            None => return Err(TensorError::Strings { name, elements }),
        }
        if dtype == DataType::Bool
            && let Some(index) = data.iter().position(|byte| *byte > 1)
        {
            return Err(TensorError::Bool { name, index, value: data[index] });
        }
        Ok(Self { name, dtype, shape, data })
    }

    /// A tensor over a vector of plain numbers, without a copy. `T` must be the Rust type of
    /// `dtype` (`half::f16` for FP16, …).
    pub fn from_elements<T: bytemuck::NoUninit + Send + 'static>(
        name: impl Into<Arc<str>>,
        dtype: DataType,
        shape: Vec<u64>,
        elements: Vec<T>,
    ) -> Result<Self, TensorError> {
        Self::new(name, dtype, shape, Bytes::from_owner(Elements(elements)))
    }

    /// Its name in the signature.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Its dimensions; none for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Its elements, little-endian and row-major.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// How many elements it has.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Its elements as `T`, the Rust type of its dtype; a copy only where the data lie unaligned.
    pub fn to_elements<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        &self,
    ) -> std::borrow::Cow<'_, [T]> {
        match bytemuck::try_cast_slice(&self.data) {
            Ok(slice) => slice.into(),
            Err(_) => bytemuck::pod_collect_to_vec::<u8, T>(&self.data).into(),
        }
    }

    /// The strings of a BYTES tensor, in order; nothing for other types.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> {
        let data: &[u8] = if self.dtype == DataType::Bytes { &self.data } else { &[] };
        byte_strings(data).map_while(Result::ok)
    }

    /// Some of its rows, the slices of its first dimension; they share its data. None if it has
    /// not so many.
    pub fn rows(&self, rows: Range<u64>) -> Option<Self> {
        let (&count, tail) = self.shape.split_first()?;
        if rows.start > rows.end || rows.end > count {
            return None;
        }
        let row_elements = element_count(tail)?;
        let offset = |row: u64| {
            if row == count {
                return Some(self.data.len());
            }
            let elements = usize::try_from(row * row_elements).ok()?;
            match self.dtype.size() {
                Some(size) => Some(elements * size),
                None => Some(self.strings().take(elements).map(|text| 4 + text.len()).sum()),
            }
        };
        let data = self.data.slice(offset(rows.start)?..offset(rows.end)?);
        let mut shape = self.shape.clone();
        shape[0] = rows.end - rows.start;
        Some(Self { name: self.name.clone(), dtype: self.dtype, shape, data })
    }

    /// The rows of all parts, one after another; none if there are no parts, or they differ in
    /// name, datatype or any dimension but the first.
    pub fn join(parts: &[Self]) -> Option<Self> {
        let first = parts.first()?;
        let (_, tail) = first.shape.split_first()?;
        let (mut count, mut bytes) = (0u64, 0);
        for part in parts {
            let (rows, other) = part.shape.split_first()?;
            if other != tail || part.dtype != first.dtype || part.name != first.name {
                return None;
            }
            count = count.checked_add(*rows)?;
            bytes += part.data.len();
        }
        let mut data = BytesMut::with_capacity(bytes);
        parts.iter().for_each(|part| data.extend_from_slice(&part.data));
        let mut shape = first.shape.clone();
        shape[0] = count;
        Self::new(first.name.clone(), first.dtype, shape, data.freeze()).ok()
    }

    /// The same tensor under another name.
    pub fn renamed(mut self, name: Arc<str>) -> Self {
        self.name = name;
        self
    }
}

/// The number of elements of a shape; none if it does not fit.
pub fn element_count(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |count, dim| count.checked_mul(*dim))
}

/// Owns a vector of numbers as bytes.
struct Elements<T>(Vec<T>);

impl<T: bytemuck::NoUninit> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The strings of data of [`DataType::Bytes`]; the last item is an error where the data break off.
pub fn byte_strings(data: &[u8]) -> ByteStrings<'_> {
    ByteStrings(data)
}

/// Walks length-prefixed strings.
#[derive(Debug, Clone)]
pub struct ByteStrings<'a>(&'a [u8]);

impl<'a> Iterator for ByteStrings<'a> {
    type Item = Result<&'a [u8], ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.0.split_first_chunk().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let Some((string, rest)) = split else {
            self.0 = &[];
            return Some(Err(()));
        };
        self.0 = rest;
        Some(Ok(string))
    }
}

impl ByteStrings<'_> {
    fn count_exactly(self, expected: u64) -> bool {
        let mut count = 0;
        for string in self {
            if string.is_err() {
                return false;
            }
            count += 1;
        }
        count == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_the_beginning_of_a_long_name() {
        let name = "é".repeat(1_000);
        let error = Tensor::new(name, DataType::Bool, vec![1], vec![2]).expect_err("not 0 or 1");
        let shown = "é".repeat(80);
        let message = format!("tensor \"{shown}\": element 0 of BOOL is 2, not 0 or 1");
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn shape_and_data_must_agree() {
        let tensor = |dtype, shape: &[u64], data: &[u8]| {
            Tensor::new("x", dtype, shape.to_vec(), data.to_vec())
        };
        assert!(tensor(DataType::Fp32, &[2, 1], &[0; 8]).is_ok());
        assert!(tensor(DataType::Fp32, &[], &[0; 4]).is_ok());
        assert!(tensor(DataType::Int8, &[0, 9], &[]).is_ok());
        assert!(matches!(
            tensor(DataType::Fp32, &[2], &[0; 7]),
            Err(TensorError::Length { expected: 8, actual: 7, .. })
        ));
        assert!(matches!(
            tensor(DataType::Fp32, &[u64::MAX, 2], &[]),
            Err(TensorError::TooLarge { .. })
        ));
        assert!(matches!(
            tensor(DataType::Fp64, &[u64::MAX / 4], &[]),
            Err(TensorError::TooLarge { .. })
        ));
        assert!(matches!(
            tensor(DataType::Bool, &[2], &[1, 2]),
            Err(TensorError::Bool { index: 1, value: 2, .. })
        ));
    }

    #[test]
    fn byte_strings_are_counted_exactly() {
        let data = [1, 0, 0, 0, b'a', 0, 0, 0, 0];
        let tensor =
            Tensor::new("s", DataType::Bytes, vec![2], data.to_vec()).expect("two strings");
        assert_eq!(tensor.strings().collect::<Vec<_>>(), [b"a".as_slice(), b""]);
        for (shape, data) in [(3, &data[..]), (1, &data[..]), (1, &data[..4]), (1, &data[..3])] {
            assert!(matches!(
                Tensor::new("s", DataType::Bytes, vec![shape], data.to_vec()),
                Err(TensorError::Strings { .. })
            ));
        }
    }

    #[test]
    fn rows_are_cut_out_and_joined_again() {
        let numbers = Tensor::from_elements("x", DataType::Int16, vec![5, 2], vec![7i16; 10]);
        let text = [b"\x01\0\0\0a".as_slice(), &[0; 4], b"\x02\0\0\0bc"].concat();
        let texts = Tensor::new("s", DataType::Bytes, vec![3], text);
        let empty = Tensor::new("e", DataType::Fp32, vec![4, 0], Bytes::new());
        for whole in [numbers, texts, empty].map(|tensor| tensor.expect("valid")) {
            let count = whole.shape()[0];
            for cut in 0..=count {
                let parts = [whole.rows(0..cut), whole.rows(cut..count)];
                let parts = parts.map(|part| part.expect("within its rows"));
                assert_eq!(parts[0].shape()[0], cut);
                assert_eq!(Tensor::join(&parts).as_ref(), Some(&whole));
            }
            assert_eq!(whole.rows(0..count + 1), None);
        }
        let words = Tensor::new("s", DataType::Bytes, vec![2], vec![1, 0, 0, 0, b'a', 0, 0, 0, 0]);
        let second = words.expect("two strings").rows(1..2).expect("two rows");
        assert_eq!(second.strings().collect::<Vec<_>>(), [b""]);
    }

    #[test]
    fn what_has_no_rows_or_does_not_fit_together_is_not_joined() {
        let tensor = |name: &str, dtype, shape: &[u64], bytes: usize| {
            Tensor::new(name, dtype, shape.to_vec(), vec![0; bytes]).expect("valid")
        };
        let first = tensor("x", DataType::Int8, &[2, 3], 6);
        for other in [
            tensor("y", DataType::Int8, &[2, 3], 6),
            tensor("x", DataType::Uint8, &[2, 3], 6),
            tensor("x", DataType::Int8, &[3, 2], 6),
            tensor("x", DataType::Int8, &[], 1),
        ] {
            assert_eq!(Tensor::join(&[first.clone(), other]), None);
        }
        assert_eq!(Tensor::join(&[]), None);
        assert_eq!(tensor("x", DataType::Int8, &[], 1).rows(0..1), None);
    }

    #[test]
    fn elements_are_read_back() {
        let tensor =
            Tensor::from_elements("x", DataType::Fp32, vec![2], vec![1.5f32, -2.0]).expect("valid");
        assert_eq!(*tensor.to_elements::<f32>(), [1.5, -2.0]);
    }

    #[test]
    fn data_types_have_the_protocols_names() {
        for dtype in DataType::ALL {
            assert_eq!(dtype.as_str().parse(), Ok(dtype));
            let json = serde_json::to_string(&dtype).expect("serialises");
            assert_eq!(json, format!("\"{dtype}\""));
        }
    }
}
