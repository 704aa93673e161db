//! Health, metrics, shutdown, and what the server refuses to do.

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use reqwest::Method;
use tempfile::TempDir;

use crate::{
    HELLO, MISBEHAVE,
    support::{Server, until},
};

#[tokio::test]
async fn a_server_tells_its_health_and_devices() {
    let server = Server::start();
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    let devices = server.get("/v1/devices").await.json();
    let device = &devices["devices"][0];
    assert_eq!(device["id"], "cpu:0");
    let engines = device["engines"].as_array().expect("engines");
    assert!(engines.iter().any(|engine| engine["engine"] == "tract"), "{devices}");
    for engine in engines {
        let (version, absent) = (engine["version"].is_string(), engine["absent"].is_string());
        assert!(version != absent, "an engine has a version or a reason: {engine}");
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    server.deploy(&MISBEHAVE).await;
    for _ in 0..5 {
        server.get("/f/hello/").await;
    }
    server.get("/f/misbehave/trap").await;
    // A request is counted when its guest has ended, which may be after its answer.
    let counted = async || server.metric("quern_function_requests_total").await >= 6.0;
    until("six requests are counted", counted).await;
    let text = server.get("/metrics").await.text();
    let sample = |line: &str| text.lines().any(|found| found == line);
    let function = "function=\"hello\",outcome=\"ok\",tenant=\"default\"";
    assert!(sample(&format!("quern_function_requests_total{{{function}}} 5")), "{text}");
    assert!(sample("quern_sandbox_failures_total{reason=\"trap\"} 1"), "{text}");
    assert!(sample("quern_sandbox_instantiate_seconds_count 6"), "{text}");
    assert!(sample("quern_sandbox_compile_seconds_count 2"), "{text}");
    assert!(sample("quern_sandbox_instances 0"), "{text}");
    assert!(sample("quern_cold_starts_total{function=\"hello\",tenant=\"default\"} 1"), "{text}");
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_has_begun() {
    let mut server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let request = server.request(Method::GET, "/f/misbehave/stream?chunks=5&ms=100");
    let response = request.send().await.expect("a head");
    server.terminate();
    assert_eq!(response.bytes().await.expect("a whole body").len(), 30);
    assert!(server.wait_for_exit().success());
}

#[tokio::test]
async fn a_stopping_server_waits_no_longer_than_it_was_told() {
    let mut server = Server::start_with(&["--drain-timeout", "300ms"]);
    let manifest = MISBEHAVE.manifest().replace("2s", "60s");
    server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    let request = server.request(Method::GET, "/f/misbehave/stream?chunks=100&ms=1000");
    let response = request.send().await.expect("a head");
    server.terminate();
    // Long before the stream is at its end.
    server.wait_for_exit();
    assert!(response.bytes().await.is_err());
}

fn serve(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    let output = command.arg("serve").args(arguments).output().expect("runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_server_listens_beyond_loopback_only_when_told_so() {
    let data = TempDir::new().expect("a folder");
    let folder = data.path().to_str().expect("text");
    let (ended_well, said) = serve(&["--listen", "0.0.0.0:0", "--data", folder]);
    assert!(!ended_well);
    assert!(said.contains("--insecure"), "{said}");
    let server = Server::start_with(&["--listen", "0.0.0.0:0", "--insecure"]);
    let port = server.url().rsplit(':').next().expect("a port").to_owned();
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await;
    assert_eq!(answer.expect("an answer").status(), 200);
}

#[tokio::test]
async fn what_a_server_can_not_start_with_is_named() {
    let server = Server::start();
    let data = server.kill();
    let server = Server::start_on(Arc::clone(&data), &[]);
    let folder = data.path().join("data");
    let folder = folder.to_str().expect("text");
    let (ended_well, said) = serve(&["--listen", "127.0.0.1:0", "--data", folder]);
    assert!(!ended_well && said.contains(folder), "{said}");
    drop(server);
    let (ended_well, said) =
        serve(&["--listen", "127.0.0.1:0", "--data", folder, "--ort-library", "/no/such/file.so"]);
    assert!(!ended_well && said.contains("/no/such/file.so"), "{said}");
}

#[tokio::test]
async fn a_model_waits_for_its_engine_rather_than_run_on_another() {
    let server = Server::start();
    let deployed = server.deploy_digits_model().await.json();
    assert_eq!(deployed["engine"], "onnxruntime", "run `make ort` before the tests");
    let data = server.stop();
    // The library is looked for above the program and in the working folder: neither has it here.
    let elsewhere = TempDir::new().expect("a folder");
    let program = elsewhere.path().join("quern");
    let built = env!("CARGO_BIN_EXE_quern");
    if std::fs::hard_link(built, &program).is_err() {
        std::fs::copy(built, &program).expect("copied");
    }
    let mut command = Command::new(&program);
    command.current_dir(elsewhere.path()).env_remove("ORT_DYLIB_PATH");
    let server = Server::start_program(command, data, &[]);
    let inputs = serde_json::json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": vec![1.0; 64] }]);
    let refused = server.infer("digits-mlp", inputs).await;
    refused.assert_error(503, "engine-absent", "--ort-library");
    let devices = server.get("/v1/devices").await.text();
    assert!(devices.contains("make ort"), "{devices}");
}

#[tokio::test]
async fn a_short_address_space_is_no_obstacle() {
    let mut command = Command::new("sh");
    let limited = "ulimit -v 16777216; exec \"$0\" \"$@\"";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_quern")]).stderr(Stdio::piped());
    let data = Arc::new(TempDir::new().expect("a folder"));
    let mut server = Server::start_program(command, data, &[]);
    server.deploy(&HELLO).await;
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
    server.terminate();
    let log = server.log();
    assert!(log.contains("the instance pool can't be reserved"), "{log}");
}
