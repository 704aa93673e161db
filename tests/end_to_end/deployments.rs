//! Deploying, inspecting, rolling back and deleting; and what is refused, by name.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use futures::stream;
use reqwest::{Method, multipart};
use serde_json::{Value, json};

use crate::{
    DIGITS, HELLO, MISBEHAVE, MODEL_CALLS, UNKNOWN_IMPORT,
    support::{Answer, Server, answer, digits_model},
};

/// A manifest that makes another version of the same component.
fn changed(manifest: &str, cpu_ms: u32) -> String {
    format!("{manifest}\n[limits]\ncpu = '{cpu_ms}ms'\n")
}

async fn live(server: &Server, class: &str, name: &str) -> Value {
    server.get(&format!("/v1/{class}/{name}")).await.json()["version"].clone()
}

#[tokio::test]
async fn the_same_bytes_are_the_same_version() {
    let server = Server::start();
    let first = server.deploy(&HELLO).await;
    assert_eq!(first.status, 201);
    let again = server.deploy(&HELLO).await;
    assert_eq!(again.status, 200);
    let (first, again) = (first.json(), again.json());
    assert_eq!((&again["version"], &again["digest"]), (&json!(1), &first["digest"]));
    assert_eq!(again["created"], false);
    let other = server.upload("hello", changed(&HELLO.manifest(), 70), HELLO.component()).await;
    assert_eq!((other.status.as_u16(), &other.json()["version"]), (201, &json!(2)));
    server.deploy(&HELLO).await;
    assert_eq!(live(&server, "functions", "hello").await, 1, "deploying makes live");
}

#[tokio::test]
async fn versions_roll_back_and_numbers_are_never_used_twice() {
    let server = Server::start();
    for cpu_ms in [10, 20, 30] {
        let manifest = changed(&HELLO.manifest(), cpu_ms);
        assert_eq!(server.upload("hello", manifest, HELLO.component()).await.status, 201);
    }
    let rollback = "/v1/functions/hello/rollback";
    assert_eq!(server.post(rollback, "").await.status, 200);
    assert_eq!(live(&server, "functions", "hello").await, 2);
    assert_eq!(server.get("/f/hello/").await.header("quern-version"), "2");
    assert_eq!(server.post(rollback, "{\"version\": 3}").await.status, 200);
    assert_eq!(server.get("/f/hello/").await.header("quern-version"), "3");
    server.post(rollback, "{\"version\": 9}").await.assert_error(404, "not-found", "9");
    server.post(rollback, "{\"to\": 1}").await.assert_error(400, "invalid-json", "to");
    server.post(rollback, "{\"version\": 1}").await;
    server.post(rollback, "").await.assert_error(409, "no-previous-version", "hello");
    let versions = server.get("/v1/functions/hello/versions").await.json();
    let numbers: Vec<_> = versions["versions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|version| (version["version"].as_u64().expect("a number"), version["live"] == true))
        .collect();
    assert_eq!(numbers, [(3, false), (2, false), (1, true)]);
    assert_eq!(server.delete("/v1/functions/hello").await.status, 204);
    server.get("/f/hello/").await.assert_error(404, "not-found", "hello");
    server.delete("/v1/functions/hello").await.assert_error(404, "not-found", "hello");
    assert_eq!(server.deploy(&HELLO).await.json()["version"], 4);
}

#[tokio::test]
async fn old_versions_go_by_the_retention_rule_with_their_code() {
    let server = Server::start_with(&["--keep-versions", "2"]);
    for cpu_ms in [10, 20, 30, 40] {
        server.upload("hello", changed(&HELLO.manifest(), cpu_ms), HELLO.component()).await;
    }
    let versions = server.get("/v1/functions/hello/versions").await.json();
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2), "{versions}");
    assert_eq!(server.get("/f/hello/").await.status, 200, "the code they share is kept");
    server.delete("/v1/functions/hello").await;
    let data = server.stop();
    let mut files = Vec::new();
    let mut folders = vec![data.path().join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let left =
        |part: &str| files.iter().filter(|file| file.to_string_lossy().contains(part)).count();
    assert_eq!(left("sha256"), 0, "no blob is left: {files:?}");
    assert_eq!(left("artifacts"), 1, "nothing but the node's key is left: {files:?}");
}

