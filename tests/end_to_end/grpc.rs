//! The protocol over gRPC: inference here, everything else in the files below. The client's frames
//! are another's, so that both ends agree on them.

mod access;
mod calls;
mod errors;
mod isolation;
mod limits;
mod shared_memory;
mod streams;
mod traces;
mod traffic;

use futures::{Stream, stream};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use quern_gateway::protocol::{
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    *,
};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tonic::{Code, Response, Status, Streaming, body::Body, client::Grpc};
use tonic_prost::ProstCodec;

use crate::{DIGITS, ECHO, support::Server};

/// A client that knows the calls by their names.
#[derive(Clone)]
struct Client(Grpc<Http<HttpConnector, Body>>);

impl Client {
    fn new(url: &str) -> Self {
        let http2 = Http::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self(Grpc::with_origin(http2, url.parse().expect("an origin")))
    }

    async fn call<Q, A>(&self, call: &str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.send(call, tonic::Request::new(request)).await.map(Response::into_inner)
    }

    async fn send<Q, A>(
        &self,
        call: &str,
        request: tonic::Request<Q>,
    ) -> Result<Response<A>, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/inference.GRPCInferenceService/{call}").parse().expect("a path");
        self.0.clone().unary(request, path, ProstCodec::<Q, A>::default()).await
    }

    async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.call("ModelInfer", request).await
    }

    /// Opens a stream of requests and gives that of the answers.
    async fn stream(
        &self,
        requests: impl Stream<Item = ModelInferRequest> + Send + 'static,
    ) -> Result<Streaming<ModelStreamInferResponse>, Status> {
        let path = "/inference.GRPCInferenceService/ModelStreamInfer".parse().expect("a path");
        let request = tonic::Request::new(requests);
        let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
        self.0.clone().streaming(request, path, codec).await.map(Response::into_inner)
    }
}

async fn start(arguments: &[&str]) -> (Server, Client) {
    let server = Server::start_with(arguments);
    let client = Client::new(server.url());
    (server, client)
}

/// A server with options of its own, and the file that they are in.
async fn start_configured(options: &str) -> (Server, Client, NamedTempFile) {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), options).expect("written");
    let (server, client) = start(&["--config", file.path().to_str().expect("text")]).await;
    (server, client, file)
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn parameter(key: &str, choice: ParameterChoice) -> (String, InferParameter) {
    (key.into(), InferParameter { parameter_choice: Some(choice) })
}

fn floats(values: &[f32]) -> bytes::Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A request for images whose points all have this value.
fn image(target: &str, value: f32, rows: usize) -> ModelInferRequest {
    ModelInferRequest {
        model_name: target.into(),
        inputs: vec![tensor("image", "FP32", &[rows as i64, 64])],
        raw_input_contents: vec![floats(&vec![value; rows * 64])],
        ..ModelInferRequest::default()
    }
}

fn choice(number: i64) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "guest-error".into(),
        id: number.to_string(),
        inputs: vec![tensor("choice", "INT64", &[1])],
        raw_input_contents: vec![number.to_le_bytes().to_vec().into()],
        ..ModelInferRequest::default()
    }
}

/// Requests for a stream, as they are sent through the other end.
fn dialogue() -> (mpsc::Sender<ModelInferRequest>, impl Stream<Item = ModelInferRequest> + Send) {
    let (ask, asked) = mpsc::channel(1);
    (ask, stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked))))
}

fn wanted(name: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor { name: name.into(), ..InferRequestedOutputTensor::default() }
}

fn output<'a>(answer: &'a ModelInferResponse, name: &str) -> (&'a [i64], &'a [u8]) {
    let position = answer.outputs.iter().position(|output| output.name == name).expect(name);
    (&answer.outputs[position].shape, &answer.raw_output_contents[position])
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

fn assert_status(status: &Status, code: Code, word: &str, part: &str) {
    let found = status.metadata().get("quern-error").map(|word| word.to_str().expect("text"));
    assert_eq!((status.code(), found), (code, Some(word)), "{}", status.message());
    assert!(status.message().contains(part), "{:?} should contain {part:?}", status.message());
}

#[tokio::test]
async fn models_and_functions_answer_as_they_do_over_http() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let inputs = json!([{ "name": "image", "shape": [2, 64], "datatype": "FP32",
                          "data": vec![3.0; 128] }]);
    for target in ["digits-mlp", "digits"] {
        let over_http = server.infer(target, inputs.clone()).await.json();
        let over_http = over_http["outputs"].as_array().expect("outputs");
        let expected = over_http.iter().find(|output| output["name"] == "probabilities");
        let expected = expected.expect("probabilities")["data"].as_array().expect("numbers");
        let expected: Vec<_> =
            expected.iter().map(|number| number.as_f64().expect("a number") as f32).collect();
        let mut typed = image(target, 3.0, 2);
        typed.raw_input_contents.clear();
        typed.inputs[0].contents =
            Some(InferTensorContents { fp32_contents: vec![3.0; 128], ..Default::default() });
        for request in [image(target, 3.0, 2), typed] {
            let request = ModelInferRequest { id: "7".into(), ..request };
            let answer = client.infer(request).await.expect("an answer");
            assert_eq!((&*answer.model_name, &*answer.model_version), (target, "1"));
            assert_eq!(answer.id, "7");
            let (shape, data) = output(&answer, "probabilities");
            assert_eq!(shape, [2, 10]);
            let close = |(left, right): (&f32, &f32)| (left - right).abs() < 1e-5;
            assert!(numbers(data).iter().zip(&expected).all(close), "{target}");
        }
    }
    let request = tonic::Request::new(image("digits-mlp", 1.0, 3));
    let answer: Response<ModelInferResponse> =
        client.send("ModelInfer", request).await.expect("an answer");
    let header = |name: &str| answer.metadata().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("quern-version"), Some("1"));
    assert_eq!((header("quern-device"), header("quern-batch-rows")), (Some("cpu:0"), Some("3")));
    assert!(header("quern-invocation").is_some_and(|id| id.len() == 36));
    assert!(server.metric("quern_model_queue_seconds_count").await >= 3.0);
}

