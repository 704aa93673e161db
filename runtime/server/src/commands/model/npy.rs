//! Reads the numbers of NumPy's `.npy` files, as specified in NEP 1, piece by piece. Knows plain
//! numbers only: structured and object arrays are refused.

use std::io::{self, Read};

use half::f16;

/// Longest header that is read: a type and a shape take less.
const MAX_HEADER: usize = 64 << 10;
/// Bytes that are read at a time; a multiple of the size of every element.
const PIECE: u64 = 64 << 10;
/// What every file begins with.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NpyError {
    #[error("it can't be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is no .npy file{0}")]
    Format(&'static str),
    #[error("its elements are {0:?}: save plain numbers in little-endian order, such as \"<f4\"")]
    Elements(String),
    #[error("{0}")]
    Value(String),
}

/// An array whose header was read.
#[derive(Debug)]
pub(crate) struct Array<R> {
    source: R,
    element: Element,
    pub(crate) shape: Vec<u64>,
    elements: u64,
}

/// The types of elements, named as NumPy does without the byte order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Element {
    B1,
    I1,
    I2,
    I4,
    I8,
    U1,
    U2,
    U4,
    U8,
    F2,
    F4,
    F8,
}

impl<R: Read> Array<R> {
    /// Reads the header.
    pub(crate) fn open(mut source: R) -> Result<Self, NpyError> {
        let mut start = [0; 8];
        source.read_exact(&mut start).map_err(|_| NpyError::Format(""))?;
        if !start.starts_with(MAGIC) {
            return Err(NpyError::Format(""));
        }
        let mut length = [0; 4];
        let bytes = if start[6] == 1 { 2 } else { 4 };
        source.read_exact(&mut length[..bytes])?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(NpyError::Format(": its header is too long"));
        }
        let mut header = vec![0; length];
        source.read_exact(&mut header)?;
        let header = String::from_utf8(header).map_err(|_| NpyError::Format(""))?;
        let broken = || NpyError::Format(": its header is not understood");
        let descr = entry(&header, "descr").ok_or_else(broken)?;
        let element = Element::parse(descr)?;
        let shape = shape(entry(&header, "shape").ok_or_else(broken)?).ok_or_else(broken)?;
        let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let elements = elements.ok_or(NpyError::Format(": it claims too many elements"))?;
        Ok(Self { source, element, shape, elements })
    }

    /// Hands on every number, in the file's order.
    pub(crate) fn each(
        mut self,
        mut take: impl FnMut(f64) -> Result<(), String>,
    ) -> Result<(), NpyError> {
        let size = self.element.size();
        let mut left = self.elements;
        let mut piece = Vec::new();
        while left > 0 {
            let count = left.min(PIECE / size as u64);
            piece.resize(count as usize * size, 0);
            let broken = |_| NpyError::Format(": it breaks off");
            self.source.read_exact(&mut piece).map_err(broken)?;
            for element in piece.chunks_exact(size) {
                take(self.element.value(element)).map_err(NpyError::Value)?;
            }
            left -= count;
        }
        Ok(())
    }
}

impl Element {
    fn parse(descr: &str) -> Result<Self, NpyError> {
        let unknown = || NpyError::Elements(descr.chars().take(80).collect());
        let text = descr.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let (order, name) = text.and_then(|text| text.split_at_checked(1)).ok_or_else(unknown)?;
        let element = match name {
            "b1" => Self::B1,
            "i1" => Self::I1,
            "i2" => Self::I2,
            "i4" => Self::I4,
            "i8" => Self::I8,
            "u1" => Self::U1,
            "u2" => Self::U2,
            "u4" => Self::U4,
            "u8" => Self::U8,
            "f2" => Self::F2,
            "f4" => Self::F4,
            "f8" => Self::F8,
            _ => return Err(unknown()),
        };
        let ordered = order == "<" || (order == "|" && element.size() == 1);
        ordered.then_some(element).ok_or_else(unknown)
    }

    fn size(self) -> usize {
        match self {
            Self::B1 | Self::I1 | Self::U1 => 1,
            Self::I2 | Self::U2 | Self::F2 => 2,
            Self::I4 | Self::U4 | Self::F4 => 4,
            Self::I8 | Self::U8 | Self::F8 => 8,
        }
    }

