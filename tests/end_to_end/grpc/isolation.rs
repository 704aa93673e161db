//! Other tenants' models over gRPC: shared ones are called by their qualified names, all others are
//! as if they weren't there; and what is taken away is gone in the middle of a stream.

use futures::{Stream, StreamExt, stream};
use prost::Message;
use quern_gateway::protocol::*;
use reqwest::Method;
use serde_json::json;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Client, assert_status, dialogue, image};
use crate::{
    access::Guarded,
    support::{answer, digits_model},
};

/// A tenant's model, and the token of another tenant.
async fn start() -> (Guarded, Client, String, String) {
    let guarded = Guarded::start();
    let client = Client::new(guarded.server.url());
    let owner = guarded.token("acme", "deployer").await;
    let model = guarded.asked(&owner, Method::PUT, "/v1/models/zq-model").body(digits_model());
    assert_eq!(answer(model).await.status, 201);
    let other = guarded.token("other", "deployer").await;
    (guarded, client, owner, other)
}

async fn share(guarded: &Guarded, owner: &str, grants: serde_json::Value) {
    let path = "/v1/models/zq-model/access";
    let shared = guarded.asked(owner, Method::PUT, path).body(grants.to_string());
    assert_eq!(answer(shared).await.status, 200);
}

fn with<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().expect("a value");
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

async fn infer(client: &Client, token: Option<&str>, model: &str) -> Result<(), Status> {
    let answer: Response<ModelInferResponse> =
        client.send("ModelInfer", with(token, image(model, 1.0, 1))).await?;
    assert_eq!(answer.into_inner().model_name, model);
    Ok(())
}

async fn open(
    client: &Client,
    token: Option<&str>,
    requests: impl Stream<Item = ModelInferRequest> + Send + 'static,
) -> Streaming<ModelStreamInferResponse> {
    let path = "/inference.GRPCInferenceService/ModelStreamInfer".parse().expect("a path");
    let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
    let opened = client.0.clone().streaming(with(token, requests), path, codec).await;
    opened.expect("opens").into_inner()
}

