//! One value of a file, and the element of a tensor that it becomes. Numbers become what the
//! datatype can hold of them, or are refused: nothing is cut off, wrapped around or made up.

use std::borrow::Cow;

use half::{bf16, f16};
use quern_types::DataType;

/// A value as its file has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// None: JSON's `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number, as JSON writes it.
    Number(&'a str),
    /// A number that is one already, in the type that it has.
    Integer(i128),
    /// See [`Value::Integer`].
    Single(f32),
    /// See [`Value::Integer`].
    Double(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// Bytes, which need not be a string.
    Bytes(&'a [u8]),
    /// A text that may be anything, as CSV has it.
    Written(&'a str),
    /// Several values.
    List(Vec<Value<'a>>),
}

/// Longest part of a value that a message shows.
const SHOWN: usize = 40;

impl Value<'_> {
    /// The value in a message.
    fn shown(&self) -> String {
        let text = match self {
            Self::Null => return "null".into(),
            Self::Bool(value) => return value.to_string(),
            Self::Integer(value) => return value.to_string(),
            Self::Single(value) => return format!("{value:?}"),
            Self::Double(value) => return format!("{value:?}"),
            Self::Bytes(_) => return "bytes".into(),
            Self::List(_) => return "a list".into(),
            Self::Number(text) | Self::Written(text) => text,
            Self::Text(text) => text.as_ref(),
        };
        let cut: String = text.chars().take(SHOWN).collect();
        let end = if cut.len() < text.len() { "…" } else { "" };
        match self {
            Self::Number(_) => format!("{cut}{end}"),
            _ => format!("{cut:?}{end}"),
        }
    }

    /// Adds the value to the data of a tensor; the error says what is wrong with it.
    pub(crate) fn append(&self, dtype: DataType, data: &mut Vec<u8>) -> Result<(), String> {
        match dtype {
            DataType::Bool => data.push(self.truth()?.into()),
            DataType::Uint8 => data.push(self.integer(dtype)?),
            DataType::Uint16 => put(data, self.integer::<u16>(dtype)?.to_le_bytes()),
            DataType::Uint32 => put(data, self.integer::<u32>(dtype)?.to_le_bytes()),
            DataType::Uint64 => put(data, self.integer::<u64>(dtype)?.to_le_bytes()),
            DataType::Int8 => put(data, self.integer::<i8>(dtype)?.to_le_bytes()),
            DataType::Int16 => put(data, self.integer::<i16>(dtype)?.to_le_bytes()),
            DataType::Int32 => put(data, self.integer::<i32>(dtype)?.to_le_bytes()),
            DataType::Int64 => put(data, self.integer::<i64>(dtype)?.to_le_bytes()),
            DataType::Fp16 => {
                let value = self.float::<f32>(dtype)?;
                let narrow = f16::from_f32(value);
                self.check_finite(value.into(), narrow.to_f64(), dtype)?;
                put(data, narrow.to_le_bytes());
            }
            DataType::Bf16 => {
                let value = self.float::<f32>(dtype)?;
                let narrow = bf16::from_f32(value);
                self.check_finite(value.into(), narrow.to_f64(), dtype)?;
                put(data, narrow.to_le_bytes());
            }
            DataType::Fp32 => put(data, self.float::<f32>(dtype)?.to_le_bytes()),
            DataType::Fp64 => put(data, self.float::<f64>(dtype)?.to_le_bytes()),
            DataType::Bytes => {
                let bytes = self.bytes()?;
                let length =
                    u32::try_from(bytes.len()).map_err(|_| "is longer than 4 GiB".to_owned())?;
                data.extend_from_slice(&length.to_le_bytes());
                data.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn truth(&self) -> Result<bool, String> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Written("true" | "True" | "TRUE" | "1")
            | Self::Number("1")
            | Self::Integer(1) => Ok(true),
            Self::Written("false" | "False" | "FALSE" | "0")
            | Self::Number("0")
            | Self::Integer(0) => Ok(false),
            other => Err(other.refused("true, false, 1 or 0", DataType::Bool)),
        }
    }

    /// An integer that the type holds; a number with a fraction of nothing but zeros is one, too.
    fn integer<T: TryFrom<i128>>(&self, dtype: DataType) -> Result<T, String> {
        let whole = match self {
            Self::Number(text) | Self::Written(text) => match text.trim().parse::<i128>() {
                Ok(value) => Some(value),
                Err(_) => number(text.trim()).and_then(whole),
            },
            Self::Integer(value) => Some(*value),
            Self::Single(value) => whole(f64::from(*value)),
            Self::Double(value) => whole(*value),
            _ => None,
        };
        let whole = whole.ok_or_else(|| self.refused("an integer", dtype))?;
        T::try_from(whole).map_err(|_| format!("is {}, outside the range of {dtype}", self.shown()))
    }

    /// The nearest value that the type has.
    fn float<T: Float>(&self, dtype: DataType) -> Result<T, String> {
        let (given, nearest) = match self {
            Self::Number(text) | Self::Written(text) => {
                let parsed = T::parse(text.trim());
                // What is written with digits is finite.
                let digits = text.bytes().any(|byte| byte.is_ascii_digit());
                (if digits { 0.0 } else { f64::INFINITY }, parsed)
            }
            Self::Integer(value) => (0.0, Some(T::of_integer(*value))),
            Self::Single(value) => (f64::from(*value), Some(T::of_double(f64::from(*value)))),
            Self::Double(value) => (*value, Some(T::of_double(*value))),
            _ => (0.0, None),
        };
        let nearest = nearest.ok_or_else(|| self.refused("a number", dtype))?;
        self.check_finite(given, nearest.wide(), dtype)?;
        Ok(nearest)
    }

    fn check_finite(&self, given: f64, became: f64, dtype: DataType) -> Result<(), String> {
        if given.is_finite() && !became.is_finite() {
            return Err(format!("is {}, outside the range of {dtype}", self.shown()));
        }
        Ok(())
    }

    fn bytes(&self) -> Result<&[u8], String> {
        match self {
            Self::Text(text) => Ok(text.as_bytes()),
            Self::Written(text) => Ok(text.as_bytes()),
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.refused("a string", DataType::Bytes)),
        }
    }

    fn refused(&self, expected: &str, dtype: DataType) -> String {
        match self {
            Self::Written("") => format!("is empty, where {dtype} takes {expected}"),
            other => format!("is {}, where {dtype} takes {expected}", other.shown()),
        }
    }
}

fn put<const SIZE: usize>(data: &mut Vec<u8>, bytes: [u8; SIZE]) {
    data.extend_from_slice(&bytes);
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A number without a fraction that a binary64 holds exactly.
fn whole(value: f64) -> Option<i128> {
    const EXACT: f64 = (1u64 << 53) as f64;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i128)
}

/// The types that a number is rounded to.
trait Float: Sized {
    fn parse(text: &str) -> Option<Self>;
    fn of_integer(value: i128) -> Self;
    fn of_double(value: f64) -> Self;
    fn wide(&self) -> f64;
}

impl Float for f32 {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn of_integer(value: i128) -> Self {
        value as Self
    }

    fn of_double(value: f64) -> Self {
        value as Self
    }

    fn wide(&self) -> f64 {
        (*self).into()
    }
}

impl Float for f64 {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn of_integer(value: i128) -> Self {
        value as Self
    }

    fn of_double(value: f64) -> Self {
        value
    }

    fn wide(&self) -> f64 {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(value: &Value<'_>, dtype: DataType) -> Result<Vec<u8>, String> {
        let mut data = Vec::new();
        value.append(dtype, &mut data).map(|()| data)
    }

    #[test]
    fn values_become_what_their_type_holds() {
        use DataType::*;
        let written = Value::Written;
        let cases: [(Value<'_>, DataType, &[u8]); 26] = [
            (Value::Bool(true), Bool, &[1]),
            (written("False"), Bool, &[0]),
            (Value::Number("1"), Bool, &[1]),
            (written("255"), Uint8, &[255]),
            (written(" -128 "), Int8, &[128]),
            (written("3.0"), Int16, &3i16.to_le_bytes()),
            (Value::Number("1e3"), Uint16, &1000u16.to_le_bytes()),
            (Value::Number("4294967295"), Uint32, &u32::MAX.to_le_bytes()),
            (Value::Number("-2147483648"), Int32, &i32::MIN.to_le_bytes()),
            (Value::Number("18446744073709551615"), Uint64, &u64::MAX.to_le_bytes()),
            (written("-9223372036854775808"), Int64, &i64::MIN.to_le_bytes()),
            (Value::Number("0.1"), Fp32, &0.1f32.to_le_bytes()),
            (written("16777217"), Fp32, &16_777_216f32.to_le_bytes()),
            (Value::Number("1e-999"), Fp64, &0f64.to_le_bytes()),
            (written("-inf"), Fp32, &f32::NEG_INFINITY.to_le_bytes()),
            (written("65504"), Fp16, &f16::MAX.to_le_bytes()),
            (Value::Number("1"), Bf16, &bf16::ONE.to_le_bytes()),
            (written(""), Bytes, &[0, 0, 0, 0]),
            (Value::Text("é\0".into()), Bytes, &[3, 0, 0, 0, 0xc3, 0xa9, 0]),
            (Value::Bytes(&[0xff]), Bytes, &[1, 0, 0, 0, 0xff]),
            (Value::Integer(1), Bool, &[1]),
            (Value::Integer(u64::MAX.into()), Uint64, &u64::MAX.to_le_bytes()),
            (Value::Double(3.0), Int8, &[3]),
            (Value::Integer(16_777_217), Fp32, &16_777_216f32.to_le_bytes()),
            (Value::Single(0.1), Fp64, &f64::from(0.1f32).to_le_bytes()),
            (Value::Double(f64::INFINITY), Fp32, &f32::INFINITY.to_le_bytes()),
        ];
        for (value, dtype, expected) in cases {
            assert_eq!(element(&value, dtype).as_deref(), Ok(expected), "{value:?} as {dtype}");
        }
    }

    #[test]
    fn what_a_type_does_not_hold_is_refused() {
        use DataType::*;
        let written = Value::Written;
        let long = "x".repeat(50);
        let cases = [
            (Value::Null, Fp32, "is null, where FP32 takes a number"),
            (written(""), Fp32, "is empty, where FP32 takes a number"),
            (written("abc"), Fp64, "is \"abc\", where FP64 takes a number"),
            (written("1,5"), Fp64, "is \"1,5\", where FP64 takes a number"),
            (written("1\0"), Int64, "is \"1\\0\", where INT64 takes an integer"),
            (written(&long), Int64, "x\"…, where INT64 takes an integer"),
            (Value::Text("1".into()), Int64, "is \"1\", where INT64 takes an integer"),
            (Value::Number("1.5"), Int64, "is 1.5, where INT64 takes an integer"),
            (Value::Number("1e300"), Int64, "is 1e300, where INT64 takes an integer"),
            (Value::Number("256"), Uint8, "is 256, outside the range of UINT8"),
            (written("-1"), Uint64, "is \"-1\", outside the range of UINT64"),
            (Value::Number("1e39"), Fp32, "is 1e39, outside the range of FP32"),
            (Value::Number("65520"), Fp16, "is 65520, outside the range of FP16"),
            (Value::Number("2"), Bool, "is 2, where BOOL takes true, false, 1 or 0"),
            (Value::Number("2"), Bytes, "is 2, where BYTES takes a string"),
            (Value::List(vec![]), Fp32, "is a list, where FP32 takes a number"),
            (Value::Integer(2), Bool, "is 2, where BOOL takes true, false, 1 or 0"),
            (Value::Integer(256), Uint8, "is 256, outside the range of UINT8"),
            (Value::Single(1.5), Int64, "is 1.5, where INT64 takes an integer"),
            (Value::Double(-1e39), Fp32, "is -1e39, outside the range of FP32"),
            (Value::Bytes(&[0]), Fp32, "is bytes, where FP32 takes a number"),
        ];
        for (value, dtype, expected) in cases {
            let refused = element(&value, dtype).expect_err(expected);
            assert!(refused.ends_with(expected), "{refused:?} should end with {expected:?}");
        }
    }
}
