//! The `parameters` of a request, its inputs and the outputs that it asks for. Those that are not
//! known here may be anything that the protocol allows, and change nothing.

use std::{num::NonZeroU32, time::Duration};

use quern_types::Priority;

use super::{
    classes::class_count,
    decode::read_name,
    fields::{DecodeError, boolean, expected, members, once, string, unsigned},
    json::Cursor,
};
use crate::shared_memory::{MissingPart, Parts, Placement};

/// What the refusal of anything about sequences says.
pub(crate) const NO_SEQUENCES: &str =
    "sequences are not supported: calls keep no state for the next";

/// What the refusal of classes in shared memory says.
pub(crate) const NO_SHARED_CLASSES: &str =
    "is given beside shared memory, which takes the tensor itself: ask for one of them";

/// The parameters of a whole request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestParameters {
    /// Whether outputs come as binary data, where their own parameters don't say.
    pub(crate) binary_outputs: bool,
    /// How long the caller waits, if it says so.
    pub(crate) timeout: Option<Duration>,
    /// How urgent the call is.
    pub(crate) priority: Priority,
}

/// The parameters of an input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct InputParameters {
    /// The bytes of its data behind the JSON.
    pub(crate) binary_size: Option<u64>,
    /// Where its data lie in shared memory.
    pub(crate) place: Option<Placement>,
}

/// The parameters of an output that is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputParameters {
    /// Whether it comes as binary data.
    pub(crate) binary: Option<bool>,
    /// How many classes to answer with, instead of the tensor.
    pub(crate) classes: Option<NonZeroU32>,
    /// Where to put it in shared memory, instead of the answer.
    pub(crate) place: Option<Placement>,
}

impl RequestParameters {
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let (mut binary, mut timeout, mut priority) = (None, None, None);
        members(cursor, |cursor, key| match key {
            "binary_data_output" => once(&mut binary, || boolean(cursor)),
            "timeout" => once(&mut timeout, || unsigned::<u64>(cursor)),
            "priority" => once(&mut priority, || unsigned::<u64>(cursor)),
            "sequence_id" => sequence(cursor),
            _ => other(cursor),
        })?;
        let timeout = timeout.filter(|timeout| *timeout > 0).map(Duration::from_micros);
        let priority = Priority::from_parameter(priority.unwrap_or_default());
        Ok(Self { binary_outputs: binary.unwrap_or_default(), timeout, priority })
    }
}

impl InputParameters {
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let (mut binary_size, mut parts) = (None, Parts::default());
        members(cursor, |cursor, key| match key {
            "binary_data_size" => once(&mut binary_size, || unsigned(cursor)),
            _ => shared_memory(&mut parts, cursor, key),
        })?;
        Ok(Self { binary_size, place: placement(parts)? })
    }
}

impl OutputParameters {
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let (mut binary, mut classes, mut parts) = (None, None, Parts::default());
        members(cursor, |cursor, key| match key {
            "binary_data" => once(&mut binary, || boolean(cursor)),
            "classification" => once(&mut classes, || {
                let asked = unsigned::<u64>(cursor)?;
                class_count(asked).map_err(|error| DecodeError::field("", error.to_string()))
            }),
            _ => shared_memory(&mut parts, cursor, key),
        })?;
        let (classes, place) = (classes.flatten(), placement(parts)?);
        if classes.is_some() && place.is_some() {
            return Err(DecodeError::field("classification", NO_SHARED_CLASSES));
        }
        Ok(Self { binary, classes, place })
    }
}

/// A parameter about shared memory, or one of no meaning here.
fn shared_memory(parts: &mut Parts, cursor: &mut Cursor<'_>, key: &str) -> Result<(), DecodeError> {
    match key {
        "shared_memory_region" => once(&mut parts.region, || Ok(read_name(cursor)?.into_owned())),
        "shared_memory_byte_size" => once(&mut parts.byte_size, || unsigned(cursor)),
        "shared_memory_offset" => once(&mut parts.offset, || unsigned(cursor)),
        _ => other(cursor),
    }
}

fn placement(parts: Parts) -> Result<Option<Placement>, DecodeError> {
    parts.finish().map_err(|missing| DecodeError::field(missing.name, MissingPart::PROBLEM))
}

/// A caller who names a sequence relies on state that nobody keeps.
fn sequence(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    let none = match cursor.peek() {
        Some(b'"') => string(cursor)?.is_empty(),
        _ => unsigned::<u64>(cursor)? == 0,
    };
    if none {
        return Ok(());
    }
    Err(DecodeError::unsupported(NO_SEQUENCES))
}

