//! Answers on their way out: messages in their frames, with a call's status in the trailers. The
//! outputs of an inference are sent from where they lie, without a copy.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use prost::Message;
use quern_types::BodyError;
use tonic::Status;

use super::{
    messages::HEAD,
    protocol::{
        InferParameter, ModelInferResponse, infer_parameter::ParameterChoice,
        model_infer_response::InferOutputTensor,
    },
};
use crate::{
    body::{Reply, ReplyBody},
    v2::{Form, Output},
};

/// Outputs up to this size are copied: one piece is then cheaper than two.
const SMALL: usize = 4 << 10;
/// The key of `ModelInferResponse.raw_output_contents`.
const RAW_OUTPUT: u8 = 6 << 3 | 2;
/// The key of `ModelStreamInferResponse.infer_response`.
const INFER_RESPONSE: u8 = 2 << 3 | 2;

/// An answer is larger than a message can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("answer of {bytes} bytes does not fit the 4 GiB of a message: ask for fewer outputs")]
pub(crate) struct AnswerTooLarge {
    bytes: usize,
}

/// One message in its frame, in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Framed(VecDeque<Bytes>);

impl Framed {
    /// A message without outputs, which is small.
    pub(crate) fn new(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut frame = Vec::with_capacity(HEAD + length);
        frame.push(0);
        frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        message.encode(&mut frame).expect("a vector has room");
        Self([frame.into()].into())
    }

    /// The next piece to be sent.
    pub(crate) fn next_piece(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }
}

/// The answer to a request for inference.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) model_name: String,
    pub(crate) model_version: String,
    pub(crate) id: String,
    pub(crate) parameters: Vec<(&'static str, InferParameter)>,
    pub(crate) outputs: Vec<Output>,
}

impl Answer {
    /// As the answer of a call of its own.
    pub(crate) fn alone(self) -> Result<Framed, AnswerTooLarge> {
        self.frame(false)
    }

    /// As one of a stream.
    pub(crate) fn in_stream(self) -> Result<Framed, AnswerTooLarge> {
        self.frame(true)
    }

    fn frame(self, in_stream: bool) -> Result<Framed, AnswerTooLarge> {
        let data: Vec<Bytes> = self.outputs.iter().map(sent).collect();
        let head = self.head();
        let raw = |data: &Bytes| 1 + prost::length_delimiter_len(data.len()) + data.len();
        let inner = head.encoded_len() + data.iter().map(raw).sum::<usize>();
        let outer = if in_stream { 1 + prost::length_delimiter_len(inner) } else { 0 };
        let bytes = outer + inner;
        let length = u32::try_from(bytes).map_err(|_| AnswerTooLarge { bytes })?;

        let small = data.iter().map(Bytes::len).filter(|length| *length <= SMALL);
        let small = small.map(|length| length + 16).sum::<usize>();
        let mut pieces = VecDeque::new();
        let mut piece = Vec::with_capacity(HEAD + 16 + head.encoded_len() + small);
        piece.push(0);
        piece.extend_from_slice(&length.to_be_bytes());
        let delimit = |piece: &mut Vec<u8>, key: u8, length: usize| {
            piece.push(key);
            prost::encode_length_delimiter(length, piece).expect("a vector has room");
        };
        if in_stream {
            delimit(&mut piece, INFER_RESPONSE, inner);
        }
        head.encode(&mut piece).expect("a vector has room");
        for data in data {
            delimit(&mut piece, RAW_OUTPUT, data.len());
            if data.len() <= SMALL {
                piece.extend_from_slice(&data);
            } else {
                pieces.push_back(std::mem::take(&mut piece).into());
                pieces.push_back(data);
            }
        }
        if !piece.is_empty() {
            pieces.push_back(piece.into());
        }
        Ok(Framed(pieces))
    }

    /// All of it but the data.
    fn head(self) -> ModelInferResponse {
        let describe = |output: &Output| InferOutputTensor {
            name: output.tensor.name().to_string(),
            datatype: output.tensor.dtype().to_string(),
            // A dimension counts elements that are in memory.
            shape: output.tensor.shape().iter().map(|size| size.cast_signed()).collect(),
            parameters: place(output).collect(),
            ..InferOutputTensor::default()
        };
        let parameters = self.parameters.into_iter();
        ModelInferResponse {
            outputs: self.outputs.iter().map(describe).collect(),
            model_name: self.model_name,
            model_version: self.model_version,
            id: self.id,
            parameters: parameters.map(|(key, value)| (key.to_owned(), value)).collect(),
            raw_output_contents: Vec::new(),
        }
    }
}

/// What is sent of an output: nothing, but in its turn, if it lies in shared memory.
fn sent(output: &Output) -> Bytes {
    match output.form {
        Form::Shared(_) => Bytes::new(),
        Form::Json | Form::Binary => output.tensor.data().clone(),
    }
}

/// The parameters that say where an output lies in shared memory.
fn place(output: &Output) -> impl Iterator<Item = (String, InferParameter)> {
    let Output { tensor, form } = output;
    let slot = if let Form::Shared(slot) = form { Some(slot) } else { None };
    let number = |number: u64| ParameterChoice::Int64Param(number.cast_signed());
    let parameters = slot.map(|slot| {
        let offset = (slot.offset() > 0).then(|| number(slot.offset()));
        [
            ("shared_memory_region", Some(ParameterChoice::StringParam(slot.region().to_owned()))),
            ("shared_memory_offset", offset),
            ("shared_memory_byte_size", Some(number(tensor.data().len() as u64))),
        ]
    });
    parameters.into_iter().flatten().filter_map(|(key, choice)| {
        choice.is_some().then(|| (key.to_owned(), InferParameter { parameter_choice: choice }))
    })
}

