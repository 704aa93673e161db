//! A cursor over JSON text: reads tokens where they stand, strictly, and never builds a tree.
//!
//! Tensors are long arrays of numbers, and a general parser pays for every one of them. This one
//! validates a number and collects its digits in a single pass, and leaves strings with escapes
//! and values of no interest to `serde_json`.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: expected {expected}, found {found}")]
pub(crate) struct SyntaxError {
    at: usize,
    expected: &'static str,
    found: String,
}

/// Reads a text from its front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes that are left.
    pub(crate) fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    /// The next byte that is not white space, which is left in place.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes the next byte if it is `byte`.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`, or complains that `expected` is not there.
    pub(crate) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), SyntaxError> {
        if self.eat(byte) { Ok(()) } else { Err(self.error(expected)) }
    }

    /// Whether another element or member follows: takes a comma, or the closing bracket.
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, SyntaxError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ if close == b']' => Err(self.error("',' or ']'")),
            _ => Err(self.error("',' or '}'")),
        }
    }

    /// The name of a member and the colon behind it.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let key = self.string()?;
        self.expect(b':', "':'")?;
        Ok(key)
    }

    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.expect(b'"', "a string")?;
        let rest = &self.text.as_bytes()[self.at..];
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let length = rest.iter().position(special);
        match length.map(|length| (length, rest[length])) {
            Some((length, b'"')) => {
                let string = &self.text[self.at..self.at + length];
                self.at += length + 1;
                Ok(Cow::Borrowed(string))
            }
            _ => {
                self.at -= 1;
                self.parsed("a string").map(Cow::Owned)
            }
        }
    }

    /// Takes a value of any kind.
    pub(crate) fn skip(&mut self) -> Result<(), SyntaxError> {
        self.peek();
        self.parsed("a JSON value").map(|IgnoredAny| ())
    }

    /// A value as `serde_json` reads it.
    fn parsed<T: serde::de::DeserializeOwned>(
        &mut self,
        expected: &'static str,
    ) -> Result<T, SyntaxError> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// A number; none if something else stands here.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Option<Number<'a>> {
        self.peek();
        let (text, start) = (self.text, self.at);
        let bytes = text.as_bytes();
        let negative = bytes.get(start) == Some(&b'-');
        let whole = start + usize::from(negative);
        let mut at = whole;
        let mut significand = digits(bytes, &mut at, 0);
        let mut length = at - whole;
        if length == 0 || (length > 1 && bytes[whole] == b'0') {
            return None;
        }
        let mut exponent = 0;
        let mut integer = true;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            let fraction = at;
            significand = digits(bytes, &mut at, significand);
            if at == fraction {
                return None;
            }
            length += at - fraction;
            exponent = i32::try_from(at - fraction).map_or(i32::MIN, |digits| -digits);
            integer = false;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1;
            exponent = shift(bytes, &mut at)?.saturating_add(exponent);
            integer = false;
        }
        self.at = at;
        let text = &text[start..at];
        // 19 digits always fit.
        Some(Number { text, negative, significand, exponent, integer, exact: length <= 19 })
    }

    /// Takes one of these words; none if neither stands here.
    pub(crate) fn boolean(&mut self) -> Option<bool> {
        self.peek();
        let rest = &self.text[self.at..];
        let value = rest.starts_with("true");
        let word = if value { "true" } else { "false" };
        rest.starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    /// Complains that `expected` is not what stands here.
    #[cold]
    pub(crate) fn error(&mut self, expected: &'static str) -> SyntaxError {
        self.peek();
        SyntaxError { at: self.at, expected, found: self.found() }
    }

    /// What stands here, for a message.
    pub(crate) fn found(&mut self) -> String {
        match self.peek() {
            None => "the end of the body".into(),
            Some(b'{') => "an object".into(),
            Some(b'[') => "an array".into(),
            Some(b'"') => "a string".into(),
            Some(_) => {
                let delimiter = |c: char| c.is_whitespace() || ",:]}".contains(c);
                let rest = &self.text[self.at..];
                let mut end = rest.char_indices().skip(1).find(|(_, c)| delimiter(*c));
                end = end.or(Some((rest.len(), ' ')));
                let word = &rest[..end.map_or(0, |(end, _)| end)];
                word.chars().take(40).collect()
            }
        }
    }
}

