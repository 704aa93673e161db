//! What the values of a column are, and how each becomes a cell. Numbers stay what they are; dates
//! and times become texts, as RFC 3339 writes them.

use half::f16;
use jiff::{
    Timestamp,
    civil::{DateTime, Time},
    tz::Offset,
};
use parquet::{
    basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical},
    data_type::Int96,
    schema::types::Type,
};

use crate::cell::{Cell, RowWriter};

/// Most digits of a decimal number: as many as 16 bytes hold.
const MOST_DIGITS: i32 = 38;
const NANOSECONDS_A_DAY: i128 = 86_400 * 1_000_000_000;
const JULIAN_DAY_OF_1970: i128 = 2_440_588;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Integer,
    /// Integers of 32 or 64 bits without a sign.
    Unsigned,
    Half,
    Single,
    Double,
    /// With so many digits after the point.
    Decimal(u32),
    /// Days since 1970.
    Date,
    /// Since midnight; so many nanoseconds each.
    Time(i64),
    /// Since 1970, so many nanoseconds each; in UTC, or wherever the clock was.
    Timestamp {
        unit: i64,
        is_utc: bool,
    },
    Text,
    Binary,
    Uuid,
}

impl Kind {
    /// What the values of a leaf are; the error says what they are that can't be read.
    pub(crate) fn of(leaf: &Type) -> Result<Self, String> {
        let info = leaf.get_basic_info();
        let logical = info.logical_type_ref().cloned();
        let logical = match logical {
            Some(logical) => Some(logical),
            None => converted(leaf)?,
        };
        let physical = leaf.get_physical_type();
        let Some(logical) = logical else { return Ok(Self::plain(physical)) };
        Ok(match (&logical, physical) {
            (LogicalType::String | LogicalType::Enum | LogicalType::Json, Physical::BYTE_ARRAY) => {
                Self::Text
            }
            (LogicalType::Bson, Physical::BYTE_ARRAY) => Self::Binary,
            (LogicalType::Uuid, Physical::FIXED_LEN_BYTE_ARRAY) => Self::Uuid,
            (LogicalType::Float16, Physical::FIXED_LEN_BYTE_ARRAY) => Self::Half,
            (LogicalType::Date, Physical::INT32) => Self::Date,
            (LogicalType::Time(time), Physical::INT32 | Physical::INT64) => {
                Self::Time(nanoseconds(&time.unit))
            }
            (LogicalType::Timestamp(time), Physical::INT64) => {
                let (unit, is_utc) = (nanoseconds(&time.unit), time.is_adjusted_to_u_t_c);
                Self::Timestamp { unit, is_utc }
            }
            (LogicalType::Integer(integer), Physical::INT32 | Physical::INT64) => {
                match integer.is_signed {
                    true => Self::Integer,
                    false => Self::Unsigned,
                }
            }
            (LogicalType::Decimal(decimal), physical) => {
                let scale = u32::try_from(decimal.scale).ok();
                let scale = scale.filter(|_| decimal.scale <= MOST_DIGITS);
                match (scale, physical) {
                    (
                        Some(scale),
                        Physical::INT32
                        | Physical::INT64
                        | Physical::BYTE_ARRAY
                        | Physical::FIXED_LEN_BYTE_ARRAY,
                    ) if decimal.precision <= MOST_DIGITS => Self::Decimal(scale),
                    _ => return Err(format!("is {}, which is not read", shown(&logical))),
                }
            }
            (LogicalType::Unknown, physical) => Self::plain(physical),
            _ => return Err(format!("is {}, which is not read", shown(&logical))),
        })
    }

    fn plain(physical: Physical) -> Self {
        match physical {
            Physical::BOOLEAN => Self::Bool,
            Physical::INT32 | Physical::INT64 => Self::Integer,
            // Nothing but times was ever written as such.
            Physical::INT96 => Self::Timestamp { unit: 1, is_utc: true },
            Physical::FLOAT => Self::Single,
            Physical::DOUBLE => Self::Double,
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => Self::Binary,
        }
    }

