//! The fields of a protobuf message, one after another and without a copy
//! (<https://protobuf.dev/programming-guides/encoding/>). What they mean is decided by who asks.

use bytes::{Buf, Bytes};

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// An integer, a boolean or an enum.
    Varint(u64),
    /// Eight bytes, little-endian.
    Fixed64(u64),
    /// A string, bytes, a message, or several numbers.
    Bytes(Bytes),
    /// Four bytes, little-endian.
    Fixed32(u32),
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a protobuf message: it breaks off, or has a key that means nothing")]
pub(crate) struct Malformed;

/// Takes a variable-length integer off the front.
pub(crate) fn varint(bytes: &mut Bytes) -> Result<u64, Malformed> {
    let mut value = 0;
    for (position, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if position == 9 && bits > 1 {
            return Err(Malformed);
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            bytes.advance(position + 1);
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// The fields of a message, as they stand in it: a field may come more than once. The first error
/// is the end.
#[derive(Debug, Clone)]
pub(crate) struct Fields(Bytes);

impl Fields {
    pub(crate) fn of(message: Bytes) -> Self {
        Self(message)
    }

    fn next_field(&mut self) -> Result<(u32, Value), Malformed> {
        let rest = &mut self.0;
        let key = varint(rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(Malformed)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(rest)?),
            1 => Value::Fixed64(rest.try_get_u64_le().map_err(|_| Malformed)?),
            2 => {
                let length = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
                if length > rest.len() {
                    return Err(Malformed);
                }
                Value::Bytes(rest.split_to(length))
            }
            5 => Value::Fixed32(rest.try_get_u32_le().map_err(|_| Malformed)?),
            // Groups are long gone, and nothing else is defined.
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }
}

impl Iterator for Fields {
    type Item = Result<(u32, Value), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.next_field();
        if field.is_err() {
            self.0.clear();
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &'static [u8]) -> Vec<Result<(u32, Value), Malformed>> {
        Fields::of(Bytes::from_static(bytes)).collect()
    }

    #[test]
    fn fields_are_read_in_their_order() {
        let expected = [
            Ok((1, Value::Varint(300))),
            Ok((2, Value::Bytes(Bytes::from_static(b"ab")))),
            Ok((3, Value::Fixed32(1))),
            Ok((4, Value::Fixed64(2))),
            Ok((16, Value::Bytes(Bytes::new()))),
        ];
        let bytes = b"\x08\xac\x02\x12\x02ab\x1d\x01\0\0\0\x21\x02\0\0\0\0\0\0\0\x82\x01\0";
        assert_eq!(fields(bytes), expected);
    }

    #[test]
    fn integers_have_64_bits_at_most() {
        for (bytes, value) in [
            (&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], Ok(u64::MAX)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Err(Malformed)),
            (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\0", Err(Malformed)),
            (b"\x80", Err(Malformed)),
            (b"", Err(Malformed)),
            (b"\0", Ok(0)),
        ] {
            assert_eq!(varint(&mut Bytes::from_static(bytes)), value, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_malformed_ends_the_message() {
        for bytes in [
            &b"\x08"[..],
            b"\x0a\x05ab",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x0d\0\0",
            b"\x09\0\0\0",
            b"\x0b\x0c",
            b"\x0e",
            b"\0\0",
            b"\xf8\xff\xff\xff\xff\x01\0",
        ] {
            assert_eq!(fields(bytes), [Err(Malformed)], "{bytes:?}");
        }
        assert_eq!(fields(b"\x08\x01\x0b\x08\x01").len(), 2, "nothing follows an error");
    }
}