    /// The number that these bytes are, as many as its size.
    fn value(self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(word);
        // Each cast takes the low bits, which are all that there are.
        match self {
            Self::B1 | Self::U1 | Self::U2 | Self::U4 | Self::U8 => bits as f64,
            Self::I1 => f64::from(bits as i8),
            Self::I2 => f64::from(bits as i16),
            Self::I4 => f64::from(bits as i32),
            Self::I8 => bits as i64 as f64,
            Self::F2 => f16::from_bits(bits as u16).to_f64(),
            Self::F4 => f64::from(f32::from_bits(bits as u32)),
            Self::F8 => f64::from_bits(bits),
        }
    }
}

/// The text of one entry in a header, which is a literal of Python: `{'descr': '<f4', 'shape':
/// (3, 4), }`.
fn entry<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    let rest = rest.trim_start();
    let end = match rest.chars().next()? {
        '\'' => 1 + rest[1..].find('\'')? + 1,
        '(' => rest.find(')')? + 1,
        _ => rest.find([',', '}'])?,
    };
    Some(&rest[..end])
}

fn shape(text: &str) -> Option<Vec<u64>> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    let dims = inside.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    dims.map(|dim| dim.parse().ok()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file as NumPy writes it.
    pub(crate) fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header =
            format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let length = u16::try_from(header.len()).expect("short").to_le_bytes();
        [&MAGIC[..], &[1, 0], &length, header.as_bytes(), data].concat()
    }

    fn values(file: &[u8]) -> Result<(Vec<u64>, Vec<f64>), NpyError> {
        let array = Array::open(file)?;
        let (shape, mut values) = (array.shape.clone(), Vec::new());
        array.each(|value| {
            values.push(value);
            Ok(())
        })?;
        Ok((shape, values))
    }

    #[test]
    fn every_number_is_read() {
        let half = [f16::from_f64(0.5).to_le_bytes(), f16::from_f64(-2.0).to_le_bytes()].concat();
        let float = [0.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
        let double = [0.5f64.to_le_bytes(), (-2f64).to_le_bytes()].concat();
        let cases = [
            ("'<f2'", half, [0.5, -2.0]),
            ("'<f4'", float, [0.5, -2.0]),
            ("'<f8'", double, [0.5, -2.0]),
            ("'|u1'", vec![0, 255], [0.0, 255.0]),
            ("'|i1'", vec![0, 255], [0.0, -1.0]),
            ("'|b1'", vec![0, 1], [0.0, 1.0]),
            ("'<u2'", vec![1, 0, 255, 255], [1.0, 65535.0]),
            ("'<i2'", vec![1, 0, 255, 255], [1.0, -1.0]),
            ("'<u4'", [[1, 0, 0, 0], [255; 4]].concat(), [1.0, 4294967295.0]),
            ("'<i4'", [[1, 0, 0, 0], [255; 4]].concat(), [1.0, -1.0]),
            ("'<u8'", [[0; 8], [0, 0, 0, 0, 1, 0, 0, 0]].concat(), [0.0, 4294967296.0]),
            ("'<i8'", [[0; 8], [255; 8]].concat(), [0.0, -1.0]),
        ];
        for (descr, data, expected) in cases {
            let (shape, values) = values(&file(descr, "(2, 1)", &data)).expect(descr);
            assert_eq!((&shape[..], &values[..]), (&[2, 1][..], &expected[..]), "{descr}");
        }
        assert_eq!(values(&file("'|u1'", "()", &[7])).expect("a scalar"), (vec![], vec![7.0]));
        assert_eq!(values(&file("'|u1'", "(2,)", &[7, 8])).expect("a row").0, [2]);
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused() {
        let cases = [
            (b"PK\x03\x04 an archive".to_vec(), "it is no .npy file"),
            (vec![], "it is no .npy file"),
            (file("'|u1'", "(3,)", &[1, 2]), "it is no .npy file: it breaks off"),
            (file("'>f4'", "(1,)", &[0; 4]), "its elements are \"'>f4'\""),
            (file("'|O'", "(1,)", &[]), "its elements are \"'|O'\""),
            (file("[('a', '<f4')]", "(1,)", &[0; 4]), "its elements are \"[('a'\""),
            (file("'|u1'", "(x,)", &[]), "its header is not understood"),
            (file("'|u1'", "(4294967296, 4294967296)", &[]), "it claims too many elements"),
            ([&MAGIC[..], &[2, 0, 255, 255, 255, 0]].concat(), "its header is too long"),
        ];
        for (file, expected) in cases {
            let error = values(&file).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        let file = file("'|u1'", "(1,)", &[1]);
        let refused = Array::open(&file[..]).expect("an array");
        let refused = refused.each(|_| Err("not this one".into())).expect_err("refused");
        assert_eq!(refused.to_string(), "not this one");
    }
}