/// The answer to a call that went well.
pub(crate) fn answered(message: Framed) -> Reply {
    let body = Whole { message, trailers: Some(good()) };
    reply(ReplyBody::Stream(body.boxed_unsync()))
}

/// The answer to a call that failed: its status, and nothing else.
pub(crate) fn failed(status: &Status) -> Reply {
    let mut reply = reply(ReplyBody::empty());
    *reply.headers_mut() = headers_of(status);
    reply.headers_mut().insert(CONTENT_TYPE, GRPC);
    // For whom it matters: a client that compressed in another way.
    let encodings = HeaderValue::from_static("identity,deflate,gzip");
    reply.headers_mut().insert("grpc-accept-encoding", encodings);
    reply
}

/// An answer whose messages are made as it is sent.
pub(crate) fn streamed(body: impl Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Reply {
    reply(ReplyBody::Stream(body.boxed_unsync()))
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn reply(body: ReplyBody) -> Reply {
    let mut reply = Reply::new(body);
    reply.headers_mut().insert(CONTENT_TYPE, GRPC);
    reply
}

/// The trailers of a call that went well.
pub(crate) fn good() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])
}

/// A status as headers or trailers.
pub(crate) fn headers_of(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if status.add_header(&mut headers).is_err() {
        // Its text is percent-encoded and its metadata are our own: neither can be refused.
        headers.insert(STATUS, i32::from(status.code()).into());
    }
    headers
}

/// One message and the trailers.
struct Whole {
    message: Framed,
    trailers: Option<HeaderMap>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = self.message.next_piece().map(Frame::data);
        Poll::Ready(piece.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use quern_types::{DataType, Tensor};

    use super::*;
    use crate::grpc::protocol::ModelStreamInferResponse;

    fn bytes(name: &str, length: usize) -> Output {
        let data: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        let tensor = Tensor::new(name, DataType::Uint8, vec![length as u64], data).expect("fits");
        Output { tensor, form: Form::Binary }
    }

    fn answer(lengths: &[usize]) -> Answer {
        Answer {
            model_name: "m".into(),
            model_version: "3".into(),
            id: "7".into(),
            parameters: Vec::new(),
            outputs: lengths.iter().map(|length| bytes("x", *length)).collect(),
        }
    }

    fn message<M: Message + Default>(mut framed: Framed) -> (M, usize) {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| framed.next_piece()).collect();
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        let frame = pieces.concat();
        let (head, content) = frame.split_at(HEAD);
        let length = (content.len() as u32).to_be_bytes();
        assert_eq!(head, [&[0][..], &length].concat());
        (M::decode(content).expect("a message"), pieces.len())
    }

    #[test]
    fn an_answer_is_what_protobuf_makes_of_it() {
        let large = SMALL + 1;
        for (lengths, pieces) in
            [(&[][..], 1), (&[0, 5][..], 1), (&[large][..], 2), (&[3, large, large, 1][..], 5)]
        {
            let expected: Vec<_> =
                lengths.iter().map(|length| bytes("x", *length).tensor.data().clone()).collect();
            let (alone, count) =
                message::<ModelInferResponse>(answer(lengths).alone().expect("fits"));
            assert_eq!(count, pieces, "{lengths:?}");
            assert_eq!(alone.raw_output_contents, expected);
            assert_eq!((&*alone.model_name, &*alone.model_version, &*alone.id), ("m", "3", "7"));
            let shapes = alone.outputs.iter().map(|output| output.shape[0] as usize);
            assert_eq!(shapes.collect::<Vec<_>>(), lengths);
            let (streamed, _) =
                message::<ModelStreamInferResponse>(answer(lengths).in_stream().expect("fits"));
            assert_eq!(streamed.infer_response, Some(alone));
        }
    }

    #[tokio::test]
    async fn a_good_answer_ends_with_its_status_and_a_failed_one_begins_with_it() {
        let reply = answered(answer(&[1]).alone().expect("fits"));
        assert_eq!(reply.headers()[CONTENT_TYPE], "application/grpc");
        let whole = reply.into_body().collect().await.expect("in memory");
        assert_eq!(whole.trailers().expect("trailers")["grpc-status"], "0");

        let reply = failed(&Status::not_found("no \u{1f600}\n"));
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(reply.headers()["grpc-status"], "5");
        assert_eq!(reply.headers()["grpc-message"], "no%20%F0%9F%98%80%0A");
    }

    #[test]
    fn an_answer_that_fits_no_message_is_refused() {
        let data = Bytes::from(vec![0; 1 << 20]);
        let one = || {
            let tensor = Tensor::new("x", DataType::Uint8, vec![1 << 20], data.clone());
            Output { tensor: tensor.expect("fits"), form: Form::Binary }
        };
        let outputs = std::iter::repeat_with(one).take(1 << 12).collect();
        let error = Answer { outputs, ..answer(&[]) }.alone().expect_err("too large");
        assert!(error.to_string().contains("4 GiB"), "{error}");
    }
}
