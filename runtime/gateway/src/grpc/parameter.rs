//! Parameters of requests, inputs and outputs (`map<string, InferParameter>`). Which of them mean
//! something is decided by who reads them.

use bytes::Bytes;

use super::wire::{Fields, Malformed, Value};

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) key: String,
    value: Option<Choice>,
}

#[derive(Debug, Clone, PartialEq)]
enum Choice {
    Bool(bool),
    Int64(i64),
    Uint64(u64),
    Text(Bytes),
    /// A fraction, which no parameter here takes.
    Other,
}

/// Why an entry is no parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    /// It isn't protobuf, or of another type.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// Its key isn't text.
    #[error("has a key that is not UTF-8")]
    Key,
}

impl Parameter {
    /// Reads an entry of the map.
    pub(crate) fn read(entry: Bytes) -> Result<Self, ParameterError> {
        let mut parameter = Self { key: String::new(), value: None };
        for field in Fields::of(entry) {
            match field? {
                (1, Value::Bytes(key)) => {
                    let key = str::from_utf8(&key).map_err(|_| ParameterError::Key)?;
                    parameter.key = key.to_owned();
                }
                (2, Value::Bytes(value)) => parameter.value = choice(value)?,
                (1 | 2, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        Ok(parameter)
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.value {
            Some(Choice::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// Its value, if it is text.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Some(Choice::Text(text)) => str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// Its value, if it is an integer that is not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self.value {
            Some(Choice::Int64(value)) => value.try_into().ok(),
            Some(Choice::Uint64(value)) => Some(value),
            _ => None,
        }
    }
}

/// The last of the values, as protobuf wants it.
fn choice(value: Bytes) -> Result<Option<Choice>, Malformed> {
    let mut choice = None;
    for field in Fields::of(value) {
        choice = Some(match field? {
            (1, Value::Varint(value)) => Choice::Bool(value != 0),
            (2, Value::Varint(value)) => Choice::Int64(value.cast_signed()),
            (5, Value::Varint(value)) => Choice::Uint64(value),
            (3, Value::Bytes(text)) => Choice::Text(text),
            (4, Value::Fixed64(_)) => Choice::Other,
            (1..=5, _) => return Err(Malformed),
            _ => continue,
        });
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entry: &'static [u8]) -> Result<Parameter, ParameterError> {
        Parameter::read(Bytes::from_static(entry))
    }

    #[test]
    fn values_are_read_by_their_types() {
        for (entry, as_bool, as_u64) in [
            (&b"\x0a\x01k\x12\x02\x08\x01"[..], Some(true), None),
            (b"\x0a\x01k\x12\x02\x10\x07", None, Some(7)),
            (b"\x0a\x01k\x12\x02\x28\x08", None, Some(8)),
            (b"\x0a\x01k\x12\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None, None),
            (b"\x0a\x01k\x12\x04\x08\x01\x10\x02", None, Some(2)),
            (b"\x0a\x01k\x12\x03\x1a\x017", None, None),
            (b"\x0a\x01k", None, None),
        ] {
            let parameter = read(entry).expect("a parameter");
            assert_eq!(parameter.key, "k");
            assert_eq!((parameter.as_bool(), parameter.as_u64()), (as_bool, as_u64), "{entry:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for entry in [&b"\x08\x01"[..], b"\x12\x02\x0d\0", b"\x12\x03\x0a\x01x", b"\x0a\x05k"] {
            assert_eq!(read(entry), Err(Malformed.into()), "{entry:?}");
        }
        assert_eq!(read(b"\x0a\x01\xff"), Err(ParameterError::Key));
    }

    #[test]
    fn text_is_utf_8() {
        for (entry, text) in [
            (&b"\x0a\x01k\x12\x03\x1a\x01r"[..], Some("r")),
            (b"\x0a\x01k\x12\x03\x1a\x01\xff", None),
            (b"\x0a\x01k\x12\x02\x10\x07", None),
        ] {
            assert_eq!(read(entry).expect("a parameter").as_str(), text, "{entry:?}");
        }
    }
}
