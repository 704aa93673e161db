//! Traces over gRPC: the same as over HTTP, in metadata.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use quern_gateway::protocol::ModelInferResponse;
use tonic::Request;

use super::{Client, image};
use crate::traces::{CALLER, Collector, TRACE};

#[tokio::test]
async fn a_call_is_part_of_its_callers_trace() {
    let collector = Collector::start();
    let server = collector.server("");
    server.deploy_digits_model().await;
    let client = Client::new(server.url());
    let mut request = Request::new(image("digits-mlp", 3.0, 2));
    request.metadata_mut().insert("traceparent", CALLER.parse().expect("a value"));
    let answer = client.send::<_, ModelInferResponse>("ModelInfer", request).await.expect("good");
    let response = answer.metadata().get("traceresponse").expect("it is recorded");
    assert!(response.to_str().expect("text").contains(TRACE));
    let call = collector.span(TRACE, "inference.GRPCInferenceService/ModelInfer").await;
    assert_eq!(call.span.kind(), SpanKind::Server);
    assert_eq!(call.text("rpc.system"), "grpc");
    assert_eq!(call.text("rpc.method"), "ModelInfer");
    assert_eq!(call.text("quern.tenant"), "default");
    let infer = collector.span(TRACE, "infer").await;
    assert!(infer.is_below(&call));
    assert_eq!(infer.number("quern.rows"), 2);
}
