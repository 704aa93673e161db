//! Inference over the protocol: models, inference functions, and everything that can be wrong with
//! a request.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    DIGITS, ECHO, FAN_OUT, GUEST_ERROR, MISBEHAVE, MODEL_CALLS, WRONG_OUTPUT,
    support::{Answer, Server},
};

fn image(value: f64, rows: usize) -> Value {
    json!([{ "name": "image", "shape": [rows, 64], "datatype": "FP32",
             "data": vec![value; rows * 64] }])
}

fn choice(number: i64) -> Value {
    json!([{ "name": "choice", "shape": [1], "datatype": "INT64", "data": [number] }])
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().expect("outputs");
    outputs.iter().find(|output| output["name"] == name).expect(name)
}

#[tokio::test]
async fn a_model_answers_and_says_what_served_it() {
    let server = Server::start();
    let deployed = server.deploy_digits_model().await.json();
    let answer = server.infer("digits-mlp", image(3.0, 2)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!((&json["model_name"], &json["model_version"]), (&json!("digits-mlp"), &json!("1")));
    let probabilities = output(&json, "probabilities");
    assert_eq!(probabilities["shape"], json!([2, 10]));
    assert_eq!(probabilities["datatype"], "FP32");
    let data = probabilities["data"].as_array().expect("numbers");
    assert_eq!(data[..10], data[10..], "equal rows give equal answers");
    assert_eq!(answer.header("quern-engine"), deployed["engine"].as_str().expect("an engine"));
    assert_eq!(answer.header("quern-device"), "cpu:0");
    assert_eq!(answer.header("quern-batch-rows"), "2");
    for header in ["quern-queue-us", "quern-compute-us", "quern-version"] {
        assert!(answer.header(header).parse::<u64>().is_ok(), "{header}");
    }
}

#[tokio::test]
async fn a_function_calls_its_model_for_the_caller() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    server.deploy(&FAN_OUT).await;
    let direct = server.infer("digits-mlp", image(5.0, 3)).await.json();
    let through = server.infer("digits", image(5.0, 3)).await;
    assert_eq!(through.status, 200, "{}", through.text());
    assert_eq!(
        output(&direct, "probabilities")["data"],
        output(&through.json(), "probabilities")["data"]
    );
    assert_eq!(output(&through.json(), "label")["shape"], json!([3]));
    let fanned = server.infer("fan-out", image(5.0, 40)).await;
    assert_eq!(fanned.status, 200, "{}", fanned.text());
    assert_eq!(output(&fanned.json(), "probabilities")["shape"], json!([40, 10]));
}

#[tokio::test]
async fn callers_at_the_same_time_get_their_own_answers() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let ask = async |target: &'static str, value: usize| {
        let answer = server.infer(target, image(value as f64 / 8.0, 1)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        (value, output(&answer.json(), "probabilities")["data"].clone())
    };
    let mut alone = Vec::new();
    for value in 0..128 {
        alone.push(ask("digits-mlp", value).await.1);
    }
    let both = (0..128).flat_map(|value| [ask("digits-mlp", value), ask("digits", value)]);
    let close = |left: &Value, right: &Value| {
        let numbers = |list: &Value| -> Vec<f64> {
            list.as_array().expect("a list").iter().filter_map(Value::as_f64).collect()
        };
        numbers(left).iter().zip(numbers(right)).all(|(left, right)| (left - right).abs() < 1e-4)
    };
    for (value, data) in join_all(both).await {
        assert!(close(&data, &alone[value]), "{value}: {data} instead of {}", alone[value]);
    }
    let (rows, runs) = (
        server.metric("quern_batch_rows_sum").await,
        server.metric("quern_batch_rows_count").await,
    );
    assert_eq!(rows, 384.0);
    assert!(runs <= rows);
}

