//! A request for inference as it comes over gRPC (`ModelInferRequest`): strict, in one pass, from
//! the message into tensors, which share its memory where they come raw. It knows nothing of
//! signatures. What a protobuf library would make of a hostile message takes a hundred times its
//! size; this takes no more than `Outline::cost` says.

use std::time::Duration;

use bytes::Bytes;
use quern_types::{DataType, Priority, Tensor, element_count};

use super::{
    contents::Contents,
    parameter::Parameter,
    wire::{Fields, Malformed, Value},
};
use crate::{
    shared_memory::{MissingPart, Parts, Placement, SharedInput},
    v2::{
        MAX_DIMENSIONS, MAX_NAME, MAX_TENSORS, NO_SEQUENCES, NO_SHARED_CLASSES, RequestedOutput,
        class_count,
    },
};

/// What a caller asks for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct InferenceRequest {
    pub(crate) model_name: String,
    /// Empty: the live one.
    pub(crate) model_version: String,
    /// Given back with the answer.
    pub(crate) id: String,
    /// Those that came with it.
    pub(crate) inputs: Vec<Tensor>,
    /// Those that lie in shared memory, and belong between the others.
    pub(crate) shared: Vec<SharedInput>,
    /// The outputs to answer with, in this order; empty: all.
    pub(crate) outputs: Vec<RequestedOutput>,
    /// How long the caller waits.
    pub(crate) timeout: Option<Duration>,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// Whether each response in a stream is to say that it is the last of its request.
    pub(crate) marks_final: bool,
}

/// Why a message is no request for inference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    /// A field is missing or wrong.
    #[error("{field}: {problem}")]
    Wrong {
        /// Where it stands.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field asks for what this server does not do.
    #[error("{field}: {problem}")]
    Unsupported {
        /// Where it stands.
        field: String,
        /// What is not done.
        problem: &'static str,
    },
}

impl FieldError {
    fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Wrong { field: field.into(), problem: problem.to_string() }
    }

    /// The same error, seen from one level further out.
    fn within(mut self, outer: &str) -> Self {
        let (Self::Wrong { field, .. } | Self::Unsupported { field, .. }) = &mut self;
        field.insert_str(0, &format!("{outer}."));
        self
    }
}

impl From<Malformed> for FieldError {
    fn from(malformed: Malformed) -> Self {
        Self::new("message", malformed)
    }
}

/// A request whose inputs are still as they were sent.
#[derive(Debug)]
pub(crate) struct Outline {
    request: InferenceRequest,
    inputs: Vec<Input>,
    raw: Vec<Bytes>,
}

/// An input, without its data if they come raw.
#[derive(Debug)]
struct Input {
    name: String,
    dtype: DataType,
    shape: Vec<u64>,
    /// Elements of its shape.
    elements: u64,
    contents: Vec<Bytes>,
    /// Where its data lie in shared memory.
    place: Option<Placement>,
}

impl Outline {
    pub(crate) fn read(message: Bytes) -> Result<Self, FieldError> {
        let mut request = InferenceRequest::default();
        let (mut inputs, mut raw) = (Vec::new(), Vec::new());
        for field in Fields::of(message) {
            match field? {
                (1, value) => request.model_name = text("model_name", value)?,
                (2, value) => request.model_version = text("model_version", value)?,
                (3, value) => request.id = text("id", value)?,
                (4, value) => {
                    let parameter = parameter("parameters", value)?;
                    match &*parameter.key {
                        "timeout" => request.timeout = timeout(&parameter)?,
                        "priority" => request.priority = priority(&parameter)?,
                        "triton_enable_empty_final_response" => {
                            request.marks_final = parameter.as_bool().unwrap_or_default();
                        }
                        "sequence_id" if parameter.as_u64() != Some(0) => {
                            return Err(FieldError::Unsupported {
                                field: "parameters.sequence_id".into(),
                                problem: NO_SEQUENCES,
                            });
                        }
                        _ => {}
                    }
                }
                (5, value) => {
                    let field = format!("inputs[{}]", inputs.len());
                    room("inputs", inputs.len())?;
                    inputs.push(message_of(&field, value).and_then(|input| {
                        Input::read(input).map_err(|error| error.within(&field))
                    })?);
                }
                (6, value) => {
                    let field = format!("outputs[{}]", request.outputs.len());
                    room("outputs", request.outputs.len())?;
                    request.outputs.push(message_of(&field, value).and_then(|output| {
                        requested_output(output).map_err(|error| error.within(&field))
                    })?);
                }
                (7, value) => {
                    room("raw_input_contents", raw.len())?;
                    raw.push(message_of("raw_input_contents", value)?);
                }
                _ => {}
            }
        }
        let sent = inputs.iter().filter(|input| input.place.is_none()).count();
        if !raw.is_empty() && raw.len() != sent {
            let problem = format!("has {} items for {sent} inputs", raw.len());
            return Err(FieldError::new("raw_input_contents", problem));
        }
        Ok(Self { request, inputs, raw })
    }

