//! What is answered at once, and what can be asked of a call from then on.

use reqwest::Method;
use serde_json::{Value, json};

use super::{accepted, asynchronous, configured, hasty, result, show, until_it_is};
use crate::{
    DIGITS, HELLO, MISBEHAVE, cli,
    support::{Server, answer, root, until},
};

#[tokio::test]
async fn a_call_is_answered_at_once_and_carried_out_later() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let request = asynchronous(&server, Method::POST, "/f/misbehave/echo?x=1");
    let first = answer(request.header("x-mine", "1").body("flour")).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(first.header("location"), format!("/v1/invocations/{id}"));
    assert_eq!(first.header("preference-applied"), "respond-async");
    assert_eq!(first.header("quern-invocation"), id);
    assert_eq!(
        (&first.json()["state"], &first.json()["repeated"]),
        (&json!("queued"), &json!(false))
    );

    let call = until_it_is(&server, &id, "succeeded").await;
    assert_eq!((&call["method"], &call["path"]), (&json!("POST"), &json!("/f/misbehave/echo?x=1")));
    assert_eq!((&call["status"], &call["attempts"]), (&json!(200), &json!(1)));
    assert!(call["kept_until"].as_str() > call["finished"].as_str(), "{call}");
    let answered = result(&server, &id).await;
    assert_eq!((answered.status.as_u16(), answered.text().as_str()), (200, "flour"));
    assert_eq!(answered.header("quern-state"), "succeeded");
    assert_eq!(answered.header("quern-invocation"), id);
    assert_eq!(answered.header("quern-version"), "1");
}

#[tokio::test]
async fn what_a_function_sees_of_a_stored_request_is_what_was_sent() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let send = |path: &str| {
        asynchronous(&server, Method::PATCH, path)
            .header("x-mine", "1")
            .header("authorization", "Bearer of the function")
            .body("flour")
    };
    let direct = answer(
        server
            .request(Method::PATCH, "/f/misbehave/request?a=%20b")
            .header("x-mine", "1")
            .header("authorization", "Bearer of the function")
            .body("flour"),
    );
    let direct = direct.await.text();
    let id = accepted(send("/f/misbehave/request?a=%20b")).await;
    until_it_is(&server, &id, "succeeded").await;
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&result(&server, &id).await.text()), sorted(&direct));
}

#[tokio::test]
async fn models_and_inference_functions_can_be_called_so() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let inputs = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
                          "data": vec![3.0; 64] }]);
    let body = json!({ "inputs": inputs }).to_string();
    for target in ["digits-mlp", "digits"] {
        let path = format!("/v2/models/{target}/infer");
        let id = accepted(asynchronous(&server, Method::POST, &path).body(body.clone())).await;
        let call = until_it_is(&server, &id, "succeeded").await;
        assert_eq!(call["target"], target);
        let later = result(&server, &id).await;
        let direct = server.post(&path, body.clone()).await;
        assert_eq!(later.json()["outputs"], direct.json()["outputs"], "{target}");
    }
    let bad =
        accepted(asynchronous(&server, Method::POST, "/v2/models/digits-mlp/infer").body("{}"));
    let id = bad.await;
    until_it_is(&server, &id, "failed").await;
    let answered = result(&server, &id).await;
    assert_eq!((answered.status.as_u16(), answered.header("quern-state")), (400, "failed"));
    assert_eq!(answered.header("quern-error"), "invalid-json");
}