    /// Adds an integer, of which 32 bits count if it has no more.
    pub(crate) fn put_integer(self, value: i64, bits: u32, row: &mut RowWriter) {
        match self {
            Self::Unsigned if bits == 32 => row.put(Cell::Integer(i64::from(value as u32))),
            Self::Unsigned => row.put(Cell::Unsigned(value as u64)),
            Self::Decimal(scale) => row.put(Cell::Decimal(&decimal(value.into(), scale))),
            Self::Date => {
                let date = moment(i128::from(value) * NANOSECONDS_A_DAY);
                put_text(row, date.map(|(_, local)| local.date().to_string()));
            }
            Self::Time(unit) => put_text(row, time(i128::from(value) * i128::from(unit))),
            Self::Timestamp { unit, is_utc } => {
                put_moment(row, i128::from(value) * i128::from(unit), is_utc);
            }
            _ => row.put(Cell::Integer(value)),
        }
    }

    /// Adds a time as it was written before there were types for it.
    pub(crate) fn put_int96(self, value: &Int96, row: &mut RowWriter) {
        let [low, high, day] = [0, 1, 2].map(|word| value.data().get(word).copied().unwrap_or(0));
        let nanoseconds = i128::from(u64::from(high) << 32 | u64::from(low));
        let days = i128::from(day as i32) - JULIAN_DAY_OF_1970;
        put_moment(row, days * NANOSECONDS_A_DAY + nanoseconds, true);
    }

    /// Adds what is stored as bytes.
    pub(crate) fn put_bytes(self, bytes: &[u8], row: &mut RowWriter) {
        match self {
            Self::Text => match str::from_utf8(bytes) {
                Ok(text) => row.put(Cell::Text(text)),
                Err(error) => {
                    let at = error.valid_up_to() + 1;
                    row.put(Cell::Unreadable(&format!("is not UTF-8 at byte {at}")));
                }
            },
            Self::Decimal(scale) => match big_endian(bytes) {
                Some(value) => row.put(Cell::Decimal(&decimal(value, scale))),
                None => row.put(Cell::Unreadable("is a number of more than 16 bytes")),
            },
            Self::Half => match bytes {
                [low, high] => {
                    row.put(Cell::Single(f16::from_le_bytes([*low, *high]).to_f32()));
                }
                _ => row.put(Cell::Unreadable("is no number of 2 bytes")),
            },
            Self::Uuid => match uuid::Uuid::from_slice(bytes) {
                Ok(uuid) => row.put(Cell::Text(&uuid.to_string())),
                Err(_) => row.put(Cell::Unreadable("is no UUID of 16 bytes")),
            },
            _ => row.put(Cell::Binary(bytes)),
        }
    }
}

/// What the types of older files are now; none if there is nothing but a physical one.
fn converted(leaf: &Type) -> Result<Option<LogicalType>, String> {
    let (millis, micros) = (TimeUnit::MILLIS, TimeUnit::MICROS);
    Ok(Some(match leaf.get_basic_info().converted_type() {
        ConvertedType::NONE => return Ok(None),
        ConvertedType::UTF8 => LogicalType::String,
        ConvertedType::ENUM => LogicalType::Enum,
        ConvertedType::JSON => LogicalType::Json,
        ConvertedType::BSON => LogicalType::Bson,
        ConvertedType::DECIMAL => LogicalType::decimal(leaf.get_scale(), leaf.get_precision()),
        ConvertedType::DATE => LogicalType::Date,
        ConvertedType::TIME_MILLIS => LogicalType::time(true, millis),
        ConvertedType::TIME_MICROS => LogicalType::time(true, micros),
        ConvertedType::TIMESTAMP_MILLIS => LogicalType::timestamp(true, millis),
        ConvertedType::TIMESTAMP_MICROS => LogicalType::timestamp(true, micros),
        ConvertedType::INT_8
        | ConvertedType::INT_16
        | ConvertedType::INT_32
        | ConvertedType::INT_64 => LogicalType::integer(64, true),
        ConvertedType::UINT_8
        | ConvertedType::UINT_16
        | ConvertedType::UINT_32
        | ConvertedType::UINT_64 => LogicalType::integer(64, false),
        other => return Err(format!("is of the type {other}, which is not read")),
    }))
}

