//! The `data` of a tensor: JSON, flat or nested as the shape says, straight into little-endian
//! elements. Every element is checked against its datatype; nothing is rounded to an integer,
//! clipped or replaced.

use std::fmt;

use quern_types::{DataType, Tensor, TensorError, element_count};

use super::json::{Cursor, Number, SyntaxError};

/// Why `data` don't make a tensor: the place below `data`, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataError {
    /// Indices from the innermost to the outermost.
    path: Vec<u64>,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    #[error("expected an array, found {found}")]
    NotArray { found: String },
    #[error("has {found} elements, its shape asks for {expected}")]
    TooFew { found: u64, expected: u64 },
    #[error("has more than the {expected} elements that its shape asks for")]
    TooMany { expected: u64 },
    #[error("has too many elements in its shape {shape:?}")]
    TooLarge { shape: Vec<u64> },
    #[error("is nested deeper than its shape")]
    TooDeep,
    #[error("{dtype} takes {expected}, found {found}")]
    Type { dtype: DataType, expected: &'static str, found: String },
    #[error("{text} is outside the range of {dtype}")]
    Range { dtype: DataType, text: String },
    #[error("{dtype} has no form in JSON: send it as binary data")]
    NoJson { dtype: DataType },
    #[error("string is longer than 4 GiB")]
    LongString,
    #[error("{0}")]
    Tensor(#[from] TensorError),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data")?;
        self.path.iter().rev().try_for_each(|index| write!(f, "[{index}]"))?;
        write!(f, ": {}", self.fault)
    }
}

impl From<Fault> for DataError {
    fn from(fault: Fault) -> Self {
        Self { path: Vec::new(), fault }
    }
}

impl DataError {
    fn below(mut self, index: u64) -> Self {
        self.path.push(index);
        self
    }
}

/// What a tensor is, all but its data.
#[derive(Clone, Copy)]
pub(crate) struct Outline<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: DataType,
    pub(crate) shape: &'a [u64],
}

impl Outline<'_> {
    /// Reads the data at `cursor`.
    pub(crate) fn read(self, cursor: &mut Cursor<'_>) -> Result<Tensor, DataError> {
        match self.dtype {
            DataType::Bool => self.plain(cursor, boolean),
            DataType::Uint8 => self.plain::<u8>(cursor, integer),
            DataType::Uint16 => self.plain::<u16>(cursor, integer),
            DataType::Uint32 => self.plain::<u32>(cursor, integer),
            DataType::Uint64 => self.plain::<u64>(cursor, integer),
            DataType::Int8 => self.plain::<i8>(cursor, integer),
            DataType::Int16 => self.plain::<i16>(cursor, integer),
            DataType::Int32 => self.plain::<i32>(cursor, integer),
            DataType::Int64 => self.plain::<i64>(cursor, integer),
            DataType::Fp32 => self.plain(cursor, |c, dtype| float(c, dtype, Number::to_f32)),
            DataType::Fp64 => self.plain(cursor, |c, dtype| float(c, dtype, Number::to_f64)),
            DataType::Bytes => self.strings(cursor),
            DataType::Fp16 | DataType::Bf16 => Err(Fault::NoJson { dtype: self.dtype }.into()),
        }
    }

    fn plain<T: bytemuck::NoUninit + Send + 'static>(
        self,
        cursor: &mut Cursor<'_>,
        read: impl Fn(&mut Cursor<'_>, DataType) -> Result<T, Fault>,
    ) -> Result<Tensor, DataError> {
        let dtype = self.dtype;
        let count = self.elements()?;
        let mut elements = Vec::with_capacity(capacity(count, cursor));
        walk(cursor, self.shape, count, &mut |cursor| {
            elements.push(read(cursor, dtype)?);
            Ok(())
        })?;
        Tensor::from_elements(self.name, dtype, self.shape.to_vec(), elements)
            .map_err(|error| Fault::Tensor(error).into())
    }

    fn strings(self, cursor: &mut Cursor<'_>) -> Result<Tensor, DataError> {
        let dtype = self.dtype;
        let count = self.elements()?;
        let mut data = Vec::with_capacity(capacity(count, cursor));
        walk(cursor, self.shape, count, &mut |cursor| {
            if cursor.peek() != Some(b'"') {
                return Err(Fault::Type { dtype, expected: "strings", found: cursor.found() });
            }
            let string = cursor.string()?;
            let length = u32::try_from(string.len()).map_err(|_| Fault::LongString)?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(string.as_bytes());
            Ok(())
        })?;
        Tensor::new(self.name, dtype, self.shape.to_vec(), data)
            .map_err(|error| Fault::Tensor(error).into())
    }

    fn elements(&self) -> Result<u64, Fault> {
        element_count(self.shape).ok_or_else(|| Fault::TooLarge { shape: self.shape.to_vec() })
    }
}