#[tokio::test]
async fn models_are_listed_rolled_back_and_deleted_too() {
    let server = Server::start();
    let deployed = server.deploy_digits_model().await.json();
    assert_eq!(deployed["batch"], json!({ "rows": { "max": 64 } }));
    assert_eq!(deployed["signature"]["inputs"][0]["name"], "image");
    let form = multipart::Form::new()
        .text("manifest", "max_batch = 2\nengine = 'tract'")
        .part("model", multipart::Part::bytes(digits_model()));
    let second = answer(server.request(Method::PUT, "/v1/models/digits-mlp").multipart(form)).await;
    assert_eq!((second.status.as_u16(), &second.json()["engine"]), (201, &json!("tract")));
    let listed = server.get("/v1/models").await.json();
    assert_eq!(listed["models"][0]["version"], 2, "{listed}");
    assert_eq!(server.post("/v1/models/digits-mlp/rollback", "").await.status, 200);
    assert_eq!(live(&server, "models", "digits-mlp").await, 1);
    assert_eq!(server.delete("/v1/models/digits-mlp").await.status, 204);
    server.get("/v1/models/digits-mlp").await.assert_error(404, "not-found", "digits-mlp");
}

#[tokio::test]
async fn models_and_inference_functions_share_one_namespace() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let manifest = DIGITS.manifest().replacen("\"digits\"", "\"digits-mlp\"", 1);
    let clash = server.upload("digits-mlp", manifest, DIGITS.component()).await;
    clash.assert_error(409, "name-taken", "digits-mlp");
    server.deploy(&DIGITS).await;
    server.put("/v1/models/digits", digits_model()).await.assert_error(409, "name-taken", "digits");
    server.deploy(&HELLO).await;
    assert_eq!(server.put("/v1/models/hello", digits_model()).await.status, 201);
}

#[tokio::test]
async fn what_can_not_run_is_refused_by_name_and_changes_nothing() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    let hello = || HELLO.component();
    let manifest = HELLO.manifest();
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let mut truncated = hello();
    truncated.truncate(truncated.len() / 2);
    let no_grant = MODEL_CALLS
        .manifest()
        .replace("models = [", "# models = [")
        .replace("model-calls", "hello");
    let unknown =
        UNKNOWN_IMPORT.manifest().replace("name = \"unknown-import\"", "name = \"hello\"");
    let inference = "name = 'hello'\nkind = 'inference'\n[[inputs]]\nname='x'\ndtype='FP32'\nshape=[1]\n[[outputs]]\nname='y'\ndtype='FP32'\nshape=[1]";
    let cases: Vec<(Answer, u16, &str, &str)> = vec![
        (
            server.upload("hello", format!("{manifest}\nmemroy = 1"), hello()).await,
            400,
            "invalid-manifest",
            "memroy",
        ),
        (
            server.upload("hello", manifest.replace("\"hello\"", "\"other\""), hello()).await,
            400,
            "invalid-manifest",
            "other",
        ),
        (
            server.upload("hello", manifest.clone(), core_module).await,
            422,
            "not-a-component",
            "core module",
        ),
        (
            server.upload("hello", manifest.clone(), b"#!/bin/sh".to_vec()).await,
            422,
            "not-a-component",
            "",
        ),
        (server.upload("hello", manifest.clone(), truncated).await, 422, "invalid-component", ""),
        (
            server.upload("hello", no_grant, MODEL_CALLS.component()).await,
            422,
            "missing-grant",
            "quern:ml/models",
        ),
        (
            server.upload("hello", unknown, UNKNOWN_IMPORT.component()).await,
            422,
            "unknown-import",
            ":",
        ),
        (
            server.upload("hello", inference.into(), hello()).await,
            422,
            "invalid-component",
            "quern:ml/inference",
        ),
        (server.upload("Hello", manifest.clone(), hello()).await, 400, "invalid-name", "Hello"),
        (server.put("/v1/functions/hello", "raw").await, 400, "invalid-multipart", "multipart"),
        (server.put("/v1/models/m", "not onnx").await, 422, "invalid-model", ""),
        (
            server.put("/v1/models/m", digits_model()[..900].to_vec()).await,
            422,
            "invalid-model",
            "",
        ),
        (server.put("/v1/models/m", "").await, 422, "invalid-model", ""),
        (server.get("/v1/functions/absent").await, 404, "not-found", "absent"),
        (server.get("/v1/nothing").await, 404, "not-found", ""),
        (server.post("/v1/functions/hello", "").await, 405, "method-not-allowed", ""),
    ];
    for (answer, status, code, part) in cases {
        answer.assert_error(status, code, part);
    }
    assert_eq!(live(&server, "functions", "hello").await, 1);
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
    assert_eq!(server.get("/v1/models").await.json()["models"], json!([]));
}