/// Takes digits, and appends them to a significand, which wraps around if they are too many.
#[inline(always)]
fn digits(bytes: &[u8], at: &mut usize, mut significand: u64) -> u64 {
    while let Some(digit @ b'0'..=b'9') = bytes.get(*at) {
        significand = significand.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        *at += 1;
    }
    significand
}

/// Takes what follows an `e`; none if it is no number.
fn shift(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let sign = bytes.get(*at).filter(|byte| matches!(byte, b'+' | b'-'));
    *at += usize::from(sign.is_some());
    let from = *at;
    let mut shift = 0i32;
    while let Some(digit @ b'0'..=b'9') = bytes.get(*at) {
        shift = shift.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        *at += 1;
    }
    (*at > from).then_some(if sign == Some(&b'-') { -shift } else { shift })
}

/// A number as it was written, and what was learnt on the way over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number<'a> {
    pub(crate) text: &'a str,
    negative: bool,
    significand: u64,
    exponent: i32,
    integer: bool,
    /// Whether `significand` holds all digits.
    exact: bool,
}

/// Powers of ten that an f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

impl Number<'_> {
    /// Whether it was written without fraction and exponent.
    pub(crate) fn is_integer(&self) -> bool {
        self.integer
    }

    /// Its exact value; none if it is no integer, or too long for the type.
    #[inline]
    pub(crate) fn to_i128(self) -> Option<i128> {
        if !self.integer {
            return None;
        }
        if !self.exact {
            return self.text.parse().ok();
        }
        let magnitude = i128::from(self.significand);
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// The nearest f64; none beyond its range.
    #[inline]
    pub(crate) fn to_f64(self) -> Option<f64> {
        let value = self.quick_f64().or_else(|| self.text.parse().ok())?;
        value.is_finite().then_some(value)
    }

    /// The nearest f32; none beyond its range.
    #[inline]
    pub(crate) fn to_f32(self) -> Option<f32> {
        let value = self.quick_f32().or_else(|| self.text.parse().ok())?;
        value.is_finite().then_some(value)
    }

    /// One operation on two exact operands rounds once and so correctly (Clinger, "How to read
    /// floating point numbers accurately", 1990).
    #[inline]
    fn quick_f64(self) -> Option<f64> {
        let power = *POWERS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        if !self.exact || self.significand > 1 << f64::MANTISSA_DIGITS {
            return None;
        }
        let magnitude = self.significand as f64;
        let value = if self.exponent < 0 { magnitude / power } else { magnitude * power };
        Some(if self.negative { -value } else { value })
    }

    /// Rounding to f64 and then to f32 is rounding once, unless the f64 lies halfway between two
    /// f32, or where f32 have fewer digits.
    #[inline]
    fn quick_f32(self) -> Option<f32> {
        const BELOW: u64 = (1 << (f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS)) - 1;
        let wide = self.quick_f64()?;
        let halfway = wide.to_bits() & BELOW == (BELOW >> 1) + 1;
        let normal = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
        let safe = !halfway && (wide == 0.0 || normal.contains(&wide.abs()));
        safe.then_some(wide as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<Number<'_>> {
        let mut cursor = Cursor::new(text);
        cursor.number().filter(|_| cursor.peek().is_none())
    }

    #[test]
    fn only_the_numbers_of_json_are_numbers() {
        for text in ["0", "-0", "12", "-1.5", "0.0", "1e3", "1E+03", "-2.5e-7", "0e0", " 7 "] {
            let read = number(text).unwrap_or_else(|| panic!("{text} is a number"));
            assert_eq!(read.to_f64(), text.trim().parse().ok(), "{text}");
            assert!(serde_json::from_str::<f64>(text).is_ok(), "{text}");
        }
        let bad = [
            "", "-", "+1", "01", "-01", ".5", "1.", "1.e3", "1e", "1e+", "NaN", "nan", "Infinity",
            "-inf", "0x10", "1_000", "١", "--1", "true",
        ];
        for text in bad {
            assert!(number(text).is_none(), "{text}");
            assert!(serde_json::from_str::<f64>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn floats_are_the_nearest_ones() {
        let mut texts: Vec<String> = [
            "0.1",
            "16777217",
            "16777219",
            "1.00000005960464477539062",
            "1.000000059604644775390625",
            "1.00000005960464477539063",
            "3.4028235e38",
            "3.4028235677973366e38",
            "1.1754942e-38",
            "1.4e-45",
            "0.7e-45",
            "9007199254740993",
            "123456789012345678901234567890",
            "0.30000000000000004",
            "2.2250738585072011e-308",
            "1e22",
            "1e23",
            "1.7976931348623157e308",
            "1e-999",
        ]
        .map(String::from)
        .into();
        // Every kind of length and exponent, from a generator with a fixed seed.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let digits = state >> (state % 60);
            texts.push(format!(
                "-{digits}e{}",
                i64::try_from((state >> 8) % 70).expect("small") - 50
            ));
            texts.push(f32::from_bits(state as u32).to_string());
            texts.push(f64::from_bits(state).to_string());
        }
        for text in texts.iter().filter(|text| !text.contains(['N', 'i'])) {
            let read = number(text).unwrap_or_else(|| panic!("{text} is a number"));
            let f32s: f32 = text.parse().expect("a float");
            let f64s: f64 = text.parse().expect("a float");
            assert_eq!(read.to_f32(), Some(f32s).filter(|x| x.is_finite()), "{text}");
            assert_eq!(read.to_f64(), Some(f64s).filter(|x| x.is_finite()), "{text}");
        }
    }

    #[test]
    fn integers_are_exact() {
        let cases = [
            ("18446744073709551615", Some(i128::from(u64::MAX))),
            ("18446744073709551616", Some(i128::from(u64::MAX) + 1)),
            ("-9223372036854775808", Some(i128::from(i64::MIN))),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("-0", Some(0)),
            ("1.0", None),
            ("1e2", None),
            ("999999999999999999999999999999999999999999", None),
        ];
        for (text, value) in cases {
            assert_eq!(number(text).expect("a number").to_i128(), value, "{text}");
        }
    }

    #[test]
    fn strings_are_read_with_their_escapes() {
        let cases = [
            (r#""""#, ""),
            (r#""plain é""#, "plain é"),
            (r#""a\"b\\c\n""#, "a\"b\\c\n"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
        ];
        for (text, value) in cases {
            let mut cursor = Cursor::new(text);
            assert_eq!(cursor.string().expect(text), value);
            assert_eq!(cursor.peek(), None, "{text}");
        }
        for text in [r#"""#, r#""a"#, "\"a\nb\"", r#""\x""#, r#""\ud83d""#, "a", ""] {
            assert!(Cursor::new(text).string().is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_skipped_whole_however_deep() {
        for value in ["1", "null", r#"{"a": [1, {"b": "]"}]}"#, "[[]]", r#""x\"y""#] {
            let text = format!("{value} , 7");
            let mut cursor = Cursor::new(&text);
            cursor.skip().expect(value);
            assert!(cursor.eat(b','), "{value}");
        }
        let deep = "[".repeat(1_000_000);
        let error = Cursor::new(&deep).skip().expect_err("never closed");
        assert_eq!(error.to_string(), "byte 0: expected a JSON value, found an array");
    }
}