/// Elements to make room for: as many as the shape has, but never more than the text can hold.
fn capacity(elements: u64, cursor: &Cursor<'_>) -> usize {
    let most = cursor.remaining() / 2;
    usize::try_from(elements).map_or(most, |elements| elements.min(most))
}

/// Visits the elements in row-major order.
fn walk<R>(
    cursor: &mut Cursor<'_>,
    shape: &[u64],
    elements: u64,
    read: &mut R,
) -> Result<(), DataError>
where
    R: FnMut(&mut Cursor<'_>) -> Result<(), Fault>,
{
    open(cursor)?;
    if cursor.peek() != Some(b'[') {
        return row(cursor, elements, read);
    }
    nested(cursor, shape, read)
}

fn open(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    if cursor.eat(b'[') { Ok(()) } else { Err(Fault::NotArray { found: cursor.found() }) }
}

/// The rest of an array that nests as `shape` says. The shape's length bounds the recursion.
fn nested<R>(cursor: &mut Cursor<'_>, shape: &[u64], read: &mut R) -> Result<(), DataError>
where
    R: FnMut(&mut Cursor<'_>) -> Result<(), Fault>,
{
    match shape {
        [] => Err(Fault::TooDeep.into()),
        [length] => row(cursor, *length, read),
        [length, inner @ ..] => items(cursor, *length, |cursor| {
            open(cursor)?;
            nested(cursor, inner, read)
        }),
    }
}

/// The rest of an array of `expected` elements.
#[inline]
fn row<R>(cursor: &mut Cursor<'_>, expected: u64, read: &mut R) -> Result<(), DataError>
where
    R: FnMut(&mut Cursor<'_>) -> Result<(), Fault>,
{
    items(cursor, expected, |cursor| match read(cursor) {
        Ok(()) => Ok(()),
        Err(_) if cursor.peek() == Some(b'[') => Err(Fault::TooDeep.into()),
        Err(fault) => Err(fault.into()),
    })
}

/// The rest of an array of `expected` items of any kind.
#[inline]
fn items(
    cursor: &mut Cursor<'_>,
    expected: u64,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut found = 0;
    let mut more = !cursor.eat(b']');
    while more {
        if found == expected {
            return Err(Fault::TooMany { expected }.into());
        }
        item(cursor).map_err(|error| error.below(found))?;
        found += 1;
        more = cursor.more(b']').map_err(Fault::Syntax)?;
    }
    if found < expected {
        return Err(Fault::TooFew { found, expected }.into());
    }
    Ok(())
}

fn boolean(cursor: &mut Cursor<'_>, dtype: DataType) -> Result<u8, Fault> {
    cursor.boolean().map(u8::from).ok_or_else(|| Fault::Type {
        dtype,
        expected: "true and false",
        found: cursor.found(),
    })
}

#[inline]
fn integer<T: TryFrom<i128>>(cursor: &mut Cursor<'_>, dtype: DataType) -> Result<T, Fault> {
    let number = number(cursor, dtype, "integers")?;
    if !number.is_integer() {
        return Err(Fault::Type { dtype, expected: "integers", found: shown(number) });
    }
    number
        .to_i128()
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| Fault::Range { dtype, text: shown(number) })
}

#[inline]
fn float<'a, T>(
    cursor: &mut Cursor<'a>,
    dtype: DataType,
    convert: impl Fn(Number<'a>) -> Option<T>,
) -> Result<T, Fault> {
    let number = number(cursor, dtype, "numbers")?;
    convert(number).ok_or_else(|| Fault::Range { dtype, text: shown(number) })
}

#[inline]
fn number<'a>(
    cursor: &mut Cursor<'a>,
    dtype: DataType,
    expected: &'static str,
) -> Result<Number<'a>, Fault> {
    cursor.number().ok_or_else(|| Fault::Type { dtype, expected, found: cursor.found() })
}

/// A number as it was written, cut to a length for messages.
fn shown(number: Number<'_>) -> String {
    number.text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: DataType, shape: &[u64], text: &str) -> Result<Tensor, String> {
        let outline = Outline { name: "x", dtype, shape };
        let mut cursor = Cursor::new(text);
        let tensor = outline.read(&mut cursor).map_err(|error| error.to_string())?;
        assert_eq!(cursor.peek(), None, "all of {text} is read");
        Ok(tensor)
    }

    #[test]
    fn every_datatype_that_json_can_write_is_read_exactly() {
        fn check<T: bytemuck::NoUninit>(dtype: DataType, text: &str, expected: &[T]) {
            let tensor = read(dtype, &[expected.len() as u64], text).expect(text);
            assert_eq!(tensor.data(), bytemuck::cast_slice::<T, u8>(expected), "{text}");
        }
        check(DataType::Bool, "[true,false , true]", &[1u8, 0, 1]);
        check(DataType::Uint8, "[0,255,-0]", &[0u8, 255, 0]);
        check(DataType::Uint16, "[65535]", &[u16::MAX]);
        check(DataType::Uint32, "[4294967295]", &[u32::MAX]);
        check(DataType::Uint64, "[18446744073709551615]", &[u64::MAX]);
        check(DataType::Int8, "[-128,127]", &[i8::MIN, i8::MAX]);
        check(DataType::Int16, "[-32768]", &[i16::MIN]);
        check(DataType::Int32, "[-2147483648]", &[i32::MIN]);
        check(
            DataType::Int64,
            "[-9223372036854775808,9007199254740993]",
            &[i64::MIN, 9_007_199_254_740_993],
        );
        check(DataType::Fp32, "[0.1,-1e3,7,1e-999]", &[0.1f32, -1000., 7., 0.]);
        check(DataType::Fp64, "[0.1,0.30000000000000004]", &[0.1f64, 0.30000000000000004]);
        let strings = read(DataType::Bytes, &[2], r#"["aé",""]"#).expect("strings");
        assert_eq!(strings.strings().collect::<Vec<_>>(), ["aé".as_bytes(), b""]);
    }

    #[test]
    fn data_are_flat_or_nest_exactly_as_the_shape() {
        let good: &[(&[u64], &str)] = &[
            (&[2, 3], "[1,2,3,4,5,6]"),
            (&[2, 3], "[[1,2,3],[4,5,6]]"),
            (&[1, 2, 1, 3], "[[[[1,2,3]],[[4,5,6]]]]"),
            (&[], "[1]"),
            (&[0], "[]"),
            (&[2, 0], "[[],[]]"),
            (&[2, 0], "[]"),
            (&[0, 2], "[]"),
        ];
        for (shape, text) in good {
            let tensor = read(DataType::Int8, shape, text).expect(text);
            let expected: Vec<u8> = (1..=6).take(tensor.elements() as usize).collect();
            assert_eq!(&tensor.data()[..], expected, "{shape:?} {text}");
        }
        let bad: &[(&[u64], &str, &str)] = &[
            (&[2, 3], "[1,2,3]", "data: has 3 elements, its shape asks for 6"),
            (&[2, 1], "[1,2,3]", "data: has more than the 2 elements that its shape asks for"),
            (&[2, 3], "[[1,2,3],[4,5]]", "data[1]: has 2 elements, its shape asks for 3"),
            (
                &[2, 1],
                "[[1],[2,3]]",
                "data[1]: has more than the 1 elements that its shape asks for",
            ),
            (&[2, 3], "[[1,2,3]]", "data: has 1 elements, its shape asks for 2"),
            (&[2, 2], "[[1,2],3,4]", "data[1]: expected an array, found 3"),
            (&[2, 2], "[1,2,[3,4]]", "data[2]: is nested deeper than its shape"),
            (&[2], "[[1],[2]]", "data[0]: is nested deeper than its shape"),
            (&[], "[[1]]", "data: is nested deeper than its shape"),
            (&[1, 1], "[[[1]]]", "data[0][0]: is nested deeper than its shape"),
            (&[1], "1", "data: expected an array, found 1"),
            (&[1], "null", "data: expected an array, found null"),
            (&[1], "{}", "data: expected an array, found an object"),
            (&[2], "[1,]", "data[1]: INT8 takes integers, found ]"),
            (&[2], "[1 2]", "data: byte 3: expected ',' or ']', found 2"),
            (&[2], "[1,2", "data: byte 4: expected ',' or ']', found the end of the body"),
            (&[9_000_000_000], "[1]", "data: has 1 elements, its shape asks for 9000000000"),
        ];
        for (shape, text, message) in bad {
            assert_eq!(read(DataType::Int8, shape, text), Err((*message).into()), "{text}");
        }
    }

    #[test]
    fn an_element_of_another_type_is_named() {
        let cases = [
            (DataType::Int32, "[1,2.5]", "data[1]: INT32 takes integers, found 2.5"),
            (DataType::Int32, "[1.0,2]", "data[0]: INT32 takes integers, found 1.0"),
            (DataType::Int32, "[1e3,2]", "data[0]: INT32 takes integers, found 1e3"),
            (DataType::Uint8, "[-1,2]", "data[0]: -1 is outside the range of UINT8"),
            (DataType::Uint8, "[1,256]", "data[1]: 256 is outside the range of UINT8"),
            (
                DataType::Int64,
                "[9223372036854775808,1]",
                "data[0]: 9223372036854775808 is outside the range of INT64",
            ),
            (DataType::Fp32, "[1,1e39]", "data[1]: 1e39 is outside the range of FP32"),
            (DataType::Fp64, "[1e999,1]", "data[0]: 1e999 is outside the range of FP64"),
            (DataType::Fp32, "[NaN,1]", "data[0]: FP32 takes numbers, found NaN"),
            (DataType::Fp32, "[1,-Infinity]", "data[1]: FP32 takes numbers, found -Infinity"),
            (DataType::Fp32, "[1,null]", "data[1]: FP32 takes numbers, found null"),
            (DataType::Fp32, "[\"1\",2]", "data[0]: FP32 takes numbers, found a string"),
            (DataType::Fp32, "[1,{}]", "data[1]: FP32 takes numbers, found an object"),
            (DataType::Fp32, "[1,01]", "data[1]: FP32 takes numbers, found 01"),
            (DataType::Fp32, "[true,1]", "data[0]: FP32 takes numbers, found true"),
            (DataType::Bool, "[true,1]", "data[1]: BOOL takes true and false, found 1"),
            (DataType::Bool, "[True,true]", "data[0]: BOOL takes true and false, found True"),
            (DataType::Bytes, "[\"a\",1]", "data[1]: BYTES takes strings, found 1"),
            (DataType::Fp16, "[1,2]", "data: FP16 has no form in JSON: send it as binary data"),
            (DataType::Bf16, "[1,2]", "data: BF16 has no form in JSON: send it as binary data"),
        ];
        for (dtype, text, message) in cases {
            assert_eq!(read(dtype, &[2], text), Err(message.into()), "{dtype} {text}");
        }
    }

    #[test]
    fn a_shape_never_reserves_more_than_the_text_can_fill() {
        assert_eq!(capacity(1 << 60, &Cursor::new("[1,2]")), 2);
        assert_eq!(capacity(1, &Cursor::new("[1,2]")), 1);
    }
}
