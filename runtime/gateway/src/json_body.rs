//! Bodies of requests that are JSON of a known form: read within a limit, and refused with the name
//! of the field that is wrong.

use std::{borrow::Cow, ops::Range};

use quern_types::ByteSize;
use serde::de::DeserializeOwned;

use crate::{
    Gateway,
    body::RequestBody,
    errors::{Code, Failure},
};

/// What a body is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Most bytes that it has.
    pub(crate) limit: ByteSize,
    /// What one looks like, for whoever sends something else.
    pub(crate) example: &'static str,
}

impl Form {
    /// Reads a body of this form.
    pub(crate) async fn read<Content: DeserializeOwned>(
        self,
        gateway: &Gateway,
        body: RequestBody,
    ) -> Result<Content, Failure> {
        let body = body.collect(self.limit, &gateway.body_room).await?;
        self.parse(&body)
    }

    /// The same, where there may be no body at all.
    pub(crate) async fn read_if_any<Content: DeserializeOwned + Default>(
        self,
        gateway: &Gateway,
        body: RequestBody,
    ) -> Result<Content, Failure> {
        let body = body.collect(self.limit, &gateway.body_room).await?;
        if body.is_empty() { Ok(Content::default()) } else { self.parse(&body) }
    }

    /// What a body that is there already says.
    pub(crate) fn parse<Content: DeserializeOwned>(self, body: &[u8]) -> Result<Content, Failure> {
        // Fields without their names, in a list, would be taken otherwise.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(self.refuse("it is a list"));
        }
        let body = whole_numbers(body);
        let mut json = serde_json::Deserializer::from_slice(&body);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!("field {:?}: ", shown(&path)),
            };
            self.refuse(&format!("{field}{}", error.into_inner()))
        })?;
        json.end().map_err(|error| self.refuse(&error.to_string()))?;
        Ok(parsed)
    }

    fn refuse(self, problem: &str) -> Failure {
        let detail = format!("body is not of the form {}: {}", self.example, shown(problem));
        Failure::new(Code::InvalidJson, detail)
    }
}

/// The same JSON, in which whole numbers have no fraction and no exponent: `3.0` is an integer to JSON
/// schema and to some who write JSON, though not to the parser. Texts and numbers that are none stay.
fn whole_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let mut written = Vec::new();
    let mut copied = 0;
    for number in numbers(json) {
        if let Some(integer) = as_integer(&json[number.clone()]) {
            written.extend_from_slice(&json[copied..number.start]);
            written.extend_from_slice(integer.to_string().as_bytes());
            copied = number.end;
        }
    }
    if copied == 0 {
        return json.into();
    }
    written.extend_from_slice(&json[copied..]);
    written.into()
}

/// The integer that a number is which is not written as one.
fn as_integer(number: &[u8]) -> Option<i64> {
    /// Up to it, every integer is a double of its own.
    const EXACT: f64 = (1_u64 << 53) as f64;
    if number.iter().all(|byte| !matches!(byte, b'.' | b'e' | b'E')) {
        return None;
    }
    let value = serde_json::from_slice::<f64>(number).ok()?;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

/// Where numbers stand in JSON, in order.
fn numbers(json: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let (mut at, mut in_text) = (0, false);
    std::iter::from_fn(move || {
        while let Some(byte) = json.get(at) {
            let start = at;
            at += 1;
            match byte {
                b'"' => in_text = !in_text,
                b'\\' if in_text => at += 1,
                b'-' | b'0'..=b'9' if !in_text => {
                    let is_part =
                        |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    at += json[at..].iter().take_while(is_part).count();
                    return Some(start..at);
                }
                _ => {}
            }
        }
        None
    })
}

/// A message with texts of the caller's in it, cut to a length.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Content {
        parts: Vec<u32>,
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        for (json, expected) in [
            ("[3.0, -2.00, 1e2, 0.0, -0.0, 12]", "[3, -2, 100, 0, 0, 12]"),
            (
                "[0.5, 1e-3, 1e300, 9007199254740993.0e1]",
                "[0.5, 1e-3, 1e300, 9007199254740993.0e1]",
            ),
            (r#"{"1.0": "2.0 \" 3.0", "x": 4.0}"#, r#"{"1.0": "2.0 \" 3.0", "x": 4}"#),
            ("[01.0, 1.0.0, 1.e0, --1.0, 1.0", "[01.0, 1.0.0, 1.e0, --1.0, 1"),
            ("\"\\", "\"\\"),
            ("", ""),
        ] {
            let written = whole_numbers(json.as_bytes());
            assert_eq!(String::from_utf8_lossy(&written), expected);
        }
        let form = Form { limit: ByteSize(100), example: "" };
        assert_eq!(form.parse::<Content>(b"{\"parts\": [3.0]}").expect("a number").parts, [3]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let form = Form { limit: ByteSize(100), example: r#"{"parts": [1]}"# };
        assert!(form.parse::<Content>(br#"{"parts": [1, 2]}"#).is_ok());
        let deep = format!("{{\"parts\": {}", "[".repeat(10_000));
        for (body, part) in [
            (r#"{"parts": [1, "x"]}"#, "field \"parts[1]\": invalid type: string \"x\""),
            (r#"{"parts": [1], "more": 1}"#, "unknown field `more`"),
            (r#"{"parts": [1], "parts": [1]}"#, "duplicate field `parts`"),
            ("{}", "missing field `parts`"),
            ("", "EOF"),
            ("[]", "is not of the form {\"parts\": [1]}"),
            (" [[1]]", "it is a list"),
            (r#"{"parts": []} {}"#, "trailing characters"),
            (&deep, "parts"),
        ] {
            let refused = form.parse::<Content>(body.as_bytes()).expect_err(body);
            assert_eq!(refused.status(), 400, "{body}");
            let detail = refused.into_detail();
            assert!(detail.contains(part), "{detail:?} should contain {part:?}");
            assert!(detail.len() < 800, "{detail}");
        }
    }
}
