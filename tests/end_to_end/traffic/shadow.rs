//! Shadows: copies of requests go to another version, and what it makes of them is compared.

use super::*;

/// Gives the first version everything, and copies of all of it to the second.
async fn shadow(server: &Server, path: &str) {
    let mut traffic = shares(&[(1, 100)]);
    traffic["shadow"] = json!({"version": 2, "percent": 100});
    let set = server.put(&format!("{path}/traffic"), traffic.to_string()).await;
    assert_eq!(set.status, 200, "{}", set.text());
}

async fn compared(server: &Server, path: &str) -> Value {
    server.get(&format!("{path}/traffic")).await.json()["shadow"].take()
}

#[tokio::test]
async fn answers_of_a_shadow_are_compared_and_reach_nobody() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &MISBEHAVE, 10).await;
    let function = "/v1/functions/f";
    shadow(&server, function).await;
    // The old version answers every path; the new one has answers of its own, or none.
    for (path, count) in [("/f/f/print?lines=0", 6), ("/f/f/trap", 4)] {
        for _ in 0..count {
            let answered = server.get(path).await;
            assert_eq!(
                (answered.text().as_str(), answered.header("quern-version")),
                ("hello\n", "1")
            );
        }
    }
    until("all are compared", async || {
        let found = compared(&server, function).await;
        [&found["different"], &found["failed"], &found["same"]] == [&json!(6), &json!(4), &json!(0)]
    })
    .await;
    let found = compared(&server, function).await;
    let examples = found["examples"].as_array().expect("a list");
    assert_eq!(examples.len(), 10);
    assert!(examples.iter().all(|example| example["answered"] == "200 6 bytes \"hello\\n\""));
    assert!(examples.iter().any(|example| example["shadowed"] == "200 8 bytes \"printed\\n\""));
    let trapped = |example: &Value| {
        example["shadowed"]
            .as_str()
            .is_some_and(|text| text.starts_with("failed: function trapped"))
    };
    assert_eq!(examples.iter().filter(|example| trapped(example)).count(), 4);
    assert!(found["shadowed"]["p50_us"].is_u64(), "{found}");
    assert_eq!(server.metric("quern_function_shadow_copies").await, 10.0);
    let folder = tempfile::tempdir().expect("a folder");
    let shown = text(server.url(), folder.path(), &["traffic", "f"]);
    assert!(
        shown.contains("shadow is version 2 for 100%: 0 the same, 6 different, 4 failed"),
        "{shown}"
    );
    // It can't go while it is the shadow, and is none once it is live.
    assert_eq!(set(&server, &shares(&[(2, 100)])).await.json()["shadow"], Value::Null);
}

#[tokio::test]
async fn shadows_of_models_and_inference_functions_are_compared_by_their_tensors() {
    let server = Server::start();
    deploy_two_models(&server).await;
    let model = "/v1/models/digits-mlp";
    shadow(&server, model).await;
    let inputs =
        json!([{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![1.0; 64]}]);
    for _ in 0..5 {
        assert_eq!(server.infer("digits-mlp", inputs.clone()).await.header("quern-version"), "1");
    }
    until("all are compared", async || compared(&server, model).await["same"] == 5).await;
    // What a function asks of the model is copied, too.
    server.deploy(&DIGITS).await;
    assert_eq!(server.infer("digits", inputs.clone()).await.status, 200);
    until("it is compared", async || compared(&server, model).await["same"] == 6).await;

    let manifest = DIGITS.manifest().replace("32MiB", "33MiB");
    let form = reqwest::multipart::Form::new()
        .text("manifest", manifest)
        .part("component", reqwest::multipart::Part::bytes(DIGITS.component()));
    let request = server.request(Method::PUT, "/v1/functions/digits?live=false").multipart(form);
    assert_eq!(answer(request).await.json()["version"], 2);
    let function = "/v1/functions/digits";
    shadow(&server, function).await;
    for _ in 0..5 {
        assert_eq!(server.infer("digits", inputs.clone()).await.header("quern-version"), "1");
    }
    until("all are compared", async || compared(&server, function).await["same"] == 5).await;
    let found = compared(&server, function).await;
    assert_eq!((&found["different"], &found["failed"]), (&json!(0), &json!(0)), "{found}");
}

#[tokio::test]
async fn a_shadow_that_makes_no_sense_is_refused_by_field() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    for (shadow, status, code, part) in [
        (json!({"version": 1, "percent": 10}), 400, "invalid-request", "shadow.version"),
        (json!({"version": 2, "percent": 0}), 400, "invalid-request", "shadow.percent"),
        (json!({"version": 2, "percent": 101}), 400, "invalid-request", "shadow.percent"),
        (json!({"version": 9, "percent": 10}), 404, "not-found", "shadow.version"),
        (json!({"version": 2}), 400, "invalid-json", "percent"),
        (json!({"version": 2, "percent": "all"}), 400, "invalid-json", "shadow.percent"),
    ] {
        let mut traffic = shares(&[(1, 100)]);
        traffic["shadow"] = shadow;
        set(&server, &traffic).await.assert_error(status, code, part);
    }
}