#[tokio::test]
async fn what_can_be_refused_is_refused_at_once() {
    let server = configured("max_request = '1KiB'");
    server.deploy(&MISBEHAVE).await;
    server.deploy_digits_model().await;
    let send = |path: &str| asynchronous(&server, Method::POST, path);
    let refused = answer(send("/f/nothing/")).await;
    refused.assert_error(404, "not-found", "\"nothing\" is not deployed");
    let refused = answer(send("/v2/models/nothing/infer")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (404, "not-found"));
    let refused = answer(send("/v2/models/misbehave/infer")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "wrong-kind"));
    let refused = answer(send("/f/misbehave/echo").body("x".repeat(1_025))).await;
    refused.assert_error(413, "request-too-large", "1.0 KiB");
    for (name, value) in [
        ("idempotency-key", "\"\""),
        ("quern-max-attempts", "0"),
        ("quern-max-attempts", "101"),
        ("quern-max-age", "8days"),
        ("quern-max-age", "tomorrow"),
    ] {
        let refused = answer(send("/f/misbehave/echo").header(name, value)).await;
        refused.assert_error(400, "invalid-request", &format!("header {name}"));
    }
    let (nobody, malformed) = ("01936a5e-0000-7000-8000-0123456789ab", "x");
    for (method, path, status, code) in [
        (Method::GET, format!("/v1/invocations/{nobody}"), 404, "not-found"),
        (Method::GET, format!("/v1/invocations/{nobody}/result"), 404, "not-found"),
        (Method::DELETE, format!("/v1/invocations/{nobody}"), 404, "not-found"),
        (Method::POST, format!("/v1/dead-letters/{nobody}/replay"), 404, "not-found"),
        (Method::DELETE, format!("/v1/dead-letters/{nobody}"), 404, "not-found"),
        (Method::GET, format!("/v1/invocations/{malformed}"), 400, "invalid-request"),
        (Method::GET, "/v1/invocations?state=lost".into(), 400, "invalid-request"),
        (Method::GET, "/v1/dead-letters?state=dead".into(), 400, "invalid-request"),
    ] {
        let refused = answer(server.request(method, &path)).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (status, code), "{path}");
    }
    let listed = server.get("/v1/invocations").await.json();
    assert_eq!(listed, json!({"invocations": []}), "nothing of it was taken in");
}

