//! Instances that serve one request after another, because their manifests ask for it.

use reqwest::Method;
use serde_json::json;

use crate::{
    COUNTER, HANDLER, MISBEHAVE,
    support::{Answer, Guest, Server, until},
};

/// Deploys a guest that reuses its instances. One request runs at a time, so that the next one
/// finds the instance of the one before.
async fn deploy(server: &Server, guest: &Guest, reuse: &str) {
    let manifest = guest.manifest();
    let manifest = match manifest.contains("[limits]") {
        true => manifest.replace("[limits]", "[limits]\nconcurrency = 1"),
        false => manifest + "\n[limits]\nconcurrency = 1\n",
    };
    let manifest = format!("reuse = {reuse}\n{manifest}");
    let answer = server.upload(guest.name, manifest, guest.component()).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// Calls a function as soon as its last request has ended.
async fn get(server: &Server, path: &str) -> Answer {
    admitted(async || server.get(path).await).await
}

/// The first answer to a call that is not refused because the last one is still under way.
async fn admitted(mut call: impl AsyncFnMut() -> Answer) -> Answer {
    let mut answer = call().await;
    until("the last request has ended", async || {
        let admitted = answer.status != 429;
        if !admitted {
            answer = call().await;
        }
        admitted
    })
    .await;
    answer
}

async fn count(server: &Server, function: &str) -> String {
    get(server, &format!("/f/{function}/count")).await.text().trim().to_owned()
}

async fn until_no_instance_is_left(server: &Server) {
    until("no instance is left", async || server.metric("quern_sandbox_instances").await == 0.0)
        .await;
}

#[tokio::test]
async fn an_instance_serves_as_many_requests_as_its_manifest_says() {
    for guest in [&MISBEHAVE, &HANDLER] {
        let server = Server::start();
        deploy(&server, guest, "{ requests = 3, idle = \"60s\" }").await;
        for expected in ["1", "2", "3", "1", "2"] {
            assert_eq!(count(&server, guest.name).await, expected, "{}", guest.name);
        }
        assert!(server.metric("quern_sandbox_reused_requests_total").await >= 2.0);
    }
}

#[tokio::test]
async fn an_inference_function_keeps_its_memory_until_it_traps() {
    let server = Server::start();
    deploy(&server, &COUNTER, "{ requests = 100, idle = \"60s\" }").await;
    let infer = async |by: i64| {
        let by = json!([{ "name": "by", "shape": [1], "datatype": "INT64", "data": [by] }]);
        admitted(async || server.infer("counter", by.clone()).await).await
    };
    for expected in [2, 4, 6] {
        let answer = infer(2).await;
        assert_eq!(answer.json()["outputs"][0]["data"], json!([expected]), "{}", answer.text());
    }
    infer(0).await.assert_error(500, "trap", "unreachable");
    assert_eq!(infer(2).await.json()["outputs"][0]["data"], json!([2]));
}

#[tokio::test]
async fn an_instance_whose_request_did_not_end_well_is_not_reused() {
    let server = Server::start();
    deploy(&server, &MISBEHAVE, "{ requests = 100, idle = \"60s\" }").await;
    for path in ["trap", "loop", "silent", "leak", "short", "grow", "exit"] {
        assert_eq!(count(&server, "misbehave").await, "1", "before {path}");
        assert_eq!(count(&server, "misbehave").await, "2", "before {path}");
        let path = format!("/f/misbehave/{path}");
        until("it is admitted", async || {
            let answer = server.request(Method::GET, &path).send().await;
            !answer.is_ok_and(|answer| answer.status() == 429)
        })
        .await;
    }
    assert_eq!(count(&server, "misbehave").await, "1");
    // A handle more than after the first request is a leak.
    assert_eq!(get(&server, "/f/misbehave/hold").await.text(), "2\n");
    assert_eq!(count(&server, "misbehave").await, "1");
    until("a client has left in the middle", async || {
        let request = server.request(Method::GET, "/f/misbehave/stream?chunks=100&ms=1000");
        request.send().await.expect("a head").status() == 200
    })
    .await;
    assert_eq!(count(&server, "misbehave").await, "1", "after a cancelled request");
}

#[tokio::test]
async fn an_idle_instance_goes_with_its_time_or_its_function() {
    let server = Server::start();
    deploy(&server, &MISBEHAVE, "{ requests = 100, idle = \"200ms\" }").await;
    assert_eq!(count(&server, "misbehave").await, "1");
    until_no_instance_is_left(&server).await;
    assert_eq!(count(&server, "misbehave").await, "1");
    deploy(&server, &HANDLER, "{ requests = 100, idle = \"1h\" }").await;
    assert_eq!(count(&server, "handler").await, "1");
    assert_eq!(server.delete("/v1/functions/handler").await.status.as_u16() / 100, 2);
    until_no_instance_is_left(&server).await;
}

#[tokio::test]
async fn requests_at_the_same_time_never_share_an_instance() {
    let server = Server::start();
    let reuse = "reuse = { requests = 100, idle = \"60s\" }\n";
    let manifest = reuse.to_owned() + &MISBEHAVE.manifest();
    server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    let sleeper = server.request(Method::GET, "/f/misbehave/sleep?ms=1000").send();
    let counter = async {
        until("it sleeps", async || server.metric("quern_sandbox_instances").await == 1.0).await;
        server.get("/f/misbehave/count").await.text()
    };
    let (slept, count) = tokio::join!(sleeper, counter);
    assert_eq!(slept.expect("an answer").status(), 200);
    assert_eq!(count, "1\n");
    assert_eq!(server.metric("quern_sandbox_instances").await, 2.0, "both wait for the next");
}
