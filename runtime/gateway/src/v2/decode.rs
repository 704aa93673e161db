//! The body of an inference request: strict, in one pass, from JSON straight into tensors. It
//! knows nothing of signatures: whether the inputs are the right ones is not its business.

use std::borrow::Cow;

use bytes::Bytes;
use quern_types::{DataType, Tensor};

use super::{
    data::{DataError, Outline},
    json::{Cursor, SyntaxError},
};

/// Most inputs, and most outputs asked for.
const MAX_TENSORS: usize = 1024;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 16;

/// What a caller asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct InferenceRequest {
    /// Given back with the answer.
    pub(crate) id: Option<String>,
    pub(crate) inputs: Vec<Tensor>,
    /// The outputs to answer with, in this order; empty: all.
    pub(crate) outputs: Vec<String>,
}

/// Why a body is no inference request.
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
    /// The data of an input are not what its shape and datatype say.
    #[error("input {input:?}: {error}")]
    Data {
        /// The input's name.
        input: String,
        /// What is wrong with them.
        error: DataError,
    },
}

impl DecodeError {
    fn field(field: &str, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }

    /// The same error, seen from one level further out.
    fn within(self, outer: &str) -> Self {
        match self {
            Self::Field { field, problem } => {
                let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
                Self::Field { field: format!("{outer}{dot}{field}"), problem }
            }
            other => other,
        }
    }
}

impl InferenceRequest {
    pub(crate) fn decode(body: &Bytes) -> Result<Self, DecodeError> {
        let text = str::from_utf8(body)
            .map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })?;
        let mut cursor = Cursor::new(text);
        let (mut id, mut inputs, mut outputs) = (None, None, None);
        if cursor.peek() != Some(b'{') {
            return Err(cursor.error("an object").into());
        }
        members(&mut cursor, |cursor, key| match key {
            "id" => once(&mut id, || Ok(string(cursor)?.into_owned())),
            "inputs" => once(&mut inputs, || read_inputs(cursor)),
            "outputs" => once(&mut outputs, || read_outputs(cursor)),
            "parameters" => Ok(cursor.skip()?),
            _ => Err(unknown("id, inputs, outputs and parameters")),
        })?;
        if cursor.peek().is_some() {
            return Err(cursor.error("the end of the body").into());
        }
        let inputs = inputs.ok_or_else(|| DecodeError::field("inputs", MISSING))?;
        Ok(Self { id, inputs, outputs: outputs.unwrap_or_default() })
    }
}

fn read_inputs(cursor: &mut Cursor<'_>) -> Result<Vec<Tensor>, DecodeError> {
    let mut inputs = Vec::new();
    items(cursor, MAX_TENSORS, |cursor| {
        inputs.push(read_input(cursor)?);
        Ok(())
    })?;
    Ok(inputs)
}

