//! What the protocol's extensions tell of models, and how they control them: configuration,
//! statistics, the repository, settings and shared memory.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    DIGITS, MISBEHAVE,
    support::{Server, answer, digits_model},
};

fn image_json(rows: usize) -> Value {
    json!([{ "name": "image", "shape": [rows, 64], "datatype": "FP32", "data": vec![3; rows * 64] }])
}

#[tokio::test]
async fn the_configuration_is_that_of_the_version() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let config = server.get("/v2/models/digits-mlp/config").await.json();
    assert_eq!((&config["name"], &config["max_batch_size"]), (&json!("digits-mlp"), &json!(64)));
    let input = json!([{ "name": "image", "data_type": "TYPE_FP32", "dims": [64] }]);
    assert_eq!(config["input"], input);
    assert_eq!(config["instance_group"][0]["kind"], "KIND_CPU");
    let version = server.get("/v2/models/digits-mlp/versions/1/config").await.json();
    assert_eq!(version, config);
    let function = server.get("/v2/models/digits/config").await.json();
    assert_eq!((&function["backend"], &function["max_batch_size"]), (&json!("wasm"), &json!(0)));
    let absent = server.get("/v2/models/digits-mlp/versions/2/config").await;
    absent.assert_error(404, "not-found", "no version 2");
    let metadata = server.get("/v2").await.json();
    let extensions = metadata["extensions"].as_array().expect("a list");
    assert!(extensions.contains(&json!("binary_tensor_data")), "{extensions:?}");
}

#[tokio::test]
async fn calls_and_runs_are_counted() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    server.deploy(&MISBEHAVE).await;
    let of = async |path: &str| server.get(path).await.json()["model_stats"].clone();
    let fresh = &of("/v2/models/digits-mlp/stats").await[0];
    assert_eq!((&fresh["inference_count"], &fresh["last_inference"]), (&json!(0), &json!(0)));

    assert_eq!(server.infer("digits-mlp", image_json(3)).await.status, 200);
    assert_eq!(server.infer("digits-mlp", image_json(2)).await.status, 200);
    assert_eq!(server.infer("digits", image_json(3)).await.status, 200);
    assert_eq!(server.infer("digits-mlp", json!([])).await.status, 400);
    let model = &of("/v2/models/digits-mlp/versions/1/stats").await[0];
    assert_eq!((&model["name"], &model["version"]), (&json!("digits-mlp"), &json!("1")));
    assert_eq!((&model["inference_count"], &model["execution_count"]), (&json!(8), &json!(3)));
    assert!(model["last_inference"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{model}");
    let stats = &model["inference_stats"];
    for (name, count) in [("success", 3), ("fail", 1), ("queue", 3), ("compute_infer", 3)] {
        assert_eq!(stats[name]["count"], count, "{name}");
    }
    let ns = |name: &str| stats[name]["ns"].as_u64().expect("a time");
    for part in ["compute_input", "compute_infer", "compute_output"] {
        assert!(ns(part) > 0, "{part} is measured: {stats}");
    }
    let within = ns("queue") + ns("compute_input") + ns("compute_infer") + ns("compute_output");
    assert!(within <= ns("success"), "{stats}");
    let sizes: Vec<_> = model["batch_stats"].as_array().expect("a list").iter().collect();
    let size =
        |index: usize| (&sizes[index]["batch_size"], &sizes[index]["compute_infer"]["count"]);
    assert_eq!(
        (sizes.len(), size(0), size(1)),
        (2, (&json!(2), &json!(1)), (&json!(3), &json!(2)))
    );

    let all = of("/v2/models/stats").await;
    let names: Vec<_> = all.as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["digits", "digits-mlp"], "and no function that serves HTTP");
    assert_eq!(all[0]["inference_count"], 1);
    server.get("/v2/models/absent/stats").await.assert_error(404, "not-found", "absent");
}

async fn index(server: &Server, body: &str) -> Vec<(String, String, String)> {
    let answered = server.post("/v2/repository/index", body.to_owned()).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let text = |entry: &Value, field: &str| entry[field].as_str().expect("a string").to_owned();
    let entries = answered.json();
    let entries = entries.as_array().expect("a list").iter();
    entries.map(|one| (text(one, "name"), text(one, "version"), text(one, "state"))).collect()
}

fn entry(name: &str, version: &str, state: &str) -> (String, String, String) {
    (name.into(), version.into(), state.into())
}

#[tokio::test]
async fn what_is_unloaded_takes_no_calls_until_it_is_loaded() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let both = [entry("digits", "1", "READY"), entry("digits-mlp", "1", "READY")];
    assert_eq!(index(&server, "").await, both);
    let control = async |name: &str, operation: &str| {
        server.post(&format!("/v2/repository/models/{name}/{operation}"), "{}").await
    };
    assert_eq!(control("digits-mlp", "load").await.status, 200);
    let replicas =
        async || server.get("/v1/devices").await.json()["devices"][0]["replicas"].clone();
    assert_eq!(replicas().await, 1, "it is resident before its first call");

    assert_eq!(control("digits-mlp", "unload").await.status, 200);
    assert_eq!(replicas().await, 0);
    let unloaded = "model \"digits-mlp\" is unloaded";
    let ready = server.get("/v2/models/digits-mlp/ready").await;
    ready.assert_error(400, "not-loaded", unloaded);
    let call = server.infer("digits-mlp", image_json(1)).await;
    call.assert_error(503, "not-loaded", unloaded);
    let through = server.infer("digits", image_json(1)).await;
    assert_eq!(through.status.as_u16() / 100, 5, "functions find it gone too");
    assert_eq!(index(&server, "{\"ready\": true}").await, [entry("digits", "1", "READY")]);
    assert_eq!(index(&server, "{}").await[1], entry("digits-mlp", "1", "UNAVAILABLE"));
    assert_eq!(server.get("/v2/models/digits-mlp").await.status, 200, "it is still known");

    assert_eq!(control("digits-mlp", "load").await.status, 200);
    assert_eq!(server.get("/v2/models/digits-mlp/ready").await.status, 200);
    assert_eq!(server.infer("digits", image_json(1)).await.status, 200);

    assert_eq!(control("digits", "unload").await.status, 200);
    server.infer("digits", image_json(1)).await.assert_error(503, "not-loaded", "digits");
    assert_eq!(control("digits", "load").await.status, 200);
    assert_eq!(server.infer("digits", image_json(1)).await.status, 200);
}

