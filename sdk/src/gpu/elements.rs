//! Elements of device tensors as Rust has them, and the values that fill tensors. FP16 and BF16
//! have no type here: cast on the device, or pass bytes.

use std::fmt;

use bytemuck::NoUninit;

use super::{Description, Dtype, Scalar};
use crate::{DataType, tensor::protocol_name};

// What the host is given and gives is little-endian, as WebAssembly is.
const _: () = assert!(cfg!(target_endian = "little"));

/// A type of Rust that is an element type of device tensors.
pub trait Element: NoUninit + Into<Scalar> {
    /// Its name on the device.
    const DTYPE: Dtype;

    #[doc(hidden)]
    fn from_bytes(bytes: &[u8]) -> Vec<Self>;
}

/// Writes what a type needs to be an element.
macro_rules! elements {
    ($($type:ty: $dtype:ident, $scalar:ident($wide:ty);)*) => {$(
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;

            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                bytemuck::pod_collect_to_vec(bytes)
            }
        }

        impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                Self::$scalar(<$wide>::from(value))
            }
        }
    )*};
}

elements! {
    f32: Fp32, Float(f64);
    f64: Fp64, Float(f64);
    u8: Uint8, Int(i64);
    i32: Int32, Int(i64);
    i64: Int64, Int(i64);
}

impl Element for bool {
    const DTYPE: Dtype = Dtype::Bool;

    fn from_bytes(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|byte| *byte != 0).collect()
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl fmt::Display for Dtype {
    /// As the host names it: `FP32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(protocol_name(data_type(*self)))
    }
}

impl fmt::Display for Description {
    /// As the host shows it: `FP32 2x3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.shape.iter().map(u64::to_string).collect();
        let shape = if dims.is_empty() { "scalar".to_owned() } else { dims.join("x") };
        write!(f, "{} {shape}", self.dtype)
    }
}

/// The element type of a device as functions and models name it.
pub(super) fn data_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::Bool => DataType::Bool,
        Dtype::Uint8 => DataType::Uint8,
        Dtype::Int32 => DataType::Int32,
        Dtype::Int64 => DataType::Int64,
        Dtype::Fp16 => DataType::Fp16,
        Dtype::Bf16 => DataType::Bf16,
        Dtype::Fp32 => DataType::Fp32,
        Dtype::Fp64 => DataType::Fp64,
    }
}

/// The same the other way; none for those that devices don't have.
pub(super) fn dtype(data_type: DataType) -> Option<Dtype> {
    Some(match data_type {
        DataType::Bool => Dtype::Bool,
        DataType::Uint8 => Dtype::Uint8,
        DataType::Int32 => Dtype::Int32,
        DataType::Int64 => Dtype::Int64,
        DataType::Fp16 => Dtype::Fp16,
        DataType::Bf16 => Dtype::Bf16,
        DataType::Fp32 => Dtype::Fp32,
        DataType::Fp64 => Dtype::Fp64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back<T: Element>(values: &[T]) -> Vec<T> {
        T::from_bytes(bytemuck::cast_slice(values))
    }

    #[test]
    fn elements_are_read_as_they_were_written() {
        assert_eq!(back(&[1.5f32, -0.0]), [1.5, -0.0]);
        assert_eq!(back(&[f64::MAX]), [f64::MAX]);
        assert_eq!(back(&[7u8, 255]), [7, 255]);
        assert_eq!(back(&[i32::MIN, 1]), [i32::MIN, 1]);
        assert_eq!(back(&[-7i64, 1 << 40]), [-7, 1 << 40]);
        assert_eq!(back(&[true, false]), [true, false]);
        assert_eq!(i64::from_bytes(&[1, 0, 0, 0, 0, 0, 0, 128]), [i64::MIN + 1]);
    }

    #[test]
    fn descriptions_are_shown_as_the_host_does() {
        let shown =
            |shape: &[u64]| Description { dtype: Dtype::Bf16, shape: shape.to_vec() }.to_string();
        assert_eq!((shown(&[2, 3]), shown(&[])), ("BF16 2x3".into(), "BF16 scalar".into()));
    }

    #[test]
    fn every_type_of_a_device_has_its_name_elsewhere() {
        for name in [Dtype::Bool, Dtype::Uint8, Dtype::Int32, Dtype::Int64] {
            assert_eq!(dtype(data_type(name)), Some(name));
        }
        for name in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
            assert_eq!(dtype(data_type(name)), Some(name));
        }
        assert_eq!(dtype(DataType::Bytes), None);
        assert_eq!(dtype(DataType::Uint16), None);
    }
}
