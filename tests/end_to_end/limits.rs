//! Guests that exceed a limit are ended with its error, and the server goes on serving others.

use std::time::{Duration, Instant};

use futures::{future::join_all, stream};
use reqwest::Method;
use serde_json::json;

use crate::{
    COUNTER, HELLO, MISBEHAVE,
    support::{Server, until},
};

#[tokio::test]
async fn each_limit_has_its_own_error_and_leaves_the_server_well() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    server.deploy(&HELLO).await;
    let cases = [
        ("/loop", 504, "cpu-time-exceeded", "limits.cpu of 150ms"),
        ("/grow", 507, "out-of-memory", "limits.memory of 32.0 MiB"),
        ("/trap", 500, "trap", "unreachable"),
        ("/overflow", 500, "trap", "trap"),
        ("/exit", 500, "trap", "exit"),
        ("/silent", 502, "no-response", "without a response"),
        ("/sleep?ms=60000", 504, "timeout", "limits.timeout of 2s"),
    ];
    for (path, status, code, part) in cases {
        let answer = server.get(&format!("/f/misbehave{path}")).await;
        answer.assert_error(status, code, part);
        assert_eq!(answer.header("quern-invocation").len(), 36, "{path}");
        assert_eq!(server.get("/f/hello/").await.text().trim(), "hello", "after {path}");
    }
}

#[tokio::test]
async fn busy_guests_do_not_hold_up_others() {
    let server = Server::start();
    // Little for each, so that even a machine with much else to do gets all to their limits in time.
    let manifest = MISBEHAVE.manifest().replace("cpu = \"150ms\"", "cpu = \"40ms\"");
    let deployed = server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    server.deploy(&HELLO).await;
    let loops = join_all((0..8).map(|_| server.get("/f/misbehave/loop")));
    let hellos = async {
        let start = Instant::now();
        let mut answered = 0;
        while start.elapsed() < Duration::from_millis(200) {
            assert_eq!(server.get("/f/hello/").await.status, 200);
            answered += 1;
        }
        answered
    };
    let (loops, answered) = tokio::join!(loops, hellos);
    assert!(answered > 1, "only {answered} requests got through");
    for looped in loops {
        looped.assert_error(504, "cpu-time-exceeded", "limits.cpu");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_declared_or_not() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let body = vec![b'x'; (1 << 20) + 1];
    let declared = server.post("/f/misbehave/echo", body.clone()).await;
    declared.assert_error(413, "request-too-large", "1.0 MiB");
    let chunks = stream::iter(
        body.chunks(1 << 16).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect::<Vec<_>>(),
    );
    let request =
        server.request(Method::POST, "/f/misbehave/echo").body(reqwest::Body::wrap_stream(chunks));
    // The guest echoes while it reads: either the refusal comes before its head, or what it
    // sends breaks off. It never looks whole.
    match request.send().await {
        Ok(response) if response.status() == 413 => {}
        Ok(response) => assert!(response.bytes().await.is_err()),
        Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
    }
    let fits = vec![b'x'; 1 << 20];
    assert_eq!(server.post("/f/misbehave/echo", fits).await.body.len(), 1 << 20);
}

#[tokio::test]
async fn requests_beyond_the_concurrency_are_refused_at_once() {
    let server = Server::start();
    let manifest = MISBEHAVE.manifest().replace("[limits]", "[limits]\nconcurrency = 2");
    let deployed = server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let concurrency =
        async || server.get("/v1/functions/misbehave").await.json()["concurrency"].clone();
    assert_eq!(concurrency().await, json!(null), "it is not loaded yet");
    let sleepers = (0..4).map(|_| server.get("/f/misbehave/sleep?ms=500"));
    let answers = join_all(sleepers).await;
    let (slept, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((slept.len(), refused.len()), (2, 2));
    for answer in refused {
        answer.assert_error(429, "busy", "2 requests");
        assert_eq!(concurrency().await, 2);
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(server.get("/f/misbehave/count").await.status, 200, "there is room again");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_guest_with_it() {
    let server = Server::start();
    // Longer than anyone waits for it here.
    let limits = "[limits]\nconcurrency = 1\n";
    let manifest = MISBEHAVE.manifest().replace("timeout = \"2s\"", "timeout = \"10m\"");
    server.upload("misbehave", manifest.replace("[limits]", limits), MISBEHAVE.component()).await;
    let sleeper = server.request(Method::GET, "/f/misbehave/sleep?ms=600000").send();
    tokio::select! {
        answer = sleeper => panic!("it does not sleep: {answer:?}"),
        () = until("it sleeps", async || server.metric("quern_sandbox_instances").await == 1.0) => {}
    }
    until("there is room again", async || {
        let probe = server.get("/f/misbehave/count").await;
        if probe.status != 200 {
            probe.assert_error(429, "busy", "1 requests");
        }
        probe.status == 200
    })
    .await;
    let text = server.get("/metrics").await.text();
    let cancelled = "quern_function_requests_total{function=\"misbehave\",\
                     outcome=\"cancelled\",tenant=\"default\"} 1";
    assert!(text.lines().any(|line| line == cancelled), "{text}");
}

#[tokio::test]
async fn a_response_over_the_limit_is_refused_or_breaks_off() {
    let server = Server::start();
    let manifest = MISBEHAVE.manifest().replace("[limits]", "[limits]\nresponse = \"1MiB\"");
    server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    let declared = server.get("/f/misbehave/short?declared=1048577").await;
    declared.assert_error(502, "response-too-large", "limits.response of 1.0 MiB");
    assert_eq!(declared.json()["limit"]["name"], "limits.response");
    let fits = server.get("/f/misbehave/stream?chunks=16&bytes=65536").await;
    assert_eq!(fits.body.len(), 1 << 20);
    for path in ["stream?chunks=17&bytes=65536", "stream?chunks=1&bytes=1048577"] {
        let request = server.request(Method::GET, &format!("/f/misbehave/{path}"));
        if let Ok(response) = request.send().await {
            let body = response.bytes().await;
            assert!(body.is_err(), "{path} looked whole");
        }
    }
    until("all three are reported", async || {
        let log = server.get("/v1/functions/misbehave/logs").await.text();
        log.matches("gave a response body larger than").count() == 3
    })
    .await;
    assert_eq!(server.metric("quern_sandbox_failures_total").await, 3.0);
}

#[tokio::test]
async fn outputs_over_the_response_limit_are_refused() {
    let server = Server::start();
    let manifest = COUNTER.manifest() + "\n[limits]\nresponse = \"7B\"\n";
    server.upload("counter", manifest, COUNTER.component()).await;
    let by = json!([{ "name": "by", "shape": [1], "datatype": "INT64", "data": [1] }]);
    let answer = server.infer("counter", by).await;
    answer.assert_error(502, "response-too-large", "limits.response of 7 B");
}
