//! Streams of requests: their order, their errors and their end.

use futures::{StreamExt, stream};
use quern_gateway::protocol::{ModelInferRequest, infer_parameter::ParameterChoice};
use tonic::Code;

use super::{Client, assert_status, choice, dialogue, image, output, parameter, start};
use crate::GUEST_ERROR;

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
    let (ask, requests) = dialogue();
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