    /// Bytes that the inputs take at most, beside the message.
    pub(crate) fn cost(&self) -> usize {
        let typed = self.inputs.iter().map(|input| input.contents().cost());
        if self.raw.is_empty() { typed.fold(0, usize::saturating_add) } else { 0 }
    }

    /// Bytes that are looked at one by one to make the inputs.
    pub(crate) fn work(&self) -> usize {
        let walked = |dtype| matches!(dtype, DataType::Bool | DataType::Bytes);
        let sent = self.inputs.iter().filter(|input| input.place.is_none());
        let raw = sent.zip(&self.raw).filter(|(input, _)| walked(input.dtype));
        self.cost() + raw.map(|(_, raw)| raw.len()).sum::<usize>()
    }

    /// The request with its inputs.
    pub(crate) fn fill(self) -> Result<InferenceRequest, FieldError> {
        let Self { mut request, inputs, raw } = self;
        let mut raw = raw.into_iter();
        for (position, input) in inputs.into_iter().enumerate() {
            let field = || format!("inputs[{position}]");
            if let Some(place) = input.place {
                let Input { name, dtype, shape, .. } = input;
                request.shared.push(SharedInput { position, name, dtype, shape, place });
                continue;
            }
            let tensor = input.fill(raw.next()).map_err(|error| error.within(&field()))?;
            request.inputs.push(tensor);
        }
        Ok(request)
    }
}

impl Input {
    fn read(message: Bytes) -> Result<Self, FieldError> {
        let (mut name, mut dtype) = (String::new(), None);
        let (mut shape, mut contents, mut parts) = (Vec::new(), Vec::new(), Parts::default());
        for field in Fields::of(message) {
            match field? {
                (1, value) => name = tensor_name(value)?,
                (2, value) => dtype = Some(datatype(&text("datatype", value)?)?),
                (3, value) => dimensions(&mut shape, value)?,
                (4, value) => parameter("parameters", value)?.read_place(&mut parts)?,
                (5, value) => {
                    room("contents", contents.len())?;
                    contents.push(message_of("contents", value)?);
                }
                _ => {}
            }
        }
        let dtype = dtype.ok_or_else(|| FieldError::new("datatype", "is missing"))?;
        let too_many = || FieldError::new("shape", format!("{shape:?} has too many elements"));
        let elements = element_count(&shape).ok_or_else(too_many)?;
        let place = placement(parts)?;
        if place.is_some() && !contents.is_empty() {
            let problem = "must be empty where shared memory is named";
            return Err(FieldError::new("contents", problem));
        }
        Ok(Self { name, dtype, elements, shape, contents, place })
    }

    fn contents(&self) -> Contents<'_> {
        Contents { dtype: self.dtype, elements: self.elements, parts: &self.contents }
    }

    fn fill(self, raw: Option<Bytes>) -> Result<Tensor, FieldError> {
        let wrong = |problem: &dyn ToString| FieldError::new("contents", problem.to_string());
        let data = match raw {
            Some(_) if !self.contents.is_empty() => {
                return Err(wrong(&"must be empty where raw_input_contents are given"));
            }
            Some(raw) => raw,
            None => self.contents().read().map_err(|error| wrong(&error))?,
        };
        let Self { name, dtype, shape, .. } = self;
        Tensor::new(name, dtype, shape, data).map_err(|error| FieldError::new("data", error))
    }
}

fn requested_output(message: Bytes) -> Result<RequestedOutput, FieldError> {
    let mut parts = Parts::default();
    let mut output =
        RequestedOutput { name: String::new(), binary: None, classes: None, place: None };
    for field in Fields::of(message) {
        match field? {
            (1, value) => output.name = tensor_name(value)?,
            (2, value) => {
                let parameter = parameter("parameters", value)?;
                parameter.read_place(&mut parts)?;
                if parameter.key == "classification" {
                    let field = "parameters.classification";
                    let problem = "must be an integer that is not negative";
                    let asked =
                        parameter.as_u64().ok_or_else(|| FieldError::new(field, problem))?;
                    output.classes =
                        class_count(asked).map_err(|error| FieldError::new(field, error))?;
                }
            }
            _ => {}
        }
    }
    output.place = placement(parts)?;
    if output.place.is_some() && output.classes.is_some() {
        return Err(FieldError::new("parameters.classification", NO_SHARED_CLASSES));
    }
    Ok(output)
}