#[tokio::test]
async fn a_request_of_more_rows_than_a_run_takes_is_answered_as_one() {
    const ROWS: usize = 150;
    let server = Server::start();
    server.deploy_digits_model().await;
    let pixels: Vec<f64> = (0..ROWS * 64).map(|index| (index / 64) as f64 / 10.0).collect();
    let inputs = json!([{ "name": "image", "shape": [ROWS, 64], "datatype": "FP32",
                          "data": pixels }]);
    let answer = server.infer("digits-mlp", inputs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("quern-batch-rows").parse::<usize>().is_ok_and(|rows| rows <= 64));
    let json = answer.json();
    let probabilities = output(&json, "probabilities");
    assert_eq!(probabilities["shape"], json!([ROWS, 10]));
    let numbers = |list: &Value| -> Vec<f64> {
        list.as_array().expect("a list").iter().filter_map(Value::as_f64).collect()
    };
    let all = numbers(&probabilities["data"]);
    for row in [0, 1, 63, 64, 75, 127, 128, ROWS - 1] {
        let alone = server.infer("digits-mlp", image(row as f64 / 10.0, 1)).await.json();
        let alone = numbers(&output(&alone, "probabilities")["data"]);
        let pairs = all[row * 10..].iter().zip(&alone);
        assert!(pairs.clone().count() == 10 && pairs.clone().all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[tokio::test]
async fn the_times_of_runs_are_shown() {
    let server = Server::start();
    server.deploy_digits_model().await;
    assert_eq!(server.get("/v1/models/digits-mlp").await.json()["profile"], json!([]));
    for _ in 0..3 {
        assert_eq!(server.infer("digits-mlp", image(1.0, 3)).await.status, 200);
    }
    let profile = server.get("/v1/models/digits-mlp").await.json()["profile"].clone();
    assert_eq!((&profile[0]["rows"], &profile[0]["runs"]), (&json!(4), &json!(3)), "{profile}");
    assert!(profile[0]["mean_us"].is_u64() && profile[0]["deviation_us"].is_u64(), "{profile}");
    let metrics = server.get("/metrics").await.text();
    for name in ["quern_model_run_mean_seconds", "quern_model_run_deviation_seconds"] {
        let series = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        assert!(series.is_some_and(|line| line.contains("rows=\"4\"")), "{name} in {metrics}");
    }
}

#[tokio::test]
async fn versions_are_called_by_number() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let body = json!({ "inputs": image(1.0, 1) }).to_string();
    let first = server.post("/v2/models/digits-mlp/versions/1/infer", body.clone()).await;
    assert_eq!((first.status.as_u16(), first.header("quern-version")), (200, "1"));
    let absent = server.post("/v2/models/digits-mlp/versions/2/infer", body.clone()).await;
    absent.assert_error(404, "not-found", "no version 2");
    let malformed = server.post("/v2/models/digits-mlp/versions/one/infer", body).await;
    assert_eq!(malformed.status.as_u16() / 100, 4, "{}", malformed.text());
}

#[tokio::test]
async fn metadata_and_health_follow_the_protocol() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    for (path, field) in [
        ("/v2/health/live", "live"),
        ("/v2/health/ready", "ready"),
        ("/v2/models/digits-mlp/ready", "ready"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json()[field], true, "{path}");
    }
    assert_eq!(server.get("/v2").await.json()["name"], "quern");
    let model = server.get("/v2/models/digits-mlp").await.json();
    assert_eq!(
        model["inputs"],
        json!([{ "name": "image", "datatype": "FP32", "shape": [-1, 64] }])
    );
    assert_eq!(model["versions"], json!(["1"]));
    let function = server.get("/v2/models/digits/versions/1").await.json();
    assert_eq!(function["outputs"][0]["name"], "label");
    assert_eq!(server.get("/v2/models/absent/ready").await.status, 404);
}

#[tokio::test]
async fn tensors_of_several_types_pass_through_a_function() {
    let server = Server::start();
    server.deploy(&ECHO).await;
    let inputs = json!([
        { "name": "words", "shape": [2], "datatype": "BYTES", "data": ["grain", "é\u{0}"] },
        { "name": "floats", "shape": [1, 2], "datatype": "FP32", "data": [[0.1, -2.5e-3]] },
    ]);
    let answer = server.infer("echo", inputs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!(output(&json, "words")["data"], json!(["grain", "é\u{0}"]));
    assert_eq!(output(&json, "floats")["data"], json!([0.1, -0.0025]));
}

#[tokio::test]
async fn bad_requests_name_what_is_wrong() {
    let server = Server::start();
    let ranged = "[[inputs]]\nname = 'image'\nrange = [0, 16]";
    let form = reqwest::multipart::Form::new()
        .text("manifest", ranged)
        .part("model", reqwest::multipart::Part::bytes(crate::support::digits_model()));
    let deploy = server.request(reqwest::Method::PUT, "/v1/models/digits-mlp").multipart(form);
    let deployed = crate::support::answer(deploy).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());

    let tensor = |name: &str, shape: Value, datatype: &str, data: Value| json!({ "name": name, "shape": shape, "datatype": datatype, "data": data });
    let row = || json!(vec![1.0; 64]);
    let good = || tensor("image", json!([1, 64]), "FP32", row());
    let with = |value: Value| {
        let mut data = vec![json!(1.0); 64];
        data[7] = value;
        json!([tensor("image", json!([1, 64]), "FP32", json!(data))])
    };
    let cases = [
        (
            json!([tensor("picture", json!([1, 64]), "FP32", row())]),
            "signature-mismatch",
            "picture",
        ),
        (json!([]), "signature-mismatch", "\"image\" is missing"),
        (json!([good(), good()]), "signature-mismatch", "more than once"),
        (json!([tensor("image", json!([64]), "FP32", row())]), "signature-mismatch", "[64]"),
        (
            json!([tensor("image", json!([1, 64]), "INT32", json!(vec![1; 64]))]),
            "signature-mismatch",
            "INT32",
        ),
        (with(json!(16.5)), "signature-mismatch", "16.5 at element 7"),
        (
            json!([tensor("image", json!([0, 64]), "FP32", json!([]))]),
            "signature-mismatch",
            "no rows",
        ),
        (json!([tensor("image", json!([1, 65]), "FP32", row())]), "invalid-json", "image"),
        (json!([tensor("image", json!([1, -64]), "FP32", row())]), "invalid-json", "shape"),
        (json!([tensor("image", json!([1, 64]), "FLOAT", row())]), "invalid-json", "FLOAT"),
        (with(json!("1")), "invalid-json", "image"),
        (with(json!(null)), "invalid-json", "image"),
        (
            json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32" }]),
            "invalid-json",
            "data",
        ),
        (json!("inputs"), "invalid-json", "inputs"),
    ];
    for (inputs, code, part) in cases {
        let shown = inputs.to_string();
        let answer = server.infer("digits-mlp", inputs).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, code),
            "{shown}: {}",
            answer.text()
        );
        assert!(answer.text().contains(&part.replace('"', "\\\"")), "{part} in {}", answer.text());
        assert!(answer.json()["error"].is_string());
    }
    for body in ["", "{", "[]", "{\"inputs\": [NaN]}", "{\"inputs\": []} {}", "\u{0}"] {
        server.post("/v2/models/digits-mlp/infer", body).await.assert_error(
            400,
            "invalid-json",
            "",
        );
    }
    for number in ["NaN", "Infinity", "1e999", "-1e39"] {
        let text = json!({ "inputs": with(json!(0)) }).to_string().replacen(
            ",0,",
            &format!(",{number},"),
            1,
        );
        server.post("/v2/models/digits-mlp/infer", text).await.assert_error(
            400,
            "invalid-json",
            "",
        );
    }
    let deep = format!("{{\"inputs\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    server.post("/v2/models/digits-mlp/infer", deep).await.assert_error(400, "invalid-json", "");
    server.infer("absent", image(1.0, 1)).await.assert_error(404, "not-found", "absent");
    assert_eq!(server.infer("digits-mlp", image(1.0, 1)).await.status, 200, "others are served");
}

