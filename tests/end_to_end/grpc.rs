//! The protocol over gRPC: every call, everything that can be wrong with one, streams, deadlines,
//! cancellation and limits. The client's frames are another's, so that both ends agree on them.

use std::time::Duration;

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use quern_gateway::protocol::{
    infer_parameter::ParameterChoice,
    model_config::SchedulingChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    *,
};
use serde_json::json;
use tempfile::NamedTempFile;
use tonic::{Code, Response, Status, Streaming, body::Body, client::Grpc};
use tonic_prost::ProstCodec;

use crate::{DIGITS, ECHO, GUEST_ERROR, HELLO, support::Server};

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

    async fn send<Q, A>(&self, call: &str, request: tonic::Request<Q>) -> Result<Response<A>, Status>
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
        requests: impl stream::Stream<Item = ModelInferRequest> + Send + 'static,
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
    let outputs = vec![InferRequestedOutputTensor {
        parameters: classes,
        ..wanted("probabilities")
    }];
    let request = ModelInferRequest { outputs, ..image("digits-mlp", 5.0, 3) };
    let answer = client.infer(request).await.expect("an answer");
    assert_eq!(answer.outputs[0].datatype, "BYTES");
    let (shape, data) = output(&answer, "probabilities");
    assert_eq!(shape, [3, 2]);
    assert_eq!(data.iter().filter(|byte| **byte == b':').count(), 6, "value:index, six times");
}

#[tokio::test]
async fn every_question_is_answered() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let live: ServerLiveResponse =
        client.call("ServerLive", ServerLiveRequest {}).await.expect("an answer");
    let ready: ServerReadyResponse =
        client.call("ServerReady", ServerReadyRequest {}).await.expect("an answer");
    assert!(live.live && ready.ready);
    let about: ServerMetadataResponse =
        client.call("ServerMetadata", ServerMetadataRequest {}).await.expect("an answer");
    let over_http = server.get("/v2").await.json();
    assert_eq!((json!(about.name), json!(about.version)), (json!("quern"), over_http["version"].clone()));
    assert_eq!(json!(about.extensions), over_http["extensions"]);

    for (name, version, expected) in
        [("digits-mlp", "", true), ("digits", "1", true), ("digits", "2", false), ("no", "", false)]
    {
        let request = ModelReadyRequest { name: name.into(), version: version.into() };
        let answer: ModelReadyResponse = client.call("ModelReady", request).await.expect(name);
        assert_eq!(answer.ready, expected, "{name} {version}");
    }
    let request = ModelMetadataRequest { name: "digits-mlp".into(), version: String::new() };
    let answer: ModelMetadataResponse =
        client.call("ModelMetadata", request).await.expect("an answer");
    let over_http = server.get("/v2/models/digits-mlp").await.json();
    assert_eq!(json!(answer.versions), over_http["versions"]);
    assert_eq!(json!(answer.platform), over_http["platform"]);
    let input = &answer.inputs[0];
    let input = json!({"name": input.name, "datatype": input.datatype, "shape": input.shape});
    assert_eq!(json!([input]), over_http["inputs"]);

    let request = ModelConfigRequest { name: "digits-mlp".into(), version: "1".into() };
    let answer: ModelConfigResponse = client.call("ModelConfig", request).await.expect("an answer");
    let config = answer.config.expect("a configuration");
    let over_http = server.get("/v2/models/digits-mlp/config").await.json();
    assert_eq!(json!(config.max_batch_size), over_http["max_batch_size"]);
    assert_eq!((json!(config.backend), config.name), (over_http["backend"].clone(), "digits-mlp".into()));
    assert_eq!(config.input[0].data_type(), DataType::TypeFp32);
    assert_eq!(config.input[0].dims, [64]);
    assert!(matches!(config.scheduling_choice, Some(SchedulingChoice::DynamicBatching(_))));
    assert_eq!(config.instance_group[0].kind(), model_instance_group::Kind::Cpu);
}