fn placement(parts: Parts) -> Result<Option<Placement>, FieldError> {
    parts.finish().map_err(|missing| {
        FieldError::new(format!("parameters.{}", missing.name), MissingPart::PROBLEM)
    })
}

/// What a response names its request by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) model_name: String,
    pub(crate) model_version: String,
    pub(crate) id: String,
}

impl Names {
    /// The names of a request, as far as they can be read.
    pub(crate) fn of(message: Bytes) -> Self {
        let mut names = Self::default();
        for (field, value) in Fields::of(message).map_while(Result::ok) {
            let (name, slot) = match field {
                1 => ("model_name", &mut names.model_name),
                2 => ("model_version", &mut names.model_version),
                3 => ("id", &mut names.id),
                _ => continue,
            };
            *slot = text(name, value).unwrap_or_default();
        }
        names
    }
}

impl Parameter {
    /// Takes what it says about shared memory, if it is about that.
    fn read_place(&self, parts: &mut Parts) -> Result<(), FieldError> {
        let wrong = |problem: String| FieldError::new(format!("parameters.{}", self.key), problem);
        let number = || {
            let problem = "must be an integer that is not negative";
            self.as_u64().ok_or_else(|| wrong(problem.into()))
        };
        match &*self.key {
            "shared_memory_region" => {
                let region = self.as_str().ok_or_else(|| wrong("must be text".into()))?;
                if region.len() > MAX_NAME {
                    return Err(wrong(format!("is longer than {MAX_NAME} bytes")));
                }
                parts.region = Some(region.to_owned());
            }
            "shared_memory_byte_size" => parts.byte_size = Some(number()?),
            "shared_memory_offset" => parts.offset = Some(number()?),
            _ => {}
        }
        Ok(())
    }
}

fn parameter(field: &str, value: Value) -> Result<Parameter, FieldError> {
    Parameter::read(message_of(field, value)?).map_err(|problem| FieldError::new(field, problem))
}

fn timeout(parameter: &Parameter) -> Result<Option<Duration>, FieldError> {
    let problem = "must be microseconds, as an integer that is not negative";
    let wrong = || FieldError::new("parameters.timeout", problem);
    let microseconds = parameter.as_u64().ok_or_else(wrong)?;
    Ok((microseconds > 0).then(|| Duration::from_micros(microseconds)))
}

fn priority(parameter: &Parameter) -> Result<Priority, FieldError> {
    let wrong =
        || FieldError::new("parameters.priority", "must be an integer that is not negative");
    parameter.as_u64().map(Priority::from_parameter).ok_or_else(wrong)
}

fn room(field: &str, length: usize) -> Result<(), FieldError> {
    if length < MAX_TENSORS {
        return Ok(());
    }
    Err(FieldError::new(field, format!("has more than {MAX_TENSORS} items")))
}

fn message_of(field: &str, value: Value) -> Result<Bytes, FieldError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(FieldError::new(field, Malformed)),
    }
}

fn text(field: &str, value: Value) -> Result<String, FieldError> {
    let bytes = message_of(field, value)?;
    let text = str::from_utf8(&bytes);
    text.map(str::to_owned).map_err(|_| FieldError::new(field, "is not UTF-8"))
}

fn tensor_name(value: Value) -> Result<String, FieldError> {
    let name = text("name", value)?;
    if name.len() > MAX_NAME {
        return Err(FieldError::new("name", format!("is longer than {MAX_NAME} bytes")));
    }
    Ok(name)
}

fn datatype(text: &str) -> Result<DataType, FieldError> {
    text.parse().map_err(|()| {
        let known = DataType::ALL.map(DataType::as_str).join(", ");
        let text: String = text.chars().take(80).collect();
        FieldError::new("datatype", format!("{text:?} is not one of {known}"))
    })
}