fn shown(logical: &LogicalType) -> String {
    match logical {
        LogicalType::Decimal(decimal) => {
            format!("a decimal of {} digits, {} after the point", decimal.precision, decimal.scale)
        }
        LogicalType::_Unknown { .. } => "of a type that this version does not know".into(),
        other => {
            let name = format!("{other:?}");
            let name = name.split(['(', ' ']).next().unwrap_or_default();
            format!("of the type {name}")
        }
    }
}

fn nanoseconds(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => 1_000_000,
        TimeUnit::MICROS => 1_000,
        TimeUnit::NANOS => 1,
    }
}

fn put_text(row: &mut RowWriter, text: Option<String>) {
    match text {
        Some(text) => row.put(Cell::Text(&text)),
        None => row.put(Cell::Unreadable("is a time outside the years that can be written")),
    }
}

fn put_moment(row: &mut RowWriter, nanoseconds: i128, is_utc: bool) {
    let text = moment(nanoseconds).map(|(moment, local)| match is_utc {
        true => moment.to_string(),
        false => local.to_string(),
    });
    put_text(row, text);
}

/// A moment by its nanoseconds since 1970, and what a clock shows then in UTC; none outside the
/// years 0 to 9999, which RFC 3339 has.
fn moment(nanoseconds: i128) -> Option<(Timestamp, DateTime)> {
    let moment = Timestamp::from_nanosecond(nanoseconds).ok()?;
    let local = Offset::UTC.to_datetime(moment);
    (local.year() >= 0).then_some((moment, local))
}

/// A time of day by its nanoseconds since midnight.
fn time(nanoseconds: i128) -> Option<String> {
    let nanoseconds = u64::try_from(nanoseconds).ok()?;
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let (minutes, second) = (seconds / 60, (seconds % 60) as i8);
    let (hour, minute) = (i8::try_from(minutes / 60).ok()?, (minutes % 60) as i8);
    let time = Time::new(hour, minute, second, i32::try_from(rest).ok()?).ok()?;
    Some(time.to_string())
}

