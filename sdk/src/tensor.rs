//! Tensors of the guest: typed construction and reading over the contract's record. Never
//! reinterprets memory: elements are copied in and out, little-endian.

use std::fmt;

use crate::{Error, bindings::quern::ml::tensors as contract};

pub use contract::DataType;

/// A named, dense, row-major tensor.
///
/// ```
/// # use quern_sdk::{Error, Tensor};
/// # fn main() -> Result<(), Error> {
/// let pixels = Tensor::f32("image", [1, 4], &[0.0, 4.0, 8.0, 16.0])?;
/// assert_eq!(pixels.to_f32()?, [0.0, 4.0, 8.0, 16.0]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tensor(pub(crate) contract::Tensor);

impl Tensor {
    /// A tensor of raw elements, little-endian and row-major; the way to FP16 and BF16.
    ///
    /// Fails if the shape needs another number of bytes, or, for [`DataType::Bytes`], of strings.
    pub fn raw(
        name: impl Into<String>,
        data_type: DataType,
        shape: impl Into<Vec<u64>>,
        data: Vec<u8>,
    ) -> Result<Self, Error> {
        let (name, shape) = (name.into(), shape.into());
        let count = elements(&shape);
        let fits = match element_size(data_type) {
            Some(size) => {
                count.and_then(|count| count.checked_mul(size)) == Some(data.len() as u64)
            }
            None => count == Strings(&data).count_all(),
        };
        if !fits {
            return Err(Error::internal(format!(
                "tensor {name:?}: {} bytes of data don't fit shape {shape:?} of {}",
                data.len(),
                protocol_name(data_type)
            )));
        }
        Ok(Self(contract::Tensor { name, data_type, shape, data }))
    }

    /// A tensor of byte strings.
    pub fn strings<S: AsRef<[u8]>>(
        name: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        values: &[S],
    ) -> Result<Self, Error> {
        let mut data = Vec::new();
        for value in values {
            let value = value.as_ref();
            let length = u32::try_from(value.len())?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(value);
        }
        Self::raw(name, DataType::Bytes, shape, data)
    }

    /// Its name in the signature.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its element type.
    pub fn data_type(&self) -> DataType {
        self.0.data_type
    }

    /// Its dimensions; none for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.0.shape
    }

    /// Its elements as they are, little-endian and row-major.
    pub fn data(&self) -> &[u8] {
        &self.0.data
    }

    /// The same tensor under another name.
    #[must_use]
    pub fn renamed(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// The strings of a BYTES tensor.
    pub fn to_strings(&self) -> Result<Vec<&[u8]>, Error> {
        self.expect_type(DataType::Bytes)?;
        Strings(&self.0.data).collect::<Option<_>>().ok_or_else(|| {
            Error::internal(format!("tensor {:?}: a string breaks off", self.0.name))
        })
    }

    fn expect_type(&self, expected: DataType) -> Result<(), Error> {
        let actual = self.0.data_type;
        if actual == expected {
            return Ok(());
        }
        Err(Error::internal(format!(
            "tensor {:?} is read as {}, but its elements are {}",
            self.0.name,
            protocol_name(expected),
            protocol_name(actual)
        )))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} {:?}", self.0.name, protocol_name(self.0.data_type), self.0.shape)
    }
}

/// Writes a constructor and a reader for each plain element type.
macro_rules! elements {
    ($($kind:ident $new:ident $read:ident $type:ty, $word:literal;)*) => {
        impl Tensor {
            $(
                #[doc = concat!("A tensor of ", $word, " elements, row-major. Fails if their number is not the shape's.")]
                pub fn $new(
                    name: impl Into<String>,
                    shape: impl Into<Vec<u64>>,
                    values: &[$type],
                ) -> Result<Self, Error> {
                    const SIZE: usize = size_of::<$type>();
                    let mut data = vec![0; values.len() * SIZE];
                    for (bytes, value) in data.chunks_exact_mut(SIZE).zip(values) {
                        bytes.copy_from_slice(&value.to_le_bytes());
                    }
                    Self::raw(name, DataType::$kind, shape, data)
                }

                #[doc = concat!("Its elements, if they are ", $word, ", row-major.")]
                pub fn $read(&self) -> Result<Vec<$type>, Error> {
                    self.expect_type(DataType::$kind)?;
                    let (elements, _) = self.0.data.as_chunks();
                    Ok(elements.iter().map(|bytes| <$type>::from_le_bytes(*bytes)).collect())
                }
            )*
        }
    };
}