#[tokio::test]
async fn tensors_of_several_types_pass_through_a_function() {
    let (server, client) = start(&[]).await;
    server.deploy(&ECHO).await;
    let words = b"\x05\0\0\0grain\x03\0\0\0\xc3\xa9\0";
    let raw = ModelInferRequest {
        model_name: "echo".into(),
        inputs: vec![tensor("words", "BYTES", &[2]), tensor("floats", "FP32", &[1, 2])],
        raw_input_contents: vec![words.to_vec().into(), floats(&[f32::NAN, -2.5e-3])],
        ..ModelInferRequest::default()
    };
    let mut typed = raw.clone();
    typed.raw_input_contents.clear();
    typed.inputs[0].contents = Some(InferTensorContents {
        bytes_contents: vec!["grain".into(), "é\0".into()],
        ..Default::default()
    });
    typed.inputs[1].contents =
        Some(InferTensorContents { fp32_contents: vec![f32::NAN, -2.5e-3], ..Default::default() });
    for request in [raw, typed] {
        let answer = client.infer(request).await.expect("an answer");
        assert_eq!(output(&answer, "words"), (&[2][..], &words[..]));
        let (shape, data) = output(&answer, "floats");
        assert_eq!((shape, data), (&[1, 2][..], &floats(&[f32::NAN, -2.5e-3])[..]));
    }
}

#[tokio::test]
async fn a_tensor_of_many_frames_passes_both_ways() {
    let (server, client) = start(&[]).await;
    server.deploy(&ECHO).await;
    let values: Vec<f32> = (0..200_000).map(|number| number as f32).collect();
    let request = ModelInferRequest {
        model_name: "echo".into(),
        inputs: vec![tensor("words", "BYTES", &[0]), tensor("floats", "FP32", &[100_000, 2])],
        raw_input_contents: vec![bytes::Bytes::new(), floats(&values)],
        ..ModelInferRequest::default()
    };
    let requests = stream::iter(vec![request.clone(); 3]);
    let alone = client.infer(request).await.expect("an answer");
    assert!(output(&alone, "floats").1 == floats(&values));
    let mut answers = client.stream(requests).await.expect("opens");
    for _ in 0..3 {
        let answer = answers.message().await.expect("goes on").expect("an answer");
        assert!(answer.infer_response.as_ref() == Some(&alone));
    }
}

#[tokio::test]
async fn outputs_come_in_the_order_and_form_asked_for() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let names = |answer: &ModelInferResponse| -> Vec<String> {
        answer.outputs.iter().map(|output| output.name.clone()).collect()
    };
    let all = names(&client.infer(image("digits", 1.0, 1)).await.expect("an answer"));
    assert!(all.len() > 1, "{all:?}");
    let reversed: Vec<String> = all.iter().rev().cloned().collect();
    let outputs = reversed.iter().map(|name| wanted(name)).collect();
    let answer = client.infer(ModelInferRequest { outputs, ..image("digits", 1.0, 1) }).await;
    assert_eq!(names(&answer.expect("an answer")), reversed);

    let classes = [parameter("classification", ParameterChoice::Int64Param(2))].into();
    let outputs =
        vec![InferRequestedOutputTensor { parameters: classes, ..wanted("probabilities") }];
    let request = ModelInferRequest { outputs, ..image("digits-mlp", 5.0, 3) };
    let answer = client.infer(request).await.expect("an answer");
    assert_eq!(answer.outputs[0].datatype, "BYTES");
    let (shape, data) = output(&answer, "probabilities");
    assert_eq!(shape, [3, 2]);
    assert_eq!(data.iter().filter(|byte| **byte == b':').count(), 6, "value:index, six times");
}