/// The number that bytes in two's complement are, the largest first; none of more than 16.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    let begin = whole.len().checked_sub(bytes.len())?;
    whole[begin..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

/// A number with so many of its digits after the point.
fn decimal(value: i128, scale: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let scale = scale as usize;
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    match part {
        "" => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::cell::Cells;

    fn kind(field: &str) -> Result<Kind, String> {
        let schema = parse_message_type(&format!("message m {{ {field} }}")).expect(field);
        Kind::of(&Arc::clone(&schema.get_fields()[0]))
    }

    fn one(put: impl FnOnce(&mut RowWriter)) -> String {
        let mut row = RowWriter::default();
        put(&mut row);
        let cell = Cells::new(row.as_bytes()).next().expect("a value");
        format!("{:?}", cell.expect("well-formed"))
    }

    #[test]
    fn integers_are_what_their_type_says() {
        let utc = |unit| Kind::Timestamp { unit, is_utc: true };
        let local = Kind::Timestamp { unit: 1_000_000, is_utc: false };
        for (kind, value, bits, expected) in [
            (Kind::Integer, -1, 32, "Integer(-1)"),
            (Kind::Unsigned, -1, 32, "Integer(4294967295)"),
            (Kind::Unsigned, -1, 64, "Unsigned(18446744073709551615)"),
            (Kind::Decimal(2), -105, 32, "Decimal(\"-1.05\")"),
            (Kind::Decimal(3), 5, 64, "Decimal(\"0.005\")"),
            (Kind::Decimal(0), 5, 64, "Decimal(\"5\")"),
            (Kind::Date, 20_778, 32, "Text(\"2026-11-21\")"),
            (Kind::Date, -1, 32, "Text(\"1969-12-31\")"),
            (Kind::Time(1_000), 3_723_000_004, 64, "Text(\"01:02:03.000004\")"),
            (utc(1_000_000), 1_500, 64, "Text(\"1970-01-01T00:00:01.5Z\")"),
            (utc(1), -1, 64, "Text(\"1969-12-31T23:59:59.999999999Z\")"),
            (local, 0, 64, "Text(\"1970-01-01T00:00:00\")"),
        ] {
            assert_eq!(one(|row| kind.put_integer(value, bits, row)), expected);
        }
        for (kind, value) in [
            (Kind::Date, i64::from(i32::MAX)),
            (Kind::Date, i64::from(i32::MIN)),
            (Kind::Time(1), -1),
            (Kind::Time(1_000_000), 86_400_000),
            (utc(1_000_000), i64::MAX),
        ] {
            let cell = one(|row| kind.put_integer(value, 64, row));
            assert!(cell.starts_with("Unreadable(\"is a time outside"), "{kind:?} {cell}");
        }
    }

    #[test]
    fn bytes_are_what_their_type_says() {
        for (kind, bytes, expected) in [
            (Kind::Text, &b"a\xc3\xa9"[..], "Text(\"aé\")"),
            (Kind::Text, b"a\xff", "Unreadable(\"is not UTF-8 at byte 2\")"),
            (Kind::Binary, b"\xff", "Binary([255])"),
            (Kind::Half, &[0, 0x3c], "Single(1.0)"),
            (Kind::Half, &[0], "Unreadable(\"is no number of 2 bytes\")"),
            (Kind::Decimal(1), &[0xff, 0x85], "Decimal(\"-12.3\")"),
            (Kind::Decimal(1), &[], "Decimal(\"0.0\")"),
            (Kind::Decimal(1), &[0; 17], "Unreadable(\"is a number of more than 16 bytes\")"),
            (Kind::Uuid, &[0x11; 16], "Text(\"11111111-1111-1111-1111-111111111111\")"),
            (Kind::Uuid, &[0x11; 3], "Unreadable(\"is no UUID of 16 bytes\")"),
        ] {
            assert_eq!(one(|row| kind.put_bytes(bytes, row)), expected);
        }
        let mut noon = Int96::new();
        noon.set_data(1, 0, 2_440_589);
        let put = |row: &mut RowWriter| Kind::plain(Physical::INT96).put_int96(&noon, row);
        assert_eq!(one(put), "Text(\"1970-01-02T00:00:00.000000001Z\")");
    }

    #[test]
    fn types_are_told_by_their_annotations_old_and_new() {
        let utc = |unit| Kind::Timestamp { unit, is_utc: true };
        for (field, expected) in [
            ("required boolean x;", Kind::Bool),
            ("required int32 x;", Kind::Integer),
            ("required int32 x (UINT_8);", Kind::Unsigned),
            ("required int64 x (INTEGER(64,false));", Kind::Unsigned),
            ("required int32 x (DATE);", Kind::Date),
            ("required int32 x (TIME_MILLIS);", Kind::Time(1_000_000)),
            ("required int64 x (TIME(NANOS,true));", Kind::Time(1)),
            ("required int64 x (TIMESTAMP_MICROS);", utc(1_000)),
            ("required int96 x;", utc(1)),
            ("required int32 x (DECIMAL(9,2));", Kind::Decimal(2)),
            ("required fixed_len_byte_array(16) x (DECIMAL(38,0));", Kind::Decimal(0)),
            ("required double x;", Kind::Double),
            ("required fixed_len_byte_array(2) x (FLOAT16);", Kind::Half),
            ("required fixed_len_byte_array(16) x (UUID);", Kind::Uuid),
            ("required binary x (UTF8);", Kind::Text),
            ("required binary x (JSON);", Kind::Text),
            ("required binary x;", Kind::Binary),
        ] {
            assert_eq!(kind(field), Ok(expected), "{field}");
        }
        let wide = kind("required fixed_len_byte_array(17) x (DECIMAL(39,2));");
        let expected = "is a decimal of 39 digits, 2 after the point, which is not read";
        assert_eq!(wide, Err(expected.into()));
    }
}
