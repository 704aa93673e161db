//! What bounds a call: its caller's time, its size, and the room that all have together.

use std::time::Duration;

use futures::stream;
use quern_gateway::protocol::{
    ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
};
use tonic::{Code, Status};

use super::{assert_status, choice, dialogue, image, parameter, start, start_configured};
use crate::{GUEST_ERROR, support::Server};

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
    let waiting = async {
        while !server.get("/metrics").await.text().contains(line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "{line} is never so");
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

    let (ask, requests) = dialogue();
    let answers = client.stream(requests).await.expect("opens");
    for _ in 0..2 {
        ask.send(choice(8)).await.expect("the server reads");
    }
    until(&server, "quern_sandbox_instances 2").await;
    drop((ask, answers));
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
    let mut answers =
        client.stream(stream::iter([image("digits-mlp", 1.0, 1), large()])).await.expect("opens");
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
    let (ask, requests) = dialogue();
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
