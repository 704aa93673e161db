//! The element types of device tensors, and which of them an operator takes. Never computes.

use std::fmt;

use quern_types::DataType;
use serde::{Deserialize, Serialize};

/// An element type that devices compute with: a subset of [`DataType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "DataType", into = "DataType")]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 binary16; computed in FP32.
    Fp16,
    /// bfloat16; computed in FP32.
    Bf16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
}

/// A datatype that tensors of the host may have and those of devices may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no element type of device tensors: cast to one of {any}", any = Accepts::Any)]
pub struct UnsupportedDtype(pub DataType);

impl Dtype {
    /// Every element type.
    pub const ALL: [Self; 8] = [
        Self::Bool,
        Self::Uint8,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
    ];

    /// Bytes per element.
    pub const fn size(self) -> u64 {
        match self {
            Self::Bool | Self::Uint8 => 1,
            Self::Fp16 | Self::Bf16 => 2,
            Self::Int32 | Self::Fp32 => 4,
            Self::Int64 | Self::Fp64 => 8,
        }
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }

    /// Whether it is an integer type.
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::Uint8 | Self::Int32 | Self::Int64)
    }
}

impl From<Dtype> for DataType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bool => Self::Bool,
            Dtype::Uint8 => Self::Uint8,
            Dtype::Int32 => Self::Int32,
            Dtype::Int64 => Self::Int64,
            Dtype::Fp16 => Self::Fp16,
            Dtype::Bf16 => Self::Bf16,
            Dtype::Fp32 => Self::Fp32,
            Dtype::Fp64 => Self::Fp64,
        }
    }
}

impl TryFrom<DataType> for Dtype {
    type Error = UnsupportedDtype;

    fn try_from(dtype: DataType) -> Result<Self, UnsupportedDtype> {
        Self::ALL
            .into_iter()
            .find(|found| DataType::from(*found) == dtype)
            .ok_or(UnsupportedDtype(dtype))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DataType::from(*self).fmt(f)
    }
}

/// The element types that an operator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// All of them.
    Any,
    /// All but BOOL.
    Numbers,
    /// The floating-point types.
    Floats,
    /// BOOL alone.
    Bool,
    /// What may index a dimension.
    Indices,
}

impl Accepts {
    /// Whether a type is among them.
    pub fn contains(self, dtype: Dtype) -> bool {
        match self {
            Self::Any => true,
            Self::Numbers => dtype != Dtype::Bool,
            Self::Floats => dtype.is_float(),
            Self::Bool => dtype == Dtype::Bool,
            Self::Indices => matches!(dtype, Dtype::Int32 | Dtype::Int64),
        }
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for dtype in Dtype::ALL.into_iter().filter(|dtype| self.contains(*dtype)) {
            write!(f, "{separator}{dtype}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_host_are_taken_or_refused_by_name() {
        for dtype in DataType::ALL {
            match Dtype::try_from(dtype) {
                Ok(taken) => {
                    assert_eq!(DataType::from(taken), dtype);
                    assert_eq!(dtype.size(), Some(taken.size() as usize));
                }
                Err(refused) => assert!(refused.to_string().starts_with(dtype.as_str())),
            }
        }
        let refused = serde_json::from_str::<Dtype>("\"UINT16\"").expect_err("not a device type");
        assert!(refused.to_string().contains("UINT16"));
    }

    #[test]
    fn what_an_operator_takes_is_listed() {
        assert_eq!(Accepts::Floats.to_string(), "FP16, BF16, FP32, FP64");
        assert_eq!(Accepts::Indices.to_string(), "INT32, INT64");
        assert_eq!(Accepts::Bool.to_string(), "BOOL");
        assert!(!Accepts::Numbers.contains(Dtype::Bool));
    }
}