/// What a call is answered, in a form that can be compared.
async fn told<Q, A>(client: &Client, token: &str, call: &str, request: Q) -> String
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + std::fmt::Debug + Send + Sync + 'static,
{
    let sent: Result<Response<A>, Status> = client.send(call, with(Some(token), request)).await;
    match sent {
        Ok(answer) => format!("{:?}", answer.into_inner()),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

#[tokio::test]
async fn what_another_tenant_has_is_as_if_it_were_not_there() {
    let (guarded, client, _, other) = start().await;
    let invoker = guarded.token("other", "invoker").await;
    for token in [&other, &invoker] {
        let mut answers = Vec::new();
        for name in ["zq-model", "xx-model", "zq-model@acme", "xx-model@acme"] {
            let (name, version) = (name.to_owned(), String::new());
            let mut said = Vec::new();
            macro_rules! ask {
                ($call:literal, $answer:ty, $request:expr) => {
                    said.push(told::<_, $answer>(&client, token, $call, $request).await);
                };
            }
            let (n, v) = (|| name.clone(), || version.clone());
            ask!("ModelReady", ModelReadyResponse, ModelReadyRequest { name: n(), version: v() });
            ask!(
                "ModelMetadata",
                ModelMetadataResponse,
                ModelMetadataRequest { name: n(), version: v() }
            );
            ask!(
                "ModelConfig",
                ModelConfigResponse,
                ModelConfigRequest { name: n(), version: v() }
            );
            ask!(
                "ModelStatistics",
                ModelStatisticsResponse,
                ModelStatisticsRequest { name: n(), version: v() }
            );
            ask!("ModelInfer", ModelInferResponse, image(&name, 1.0, 1));
            let trace = TraceSettingRequest { model_name: n(), ..TraceSettingRequest::default() };
            ask!("TraceSetting", TraceSettingResponse, trace);
            let load = RepositoryModelLoadRequest {
                model_name: n(),
                ..RepositoryModelLoadRequest::default()
            };
            ask!("RepositoryModelLoad", RepositoryModelLoadResponse, load);
            let unload = RepositoryModelUnloadRequest {
                model_name: n(),
                ..RepositoryModelUnloadRequest::default()
            };
            ask!("RepositoryModelUnload", RepositoryModelUnloadResponse, unload);
            answers.push(said.join("\n").replace("xx-model", "zq-model"));
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[2], answers[3]);
        let index = told::<_, RepositoryIndexResponse>(
            &client,
            token,
            "RepositoryIndex",
            RepositoryIndexRequest::default(),
        );
        let statistics = told::<_, ModelStatisticsResponse>(
            &client,
            token,
            "ModelStatistics",
            ModelStatisticsRequest::default(),
        );
        let (index, statistics) = (index.await, statistics.await);
        assert!(!index.contains("zq-") && !statistics.contains("zq-"), "{index} {statistics}");
    }
}

#[tokio::test]
async fn a_shared_model_is_called_by_its_qualified_name() {
    let (guarded, client, owner, other) = start().await;
    let name = "zq-model@acme";
    let refused = infer(&client, Some(&other), name).await.expect_err("not shared");
    assert_status(&refused, Code::NotFound, "not-found", "not shared");
    let nobody = infer(&client, None, name).await.expect_err("not public");
    assert_status(&nobody, Code::Unauthenticated, "unauthenticated", "a token is needed");
    share(&guarded, &owner, json!({"public": false, "tenants": ["other"]})).await;
    infer(&client, Some(&other), name).await.expect("shared");
    let ready = ModelReadyRequest { name: name.into(), version: String::new() };
    let ready: Response<ModelReadyResponse> =
        client.send("ModelReady", with(Some(&other), ready)).await.expect("an answer");
    assert!(ready.into_inner().ready);

    share(&guarded, &owner, json!({"public": true, "tenants": []})).await;
    infer(&client, None, name).await.expect("public");
    let unqualified = infer(&client, None, "zq-model").await.expect_err("whose?");
    assert_eq!(unqualified.code(), Code::Unauthenticated);
    let ready = ModelReadyRequest { name: "zq-model".into(), version: String::new() };
    let ready: Result<Response<ModelReadyResponse>, _> =
        client.send("ModelReady", with(None, ready)).await;
    assert_eq!(ready.expect_err("whose?").code(), Code::Unauthenticated);
    let wrong = format!("quern_{}_{}", "0".repeat(16), "0".repeat(64));
    let wrong = infer(&client, Some(&wrong), name).await.expect_err("a wrong token");
    assert_eq!(wrong.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_share_that_ends_does_so_in_an_open_stream() {
    let (guarded, client, owner, other) = start().await;
    share(&guarded, &owner, json!({"public": false, "tenants": ["other"]})).await;
    let (ask, requests) = dialogue();
    let mut answers = open(&client, Some(&other), requests).await;
    let mut next = async || {
        ask.send(image("zq-model@acme", 1.0, 1)).await.expect("the server reads");
        answers.message().await.expect("goes on").expect("an answer").error_message
    };
    assert_eq!(next().await, "");
    share(&guarded, &owner, json!({"public": false, "tenants": []})).await;
    let refused = next().await;
    assert!(refused.contains("not shared"), "{refused}");
    share(&guarded, &owner, json!({"public": false, "tenants": ["other"]})).await;
    assert_eq!(next().await, "", "the stream goes on");
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let (guarded, client, _, other) = start().await;
    let (ask, requests) = dialogue();
    let mut answers = open(&client, Some(&other), requests).await;
    ask.send(image("zq-model@acme", 1.0, 1)).await.expect("the server reads");
    assert!(answers.message().await.expect("goes on").is_some());
    let path = format!("/v1/tokens/{}", other.split('_').nth(1).expect("an id"));
    let revoked = answer(guarded.asked(guarded.admin(), Method::DELETE, &path)).await;
    assert_eq!(revoked.status, 204);
    ask.send(image("zq-model@acme", 1.0, 1)).await.expect("the server reads");
    let ended = answers.message().await.expect_err("it ends");
    assert_status(&ended, Code::Unauthenticated, "unauthenticated", "may have been revoked");
}

#[tokio::test]
async fn each_request_of_a_stream_is_a_call_of_its_tenant() {
    let (guarded, client, _, other) = start().await;
    let limits = json!({"requests_per_second": 1, "burst": 2}).to_string();
    let path = "/v1/tenants/other/limits";
    let limited = guarded.asked(guarded.admin(), Method::PUT, path).body(limits);
    assert_eq!(answer(limited).await.status, 200);
    let requests = stream::iter((0..200).map(|_| image("zq-model", 1.0, 1)));
    let answers = open(&client, Some(&other), requests).await;
    let answers: Vec<_> = answers.collect().await;
    assert_eq!(answers.len(), 200, "the stream goes on");
    let said = |part: &str| {
        let has = |answer: &Result<ModelStreamInferResponse, Status>| {
            answer.as_ref().is_ok_and(|answer| answer.error_message.contains(part))
        };
        answers.iter().filter(|answer| has(answer)).count()
    };
    assert!(said("is not deployed") >= 2 && said("requests a second") > 0);
    assert_eq!(said("is not deployed") + said("requests a second"), 200);
}
