//! The body of an inference request: strict, in one pass, from JSON and the binary data behind it
//! straight into tensors. It knows nothing of signatures: whether the inputs are the right ones is
//! not its business.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use quern_types::{DataType, Priority, Tensor};

use super::{
    data::Outline,
    fields::{
        DecodeError, MISSING, document, items, members, once, shorten, string, text, unknown,
        unsigned,
    },
    json::Cursor,
    outputs::RequestedOutput,
    parameters::{InputParameters, OutputParameters, RequestParameters},
};
use crate::shared_memory::{Placement, SharedInput};

/// Most inputs, and most outputs asked for.
pub(crate) const MAX_TENSORS: usize = 1024;
/// Most dimensions of a tensor.
pub(crate) const MAX_DIMENSIONS: usize = 16;
/// Longest name of a tensor, in bytes.
pub(crate) const MAX_NAME: usize = 1024;

/// What a caller asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct InferenceRequest {
    /// Given back with the answer.
    pub(crate) id: Option<String>,
    /// Those that came with it.
    pub(crate) inputs: Vec<Tensor>,
    /// Those that lie in shared memory, and belong between the others.
    pub(crate) shared: Vec<SharedInput>,
    /// The outputs to answer with, in this order; empty: all.
    pub(crate) outputs: Vec<RequestedOutput>,
    /// Whether outputs come as binary data, where they don't say themselves.
    pub(crate) binary_outputs: bool,
    /// How long the caller waits, if it says so.
    pub(crate) timeout: Option<Duration>,
    /// How urgent it is.
    pub(crate) priority: Priority,
}

/// An input, or what is known of it until its binary data are read.
enum Input {
    Given(Tensor),
    Binary { name: String, dtype: DataType, shape: Vec<u64>, size: u64 },
    Shared { name: String, dtype: DataType, shape: Vec<u64>, place: Placement },
}

impl InferenceRequest {
    /// Decodes a body of JSON, and what follows the JSON.
    pub(crate) fn decode(json: &[u8], binary: Bytes) -> Result<Self, DecodeError> {
        let (mut id, mut inputs, mut outputs, mut parameters) = (None, None, None, None);
        document(text(json)?, |cursor, key| match key {
            "id" => once(&mut id, || Ok(string(cursor)?.into_owned())),
            "inputs" => once(&mut inputs, || read_inputs(cursor)),
            "outputs" => once(&mut outputs, || read_outputs(cursor)),
            "parameters" => once(&mut parameters, || RequestParameters::read(cursor)),
            // Some clients say again what the path says.
            "model_name" | "model_version" => string(cursor).map(drop),
            _ => Err(unknown("id, inputs, outputs and parameters")),
        })?;
        let inputs = inputs.ok_or_else(|| DecodeError::field("inputs", MISSING))?;
        let RequestParameters { binary_outputs, timeout, priority } =
            parameters.unwrap_or_default();
        let ((inputs, shared), outputs) = (attach(inputs, binary)?, outputs.unwrap_or_default());
        Ok(Self { id, inputs, shared, outputs, binary_outputs, timeout, priority })
    }
}

/// Gives each input its part of the binary data, without a copy. Those in shared memory stay apart.
fn attach(
    inputs: Vec<Input>,
    mut binary: Bytes,
) -> Result<(Vec<Tensor>, Vec<SharedInput>), DecodeError> {
    let (mut tensors, mut shared) = (Vec::with_capacity(inputs.len()), Vec::new());
    for (index, input) in inputs.into_iter().enumerate() {
        tensors.push(match input {
            Input::Given(tensor) => tensor,
            Input::Binary { name, dtype, shape, size } => {
                let left = binary.len();
                let size = usize::try_from(size).ok().filter(|size| *size <= left);
                let size = size.ok_or_else(|| {
                    let field = format!("inputs[{index}].parameters.binary_data_size");
                    let problem = format!(
                        "is more than the {left} bytes that are left behind the JSON, whose length \
                         the header Inference-Header-Content-Length gives"
                    );
                    DecodeError::Field { field, problem }
                })?;
                let tensor = Tensor::new(name, dtype, shape, binary.split_to(size));
                tensor.map_err(|error| DecodeError::Binary { index, error })?
            }
            Input::Shared { name, dtype, shape, place } => {
                shared.push(SharedInput { position: index, name, dtype, shape, place });
                continue;
            }
        });
    }
    if !binary.is_empty() {
        let problem = format!(
            "their binary_data_size are {} bytes less than there are behind the JSON",
            binary.len()
        );
        return Err(DecodeError::field("inputs", problem));
    }
    Ok((tensors, shared))
}