#[tokio::test]
async fn calls_are_counted_and_models_loaded_and_unloaded() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    client.infer(image("digits-mlp", 1.0, 3)).await.expect("an answer");
    for name in ["digits-mlp", ""] {
        let request = ModelStatisticsRequest { name: name.into(), version: String::new() };
        let answer: ModelStatisticsResponse =
            client.call("ModelStatistics", request).await.expect("an answer");
        let model = &answer.model_stats[0];
        assert_eq!((&*model.name, &*model.version), ("digits-mlp", "1"));
        assert_eq!((model.inference_count, model.execution_count), (3, 1));
        let success = model.inference_stats.as_ref().and_then(|counted| counted.success.as_ref());
        assert_eq!(success.expect("counted").count, 1);
    }

    let index = async |ready| {
        let request = RepositoryIndexRequest { ready, ..Default::default() };
        let answer: RepositoryIndexResponse =
            client.call("RepositoryIndex", request).await.expect("an answer");
        answer.models.into_iter().map(|model| model.state).collect::<Vec<_>>()
    };
    assert_eq!(index(true).await, ["READY"]);
    let unload = |model_name: &str| RepositoryModelUnloadRequest {
        model_name: model_name.into(),
        ..RepositoryModelUnloadRequest::default()
    };
    let unloaded = client.call("RepositoryModelUnload", unload("digits-mlp")).await;
    let RepositoryModelUnloadResponse {} = unloaded.expect("an answer");
    assert_eq!((index(true).await.len(), index(false).await), (0, vec!["UNAVAILABLE".to_owned()]));
    let refused = client.infer(image("digits-mlp", 1.0, 1)).await.expect_err("is unloaded");
    assert!(refused.message().contains("is unloaded"), "{}", refused.message());
    let load = |model_name: &str| RepositoryModelLoadRequest {
        model_name: model_name.into(),
        ..RepositoryModelLoadRequest::default()
    };
    let loaded = client.call("RepositoryModelLoad", load("digits-mlp")).await;
    let RepositoryModelLoadResponse {} = loaded.expect("an answer");
    client.infer(image("digits-mlp", 1.0, 1)).await.expect("an answer");

    let refused = |status: Result<RepositoryModelLoadResponse, Status>| status.expect_err("no");
    let status = refused(client.call("RepositoryModelLoad", load("absent")).await);
    assert_status(&status, Code::NotFound, "not-found", "absent");
    let config = ModelRepositoryParameter {
        parameter_choice: Some(model_repository_parameter::ParameterChoice::StringParam("{}".into())),
    };
    let request = RepositoryModelLoadRequest {
        parameters: [("config".to_owned(), config)].into(),
        ..load("digits-mlp")
    };
    let status = refused(client.call("RepositoryModelLoad", request).await);
    assert_status(&status, Code::Unimplemented, "unsupported", "deploy it");
    let request =
        RepositoryModelLoadRequest { repository_name: "other".into(), ..load("digits-mlp") };
    let status = refused(client.call("RepositoryModelLoad", request).await);
    assert_status(&status, Code::Unimplemented, "unsupported", "repository_name");
}