/// Takes one dimension, or several that are packed.
fn dimensions(shape: &mut Vec<u64>, value: Value) -> Result<(), FieldError> {
    let mut push = |dimension: u64| {
        // They are signed in the message.
        if i64::try_from(dimension).is_err() {
            let problem = format!("has the negative dimension {}", dimension.cast_signed());
            return Err(FieldError::new("shape", problem));
        }
        if shape.len() == MAX_DIMENSIONS {
            let problem = format!("has more than {MAX_DIMENSIONS} dimensions");
            return Err(FieldError::new("shape", problem));
        }
        shape.push(dimension);
        Ok(())
    };
    match value {
        Value::Varint(dimension) => push(dimension),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let dimension = super::wire::varint(&mut packed);
                push(dimension.map_err(|error| FieldError::new("shape", error))?)?;
            }
            Ok(())
        }
        _ => Err(FieldError::new("shape", Malformed)),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use prost::Message;

    use super::*;
    use crate::grpc::protocol::{
        InferParameter, InferTensorContents, ModelInferRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    };

    fn decode(request: &ModelInferRequest) -> Result<InferenceRequest, String> {
        let outline = Outline::read(request.encode_to_vec().into());
        outline.and_then(Outline::fill).map_err(|error| error.to_string())
    }

    fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
        InferInputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
            ..InferInputTensor::default()
        }
    }

    fn with(input: InferInputTensor, raw: &[&[u8]]) -> ModelInferRequest {
        ModelInferRequest {
            inputs: vec![input],
            raw_input_contents: raw.iter().map(|raw| Bytes::copy_from_slice(raw)).collect(),
            ..ModelInferRequest::default()
        }
    }

    fn parameter(choice: ParameterChoice) -> InferParameter {
        InferParameter { parameter_choice: Some(choice) }
    }

    #[test]
    fn a_request_is_read_raw_or_typed() {
        let floats = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
        let classes = parameter(ParameterChoice::Int64Param(3));
        let request = ModelInferRequest {
            model_name: "m".into(),
            model_version: "2".into(),
            id: "7".into(),
            parameters: [
                ("timeout".to_owned(), parameter(ParameterChoice::Int64Param(1500))),
                ("priority".to_owned(), parameter(ParameterChoice::Uint64Param(1))),
                (
                    "triton_enable_empty_final_response".to_owned(),
                    parameter(ParameterChoice::BoolParam(true)),
                ),
            ]
            .into(),
            outputs: vec![
                InferRequestedOutputTensor {
                    name: "label".into(),
                    parameters: [("classification".to_owned(), classes)].into(),
                },
                InferRequestedOutputTensor { name: "score".into(), ..Default::default() },
            ],
            ..with(input("x", "FP32", &[1, 2]), &[&floats])
        };
        let tensor = Tensor::new("x", DataType::Fp32, vec![1, 2], floats).expect("two floats");
        let expected = InferenceRequest {
            model_name: "m".into(),
            model_version: "2".into(),
            id: "7".into(),
            inputs: vec![tensor],
            shared: vec![],
            outputs: vec![
                RequestedOutput {
                    name: "label".into(),
                    binary: None,
                    classes: NonZeroU32::new(3),
                    place: None,
                },
                RequestedOutput { name: "score".into(), binary: None, classes: None, place: None },
            ],
            timeout: Some(Duration::from_micros(1500)),
            priority: Priority::HIGHEST,
            marks_final: true,
        };
        assert_eq!(decode(&request), Ok(expected));
        let names = Names::of(request.encode_to_vec().into());
        assert_eq!((&*names.model_name, &*names.model_version, &*names.id), ("m", "2", "7"));

        let contents = InferTensorContents {
            fp32_contents: vec![1.5, -2.0],
            ..InferTensorContents::default()
        };
        let typed = ModelInferRequest {
            inputs: vec![InferInputTensor {
                contents: Some(contents),
                ..input("x", "FP32", &[1, 2])
            }],
            raw_input_contents: vec![],
            ..request.clone()
        };
        assert_eq!(decode(&typed), decode(&request));
    }

    #[test]
    fn raw_data_stay_where_they_are() {
        let data = vec![7; 4096];
        let message = Bytes::from(with(input("x", "UINT8", &[4096]), &[&data]).encode_to_vec());
        let outline = Outline::read(message.clone()).expect("a request");
        assert_eq!(outline.cost(), 0);
        let request = outline.fill().expect("a request");
        assert!(message.as_ptr_range().contains(&request.inputs[0].data().as_ptr()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let contents = InferTensorContents { int_contents: vec![300], ..Default::default() };
        let typed = |input| InferInputTensor { contents: Some(contents.clone()), ..input };
        let raw = |name: &str, datatype, shape| with(input(name, datatype, shape), &[b"abcd"]);
        let of = |key: &str, choice| [(key.to_owned(), parameter(choice))].into();
        let text = |text: &str| ParameterChoice::StringParam(text.into());
        let number = ParameterChoice::Int64Param;
        let entries = |entries: &[(&str, ParameterChoice)]| {
            let entries = entries.iter().cloned();
            entries.map(|(key, choice)| (key.to_owned(), parameter(choice))).collect()
        };
        let placed = |parameters: &[_]| InferInputTensor {
            parameters: entries(parameters),
            ..input("x", "FP32", &[1])
        };
        let shared = [("shared_memory_region", text("r")), ("shared_memory_byte_size", number(4))];
        let classes_in_shared_memory = ModelInferRequest {
            outputs: vec![InferRequestedOutputTensor {
                name: "y".into(),
                parameters: entries(&[&shared[..], &[("classification", number(2))]].concat()),
            }],
            ..ModelInferRequest::default()
        };
        let wanted = |choice| ModelInferRequest {
            outputs: vec![InferRequestedOutputTensor {
                name: "y".into(),
                parameters: of("classification", choice),
            }],
            ..ModelInferRequest::default()
        };
        let late = |choice| ModelInferRequest {
            parameters: of("timeout", choice),
            ..ModelInferRequest::default()
        };
        let sequence = ModelInferRequest {
            parameters: of("sequence_id", ParameterChoice::StringParam("a".into())),
            ..ModelInferRequest::default()
        };
        let many = ModelInferRequest {
            inputs: vec![input("x", "FP32", &[]); 1025],
            ..ModelInferRequest::default()
        };
        let cases = [
            (
                raw("x", "FLOAT", &[1]),
                "inputs[0].datatype: \"FLOAT\" is not one of BOOL, UINT8, UINT16, \
                UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
            ),
            (raw("x", "FP32", &[-1]), "inputs[0].shape: has the negative dimension -1"),
            (raw("x", "FP32", &[1; 17]), "inputs[0].shape: has more than 16 dimensions"),
            (
                raw("x", "FP32", &[i64::MAX, 3]),
                "inputs[0].shape: [9223372036854775807, 3] has too many elements",
            ),
            (
                raw("x", "FP32", &[2]),
                "inputs[0].data: tensor \"x\": shape [2] of FP32 needs 8 bytes, got 4",
            ),
            (
                raw("x", "BYTES", &[1]),
                "inputs[0].data: tensor \"x\": data are not 1 byte strings with their lengths \
                 before them",
            ),
            (
                with(input("x", "FP32", &[1]), &[b"abcd", b"abcd"]),
                "raw_input_contents: has 2 items for 1 inputs",
            ),
            (
                with(typed(input("x", "INT32", &[1])), &[b"abcd"]),
                "inputs[0].contents: must be empty where raw_input_contents are given",
            ),
            (
                with(typed(input("x", "INT8", &[1])), &[]),
                "inputs[0].contents: 300 is outside the range of INT8",
            ),
            (
                with(input("x", "FP32", &[1]), &[]),
                "inputs[0].data: tensor \"x\": shape [1] of FP32 needs 4 bytes, got 0",
            ),
            (
                with(placed(&[("shared_memory_region", text("r"))]), &[]),
                "inputs[0].parameters.shared_memory_byte_size: is missing: shared memory needs \
                 shared_memory_region and shared_memory_byte_size",
            ),
            (
                with(placed(&[("shared_memory_region", number(7))]), &[]),
                "inputs[0].parameters.shared_memory_region: must be text",
            ),
            (
                with(placed(&[("shared_memory_region", text(&"r".repeat(1025)))]), &[]),
                "inputs[0].parameters.shared_memory_region: is longer than 1024 bytes",
            ),
            (
                with(placed(&[("shared_memory_offset", number(-1))]), &[]),
                "inputs[0].parameters.shared_memory_offset: must be an integer that is not negative",
            ),
            (with(placed(&shared), &[b"abcd"]), "raw_input_contents: has 1 items for 0 inputs"),
            (
                with(typed(placed(&shared)), &[]),
                "inputs[0].contents: must be empty where shared memory is named",
            ),
            (
                classes_in_shared_memory,
                "outputs[0].parameters.classification: is given beside shared memory, which takes \
                 the tensor itself: ask for one of them",
            ),
            (
                sequence,
                "parameters.sequence_id: sequences are not supported: calls keep no state for the \
                 next",
            ),
            (
                wanted(ParameterChoice::Int64Param(-1)),
                "outputs[0].parameters.classification: must be an integer that is not negative",
            ),
            (
                wanted(ParameterChoice::Int64Param(1_025)),
                "outputs[0].parameters.classification: is more than 1024, the most classes that \
                 an answer has",
            ),
            (
                late(ParameterChoice::StringParam("1".into())),
                "parameters.timeout: must be microseconds, as an integer that is not negative",
            ),
            (many, "inputs: has more than 1024 items"),
            (raw(&"x".repeat(1025), "FP32", &[1]), "inputs[0].name: is longer than 1024 bytes"),
        ];
        for (request, message) in cases {
            assert_eq!(decode(&request).expect_err(message), message);
        }
    }

    #[test]
    fn inputs_in_shared_memory_have_no_contents_between_those_of_others() {
        let place = [
            ("shared_memory_region", ParameterChoice::StringParam("r".into())),
            ("shared_memory_byte_size", ParameterChoice::Int64Param(8)),
            ("shared_memory_offset", ParameterChoice::Int64Param(4)),
        ];
        let place = place.map(|(key, choice)| (key.to_owned(), parameter(choice)));
        let shared = InferInputTensor { parameters: place.into(), ..input("b", "FP32", &[2]) };
        let mut request = with(input("a", "UINT8", &[1]), &[b"a", b"c"]);
        request.inputs.extend([shared.clone(), input("c", "UINT8", &[1])]);
        request
            .outputs
            .push(InferRequestedOutputTensor { name: "y".into(), parameters: shared.parameters });
        let read = decode(&request).expect("a request");
        let data: Vec<_> =
            read.inputs.iter().map(|input| (&**input.name(), input.data())).collect();
        assert_eq!(data, [("a", &Bytes::from("a")), ("c", &Bytes::from("c"))]);
        let place = Placement { region: "r".into(), offset: 4, byte_size: 8 };
        assert_eq!(read.outputs[0].place, Some(place.clone()));
        let (name, dtype, shape) = ("b".into(), DataType::Fp32, vec![2]);
        assert_eq!(read.shared, [SharedInput { position: 1, name, dtype, shape, place }]);
    }

    #[test]
    fn contents_come_in_a_limited_number_of_parts() {
        let with_parts = |count: usize| {
            let input = [&b"\x12\x04FP32\x1a\x01\0"[..], &b"\x2a\0".repeat(count)].concat();
            let mut message = vec![5 << 3 | 2];
            prost::encode_length_delimiter(input.len(), &mut message).expect("a vector has room");
            message.extend(input);
            Outline::read(message.into()).map(|outline| outline.inputs[0].contents.len())
        };
        assert_eq!(with_parts(1024).expect("is allowed"), 1024);
        let error = with_parts(1025).expect_err("each takes more memory than it has bytes");
        assert_eq!(error.to_string(), "inputs[0].contents: has more than 1024 items");
    }

    #[test]
    fn bytes_that_are_no_request_are_refused() {
        let malformed = "is not a protobuf message: it breaks off, or has a key that means nothing";
        for (bytes, field) in [
            (&b"\x0b"[..], "message"),
            (b"\x08\x01", "model_name"),
            (b"\x28\x01", "inputs[0]"),
            (b"\x30\x01", "outputs[0]"),
            (b"\x38\x01", "raw_input_contents"),
            (b"\x20\x01", "parameters"),
            (b"\x2a\x02\x1d\0", "inputs[0].message"),
            (b"\x2a\x03\x1a\x01\x80", "inputs[0].shape"),
            (b"\x2a\x02\x28\x01", "inputs[0].contents"),
        ] {
            let error = Outline::read(Bytes::from_static(bytes)).expect_err(field);
            assert_eq!(error.to_string(), format!("{field}: {malformed}"), "{bytes:?}");
        }
        let error = Outline::read(Bytes::from_static(b"\x0a\x01\xff")).expect_err("no text");
        assert_eq!(error.to_string(), "model_name: is not UTF-8");
        let error = Outline::read(Bytes::from_static(b"\x2a\0")).expect_err("no datatype");
        assert_eq!(error.to_string(), "inputs[0].datatype: is missing");
        // Fields that others may have added are passed over.
        assert!(Outline::read(Bytes::from_static(b"\x98\x06\x01")).is_ok());
        assert_eq!(Names::of(Bytes::from_static(b"\x1a\x017\x0b")).id, "7", "up to the error");
    }
}