fn read_inputs(cursor: &mut Cursor<'_>) -> Result<Vec<Input>, DecodeError> {
    let mut inputs = Vec::new();
    items(cursor, MAX_TENSORS, |cursor| {
        inputs.push(read_input(cursor)?);
        Ok(())
    })?;
    Ok(inputs)
}

fn read_input(cursor: &mut Cursor<'_>) -> Result<Input, DecodeError> {
    let (mut name, mut dtype, mut shape, mut tensor) = (None, None, None, None);
    let mut parameters = None;
    // Where the data stand, if they came before what says how to read them.
    let mut data = None;
    members(cursor, |cursor, key| match key {
        "name" => once(&mut name, || read_name(cursor)),
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
        "parameters" => once(&mut parameters, || InputParameters::read(cursor)),
        _ => Err(unknown("name, shape, datatype, parameters and data")),
    })?;
    let InputParameters { binary_size, place } = parameters.unwrap_or_default();
    let beside = |field: &str, other: &str| {
        let problem = format!("is given beside {other}: an input has one of them");
        Err(DecodeError::field(&format!("parameters.{field}"), problem))
    };
    match (&place, binary_size, &data) {
        (Some(_), Some(_), _) => return beside("shared_memory_region", "binary_data_size"),
        (Some(_), _, Some(_)) => return beside("shared_memory_region", "data"),
        (_, Some(_), Some(_)) => return beside("binary_data_size", "data"),
        _ => {}
    }
    if let Some(tensor) = tensor {
        return Ok(Input::Given(tensor));
    }
    let missing = |field: &str| DecodeError::field(field, MISSING);
    let name = name.ok_or_else(|| missing("name"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let dtype = dtype.ok_or_else(|| missing("datatype"))?;
    if let Some(place) = place {
        return Ok(Input::Shared { name: name.into_owned(), dtype, shape, place });
    }
    if let Some(size) = binary_size {
        return Ok(Input::Binary { name: name.into_owned(), dtype, shape, size });
    }
    let mut data = data.ok_or_else(|| missing("data"))?;
    read_data(&mut data, &name, dtype, &shape).map(Input::Given)
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

pub(super) fn read_name<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, DecodeError> {
    let name = string(cursor)?;
    if name.len() > MAX_NAME {
        return Err(DecodeError::field("", format!("is longer than {MAX_NAME} bytes")));
    }
    Ok(name)
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
        shape.push(unsigned(cursor)?);
        Ok(())
    })?;
    Ok(shape)
}

fn read_outputs(cursor: &mut Cursor<'_>) -> Result<Vec<RequestedOutput>, DecodeError> {
    let mut outputs = Vec::new();
    items(cursor, MAX_TENSORS, |cursor| {
        let (mut name, mut parameters) = (None, None);
        members(cursor, |cursor, key| match key {
            "name" => once(&mut name, || read_name(cursor)),
            "parameters" => once(&mut parameters, || OutputParameters::read(cursor)),
            _ => Err(unknown("name and parameters")),
        })?;
        let name = name.ok_or_else(|| DecodeError::field("name", MISSING))?.into_owned();
        let OutputParameters { binary, classes, place } = parameters.unwrap_or_default();
        outputs.push(RequestedOutput { name, binary, classes, place });
        Ok(())
    })?;
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<InferenceRequest, DecodeError> {
        InferenceRequest::decode(text.as_bytes(), Bytes::new())
    }

    fn with_binary(text: &str, binary: &[u8]) -> Result<InferenceRequest, DecodeError> {
        InferenceRequest::decode(text.as_bytes(), Bytes::copy_from_slice(binary))
    }

    fn output(name: &str, binary: Option<bool>) -> RequestedOutput {
        RequestedOutput { name: name.into(), binary, classes: None, place: None }
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
            shared: vec![],
            outputs: vec![output("label", Some(false))],
            binary_outputs: true,
            timeout: Some(Duration::from_micros(5)),
            priority: Priority::default(),
        };
        let texts = [
            r#"{"id": "7", "inputs": [{"name": "image", "shape": [1, 4], "datatype": "FP32",
                "data": [0, 1.5, 3, 16]}], "outputs": [{"name": "label", "parameters":
                {"binary_data": false}}], "parameters": {"binary_data_output": true, "timeout": 5}}"#,
            r#" {"outputs":[{"parameters":{"binary_data":false},"name":"label"}],
                "inputs":[{"data":[[0,1.5,3,16]],"datatype":"FP32","shape":[1,4],"name":"image"}],
                "parameters":{"timeout":5,"binary_data_output":true,"x":"y"},"id":"\u0037"} "#,
            r#"{"inputs":[{"name":"image","data":[0,1.5,3,16],"shape":[1,4],"parameters":{},
                "datatype":"FP32"}],"model_name":"digits","parameters":{"timeout":5,
                "binary_data_output":true},"id":"7","outputs":[{"name":"label",
                "parameters":{"binary_data":false}}],"model_version":"1"}"#,
        ];
        for text in texts {
            assert_eq!(decode(text).as_ref(), Ok(&expected), "{text}");
        }
        let none = InferenceRequest {
            id: None,
            inputs: vec![],
            shared: vec![],
            outputs: vec![],
            binary_outputs: false,
            timeout: None,
            priority: Priority::default(),
        };
        assert_eq!(decode(r#"{"inputs": []}"#), Ok(none));
    }

    /// An input whose data are behind the JSON.
    fn binary_input(name: &str, datatype: &str, shape: &str, size: &str) -> String {
        format!(
            r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape},"parameters":{{"binary_data_size":{size}}}}}"#
        )
    }

    #[test]
    fn binary_data_are_taken_in_the_order_of_the_inputs() {
        let inputs = [
            binary_input("a", "FP32", "[2]", "8"),
            r#"{"name":"b","datatype":"UINT8","shape":[1],"data":[7]}"#.into(),
            binary_input("none", "FP32", "[0]", "0"),
            binary_input("words", "BYTES", "[2]", "9"),
        ];
        let text = format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
        let mut binary: Vec<u8> = bytemuck::cast_slice(&[1.5f32, -2.0]).to_vec();
        binary.extend([1, 0, 0, 0, b'x', 0, 0, 0, 0]);
        let binary = Bytes::from(binary);
        let request = InferenceRequest::decode(text.as_bytes(), binary.clone()).expect("valid");
        let [a, b, none, words] = &request.inputs[..] else { panic!("{:?}", request.inputs) };
        assert_eq!(*a, floats("a", &[2], &[1.5, -2.0]));
        assert_eq!((b.data()[0], none.elements()), (7, 0));
        assert_eq!(words.strings().collect::<Vec<_>>(), [b"x".as_slice(), b""]);
        assert_eq!(a.data().as_ptr(), binary.as_ptr(), "nothing is copied");
    }

    #[test]
    fn inputs_in_shared_memory_keep_their_positions() {
        let shared = r#"{"name":"b","datatype":"FP32","shape":[2],"parameters":
            {"shared_memory_region":"r","shared_memory_byte_size":8,"shared_memory_offset":4}}"#;
        let inputs = [
            binary_input("a", "FP32", "[1]", "4"),
            shared.into(),
            binary_input("c", "UINT8", "[1]", "1"),
        ];
        let text = format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
        let request = with_binary(&text, &[0, 0, 0, 0, 7]).expect("valid");
        let names: Vec<_> = request.inputs.iter().map(|input| &**input.name()).collect();
        assert_eq!(names, ["a", "c"]);
        let expected = SharedInput {
            position: 1,
            name: "b".into(),
            dtype: DataType::Fp32,
            shape: vec![2],
            place: Placement { region: "r".into(), offset: 4, byte_size: 8 },
        };
        assert_eq!(request.shared, [expected]);
    }

    #[test]
    fn every_datatype_has_a_binary_form() {
        for dtype in DataType::ALL {
            let size = dtype.size().unwrap_or(6);
            let data = match dtype {
                DataType::Bytes => vec![2, 0, 0, 0, 0xff, 0],
                _ => vec![1; size],
            };
            let input = binary_input("x", dtype.as_str(), "[1,1]", &size.to_string());
            let request = with_binary(&format!(r#"{{"inputs":[{input}]}}"#), &data).expect("valid");
            let expected = Tensor::new("x", dtype, vec![1, 1], data).expect("valid");
            assert_eq!(request.inputs, [expected]);
        }
    }

    #[test]
    fn binary_data_that_disagree_with_their_input_are_named() {
        let one = |datatype: &str, shape: &str, size: &str| {
            format!(r#"{{"inputs":[{}]}}"#, binary_input("x", datatype, shape, size))
        };
        let behind = "bytes that are left behind the JSON, whose length the header \
                      Inference-Header-Content-Length gives";
        let too_many =
            format!("inputs[0].parameters.binary_data_size: is more than the 8 {behind}");
        let none = format!("inputs[0].parameters.binary_data_size: is more than the 0 {behind}");
        let cases: Vec<(String, &[u8], &str)> = vec![
            (one("FP32", "[3]", "12"), &[0; 8], &too_many),
            (one("FP32", "[3]", "18446744073709551615"), &[0; 8], &too_many),
            (one("FP32", "[3]", "12"), &[], &none),
            (
                one("FP32", "[3]", "8"),
                &[0; 8],
                "inputs[0]: binary data of tensor \"x\": shape [3] of FP32 needs 12 bytes, got 8",
            ),
            (
                one("FP32", "[1]", "4"),
                &[0; 8],
                "inputs: their binary_data_size are 4 bytes less than there are behind the JSON",
            ),
            (
                one("FP32", "[1]", "-4"),
                &[0; 4],
                "inputs[0].parameters.binary_data_size: expected an integer that is not negative, found -4",
            ),
            (
                one("FP32", "[9999999999,9999999999]", "4"),
                &[0; 4],
                "inputs[0]: binary data of tensor \"x\": shape [9999999999, 9999999999] has too many elements",
            ),
            (
                one("BOOL", "[2]", "2"),
                &[1, 2],
                "inputs[0]: binary data of tensor \"x\": element 1 of BOOL is 2, not 0 or 1",
            ),
            (
                one("BYTES", "[1]", "5"),
                &[2, 0, 0, 0, b'x'],
                "inputs[0]: binary data of tensor \"x\": data are not 1 byte strings with their lengths before them",
            ),
            (
                one("BYTES", "[1]", "8"),
                &[0; 8],
                "inputs[0]: binary data of tensor \"x\": data are not 1 byte strings with their lengths before them",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1],"parameters":{"binary_data_size":1}}]}"#.into(),
                &[1],
                "inputs[0].parameters.binary_data_size: is given beside data: an input has one of them",
            ),
            (
                r#"{"inputs":[{"name":"x","shape":[1],"parameters":{"binary_data_size":1}}]}"#.into(),
                &[1],
                "inputs[0].datatype: is missing",
            ),
            (
                r#"{"inputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}"#.into(),
                &[],
                "inputs[0].parameters.shared_memory_byte_size: is missing: shared memory needs shared_memory_region and shared_memory_byte_size",
            ),
            (
                r#"{"inputs":[{"name":"x","parameters":{"binary_data_size":4,"shared_memory_region":"r","shared_memory_byte_size":4}}]}"#.into(),
                &[0; 4],
                "inputs[0].parameters.shared_memory_region: is given beside binary_data_size: an input has one of them",
            ),
            (
                r#"{"inputs":[{"name":"x","data":[1],"parameters":{"shared_memory_region":"r","shared_memory_byte_size":4}}]}"#.into(),
                &[],
                "inputs[0].parameters.shared_memory_region: is given beside data: an input has one of them",
            ),
            (
                r#"{"inputs":[{"name":"x","shape":[1],"parameters":{"shared_memory_region":"r","shared_memory_byte_size":4}}]}"#.into(),
                &[],
                "inputs[0].datatype: is missing",
            ),
        ];
        for (text, binary, message) in cases {
            let error = with_binary(&text, binary).expect_err(&text);
            assert_eq!(error.to_string(), message, "{text}");
        }
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
                "parameters.a: expected a string, a number or a boolean, found }",
            ),
            (r#"{"model_name":1}"#.into(), "model_name: expected a string, found 1"),
            (
                input(&format!(r#""name":"{}""#, "x".repeat(1025))),
                "inputs[0].name: is longer than 1024 bytes",
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
        let error = InferenceRequest::decode(b"{\"id\":\"\xff\"}", Bytes::new());
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
            "parameters":{"a":true},"outputs":[{"name":"b"}]}"#;
        let alphabet = b"{}[]\",:-.0e1 x\\";
        for at in 0..text.len() {
            for byte in alphabet {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = *byte;
                if InferenceRequest::decode(&bytes, Bytes::new()).is_ok() {
                    let value = serde_json::from_slice::<serde_json::Value>(&bytes);
                    assert!(value.is_ok(), "{}", String::from_utf8_lossy(&bytes));
                }
            }
            let cut = &text.as_bytes()[..at];
            assert!(InferenceRequest::decode(cut, Bytes::new()).is_err(), "cut at {at}");
        }
    }
}