#[tokio::test]
async fn settings_can_be_read_and_shared_memory_is_refused() {
    let (_server, client) = start(&[]).await;
    let settings: LogSettingsResponse =
        client.call("LogSettings", LogSettingsRequest::default()).await.expect("an answer");
    let info = settings.settings["log_info"].parameter_choice.clone();
    use log_settings_response::setting_value::ParameterChoice as Is;
    assert_eq!(info, Some(Is::BoolParam(true)));
    use log_settings_request::{SettingValue, setting_value::ParameterChoice as Asked};
    let off = SettingValue { parameter_choice: Some(Asked::BoolParam(false)) };
    let request = LogSettingsRequest { settings: [("log_info".to_owned(), off)].into() };
    let status = client.call::<_, LogSettingsResponse>("LogSettings", request).await;
    let status = status.expect_err("can't be changed");
    assert_status(&status, Code::Unimplemented, "unsupported", "log_info");
    let traces: TraceSettingResponse =
        client.call("TraceSetting", TraceSettingRequest::default()).await.expect("an answer");
    assert_eq!(traces.settings["trace_level"].value, ["OFF"]);

    let status: SystemSharedMemoryStatusResponse = client
        .call("SystemSharedMemoryStatus", SystemSharedMemoryStatusRequest::default())
        .await
        .expect("an answer");
    assert!(status.regions.is_empty());
    let status: CudaSharedMemoryStatusResponse = client
        .call("CudaSharedMemoryStatus", CudaSharedMemoryStatusRequest::default())
        .await
        .expect("an answer");
    assert!(status.regions.is_empty());
    let request = SystemSharedMemoryRegisterRequest { name: "a".into(), ..Default::default() };
    let status = client
        .call::<_, SystemSharedMemoryRegisterResponse>("SystemSharedMemoryRegister", request)
        .await
        .expect_err("not allowed");
    assert_status(&status, Code::Unimplemented, "unsupported", "shared memory is not allowed");
    let request = CudaSharedMemoryRegisterRequest { name: "a".into(), ..Default::default() };
    let status = client
        .call::<_, CudaSharedMemoryRegisterResponse>("CudaSharedMemoryRegister", request)
        .await
        .expect_err("not allowed");
    assert_status(&status, Code::Unimplemented, "unsupported", "shared memory is not allowed");
    for call in ["SystemSharedMemoryUnregister", "CudaSharedMemoryUnregister"] {
        let request = SystemSharedMemoryUnregisterRequest::default();
        let SystemSharedMemoryUnregisterResponse {} =
            client.call(call, request).await.expect("nothing is registered");
    }
}

#[tokio::test]
async fn bad_requests_name_what_is_wrong() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    server.deploy(&HELLO).await;
    let good = || image("digits-mlp", 1.0, 1);
    let with = |change: fn(&mut ModelInferRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    use Code::{InvalidArgument, NotFound, Unimplemented};
    let cases = [
        (with(|it| it.model_name = "absent".into()), NotFound, "not-found", "absent"),
        (with(|it| it.model_version = "7".into()), NotFound, "not-found", "no version 7"),
        (with(|it| it.model_version = "one".into()), InvalidArgument, "invalid-request", "one"),
        (with(|it| it.model_name = "A b".into()), InvalidArgument, "invalid-name", "A b"),
        (
            with(|it| it.model_name = "hello".into()),
            Code::FailedPrecondition,
            "wrong-kind",
            "of kind http",
        ),
        (with(|it| it.inputs.clear()), InvalidArgument, "invalid-request", "raw_input_contents"),
        (
            with(|it| {
                it.inputs.clear();
                it.raw_input_contents.clear();
            }),
            InvalidArgument,
            "signature-mismatch",
            "\"image\" is missing",
        ),
        (
            with(|it| it.inputs[0].name = "picture".into()),
            InvalidArgument,
            "signature-mismatch",
            "picture",
        ),
        (
            with(|it| it.inputs[0].datatype = "INT32".into()),
            InvalidArgument,
            "signature-mismatch",
            "INT32",
        ),
        (
            with(|it| it.inputs[0].datatype = "FLOAT".into()),
            InvalidArgument,
            "invalid-request",
            "inputs[0].datatype",
        ),
        (
            with(|it| it.inputs[0].shape = vec![1, 65]),
            InvalidArgument,
            "invalid-request",
            "inputs[0].data",
        ),
        (
            with(|it| it.inputs[0].shape = vec![64]),
            InvalidArgument,
            "signature-mismatch",
            "[64]",
        ),
        (
            with(|it| it.outputs.push(wanted("logits"))),
            InvalidArgument,
            "signature-mismatch",
            "\"logits\" is not in the signature",
        ),
        (
            with(|it| {
                let region = ParameterChoice::StringParam("r".into());
                it.inputs[0].parameters = [parameter("shared_memory_region", region)].into();
            }),
            Unimplemented,
            "unsupported",
            "inputs[0].parameters.shared_memory_region",
        ),
    ];
    for (request, code, word, part) in cases {
        let status = client.infer(request).await.expect_err(part);
        assert_status(&status, code, word, part);
    }
    let status = client.call::<_, ModelInferResponse>("ModelTrain", good()).await;
    let status = status.expect_err("no such call");
    assert_status(&status, Unimplemented, "unsupported", "ModelTrain");
    let status = client.call::<_, ServerLiveResponse>("ServerLive", choice(1)).await;
    assert!(status.is_ok(), "fields that a message does not have are passed over");
    let status = client.call::<_, ModelReadyResponse>("ModelReady", InferTensorContents {
        bool_contents: vec![true],
        int_contents: vec![1],
        ..InferTensorContents::default()
    });
    let status = status.await.expect_err("not its message");
    assert_status(&status, InvalidArgument, "invalid-name", "");
    client.infer(good()).await.expect("others are served");
    assert!(server.get("/metrics").await.text().contains(
        "quern_http_requests_total{route=\"infer\",status_class=\"4xx\"} 14"
    ));
}

