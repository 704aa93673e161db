//! What is wrong with a call, and how its caller is told.

use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use quern_gateway::protocol::{infer_parameter::ParameterChoice, *};
use tonic::Code;

use super::{assert_status, choice, image, parameter, start, wanted};
use crate::{GUEST_ERROR, HELLO};

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
        (with(|it| it.inputs[0].shape = vec![64]), InvalidArgument, "signature-mismatch", "[64]"),
        (
            with(|it| it.outputs.push(wanted("logits"))),
            InvalidArgument,
            "signature-mismatch",
            "\"logits\" is not in the signature",
        ),
        (
            with(|it| {
                let region = ParameterChoice::StringParam("r".into());
                let size = ParameterChoice::Int64Param(256);
                it.raw_input_contents.clear();
                it.inputs[0].parameters = [
                    parameter("shared_memory_region", region),
                    parameter("shared_memory_byte_size", size),
                ]
                .into();
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
    let other = ServerLiveResponse { live: true };
    let status = client.call::<_, ModelReadyResponse>("ModelReady", other).await;
    let status = status.expect_err("not its message");
    assert_status(&status, InvalidArgument, "invalid-request", "ModelReadyRequest");
    client.infer(good()).await.expect("others are served");
    assert!(
        server
            .get("/metrics")
            .await
            .text()
            .contains("quern_http_requests_total{route=\"infer\",status_class=\"4xx\"} 14")
    );
}

#[tokio::test]
async fn frames_that_make_no_sense_are_refused() {
    let (server, _client) = start(&[]).await;
    let http: Http<_, Full<bytes::Bytes>> =
        Http::builder(TokioExecutor::new()).http2_only(true).build_http();
    let cases = [
        (&b""[..], None, "3", "takes one message, found none"),
        (b"\0\0\0\0\0\0\0\0\0\0", None, "3", "takes one message, found more"),
        (b"\0\0\0", None, "3", "in the middle of a message"),
        (b"\0\0\0\0\x05abc", None, "3", "in the middle of a message"),
        (b"\x01\0\0\0\0", None, "3", "is compressed, but there is no grpc-encoding"),
        (b"\x01\0\0\0\x01x", Some(("grpc-encoding", "gzip")), "3", "is not gzip"),
        (b"\0\0\0\0\0", Some(("grpc-encoding", "zstd")), "12", "\"zstd\" is not supported"),
        (b"\x02\0\0\0\0", None, "3", "the flag 2"),
        (b"\0\xff\xff\xff\xff", None, "8", "larger than the limit of 64.0 MiB"),
        (b"\0\0\0\0\x02\x0b\x0c", None, "3", "not a protobuf message"),
        (b"\0\0\0\0\0", Some(("grpc-timeout", "soon")), "3", "grpc-timeout"),
    ];
    for (body, header, status, part) in cases {
        let uri = format!("{}/inference.GRPCInferenceService/ModelInfer", server.url());
        let mut request = http::Request::post(uri).header("content-type", "application/grpc+proto");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(bytes::Bytes::from_static(body))).expect("a request");
        let answer = http.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        assert_eq!(header("grpc-status"), status, "{body:?}: {}", header("grpc-message"));
        let message = header("grpc-message").replace("%20", " ").replace("%22", "\"");
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