/// A parameter of no meaning here: a string, a number or a boolean.
pub(super) fn other(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    let found = *cursor;
    let read = match cursor.peek() {
        Some(b'"') => Some(string(cursor).map(drop)?),
        Some(b't' | b'f') => cursor.boolean().map(drop),
        _ => cursor.number().map(drop),
    };
    read.ok_or_else(|| expected("a string, a number or a boolean", found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint<T>(
        read: impl FnOnce(&mut Cursor<'_>) -> Result<T, DecodeError>,
        text: &str,
    ) -> String {
        match read(&mut Cursor::new(text)) {
            Ok(_) => panic!("{text} is accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_known_is_read_and_the_rest_tolerated() {
        let text = r#"{"mine": "x", "binary_data_output": true, "timeout": 1500, "priority": 1,
            "sequence_id": 0, "sequence_start": false, "ratio": -1.5e3, "flag": false}"#;
        let read = RequestParameters::read(&mut Cursor::new(text));
        let timeout = Some(Duration::from_micros(1500));
        let priority = Priority::HIGHEST;
        assert_eq!(read, Ok(RequestParameters { binary_outputs: true, timeout, priority }));
        for text in ["{}", r#"{"timeout": 0, "sequence_id": ""}"#] {
            let read = RequestParameters::read(&mut Cursor::new(text));
            assert_eq!(read, Ok(RequestParameters::default()), "{text}");
        }
        let read = InputParameters::read(&mut Cursor::new(
            r#"{"content_type": "np", "binary_data_size": 7}"#,
        ));
        assert_eq!(read, Ok(InputParameters { binary_size: Some(7), place: None }));
        let text = r#"{"binary_data": false, "classification": 3}"#;
        let read = OutputParameters::read(&mut Cursor::new(text));
        let classes = NonZeroU32::new(3);
        assert_eq!(read, Ok(OutputParameters { binary: Some(false), classes, place: None }));
        let read = OutputParameters::read(&mut Cursor::new(r#"{"classification": 0}"#));
        assert_eq!(read, Ok(OutputParameters::default()));
    }

    #[test]
    fn a_parameter_of_the_wrong_form_is_named() {
        let cases = [
            (r#"{"binary_data_output": 1}"#, "binary_data_output: expected true or false, found 1"),
            (r#"{"timeout": -1}"#, "timeout: expected an integer that is not negative, found -1"),
            (r#"{"timeout": 1.5}"#, "timeout: expected an integer that is not negative, found 1.5"),
            (
                r#"{"timeout": 18446744073709551616}"#,
                "timeout: expected an integer that is not negative, found 18446744073709551616",
            ),
            (
                r#"{"priority": "high"}"#,
                "priority: expected an integer that is not negative, found a string",
            ),
            (r#"{"timeout": 1, "timeout": 1}"#, "timeout: is given more than once"),
            (r#"{"mine": []}"#, "mine: expected a string, a number or a boolean, found an array"),
            (r#"{"mine": {}}"#, "mine: expected a string, a number or a boolean, found an object"),
            (r#"{"mine": null}"#, "mine: expected a string, a number or a boolean, found null"),
            (r#"{"mine": tru}"#, "mine: expected a string, a number or a boolean, found tru"),
            (
                r#"{"sequence_id": 7}"#,
                "sequence_id: sequences are not supported: calls keep no state for the next",
            ),
            ("[]", ": expected an object, found an array"),
        ];
        for (text, message) in cases {
            assert_eq!(complaint(RequestParameters::read, text), message, "{text}");
        }
        let size = r#"{"binary_data_size": -7}"#;
        assert_eq!(
            complaint(InputParameters::read, size),
            "binary_data_size: expected an integer that is not negative, found -7"
        );
        for (classes, message) in [
            (
                r#"{"classification": 1.5}"#,
                "classification: expected an integer that is not negative, found 1.5",
            ),
            (
                r#"{"classification": 1025}"#,
                "classification: is more than 1024, the most classes that an answer has",
            ),
        ] {
            assert_eq!(complaint(OutputParameters::read, classes), message);
        }
    }

    #[test]
    fn a_place_in_shared_memory_is_read_or_what_is_missing_named() {
        let text = r#"{"shared_memory_offset": 4, "shared_memory_region": "a",
            "shared_memory_byte_size": 8}"#;
        let place = || Some(Placement { region: "a".into(), offset: 4, byte_size: 8 });
        let read = InputParameters::read(&mut Cursor::new(text));
        assert_eq!(read, Ok(InputParameters { binary_size: None, place: place() }));
        let read = OutputParameters::read(&mut Cursor::new(text));
        assert_eq!(read, Ok(OutputParameters { binary: None, classes: None, place: place() }));
        let needs = "is missing: shared memory needs shared_memory_region and \
                     shared_memory_byte_size";
        let not_negative = "expected an integer that is not negative, found";
        for (text, message) in [
            (r#"{"shared_memory_region": "a"}"#, format!("shared_memory_byte_size: {needs}")),
            (r#"{"shared_memory_byte_size": 8}"#, format!("shared_memory_region: {needs}")),
            (r#"{"shared_memory_offset": 8}"#, format!("shared_memory_region: {needs}")),
            (
                r#"{"shared_memory_region": 7}"#,
                "shared_memory_region: expected a string, found 7".into(),
            ),
            (r#"{"shared_memory_offset": -1}"#, format!("shared_memory_offset: {not_negative} -1")),
            (
                r#"{"shared_memory_byte_size": 1e3}"#,
                format!("shared_memory_byte_size: {not_negative} 1e3"),
            ),
            (
                r#"{"shared_memory_region": "a", "shared_memory_region": "b"}"#,
                "shared_memory_region: is given more than once".into(),
            ),
        ] {
            assert_eq!(complaint(InputParameters::read, text), message);
            assert_eq!(complaint(OutputParameters::read, text), message);
        }
        let classes = r#"{"shared_memory_region": "a", "shared_memory_byte_size": 8,
            "classification": 2}"#;
        let beside = format!("classification: {NO_SHARED_CLASSES}");
        assert_eq!(complaint(OutputParameters::read, classes), beside);
    }
}