#[tokio::test]
async fn frames_that_make_no_sense_are_refused() {
    let (server, _client) = start(&[]).await;
    let http: Http<_, Full<bytes::Bytes>> =
        Http::builder(TokioExecutor::new()).http2_only(true).build_http();
    let cases: [(&[u8], &[(&str, &str)], &str, &str); 9] = [
        (b"", &[], "3", "takes one message, found none"),
        (b"\0\0\0\0\0\0\0\0\0\0", &[], "3", "takes one message, found more"),
        (b"\0\0\0", &[], "3", "in the middle of a message"),
        (b"\0\0\0\0\x05abc", &[], "3", "in the middle of a message"),
        (b"\x01\0\0\0\0", &[("grpc-encoding", "gzip")], "12", "compressed"),
        (b"\x02\0\0\0\0", &[], "3", "the flag 2"),
        (b"\0\xff\xff\xff\xff", &[], "8", "larger than the limit of 64.0 MiB"),
        (b"\0\0\0\0\x02\x0b\x0c", &[], "3", "not a protobuf message"),
        (b"\0\0\0\0\0", &[("grpc-timeout", "soon")], "3", "grpc-timeout"),
    ];
    for (body, headers, status, part) in cases {
        let uri = format!("{}/inference.GRPCInferenceService/ModelInfer", server.url());
        let mut request = http::Request::post(uri).header("content-type", "application/grpc+proto");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(bytes::Bytes::from_static(body))).expect("a request");
        let answer = http.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        assert_eq!(header("grpc-status"), status, "{body:?}: {}", header("grpc-message"));
        let message = header("grpc-message").replace("%20", " ");
        assert!(message.contains(part), "{message:?} should contain {part:?}");
        assert!(answer.into_body().collect().await.expect("nothing").to_bytes().is_empty());
    }
    // The same path without gRPC's content type is no call.
    let uri = format!("{}/inference.GRPCInferenceService/ModelInfer", server.url());
    for kind in ["application/json", "application/grpc-web+proto", "application/grpc+json"] {
        let request = http::Request::post(&uri).header("content-type", kind);
        let request = request.body(Full::default()).expect("a request");
        let answer = http.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 404, "{kind}");
    }
}

#[tokio::test]
async fn a_functions_own_errors_reach_its_caller() {
    let (server, client) = start(&[]).await;
    server.deploy(&GUEST_ERROR).await;
    client.infer(choice(0)).await.expect("an answer");
    let said = async |number, code, word| {
        let status = client.infer(choice(number)).await.expect_err("chosen to fail");
        assert_status(&status, code, word, "chosen to fail");
        status
    };
    said(1, Code::InvalidArgument, "guest-rejected-input").await;
    let busy = said(3, Code::ResourceExhausted, "busy").await;
    assert_eq!(busy.metadata().get("retry-after").expect("a time"), "1");
    said(4, Code::DeadlineExceeded, "deadline-exceeded").await;
    said(5, Code::Internal, "guest-error").await;
    let status = client.infer(choice(7)).await.expect_err("traps");
    assert_status(&status, Code::Internal, "trap", "");
}