fn read_input(cursor: &mut Cursor<'_>) -> Result<Tensor, DecodeError> {
    let (mut name, mut dtype, mut shape, mut tensor) = (None, None, None, None);
    // Where the data stand, if they came before what says how to read them.
    let mut data = None;
    members(cursor, |cursor, key| match key {
        "name" => once(&mut name, || string(cursor)),
        "datatype" => once(&mut dtype, || read_datatype(cursor)),
        "shape" => once(&mut shape, || read_shape(cursor)),
        "data" => once(&mut data, || {
            let here = *cursor;
            match (&name, dtype, &shape) {
                (Some(name), Some(dtype), Some(shape)) => {
                    tensor = Some(read_data(cursor, name, dtype, shape)?);
                }
                _ => cursor.skip()?,
            }
            Ok(here)
        }),
        "parameters" => Ok(cursor.skip()?),
        _ => Err(unknown("name, shape, datatype, parameters and data")),
    })?;
    if let Some(tensor) = tensor {
        return Ok(tensor);
    }
    let missing = |field: &str| DecodeError::field(field, MISSING);
    let name = name.ok_or_else(|| missing("name"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let dtype = dtype.ok_or_else(|| missing("datatype"))?;
    let mut data = data.ok_or_else(|| missing("data"))?;
    read_data(&mut data, &name, dtype, &shape)
}

fn read_data(
    cursor: &mut Cursor<'_>,
    name: &str,
    dtype: DataType,
    shape: &[u64],
) -> Result<Tensor, DecodeError> {
    Outline { name, dtype, shape }
        .read(cursor)
        .map_err(|error| DecodeError::Data { input: shorten(name), error })
}

fn read_datatype(cursor: &mut Cursor<'_>) -> Result<DataType, DecodeError> {
    let text = string(cursor)?;
    text.parse().map_err(|()| {
        let known = DataType::ALL.map(DataType::as_str).join(", ");
        DecodeError::field("", format!("{:?} is not one of {known}", shorten(&text)))
    })
}

fn read_shape(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, DecodeError> {
    let mut shape = Vec::new();
    items(cursor, MAX_DIMENSIONS, |cursor| {
        let found = *cursor;
        let dim = cursor.number().and_then(|number| u64::try_from(number.to_i128()?).ok());
        shape.push(dim.ok_or_else(|| expected("an integer that is not negative", found))?);
        Ok(())
    })?;
    Ok(shape)
}

fn read_outputs(cursor: &mut Cursor<'_>) -> Result<Vec<String>, DecodeError> {
    let mut outputs = Vec::new();
    items(cursor, MAX_TENSORS, |cursor| {
        let mut name = None;
        members(cursor, |cursor, key| match key {
            "name" => once(&mut name, || Ok(string(cursor)?.into_owned())),
            "parameters" => Ok(cursor.skip()?),
            _ => Err(unknown("name and parameters")),
        })?;
        outputs.push(name.ok_or_else(|| DecodeError::field("name", MISSING))?);
        Ok(())
    })?;
    Ok(outputs)
}

const MISSING: &str = "is missing";

/// Visits the members of an object.
fn members<'a>(
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
fn items<'a>(
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

fn string<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, DecodeError> {
    match cursor.peek() {
        Some(b'"') => Ok(cursor.string()?),
        _ => Err(expected("a string", *cursor)),
    }
}

/// Fills a field that may be given once.
fn once<T>(
    slot: &mut Option<T>,
    read: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<(), DecodeError> {
    if slot.is_some() {
        return Err(DecodeError::field("", "is given more than once"));
    }
    *slot = Some(read()?);
    Ok(())
}

fn expected(what: &str, mut at: Cursor<'_>) -> DecodeError {
    DecodeError::field("", format!("expected {what}, found {}", at.found()))
}

fn unknown(known: &str) -> DecodeError {
    DecodeError::field("", format!("is not a field of the protocol, which has {known}"))
}

/// A caller's text, cut to a length for messages.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<InferenceRequest, DecodeError> {
        InferenceRequest::decode(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
        Tensor::from_elements(name, DataType::Fp32, shape.to_vec(), values.to_vec())
            .expect("shape and values agree")
    }

    #[test]
    fn a_request_is_read_whatever_the_order_of_its_fields() {
        let expected = InferenceRequest {
            id: Some("7".into()),
            inputs: vec![floats("image", &[1, 4], &[0., 1.5, 3., 16.])],
            outputs: vec!["label".into()],
        };
        let texts = [
            r#"{"id": "7", "inputs": [{"name": "image", "shape": [1, 4], "datatype": "FP32",
                "data": [0, 1.5, 3, 16]}], "outputs": [{"name": "label"}]}"#,
            r#" {"outputs":[{"parameters":{"binary_data":false},"name":"label"}],
                "inputs":[{"data":[[0,1.5,3,16]],"datatype":"FP32","shape":[1,4],"name":"image"}],
                "parameters":{"x":[1,{"y":null}]},"id":"\u0037"} "#,
            r#"{"inputs":[{"name":"image","data":[0,1.5,3,16],"shape":[1,4],"parameters":{},
                "datatype":"FP32"}],"id":"7","outputs":[{"name":"label"}]}"#,
        ];
        for text in texts {
            assert_eq!(decode(text).as_ref(), Ok(&expected), "{text}");
        }
        let none = InferenceRequest { id: None, inputs: vec![], outputs: vec![] };
        assert_eq!(decode(r#"{"inputs": []}"#), Ok(none));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let input = |fields: &str| format!(r#"{{"inputs":[{{{fields}}}]}}"#);
        let many = vec!["1"; 17].join(",");
        let tensors = vec!["{}"; 1025].join(",").replace("{}", r#"{"name":"a"}"#);
        let cases: Vec<(String, &str)> = vec![
            ("".into(), "body is not JSON: byte 0: expected an object, found the end of the body"),
            ("[]".into(), "body is not JSON: byte 0: expected an object, found an array"),
            ("{".into(), "body is not JSON: byte 1: expected a string, found the end of the body"),
            ("{} x".into(), "body is not JSON: byte 3: expected the end of the body, found x"),
            (r#"{"id" 1}"#.into(), "body is not JSON: byte 6: expected ':', found 1"),
            (
                r#"{"id":"a" "b"}"#.into(),
                "body is not JSON: byte 10: expected ',' or '}', found a string",
            ),
            (r#"{"id":"a",}"#.into(), "body is not JSON: byte 10: expected a string, found }"),
            (
                r#"{"parameters":{"a":}}"#.into(),
                "body is not JSON: byte 14: expected a JSON value, found an object",
            ),
            ("{}".into(), "inputs: is missing"),
            (r#"{"id":7}"#.into(), "id: expected a string, found 7"),
            (r#"{"id":"a","id":"b"}"#.into(), "id: is given more than once"),
            (r#"{"inputs":{}}"#.into(), "inputs: expected an array, found an object"),
            (r#"{"inputs":[1]}"#.into(), "inputs[0]: expected an object, found 1"),
            (
                r#"{"input":[]}"#.into(),
                "input: is not a field of the protocol, which has id, inputs, outputs and parameters",
            ),
            (input(""), "inputs[0].name: is missing"),
            (input(r#""name":"a""#), "inputs[0].shape: is missing"),
            (input(r#""name":"a","shape":[1]"#), "inputs[0].datatype: is missing"),
            (input(r#""name":"a","shape":[1],"datatype":"FP32""#), "inputs[0].data: is missing"),
            (input(r#""name":null"#), "inputs[0].name: expected a string, found null"),
            (
                input(r#""name":"a","dtype":"FP32""#),
                "inputs[0].dtype: is not a field of the protocol, which has name, shape, datatype, parameters and data",
            ),
            (
                input(r#""datatype":"FLOAT""#),
                "inputs[0].datatype: \"FLOAT\" is not one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
            ),
            (input(r#""shape":4"#), "inputs[0].shape: expected an array, found 4"),
            (
                input(r#""shape":[1,-1]"#),
                "inputs[0].shape[1]: expected an integer that is not negative, found -1",
            ),
            (
                input(r#""shape":[1.5]"#),
                "inputs[0].shape[0]: expected an integer that is not negative, found 1.5",
            ),
            (
                input(r#""shape":[18446744073709551616]"#),
                "inputs[0].shape[0]: expected an integer that is not negative, found 18446744073709551616",
            ),
            (input(&format!(r#""shape":[{many}]"#)), "inputs[0].shape: has more than 16 items"),
            (
                input(r#""name":"a","shape":[9999999999,9999999999],"datatype":"FP32","data":[]"#),
                "input \"a\": data: has too many elements in its shape [9999999999, 9999999999]",
            ),
            (
                input(r#""name":"a","shape":[2],"datatype":"FP32","data":[1,"2"]"#),
                "input \"a\": data[1]: FP32 takes numbers, found a string",
            ),
            (
                input(r#""data":[1,2,3],"name":"a","shape":[2],"datatype":"FP32""#),
                "input \"a\": data: has more than the 2 elements that its shape asks for",
            ),
            (
                input(r#""name":"a","shape":[1],"datatype":"FP32","data":[1],"data":[1]"#),
                "inputs[0].data: is given more than once",
            ),
            (r#"{"outputs":[{}]}"#.into(), "outputs[0].name: is missing"),
            (r#"{"outputs":["a"]}"#.into(), "outputs[0]: expected an object, found a string"),
            (format!(r#"{{"outputs":[{tensors}]}}"#), "outputs: has more than 1024 items"),
        ];
        for (text, message) in cases {
            let error = decode(&text).expect_err(&text);
            assert_eq!(error.to_string(), message, "{text}");
        }
        let error = InferenceRequest::decode(&Bytes::from_static(b"{\"id\":\"\xff\"}"));
        assert_eq!(error, Err(DecodeError::NotUtf8 { at: 7 }));
    }

    #[test]
    fn hostile_bodies_end_quickly() {
        let deep = "[".repeat(1_000_000);
        let wide = "1,".repeat(1_000_000);
        for text in [
            deep.clone(),
            format!(r#"{{"parameters":{deep}"#),
            format!(r#"{{"inputs":[{{"shape":[{wide}"#),
            format!(r#"{{"inputs":[{{"name":"a","shape":[1],"datatype":"FP32","data":{deep}"#),
            format!(r#"{{"inputs":[{{"name":"a","shape":[1],"datatype":"FP32","data":[{wide}"#),
        ] {
            let message = decode(&text).expect_err("hostile").to_string();
            assert!(message.len() < 200, "{message}");
        }
    }

    #[test]
    fn whatever_is_accepted_is_json() {
        let text = r#"{"id":"é","inputs":[{"name":"a","shape":[2],"datatype":"FP32","data":[1.5,-2e1]}],
            "parameters":{"a":[true,null]},"outputs":[{"name":"b"}]}"#;
        let alphabet = b"{}[]\",:-.0e1 x\\";
        for at in 0..text.len() {
            for byte in alphabet {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = *byte;
                let body = Bytes::from(bytes);
                if InferenceRequest::decode(&body).is_ok() {
                    let value = serde_json::from_slice::<serde_json::Value>(&body);
                    assert!(value.is_ok(), "{}", String::from_utf8_lossy(&body));
                }
            }
            let body = Bytes::copy_from_slice(&text.as_bytes()[..at]);
            assert!(InferenceRequest::decode(&body).is_err(), "cut at {at}");
        }
    }
}
