//! What is tried again, what is given up, and what is left of that.

use reqwest::Method;
use serde_json::json;

use super::{accepted, asynchronous, configured, hasty, result, show, until_it_is};
use crate::{
    HELLO, MISBEHAVE,
    support::{Server, answer, until},
};

#[tokio::test]
async fn a_trap_is_tried_again_until_the_call_is_a_dead_letter() {
    let server = hasty();
    server.deploy(&MISBEHAVE).await;
    let send = asynchronous(&server, Method::GET, "/f/misbehave/trap");
    let id = accepted(send.header("quern-max-attempts", "3")).await;
    let call = until_it_is(&server, &id, "dead").await;
    assert_eq!((&call["attempts"], &call["max_attempts"]), (&json!(3), &json!(3)));
    let reason = call["reason"].as_str().expect("a reason");
    assert!(reason.contains("500 (trap), at the last of 3 tries"), "{reason}");
    let answered = result(&server, &id).await;
    assert_eq!((answered.status.as_u16(), answered.header("quern-state")), (500, "dead"));
    assert_eq!(answered.json()["invocation"], *id, "each try has its name in the log");
    until("all three tries are in the log", async || {
        let log = server.get("/v1/functions/misbehave/logs").await.text();
        log.lines().filter(|line| line.contains(&id)).count() >= 3
    })
    .await;
    let metrics = server.get("/metrics").await.text();
    for line in [
        "quern_async_attempts_total{outcome=\"retried\"} 2",
        "quern_async_attempts_total{outcome=\"dead\"} 1",
        "quern_async_enqueued_total 1",
    ] {
        assert!(metrics.contains(line), "{line} should be in the metrics");
    }
}

#[tokio::test]
async fn a_dead_letter_is_replayed_once_its_cause_is_mended() {
    let server = hasty();
    server.deploy(&MISBEHAVE).await;
    let send = asynchronous(&server, Method::GET, "/f/misbehave/trap");
    let id = accepted(send.header("quern-max-attempts", "1")).await;
    until_it_is(&server, &id, "dead").await;
    let letters = server.get("/v1/dead-letters").await.json();
    assert_eq!(letters["invocations"][0]["id"], *id);
    // A version that answers whatever it is asked.
    let manifest = HELLO.manifest().replace("name = \"hello\"", "name = \"misbehave\"");
    let deployed = server.upload("misbehave", manifest, HELLO.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let replayed = server.post(&format!("/v1/dead-letters/{id}/replay"), "").await;
    assert_eq!(replayed.status, 202, "{}", replayed.text());
    let call = until_it_is(&server, &id, "succeeded").await;
    assert_eq!((&call["attempts"], &call["reason"]), (&json!(1), &json!(null)));
    assert_eq!(result(&server, &id).await.status, 200);
    for (method, path) in [
        (Method::POST, format!("/v1/dead-letters/{id}/replay")),
        (Method::DELETE, format!("/v1/dead-letters/{id}")),
    ] {
        let refused = answer(server.request(method, &path)).await;
        refused.assert_error(409, "wrong-state", "is succeeded: only one that is dead");
    }
    assert_eq!(server.get("/v1/dead-letters").await.json(), json!({"invocations": []}));
}

#[tokio::test]
async fn what_another_try_would_not_change_is_not_tried_again() {
    let server = hasty();
    server.deploy(&MISBEHAVE).await;
    let id = accepted(asynchronous(&server, Method::GET, "/f/misbehave/nowhere")).await;
    let call = until_it_is(&server, &id, "failed").await;
    assert_eq!((&call["status"], &call["attempts"]), (&json!(404), &json!(1)));
    assert_eq!(result(&server, &id).await.text(), "there is no such misbehaviour\n");
}

#[tokio::test]
async fn a_call_is_not_tried_beyond_its_time() {
    let server = configured("first_pause = '1h'\nlongest_pause = '1h'\nattempts = 100");
    server.deploy(&MISBEHAVE).await;
    let send = asynchronous(&server, Method::GET, "/f/misbehave/trap");
    let id = accepted(send.header("quern-max-age", "1ms")).await;
    let call = until_it_is(&server, &id, "dead").await;
    let reason = call["reason"].as_str().expect("a reason");
    assert!(reason.contains("its time"), "{reason}");
    assert_eq!(server.delete(&format!("/v1/dead-letters/{id}")).await.status, 204);
    assert_eq!(server.get(&format!("/v1/invocations/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_busy_function_does_not_use_up_the_tries() {
    let server = hasty();
    let manifest = format!("{}concurrency = 1\n", MISBEHAVE.manifest());
    let deployed = server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let mut ids = Vec::new();
    for _ in 0..4 {
        let send = asynchronous(&server, Method::GET, "/f/misbehave/sleep?ms=200");
        ids.push(accepted(send.header("quern-max-attempts", "1")).await);
    }
    for id in &ids {
        let call = until_it_is(&server, id, "succeeded").await;
        assert_eq!(call["attempts"], 1, "{call}");
    }
    assert!(server.metric("quern_async_attempts_total").await > 4.0, "some were refused first");
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_runs_and_keeps_what_waits() {
    let data = std::sync::Arc::new(tempfile::TempDir::new().expect("a folder"));
    let file = data.path().join("quern.toml");
    std::fs::write(&file, "[async]\nconcurrency = 1\n").expect("written");
    let arguments = ["--config", file.to_str().expect("text")];
    let server = Server::start_on(data.clone(), &arguments);
    server.deploy(&MISBEHAVE).await;
    let slow = || asynchronous(&server, Method::GET, "/f/misbehave/sleep?ms=700");
    let running = accepted(slow()).await;
    until_it_is(&server, &running, "running").await;
    let waiting = accepted(slow()).await;
    server.stop();
    let server = Server::start_on(data, &arguments);
    let finished = show(&server, &running).await;
    assert_eq!((&finished["state"], &finished["attempts"]), (&json!("succeeded"), &json!(1)));
    until_it_is(&server, &waiting, "succeeded").await;
    until("all is counted", async || {
        let metrics = server.get("/metrics").await.text();
        metrics.contains("quern_async_calls{state=\"succeeded\"} 2")
    })
    .await;
}