#[tokio::test]
async fn a_stream_is_answered_in_its_order_and_survives_errors() {
    let (server, client) = start(&[]).await;
    server.deploy(&GUEST_ERROR).await;
    // Far more than are under way at a time, every fifth at fault.
    let requests = (0..200).map(|number| ModelInferRequest {
        id: number.to_string(),
        ..choice(i64::from(number % 5 == 4))
    });
    let mut answers = client.stream(stream::iter(requests)).await.expect("opens");
    for number in 0..200 {
        let answer = answers.message().await.expect("goes on").expect("an answer");
        let response = answer.infer_response.expect("a response");
        assert_eq!((&*response.id, &*response.model_name), (&*number.to_string(), "guest-error"));
        if number % 5 == 4 {
            assert_eq!(answer.error_message, "chosen to fail");
            let word = response.parameters["quern-error"].parameter_choice.clone();
            assert_eq!(word, Some(ParameterChoice::StringParam("guest-rejected-input".into())));
        } else {
            assert_eq!((&*answer.error_message, response.outputs.len()), ("", 1));
        }
    }
    assert!(answers.message().await.expect("ends well").is_none());
    let metrics = server.get("/metrics").await.text();
    for (class, count) in [("2xx", 160), ("4xx", 40)] {
        let line = format!(
            "quern_http_requests_total{{route=\"infer\",status_class=\"{class}\"}} {count}"
        );
        assert!(metrics.contains(&line), "{line} should be in {metrics}");
    }
}

#[tokio::test]
async fn a_stream_is_a_dialogue() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let requests = stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
    let mut answers = client.stream(requests).await.expect("opens before anything is asked");
    let last = parameter("triton_enable_empty_final_response", ParameterChoice::BoolParam(true));
    for parameters in [vec![], vec![last]] {
        let marks = !parameters.is_empty();
        let parameters = parameters.into_iter().collect();
        let request = ModelInferRequest { parameters, ..image("digits-mlp", 2.0, 1) };
        ask.send(request).await.expect("the server reads");
        let answer = answers.message().await.expect("goes on").expect("an answer");
        let response = answer.infer_response.expect("a response");
        assert_eq!(output(&response, "probabilities").0, [1, 10]);
        assert_eq!(response.parameters.contains_key("triton_final_response"), marks);
    }
    drop(ask);
    assert!(answers.message().await.expect("ends well").is_none());
}

#[tokio::test]
async fn a_caller_that_does_not_wait_is_told_so() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    server.deploy(&GUEST_ERROR).await;
    let late = |status: Status| {
        assert_status(&status, Code::DeadlineExceeded, "deadline-exceeded", "");
    };
    // The first call of a model loads it, which takes longer than this.
    let timeout = [parameter("timeout", ParameterChoice::Int64Param(1))];
    let request =
        ModelInferRequest { parameters: timeout.clone().into(), ..image("digits-mlp", 1.0, 1) };
    late(client.infer(request).await.expect_err("no time"));
    let request = ModelInferRequest { parameters: timeout.into(), ..choice(8) };
    late(client.infer(request).await.expect_err("no time"));
    for target in [image("digits-mlp", 1.0, 1), choice(8)] {
        let mut request = tonic::Request::new(target);
        request.set_timeout(Duration::from_nanos(1));
        let sent = client.send::<_, ModelInferResponse>("ModelInfer", request);
        late(sent.await.expect_err("no time"));
    }
    client.infer(image("digits-mlp", 1.0, 1)).await.expect("others have time");
}

