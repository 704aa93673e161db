//! Objects and arrays of a request, field by field, without a tree of them. Every complaint names
//! the field that it is about.

use std::borrow::Cow;

use quern_types::TensorError;

use super::{
    data::DataError,
    json::{Cursor, SyntaxError},
};

/// Why a body is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It isn't text.
    #[error("body is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first byte that isn't.
        at: usize,
    },
    /// It isn't JSON.
    #[error("body is not JSON: {0}")]
    Syntax(#[from] SyntaxError),
    /// A field is missing, unknown or wrong.
    #[error("{field}: {problem}")]
    Field {
        /// Where it stands.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field asks for what the protocol has, and this server has not.
    #[error("{field}: {problem}")]
    Unsupported {
        /// Where it stands.
        field: String,
        /// What there is instead.
        problem: &'static str,
    },
    /// The data of an input are not what its shape and datatype say.
    #[error("input {input:?}: {error}")]
    Data {
        /// The input's name.
        input: String,
        /// What is wrong with them.
        error: DataError,
    },
    /// Binary data are not what the input's shape and datatype say.
    #[error("inputs[{index}]: binary data of {error}")]
    Binary {
        /// Which input it is.
        index: usize,
        /// What is wrong with them.
        error: TensorError,
    },
}

impl DecodeError {
    pub(super) fn field(field: &str, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }

    /// What the field at hand asks for is not to be had.
    pub(super) fn unsupported(problem: &'static str) -> Self {
        Self::Unsupported { field: String::new(), problem }
    }

    /// The same error, seen from one level further out.
    fn within(self, outer: &str) -> Self {
        let path = |field: String| {
            let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
            format!("{outer}{dot}{field}")
        };
        match self {
            Self::Field { field, problem } => Self::Field { field: path(field), problem },
            Self::Unsupported { field, problem } => {
                Self::Unsupported { field: path(field), problem }
            }
            other => other,
        }
    }
}

pub(super) const MISSING: &str = "is missing";

/// The text of a body.
pub(super) fn text(body: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(body).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })
}

/// Visits the members of the object that a body consists of.
pub(super) fn document<'a>(
    text: &'a str,
    member: impl FnMut(&mut Cursor<'a>, &str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(text);
    if cursor.peek() != Some(b'{') {
        return Err(cursor.error("an object").into());
    }
    members(&mut cursor, member)?;
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(cursor.error("the end of the body").into()),
    }
}

/// Visits the members of an object.
pub(super) fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut member: impl FnMut(&mut Cursor<'a>, &str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    if !cursor.eat(b'{') {
        return Err(expected("an object", *cursor));
    }
    let mut more = !cursor.eat(b'}');
    while more {
        let key = cursor.key()?;
        member(cursor, &key).map_err(|error| error.within(&shorten(&key)))?;
        more = cursor.more(b'}')?;
    }
    Ok(())
}

/// Visits the items of an array of at most `most`.
pub(super) fn items<'a>(
    cursor: &mut Cursor<'a>,
    most: usize,
    mut item: impl FnMut(&mut Cursor<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    if !cursor.eat(b'[') {
        return Err(expected("an array", *cursor));
    }
    let mut index = 0;
    let mut more = !cursor.eat(b']');
    while more {
        if index == most {
            return Err(DecodeError::field("", format!("has more than {most} items")));
        }
        item(cursor).map_err(|error| error.within(&format!("[{index}]")))?;
        index += 1;
        more = cursor.more(b']')?;
    }
    Ok(())
}

/// Fills a field that may be given once.
pub(super) fn once<T>(
    slot: &mut Option<T>,
    read: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<(), DecodeError> {
    if slot.is_some() {
        return Err(DecodeError::field("", "is given more than once"));
    }
    *slot = Some(read()?);
    Ok(())
}

pub(super) fn string<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, DecodeError> {
    match cursor.peek() {
        Some(b'"') => Ok(cursor.string()?),
        _ => Err(expected("a string", *cursor)),
    }
}

pub(super) fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    let found = *cursor;
    cursor.boolean().ok_or_else(|| expected("true or false", found))
}

pub(super) fn unsigned<T: TryFrom<i128>>(cursor: &mut Cursor<'_>) -> Result<T, DecodeError> {
    let found = *cursor;
    let number = cursor.number().and_then(|number| number.to_i128()).filter(|number| *number >= 0);
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| expected("an integer that is not negative", found))
}

pub(super) fn expected(what: &str, mut at: Cursor<'_>) -> DecodeError {
    DecodeError::field("", format!("expected {what}, found {}", at.found()))
}

pub(super) fn unknown(known: &str) -> DecodeError {
    DecodeError::field("", format!("is not a field of the protocol, which has {known}"))
}

/// A caller's text, cut to a length for messages.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
