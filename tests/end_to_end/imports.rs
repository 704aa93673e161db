//! What functions import beside HTTP and `quern:ml`: configuration, buckets, the log, `wasi:nn`,
//! clocks and randomness.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    IMPORTS,
    support::{Server, until},
};

async fn ask(server: &Server, path: &str) -> Value {
    let answer = server.get(&format!("/f/imports/{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// What the interface answered; fails if that was an error.
async fn ok(server: &Server, path: &str) -> Value {
    let answer = ask(server, path).await;
    answer.get("ok").unwrap_or_else(|| panic!("{path}: {answer}")).clone()
}

/// The text of an error that has this part.
async fn assert_refused(server: &Server, path: &str, part: &str) {
    let answer = ask(server, path).await;
    let text = answer["error"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
    assert!(text.contains(part), "{path}: {text:?} should contain {part:?}");
}

#[tokio::test]
async fn a_function_reads_its_configuration() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    let all = json!([["greeting", "hello"], ["retry.limit", "3"]]);
    assert_eq!(ok(&server, "config?key=greeting").await, json!({ "all": all, "one": "hello" }));
    assert_eq!(ok(&server, "config?key=absent").await["one"], Value::Null);
    let manifest = IMPORTS.manifest().replace("\"hello\"", "\"welcome\"");
    server.upload("imports", manifest, IMPORTS.component()).await;
    assert_eq!(ok(&server, "config?key=greeting").await["one"], "welcome");
}

#[tokio::test]
async fn pairs_are_kept_and_survive_a_restart() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    let notes = |operation: &str| format!("keyvalue/{operation}&bucket=notes");
    let expected = [
        ("get?key=a", Value::Null),
        ("set?key=a&value=one", Value::Null),
        ("get?key=a", json!("one")),
        ("exists?key=a", json!(true)),
        ("exists?key=b", json!(false)),
        ("set-many?keys=b,c&value=two", Value::Null),
        ("get-many?keys=c,x,a", json!([["c", "two"], null, ["a", "one"]])),
        ("delete?key=b", Value::Null),
        ("delete-many?keys=c,x", Value::Null),
        ("list?", json!({ "keys": ["a"], "pages": 1 })),
        ("increment?key=n&delta=5", json!(5)),
        ("increment?key=n&delta=-7", json!(-2)),
        ("swap?key=a&value=three", json!({ "known": "one", "swapped": true })),
        ("swap?key=a&value=x&meanwhile=four", json!({ "known": "three", "swapped": "four" })),
        ("fill?key=large&size=1048576", Value::Null),
    ];
    for (operation, answer) in expected {
        assert_eq!(ok(&server, &notes(operation)).await, answer, "{operation}");
    }
    let server = Server::start_on(server.kill(), &[]);
    let kept = [
        ("get?key=a", json!("four")),
        ("get?key=n", json!("-2")),
        ("get?key=large", json!(1 << 20)),
    ];
    for (operation, answer) in kept {
        assert_eq!(ok(&server, &notes(operation)).await, answer, "{operation}");
    }
}

#[tokio::test]
async fn buckets_need_a_grant_and_operations_have_limits() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    let cases = [
        ("keyvalue/open?bucket=secrets", "access-denied"),
        ("keyvalue/open?bucket=NOT+A+NAME", "no-such-store"),
        ("keyvalue/open?bucket=", "no-such-store"),
        ("draft/open?bucket=secrets", "access-denied"),
        ("keyvalue/get?bucket=notes&key=", "between 1 and 1024"),
        ("keyvalue/fill?bucket=notes&key=a&size=1048577", "larger than the limit of 1.0 MiB"),
        ("draft/stale?bucket=notes", "not the last cursor"),
        ("draft/increment?bucket=notes&key=n&delta=-1", "more than 63 bits"),
    ];
    for (path, part) in cases {
        assert_refused(&server, path, part).await;
    }
    ok(&server, "keyvalue/set?bucket=notes&key=word&value=seven").await;
    assert_refused(&server, "keyvalue/increment?bucket=notes&key=word&delta=1", "decimal").await;
    ok(&server, "keyvalue/set?bucket=notes&key=debt&value=-5").await;
    assert_refused(&server, "draft/increment?bucket=notes&key=debt&delta=1", "negative").await;
    ok(&server, "keyvalue/fill?bucket=notes&key=large&size=1048576").await;
    assert_eq!(ok(&server, "keyvalue/hoard?bucket=notes&key=large&handles=60").await, 60);
    let hoard = "keyvalue/hoard?bucket=notes&key=large&handles=70";
    assert_refused(&server, hoard, "limits.memory").await;
    let roundtrip = ok(&server, "draft/roundtrip?bucket=notes&key=d").await;
    assert_eq!(roundtrip, json!(["draft", 1, true, false]));
}

#[tokio::test]
async fn parallel_requests_lose_no_update() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    let add = |_| ok(&server, "keyvalue/add?bucket=counters&key=swapped");
    let increment = |_| ok(&server, "keyvalue/increment?bucket=counters&key=sum&delta=3");
    tokio::join!(join_all((0..40).map(add)), join_all((0..40).map(increment)));
    assert_eq!(ok(&server, "keyvalue/get?bucket=counters&key=swapped").await, "40");
    assert_eq!(ok(&server, "keyvalue/get?bucket=counters&key=sum").await, "120");
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    for part in 0..5 {
        let keys: Vec<_> = (0..500).map(|i| format!("k{part}{i:03}")).collect();
        ok(&server, &format!("keyvalue/set-many?bucket=notes&value=v&keys={}", keys.join(",")))
            .await;
    }
    let listed = ok(&server, "keyvalue/list?bucket=notes").await;
    assert_eq!(
        (listed["keys"].as_array().map(Vec::len), &listed["pages"]),
        (Some(2_500), &json!(3))
    );
    let first = ok(&server, "draft/list?bucket=notes").await;
    assert_eq!((&first["keys"], &first["cursors"]), (&listed["keys"], &json!([1, 2, null])));
}