#[tokio::test]
async fn a_version_deployed_after_an_unload_is_ready() {
    let server = Server::start();
    server.deploy_digits_model().await;
    assert_eq!(server.post("/v2/repository/models/digits-mlp/unload", "").await.status, 200);
    let form = reqwest::multipart::Form::new()
        .text("manifest", "max_batch = 8")
        .part("model", reqwest::multipart::Part::bytes(digits_model()));
    let second = server.request(Method::PUT, "/v1/models/digits-mlp").multipart(form);
    assert_eq!(answer(second).await.json()["version"], 2);
    assert_eq!(server.infer("digits-mlp", image_json(1)).await.header("quern-version"), "2");
    assert_eq!(server.get("/v2/models/digits-mlp/ready").await.status, 200);
    let first = server.get("/v2/models/digits-mlp/versions/1/ready").await;
    first.assert_error(400, "not-loaded", "digits-mlp");
    assert_eq!(server.post("/v2/repository/models/digits-mlp/load", "").await.status, 200);
    assert_eq!(server.get("/v2/models/digits-mlp/versions/1/ready").await.status, 200);
}

#[tokio::test]
async fn the_repository_refuses_what_it_can_not_do() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&MISBEHAVE).await;
    let load = "/v2/repository/models/digits-mlp/load";
    let unload = "/v2/repository/models/digits-mlp/unload";
    for (path, body, status, code, part) in [
        ("/v2/repository/models/absent/load", "", 404, "not-found", "absent"),
        ("/v2/repository/models/absent/unload", "", 404, "not-found", "absent"),
        ("/v2/repository/models/misbehave/load", "", 409, "wrong-kind", "http"),
        (load, r#"{"parameters":{"config":"{}"}}"#, 400, "unsupported", "parameters.config"),
        (load, r#"{"parameters":{"file:1/m.onnx":""}}"#, 400, "unsupported", "file:1/m.onnx"),
        (load, r#"{"config":"{}"}"#, 400, "invalid-json", "config"),
        (unload, r#"{"parameters":{"unload_dependents":true}}"#, 400, "unsupported", "dependents"),
        (unload, r#"{"parameters":{"unload_dependents":1}}"#, 400, "invalid-json", "dependents"),
        ("/v2/repository/index", r#"{"ready":"yes"}"#, 400, "invalid-json", "ready"),
        ("/v2/repository/index", "[", 400, "invalid-json", "not JSON"),
    ] {
        server.post(path, body).await.assert_error(status, code, part);
    }
    let tolerated = r#"{"parameters":{"unload_dependents":false,"mine":1}}"#;
    assert_eq!(server.post(unload, tolerated).await.status, 200);
}

#[tokio::test]
async fn settings_are_shown_and_not_changed() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let off = json!({ "trace_level": ["OFF"] });
    for path in ["/v2/trace/setting", "/v2/models/digits-mlp/trace/setting"] {
        assert_eq!(server.get(path).await.json(), off);
        assert_eq!(server.post(path, off.to_string()).await.json(), off);
        let refused = server.post(path, r#"{"trace_level":["TIMESTAMPS"]}"#).await;
        refused.assert_error(400, "unsupported", "trace_level: is [\"OFF\"] on this server");
    }
    let absent = server.get("/v2/models/absent/trace/setting").await;
    absent.assert_error(404, "not-found", "absent");
    let log = server.get("/v2/logging").await.json();
    assert_eq!((&log["log_error"], &log["log_file"]), (&json!(true), &json!("")));
    assert_eq!(server.post("/v2/logging", log.to_string()).await.json(), log);
    let refused = server.post("/v2/logging", r#"{"log_file":"/etc/passwd"}"#).await;
    refused.assert_error(400, "unsupported", "log_file");
    server.post("/v2/logging", "[").await.assert_error(400, "invalid-json", "settings");
}

#[tokio::test]
async fn shared_memory_is_refused() {
    let server = Server::start();
    for kind in ["systemsharedmemory", "cudasharedmemory"] {
        assert_eq!(server.get(&format!("/v2/{kind}/status")).await.json(), json!([]));
        let absent = server.get(&format!("/v2/{kind}/region/mine/status")).await;
        absent.assert_error(404, "not-found", "\"mine\" is not registered");
        let body = r#"{"key":"/etc/passwd","offset":0,"byte_size":64}"#;
        let refused = server.post(&format!("/v2/{kind}/region/mine/register"), body).await;
        refused.assert_error(400, "unsupported", "shared memory is not allowed on this server");
        for path in [format!("/v2/{kind}/unregister"), format!("/v2/{kind}/region/mine/unregister")]
        {
            assert_eq!(server.post(&path, "").await.status, 200);
        }
    }
}