#[tokio::test]
async fn no_more_wait_than_may() {
    // One that runs, and one that waits.
    let server = configured("max_waiting = 2\nconcurrency = 1");
    server.deploy(&MISBEHAVE).await;
    let send = || asynchronous(&server, Method::GET, "/f/misbehave/sleep?ms=1500");
    let ids = [accepted(send()).await, accepted(send()).await];
    let refused = answer(send()).await;
    refused.assert_error(429, "busy", "2 calls of the server wait already");
    assert_eq!(refused.header("retry-after"), "1");
    until_it_is(&server, &ids[0], "succeeded").await;
    accepted(send()).await;
    until_it_is(&server, &ids[1], "succeeded").await;
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let server = hasty();
    server.deploy(&MISBEHAVE).await;
    let send = |key: &str, body: &'static str| {
        asynchronous(&server, Method::POST, "/f/misbehave/echo")
            .header("idempotency-key", key)
            .body(body)
    };
    let first = accepted(send("k1", "flour")).await;
    assert_eq!(accepted(send("\"k1\"", "flour")).await, first);
    until_it_is(&server, &first, "succeeded").await;
    let again = answer(send("k1", "flour")).await;
    assert_eq!(again.json(), json!({"id": first, "state": "succeeded", "repeated": true}));
    assert_eq!(again.header("quern-invocation"), first);
    let refused = answer(send("k1", "grit")).await;
    refused.assert_error(422, "idempotency-key-reused", &first);
    assert_ne!(accepted(send("k2", "flour")).await, first);
    let listed = server.get("/v1/invocations?target=misbehave").await.json();
    assert_eq!(listed["invocations"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[tokio::test]
async fn calls_are_listed_page_by_page() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    server.deploy(&HELLO).await;
    let mut ids = Vec::new();
    for path in ["/f/hello/", "/f/misbehave/echo", "/f/hello/", "/f/misbehave/nothing"] {
        let id = accepted(asynchronous(&server, Method::GET, path)).await;
        until(&id, async || !show(&server, &id).await["finished"].is_null()).await;
        ids.push(id);
    }
    ids.reverse();
    let list = async |query: &str| -> Vec<String> {
        let listed = server.get(&format!("/v1/invocations{query}")).await.json();
        let listed = listed["invocations"].as_array().expect("a list").clone();
        listed.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(list("").await, ids);
    assert_eq!(list("?limit=2").await, ids[..2]);
    assert_eq!(list(&format!("?limit=2&before={}", ids[1])).await, ids[2..]);
    assert_eq!(list("?target=hello").await, [&*ids[1], &ids[3]]);
    assert_eq!(list("?state=failed").await, ids[..1]);
    assert_eq!(list("?state=succeeded&target=misbehave").await, ids[2..3]);
    assert!(list("?state=queued").await.is_empty());
}

#[tokio::test]
async fn a_waiting_call_can_be_called_off() {
    let server = configured("concurrency = 1");
    server.deploy(&MISBEHAVE).await;
    let slow = || asynchronous(&server, Method::GET, "/f/misbehave/sleep?ms=1000");
    let running = accepted(slow()).await;
    until_it_is(&server, &running, "running").await;
    let waiting = accepted(slow()).await;
    let early = result(&server, &waiting).await;
    early.assert_error(409, "no-result", "is queued: it has no result yet");
    assert_eq!(early.header("quern-state"), "");
    assert_eq!(server.delete(&format!("/v1/invocations/{waiting}")).await.status, 204);
    assert_eq!(show(&server, &waiting).await["state"], "cancelled");
    let none = result(&server, &waiting).await;
    none.assert_error(409, "no-result", "is cancelled, and has no result");
    for id in [&running, &waiting] {
        let refused = server.delete(&format!("/v1/invocations/{id}")).await;
        refused.assert_error(409, "wrong-state", "only one that is queued");
    }
    until_it_is(&server, &running, "succeeded").await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_kept() {
    let server = configured("max_response = '1KiB'\nattempts = 1");
    server.deploy(&MISBEHAVE).await;
    let send = |bytes: usize| {
        asynchronous(&server, Method::POST, "/f/misbehave/echo").body("x".repeat(bytes))
    };
    let (fits, large) = (accepted(send(1_024)).await, accepted(send(1_025)).await);
    until_it_is(&server, &fits, "succeeded").await;
    until_it_is(&server, &large, "dead").await;
    assert_eq!(result(&server, &fits).await.body.len(), 1_024);
    let answered = result(&server, &large).await;
    answered.assert_error(502, "response-too-large", "async.max_response");
}

#[tokio::test]
async fn answers_are_kept_for_their_time_and_the_key_is_free_again() {
    let server = configured("keep_results = '100ms'");
    server.deploy(&MISBEHAVE).await;
    let send =
        || asynchronous(&server, Method::POST, "/f/misbehave/echo").header("idempotency-key", "k");
    let first = accepted(send().body("flour")).await;
    let path = format!("/v1/invocations/{first}");
    until("it is gone", async || server.get(&path).await.status == 404).await;
    assert_ne!(accepted(send().body("grit")).await, first);
}

#[tokio::test]
async fn the_command_line_calls_later_and_looks_after_it() {
    let server = hasty();
    server.deploy(&MISBEHAVE).await;
    let (url, folder) = (server.url(), root());
    let run = |arguments: &[&str]| cli::text(url, folder, arguments);
    let data = ["call", "misbehave", "/echo", "--data", "flour", "--async", "--key", "k"];
    let id = run(&data).trim().to_owned();
    assert_eq!(run(&data).trim(), id);
    until_it_is(&server, &id, "succeeded").await;
    assert_eq!(run(&["invocations", "result", &id]), "flour");
    let shown = run(&["invocations", "show", &id]);
    assert!(shown.contains("state       succeeded"), "{shown}");
    let listed = run(&["invocations", "list", "--state", "succeeded"]);
    assert!(listed.contains(&id) && listed.contains("1 of 5"), "{listed}");
    let trapped = ["call", "misbehave", "/trap", "--async", "--max-attempts", "1"];
    let dead = run(&trapped).trim().to_owned();
    until_it_is(&server, &dead, "dead").await;
    let letters = run(&["dead-letters", "list"]);
    assert!(letters.contains(&dead) && letters.contains("(trap)"), "{letters}");
    cli::failure(url, &["invocations", "result", &dead], 1, &["was answered with 500"]);
    let replayed: Value = cli::answer(url, folder, &["dead-letters", "replay", &dead]);
    assert_eq!(replayed["id"], *dead);
    until_it_is(&server, &dead, "dead").await;
    run(&["dead-letters", "drop", &dead]);
    assert!(!run(&["dead-letters", "list"]).contains(&dead));
    cli::failure(url, &["invocations", "cancel", &id], 1, &["only one that is queued"]);
}