elements! {
    Fp32 f32 to_f32 f32, "FP32";
    Fp64 f64 to_f64 f64, "FP64";
    Int8 i8 to_i8 i8, "INT8";
    Int16 i16 to_i16 i16, "INT16";
    Int32 i32 to_i32 i32, "INT32";
    Int64 i64 to_i64 i64, "INT64";
    Uint8 u8 to_u8 u8, "UINT8";
    Uint16 u16 to_u16 u16, "UINT16";
    Uint32 u32 to_u32 u32, "UINT32";
    Uint64 u64 to_u64 u64, "UINT64";
}

impl Tensor {
    /// A tensor of BOOL elements, row-major. Fails if their number is not the shape's.
    pub fn bool(
        name: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        values: &[bool],
    ) -> Result<Self, Error> {
        let data = values.iter().map(|value| u8::from(*value)).collect();
        Self::raw(name, DataType::Bool, shape, data)
    }

    /// Its elements, if they are BOOL, row-major.
    pub fn to_bool(&self) -> Result<Vec<bool>, Error> {
        self.expect_type(DataType::Bool)?;
        Ok(self.0.data.iter().map(|byte| *byte != 0).collect())
    }
}

/// The number of elements of a shape; none if it does not fit.
fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |count, dimension| count.checked_mul(*dimension))
}

/// Bytes per element; none for strings, which differ in length.
fn element_size(data_type: DataType) -> Option<u64> {
    match data_type {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => Some(1),
        DataType::Uint16 | DataType::Int16 | DataType::Fp16 | DataType::Bf16 => Some(2),
        DataType::Uint32 | DataType::Int32 | DataType::Fp32 => Some(4),
        DataType::Uint64 | DataType::Int64 | DataType::Fp64 => Some(8),
        DataType::Bytes => None,
    }
}

/// The name of a type in the Open Inference Protocol and in manifests.
pub(crate) fn protocol_name(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Bool => "BOOL",
        DataType::Uint8 => "UINT8",
        DataType::Uint16 => "UINT16",
        DataType::Uint32 => "UINT32",
        DataType::Uint64 => "UINT64",
        DataType::Int8 => "INT8",
        DataType::Int16 => "INT16",
        DataType::Int32 => "INT32",
        DataType::Int64 => "INT64",
        DataType::Fp16 => "FP16",
        DataType::Bf16 => "BF16",
        DataType::Fp32 => "FP32",
        DataType::Fp64 => "FP64",
        DataType::Bytes => "BYTES",
    }
}

/// Walks length-prefixed strings; an item is none where the data break off.
struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.0.split_first_chunk().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        self.0 = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(string, _)| string))
    }
}

impl Strings<'_> {
    /// How many there are; none if the last one breaks off.
    fn count_all(mut self) -> Option<u64> {
        self.try_fold(0, |count, string| string.map(|_| count + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_back() -> Result<(), Error> {
        let tensor = Tensor::i64("label", [2], &[-7, 1 << 40])?;
        assert_eq!(tensor.to_i64()?, [-7, 1 << 40]);
        assert_eq!(tensor.data()[..8], (-7i64).to_le_bytes());
        assert_eq!(Tensor::f32("x", [], &[1.5])?.to_f32()?, [1.5]);
        assert_eq!(Tensor::u8("x", [0, 3], &[])?.to_u8()?, [0u8; 0]);
        assert_eq!(Tensor::bool("x", [2], &[true, false])?.to_bool()?, [true, false]);
        let words = Tensor::strings("words", [3], &["quern", "", "stone"])?;
        assert_eq!(words.to_strings()?, [b"quern".as_slice(), b"", b"stone"]);
        Ok(())
    }

    #[test]
    fn shape_and_elements_must_agree() {
        let cases = [
            Tensor::f32("x", [2, 2], &[0.0; 3]),
            Tensor::f32("x", [u64::MAX, 2], &[]),
            Tensor::raw("x", DataType::Fp16, [1], vec![0; 3]),
            Tensor::raw("x", DataType::Bytes, [1], vec![5, 0, 0, 0, b'a']),
            Tensor::raw("x", DataType::Bytes, [1], vec![1, 0]),
            Tensor::strings("x", [1], &["a", "b"]),
        ];
        for (index, case) in cases.into_iter().enumerate() {
            let error = case.expect_err("does not fit");
            assert!(error.message().contains("don't fit shape"), "case {index}: {error}");
        }
    }

    #[test]
    fn reading_as_another_type_names_both() -> Result<(), Error> {
        let error = Tensor::f32("image", [1], &[0.0])?.to_i64().expect_err("not INT64");
        assert_eq!(
            error.to_string(),
            "tensor \"image\" is read as INT64, but its elements are FP32"
        );
        Ok(())
    }
}
