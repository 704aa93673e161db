//! What is loaded: code comes and goes within its memory, and comes back after a restart.

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    ECHO, HELLO,
    support::{Server, until},
};

/// Deploys the same component under several names.
async fn deploy_hellos(server: &Server, count: u32) {
    for number in 0..count {
        let name = format!("hello-{number}");
        let manifest = HELLO.manifest().replace("\"hello\"", &format!("\"{name}\""));
        let answer = server.upload(&name, manifest, HELLO.component()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }
}

async fn call_hello(server: &Server, number: u32) {
    let answer = server.get(&format!("/f/hello-{number}/")).await;
    assert_eq!((answer.status.as_u16(), answer.text().trim()), (200, "hello"));
}

/// Waits until a metric has this value.
async fn wait_for(server: &Server, metric: &str, value: f64) {
    until(&format!("{metric} is {value}"), async || server.metric(metric).await == value).await;
}

#[tokio::test]
async fn functions_come_and_go_within_the_memory_for_code() {
    let server = Server::start_with(&["--code-memory", "2MiB"]);
    deploy_hellos(&server, 8).await;
    for _ in 0..3 {
        for number in 0..8 {
            call_hello(&server, number).await;
            let bytes = server.metric("quern_function_loaded_bytes").await;
            assert!(bytes <= f64::from(2 << 20), "{bytes}");
        }
    }
    let (loaded, evicted, cold) = (
        server.metric("quern_function_loaded").await,
        server.metric("quern_function_evictions_total").await,
        server.metric("quern_cold_starts_total").await,
    );
    assert!((1.0..8.0).contains(&loaded), "{loaded}");
    assert_eq!(cold, 24.0, "in turn, each has gone when it is called again");
    assert_eq!(evicted, cold - loaded);
}

#[tokio::test]
async fn calls_succeed_while_their_functions_push_each_other_out() {
    let server = Server::start_with(&["--code-memory", "1B"]);
    deploy_hellos(&server, 4).await;
    let calls = (0..40).map(|number| call_hello(&server, number % 4));
    futures::future::join_all(calls).await;
    call_hello(&server, 0).await;
    wait_for(&server, "quern_function_loaded", 1.0).await;
}

#[tokio::test]
async fn what_was_in_use_is_loaded_again_after_a_restart() {
    let server = Server::start();
    deploy_hellos(&server, 3).await;
    call_hello(&server, 0).await;
    call_hello(&server, 2).await;
    let server = Server::start_on(server.stop(), &[]);
    wait_for(&server, "quern_function_loaded", 2.0).await;
    call_hello(&server, 0).await;
    call_hello(&server, 2).await;
    assert_eq!(server.metric("quern_cold_starts_total").await, 0.0);
    call_hello(&server, 1).await;
    assert_eq!(server.metric("quern_cold_starts_total").await, 1.0);
}

#[tokio::test]
async fn code_of_another_engine_is_made_again_ahead_of_calls() {
    let server = Server::start();
    deploy_hellos(&server, 1).await;
    call_hello(&server, 0).await;
    let data = server.stop();
    std::fs::remove_dir_all(data.path().join("data/artifacts")).expect("code lies there");
    let server = Server::start_on(data, &[]);
    wait_for(&server, "quern_function_loaded", 1.0).await;
    assert_eq!(server.metric("quern_sandbox_compile_seconds_count").await, 1.0);
    call_hello(&server, 0).await;
    assert_eq!(server.metric("quern_cold_starts_total").await, 0.0);
}

#[tokio::test]
async fn functions_are_loaded_ahead_within_the_memory_for_code() {
    let server = Server::start();
    deploy_hellos(&server, 4).await;
    for number in 0..4 {
        call_hello(&server, number).await;
    }
    // Room for one: the most recent.
    let server = Server::start_on(server.stop(), &["--code-memory", "1B"]);
    wait_for(&server, "quern_function_loaded", 1.0).await;
    call_hello(&server, 3).await;
    assert_eq!(server.metric("quern_cold_starts_total").await, 0.0);
    assert_eq!(server.metric("quern_function_evictions_total").await, 0.0);
}

#[tokio::test]
async fn a_damaged_list_of_what_was_in_use_is_no_obstacle() {
    let server = Server::start();
    deploy_hellos(&server, 1).await;
    call_hello(&server, 0).await;
    let data: Arc<TempDir> = server.stop();
    let list = data.path().join("data/recent.json");
    let noted = std::fs::read_to_string(&list).expect("was written");
    assert_eq!(noted, r#"[{"tenant":"default","name":"hello-0"}]"#);
    std::fs::write(&list, &noted[..20]).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.stderr(Stdio::piped());
    let mut server = Server::start_program(command, data, &[]);
    call_hello(&server, 0).await;
    assert_eq!(server.metric("quern_cold_starts_total").await, 1.0);
    server.terminate();
    let log = server.log();
    assert!(log.contains("list of recent functions is damaged"), "{log}");
}

#[tokio::test]
async fn series_of_what_is_deleted_go() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    server.deploy(&ECHO).await;
    server.deploy_digits_model().await;
    server.get("/f/hello/").await;
    let inputs = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": vec![1.0; 64] }]);
    assert_eq!(server.infer("digits-mlp", inputs).await.status, 200);
    let series = async || {
        let text = server.get("/metrics").await.text();
        text.matches("=\"hello\"").count() + text.matches("=\"digits-mlp\"").count()
    };
    assert!(series().await > 10);
    assert!(server.delete("/v1/functions/hello").await.status.is_success());
    assert!(server.delete("/v1/models/digits-mlp").await.status.is_success());
    until("their series are gone", async || series().await == 0).await;
    server.deploy(&HELLO).await;
    server.get("/f/hello/").await;
    assert!(series().await > 5, "a function of the same name counts anew");
}