/// Waits until the metrics have a line.
async fn until(server: &Server, line: &str) {
    while !server.get("/metrics").await.text().contains(line) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_call_with_it() {
    let (server, client) = start(&[]).await;
    server.deploy(&GUEST_ERROR).await;
    let calling = tokio::spawn({
        let client = client.clone();
        async move { client.infer(choice(8)).await }
    });
    until(&server, "quern_sandbox_instances 1").await;
    calling.abort();
    until(&server, "quern_sandbox_instances 0").await;

    let requests = stream::iter([choice(8), choice(8)]).chain(stream::pending());
    let answers = client.stream(requests).await.expect("opens");
    until(&server, "quern_sandbox_instances 2").await;
    drop(answers);
    until(&server, "quern_sandbox_instances 0").await;
    let cancelled = "quern_function_requests_total{function=\"guest-error\",outcome=\"cancelled\"";
    until(&server, cancelled).await;
    let metrics = server.get("/metrics").await.text();
    let line = metrics.lines().find(|line| line.starts_with(cancelled)).expect("a line");
    assert!(line.ends_with(" 3"), "{line}");
}

#[tokio::test]
async fn messages_have_a_limit_each_and_room_together() {
    let options = "[http]\nmax_json_body = '60KiB'\nbody_memory = '64KiB'";
    let (server, client, _file) = start_configured(options).await;
    server.deploy_digits_model().await;
    server.deploy(&GUEST_ERROR).await;
    let large = || image("digits-mlp", 1.0, 240);
    let status = client.infer(large()).await.expect_err("too large");
    assert_status(&status, Code::ResourceExhausted, "request-too-large", "60.0 KiB");
    assert!(status.metadata().get("retry-after").is_none(), "another try does not help");
    let mut answers = client
        .stream(stream::iter([image("digits-mlp", 1.0, 1), large()]))
        .await
        .expect("opens");
    assert!(answers.message().await.expect("goes on").is_some());
    let status = answers.message().await.expect_err("too large");
    assert_status(&status, Code::ResourceExhausted, "request-too-large", "60.0 KiB");

    let calling = tokio::spawn({
        let client = client.clone();
        async move { client.infer(choice(8)).await }
    });
    until(&server, "quern_sandbox_instances 1").await;
    let status = client.infer(image("digits-mlp", 1.0, 1)).await.expect_err("no room");
    assert_status(&status, Code::ResourceExhausted, "busy", "leave no room");
    assert!(status.metadata().get("retry-after").is_some());
    calling.abort();
    until(&server, "quern_sandbox_instances 0").await;
    client.infer(image("digits-mlp", 1.0, 1)).await.expect("there is room again");
}

#[tokio::test]
async fn a_connection_has_so_many_calls_at_a_time() {
    let (server, client, _file) = start_configured("[http]\nmax_streams = 1").await;
    server.deploy_digits_model().await;
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let requests = stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
    let mut answers = client.stream(requests).await.expect("opens");
    ask.send(image("digits-mlp", 1.0, 1)).await.expect("the server reads");
    assert!(answers.message().await.expect("goes on").is_some());
    let other = client.infer(image("digits-mlp", 1.0, 1));
    tokio::pin!(other);
    for _ in 0..10 {
        ask.send(image("digits-mlp", 1.0, 1)).await.expect("the server reads");
        tokio::select! {
            biased;
            answer = &mut other => panic!("it was to wait: {answer:?}"),
            answer = answers.message() => assert!(answer.expect("goes on").is_some()),
        }
    }
    drop(ask);
    assert!(answers.message().await.expect("ends well").is_none());
    other.await.expect("it has its turn");
}

#[tokio::test]
async fn grpc_has_an_address_of_its_own_if_it_is_asked_for() {
    let (server, everything) = start(&["--grpc-listen", "127.0.0.1:0"]).await;
    server.deploy_digits_model().await;
    for client in [Client::new(server.grpc_url()), everything] {
        client.infer(image("digits-mlp", 1.0, 1)).await.expect("an answer");
    }
    let url = format!("{}/v1/models", server.grpc_url());
    let refused = reqwest::get(url).await.expect("an answer");
    assert_eq!((refused.status().as_u16(), &refused.headers()["quern-error"]), (404, &"not-found".try_into().expect("text")));
    assert!(refused.text().await.expect("text").contains("only gRPC"));
    server.stop();
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams() {
    let (mut server, client) = start(&["--grpc-listen", "127.0.0.1:0"]).await;
    server.deploy(&GUEST_ERROR).await;
    let own = Client::new(server.grpc_url());
    let open = async |client: &Client| {
        let requests = stream::iter([choice(0)]).chain(stream::pending());
        let mut answers = client.stream(requests).await.expect("opens");
        assert!(answers.message().await.expect("goes on").is_some());
        answers
    };
    let streams = [open(&client).await, open(&own).await];
    server.terminate();
    for mut answers in streams {
        let status = answers.message().await.expect_err("the server stops");
        assert_status(&status, Code::Unavailable, "shutting-down", "open another");
    }
    assert!(server.wait_for_exit().success());
}