async fn log(server: &Server) -> Vec<Value> {
    let mut lines = Vec::<Value>::new();
    // Records are written behind the answer: read until two readings agree.
    until("the log is written", async || {
        let text = server.get("/v1/functions/imports/logs").await.text();
        let last = lines.len();
        lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        last > 0 && lines.len() == last
    })
    .await;
    lines
}

#[tokio::test]
async fn messages_are_logged_with_their_level_in_order() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    ok(&server, "log?size=17000").await;
    let lines = log(&server).await;
    let shown: Vec<_> = lines.iter().map(|line| (&line["stream"], &line["text"])).collect();
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert_eq!(shown[0], (&json!("stdout"), &json!("before")));
    assert_eq!(shown[7], (&json!("stdout"), &json!("after")));
    for (line, level) in
        lines[1..7].iter().zip(["trace", "debug", "info", "warn", "error", "critical"])
    {
        assert_eq!((&line["stream"], &line["level"]), (&json!("log"), &json!(level)));
        assert_eq!(line["context"], format!("context of {level}"));
        assert_eq!(line["text"], format!("a message of level {level}"));
    }
    let dropped = "17001 bytes beyond limits.log were not kept";
    assert_eq!(shown[8], (&json!("system"), &json!(dropped)));
    assert_eq!(lines[0].get("level"), None);
}

fn image(value: i32, rows: usize) -> Value {
    json!([{ "name": "image", "shape": [rows, 64], "datatype": "FP32",
             "data": vec![f64::from(value); rows * 64] }])
}

/// Numbers as FP32, whatever way each side has of writing them.
fn floats(numbers: &Value) -> Vec<f32> {
    let numbers = numbers.as_array().expect("a list").iter();
    numbers.map(|number| number.as_f64().expect("a number") as f32).collect()
}

#[tokio::test]
async fn a_model_computes_through_the_standard_interface() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&IMPORTS).await;
    let direct = server.infer("digits-mlp", image(5, 2)).await.json();
    let before = server.metric("quern_batch_rows_sum").await;
    let computed = ok(&server, "nn/compute?model=digits-mlp&rows=2&value=5").await;
    assert_eq!(computed["seen"], json!([[2, 64], "TensorType::Fp32", 512]));
    let outputs = direct["outputs"].as_array().expect("outputs");
    let through = computed["outputs"].as_array().expect("outputs");
    let output = outputs.iter().find(|output| output["name"] == "probabilities").expect("is there");
    let same = through.iter().find(|output| output["name"] == "probabilities").expect("is there");
    assert_eq!(floats(&same["data"]), floats(&output["data"]));
    assert_eq!(same["shape"], output["shape"]);
    let after = server.metric("quern_batch_rows_sum").await;
    assert_eq!(after - before, 2.0, "its rows went through the queue that all calls share");
    let model = "nn/compute?rows=1&value=1&model";
    let cases = [
        (format!("{model}=secret"), "Security: model \"secret\" is not granted"),
        (format!("{model}=digits-mlp&name=picture"), "InvalidArgument"),
        (format!("{model}=digits-mlp&bytes=255"), "needs 256 bytes, got 255"),
        (format!("{model}=digits-mlp&type=I32"), "InvalidArgument"),
        ("nn/load".into(), "UnsupportedOperation: functions don't bring their models"),
    ];
    for (path, part) in cases {
        assert_refused(&server, &path, part).await;
    }
    server.delete("/v1/models/digits-mlp").await;
    assert_refused(&server, &format!("{model}=digits-mlp"), "NotFound").await;
    assert_eq!(ok(&server, "nn/hoard?tensors=60").await, 60);
    let hoard = server.get("/f/imports/nn/hoard?tensors=70").await;
    hoard.assert_error(507, "out-of-memory", "limits.memory of 64.0 MiB");
}

#[tokio::test]
async fn clocks_are_real_and_randomness_is_never_the_same() {
    let server = Server::start();
    server.deploy(&IMPORTS).await;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let before = now();
    let clocks = ok(&server, "clocks").await;
    let seconds = clocks["seconds"].as_u64().expect("a number");
    assert!((before..=now()).contains(&seconds), "{clocks}");
    assert!(clocks["slept"].as_u64().is_some_and(|slept| slept >= 20_000_000), "{clocks}");
    let drawn = join_all((0..8).map(|_| ok(&server, "random"))).await;
    for source in ["secure", "number", "insecure", "seed"] {
        let distinct: HashSet<_> = drawn.iter().map(|draw| draw[source].to_string()).collect();
        assert_eq!(distinct.len(), 8, "{source}");
    }
}