#[tokio::test]
async fn a_functions_own_errors_reach_its_caller() {
    let server = Server::start();
    server.deploy(&GUEST_ERROR).await;
    server.deploy(&WRONG_OUTPUT).await;
    assert_eq!(server.infer("guest-error", choice(0)).await.status, 200);
    let said = |answer: Answer, status, code| answer.assert_error(status, code, "chosen to fail");
    said(server.infer("guest-error", choice(1)).await, 400, "guest-rejected-input");
    said(server.infer("guest-error", choice(3)).await, 429, "busy");
    said(server.infer("guest-error", choice(4)).await, 504, "deadline-exceeded");
    for internal in [2, 5] {
        said(server.infer("guest-error", choice(internal)).await, 500, "guest-error");
    }
    server.infer("guest-error", choice(6)).await.assert_error(500, "guest-error", "invalid digit");
    server.infer("guest-error", choice(7)).await.assert_error(500, "trap", "");
    assert_eq!(server.infer("wrong-output", choice(0)).await.status, 200);
    for wrong in 1..=7 {
        let answer = server.infer("wrong-output", choice(wrong)).await;
        answer.assert_error(502, "invalid-output", "");
    }
}

#[tokio::test]
async fn model_calls_of_a_guest_are_answered_whatever_it_asks() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&MODEL_CALLS).await;
    let ask = async |query: &str| server.get(&format!("/f/model-calls{query}")).await.json();
    assert_eq!(ask("/infer?rows=3").await["shape"], json!([3, 10]));
    assert_eq!(ask("/cancel").await["shape"], json!([1, 10]));
    assert_eq!(ask("/several?calls=64").await["answers"], 64);
    assert_eq!(ask("/describe").await["inputs"][0]["shape"], json!([-1, 64]));
    for (query, kind, part) in [
        ("/infer?model=absent", "NotFound", "absent"),
        ("/infer?model=not-granted", "NotFound", "grants.models"),
        ("/infer?width=63", "InvalidInput", "[1, 63]"),
        ("/infer?rows=0", "InvalidInput", "no rows"),
        ("/several?calls=65", "Overloaded", "64 model calls are under way already"),
    ] {
        let error = &ask(query).await["error"];
        assert_eq!(error["kind"], kind, "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(part)), "{error}");
    }
}

#[tokio::test]
async fn functions_of_the_other_kind_say_so() {
    let server = Server::start();
    server.deploy(&ECHO).await;
    server.deploy(&MISBEHAVE).await;
    server.get("/f/echo/").await.assert_error(409, "wrong-kind", "inference");
    server.infer("misbehave", choice(1)).await.assert_error(409, "wrong-kind", "http");
}
