//! What a trap tells: its reason and the guest's functions, to the caller who owns it and in the log.

use serde_json::{Value, json};

use crate::{
    COUNTER, MISBEHAVE,
    support::{Answer, Server, until},
};

/// What the server itself has logged of an invocation.
async fn system_log(server: &Server, function: &str, answer: &Answer) -> String {
    let invocation = answer.header("quern-invocation").to_owned();
    let mut text = None;
    until("it is logged", async || {
        let log = server.get(&format!("/v1/functions/{function}/logs")).await.text();
        let mut records =
            log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
        let found = records
            .find(|record| record["invocation"] == *invocation && record["stream"] == "system");
        text = found.map(|record| record["text"].as_str().expect("text").to_owned());
        text.is_some()
    })
    .await;
    text.expect("was found")
}

#[tokio::test]
async fn a_trap_names_the_guests_functions() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let answer = server.get("/f/misbehave/trap").await;
    answer.assert_error(500, "trap", "unreachable");
    let problem = answer.json();
    assert_eq!(problem["invocation"], answer.header("quern-invocation"));
    let trace: Vec<&str> =
        problem["trace"].as_array().expect("a trace").iter().filter_map(Value::as_str).collect();
    let named = |name: &str| trace.iter().any(|frame| frame.contains(name));
    assert!(named("panic") && named("misbehave.wasm!"), "{trace:?}");
    assert!(named("::") && !named("_ZN") && !named("_RN"), "not demangled: {trace:?}");
    let log = system_log(&server, "misbehave", &answer).await;
    assert!(log.contains("unreachable") && log.contains(trace[0]), "{log}");
}

#[tokio::test]
async fn a_trap_of_an_inference_function_is_in_its_log() {
    let server = Server::start();
    server.deploy(&COUNTER).await;
    let by = json!([{ "name": "by", "shape": [1], "datatype": "INT64", "data": [0] }]);
    let answer = server.infer("counter", by).await;
    answer.assert_error(500, "trap", "unreachable");
    let log = system_log(&server, "counter", &answer).await;
    assert!(log.contains("unreachable") && log.contains("counter"), "{log}");
}

#[tokio::test]
async fn a_limit_that_was_hit_is_named_with_its_value() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    for (path, name, value) in
        [("grow", "limits.memory", "32.0 MiB"), ("loop", "limits.cpu", "150ms")]
    {
        let answer = server.get(&format!("/f/misbehave/{path}")).await;
        assert_eq!(answer.json()["limit"], json!({ "name": name, "value": value }));
        let log = system_log(&server, "misbehave", &answer).await;
        assert!(log.contains(name) && log.contains(value), "{log}");
    }
}