#[tokio::test]
async fn multipart_that_is_not_as_it_should_be_is_refused() {
    let server = Server::start();
    let part = || multipart::Part::bytes(HELLO.component());
    let form = multipart::Form::new;
    let put = async |form: multipart::Form| {
        answer(server.request(Method::PUT, "/v1/functions/hello").multipart(form)).await
    };
    let cases = [
        (form().part("component", part()), "manifest"),
        (form().text("manifest", HELLO.manifest()), "component"),
        (form().text("manifest", "a").text("manifest", "b").part("component", part()), "manifest"),
        (form().text("manifest", HELLO.manifest()).part("binary", part()), "binary"),
    ];
    for (form, part) in cases {
        put(form).await.assert_error(400, "invalid-multipart", part);
    }
    let swapped = form().part("component", part()).text("manifest", HELLO.manifest());
    assert_eq!(put(swapped).await.status, 201, "parts come in any order");
}

#[tokio::test]
async fn uploads_are_limited_whether_declared_or_not() {
    let server = Server::start_with(&["--max-upload", "1MiB"]);
    let large = vec![0; 2 << 20];
    server.put("/v1/models/m", large.clone()).await.assert_error(
        413,
        "upload-too-large",
        "1.0 MiB",
    );
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 1 << 16]));
    let request =
        server.request(Method::PUT, "/v1/models/m").body(reqwest::Body::wrap_stream(endless));
    // The server answers and hangs up in the middle of the upload, which not every client sees.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    let component = MISBEHAVE.component();
    let padded = [component, large].concat();
    let refused = server.upload("misbehave", MISBEHAVE.manifest(), padded).await;
    refused.assert_error(413, "upload-too-large", "1.0 MiB");
    let data = server.stop();
    let uploads = data.path().join("data/blobs/uploads");
    let left = std::fs::read_dir(uploads).expect("the server makes it").count();
    assert_eq!(left, 0, "refused uploads leave nothing behind");
}

#[tokio::test]
async fn an_upload_of_two_gigabytes_is_refused_before_it_is_sent() {
    let server = Server::start();
    let address = server.url().trim_start_matches("http://").trim_end_matches('/');
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    let head = "PUT /v1/models/m HTTP/1.1\r\nhost: quern\r\ncontent-length: 2147483648\r\n\r\n";
    connection.write_all(head.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).expect("an answer without a body");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing() {
    let server = Server::start();
    let model = digits_model();
    let half = model[..model.len() / 2].to_vec();
    let broken = stream::iter([Ok(half), Err(std::io::Error::other("the cable was pulled"))]);
    let request =
        server.request(Method::PUT, "/v1/models/m").body(reqwest::Body::wrap_stream(broken));
    assert!(request.send().await.is_err());
    assert_eq!(server.get("/v1/models").await.json()["models"], json!([]));
}
