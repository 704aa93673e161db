//! Files of rows through models and functions: every row has its result, in order, whatever is wrong
//! with some.

mod lasting;
mod parquet;
mod people;

use reqwest::{Method, multipart};
use serde_json::{Value, json};

use crate::{
    DIGITS,
    onnx::{Data, adding, echoing_texts, failing},
    support::{Answer, Server, answer, root, until},
};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

fn form(asked: &Value, media_type: &str, file: impl Into<Vec<u8>>) -> multipart::Form {
    let input = multipart::Part::bytes(file.into()).mime_str(media_type).expect("a media type");
    multipart::Form::new().text("request", asked.to_string()).part("input", input)
}

async fn create(server: &Server, asked: &Value, kind: &str, file: impl Into<Vec<u8>>) -> Answer {
    answer(server.request(Method::POST, "/v1/batches").multipart(form(asked, kind, file))).await
}

/// Makes a batch; its path.
async fn begin(server: &Server, asked: Value, kind: &str, file: impl Into<Vec<u8>>) -> String {
    let made = create(server, &asked, kind, file).await;
    assert_eq!(made.status, 201, "{}", made.text());
    format!("/v1/batches/{}", made.json()["id"].as_str().expect("an id"))
}

/// Waits until a batch has ended; what is known of it.
async fn ended(server: &Server, path: &str) -> Value {
    let mut batch = Value::Null;
    until("the batch has ended", async || {
        batch = server.get(path).await.json();
        !["queued", "running"].contains(&batch["state"].as_str().expect("a state"))
    })
    .await;
    batch
}

/// Scores a file; what is known of the batch, and its results.
async fn score(
    server: &Server,
    asked: Value,
    kind: &str,
    file: impl Into<Vec<u8>>,
) -> (Value, String) {
    let path = begin(server, asked, kind, file).await;
    let batch = ended(server, &path).await;
    let results = server.get(&format!("{path}/results")).await;
    assert_eq!(results.status, 200, "{}", results.text());
    assert_eq!(results.header("content-length"), results.body.len().to_string());
    assert_eq!(results.header("quern-rows"), batch["rows"]["done"].to_string());
    (batch, results.text())
}

/// A server with the model `add`: `y = x + (10, 20)`, for rows of two.
async fn server_with_adding() -> Server {
    let server = Server::start();
    deploy_adding(&server).await;
    server
}

async fn deploy_adding(server: &Server) {
    let model = adding(Data::Inside(vec![10.0, 20.0]));
    let deployed = server.put("/v1/models/add", model).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[tokio::test]
async fn a_file_of_any_format_becomes_one_of_any_format() {
    let server = server_with_adding().await;
    let csv = "\u{feff}id,x.0,x.1\r\na,1,2\r\n\"b, c\",-0.5,1e3\r\n";
    let ndjson = "{\"id\": \"a\", \"x\": [1, 2]}\n\n{\"x\": [-0.5, 1e3], \"id\": \"b, c\"}";
    for (kind, file) in [(CSV, csv), (NDJSON, ndjson)] {
        let asked = |format: &str| json!({"model": "add", "keep": ["id"], "output_format": format});
        let (batch, results) = score(&server, asked("csv"), kind, file).await;
        assert_eq!(
            (&batch["state"], &batch["error"]),
            (&json!("completed"), &json!(null)),
            "{batch}"
        );
        assert_eq!(batch["rows"], json!({"done": 2, "failed": 0}));
        assert_eq!(batch["input"]["done"], batch["input"]["bytes"]);
        assert_eq!(results, "row,id,y.0,y.1,error\r\n1,a,11.0,22.0,\r\n2,\"b, c\",9.5,1020.0,\r\n");
        let (_, results) = score(&server, asked("ndjson"), kind, file).await;
        assert_eq!(
            lines(&results),
            [
                json!({"row": 1, "id": "a", "y": [11.0, 22.0]}),
                json!({"row": 2, "id": "b, c", "y": [9.5, 1020.0]}),
            ]
        );
    }
}

#[tokio::test]
async fn columns_are_named_as_the_file_has_them() {
    let server = server_with_adding().await;
    for (columns, header, row) in [
        (json!({}), "x.0,x.1", "1,2"),
        (json!({}), "x", "\"[1, 2]\""),
        (json!({"x": "v"}), "v.1,v.0", "2,1"),
        (json!({"x": "v{}"}), "v0,other,v1", "1,?,2"),
        (json!({"x": ["b", "a"]}), "a,b", "2,1"),
    ] {
        let asked = json!({"model": "add", "columns": columns});
        let (_, results) = score(&server, asked, CSV, format!("{header}\n{row}\n")).await;
        assert_eq!(results, "row,y.0,y.1,error\r\n1,11.0,22.0,\r\n", "{header}");
    }
    let row = r#"{"x.0": 1, "x.1": 2}"#;
    let (_, results) = score(&server, json!({"model": "add"}), NDJSON, row).await;
    assert_eq!(lines(&results), [json!({"row": 1, "y": [11.0, 22.0]})]);
}

#[tokio::test]
async fn bad_rows_are_recorded_in_their_place_and_none_is_lost() {
    let server = server_with_adding().await;
    let asked = json!({"model": "add", "on_error": "record"});
    let mut file = b"x.0,x.1\n1,2\n1,abc\n1\n,2\n1,\xff\n\n\"1\n\",2\n3,1e39\n5,6\n".to_vec();
    let (batch, results) = score(&server, asked.clone(), CSV, file.clone()).await;
    assert_eq!(batch["rows"], json!({"done": 8, "failed": 5}), "{results}");
    let expected = [
        "row,y.0,y.1,error",
        "1,11.0,22.0,",
        "2,,,\"row 2 (line 3), column \"\"x.1\"\" is \"\"abc\"\", where FP32 takes a number\"",
        "3,,,\"row 3 (line 4) has 1 fields, where there are 2 columns\"",
        "4,,,\"row 4 (line 5), column \"\"x.0\"\" is empty, where FP32 takes a number\"",
        "5,,,\"row 5 (line 6), column \"\"x.1\"\" is not UTF-8 at byte 1\"",
        "6,11.0,22.0,",
        "7,,,\"row 7 (line 10), column \"\"x.1\"\" is \"\"1e39\"\", outside the range of FP32\"",
        "8,15.0,26.0,",
        "",
    ];
    assert_eq!(results.split("\r\n").collect::<Vec<_>>(), expected);

    let long = format!("{{\"x\": [1, 2], \"pad\": \"{}\"}}", "x".repeat(9 << 20));
    let deep = format!("{{\"x\": {}}}", "[".repeat(100_000));
    let rows = [
        "{\"x\": [1, 2]}",
        "{\"x\": [1]}",
        "[1, 2]",
        "{\"x\": [1, 2",
        "{\"x\": [1, null]}",
        "{\"x\": 1, \"x\": 2}",
        &long,
        &deep,
        "{\"y\": [1, 2]}",
        "{\"x\": [3, 4]}",
    ];
    let (batch, results) = score(&server, asked, NDJSON, rows.join("\n")).await;
    assert_eq!(batch["rows"], json!({"done": 10, "failed": 8}), "{results}");
    let results = lines(&results);
    assert_eq!(results[9], json!({"row": 10, "y": [13.0, 24.0]}));
    for (row, part) in [
        (2, "row 2 (line 2), column \"x\" has 1 values, where a row has the shape [2]"),
        (3, "row 3 (line 3) is no JSON object"),
        (4, "row 4 (line 4) is no JSON object"),
        (5, "column \"x\" [1] is null, where FP32 takes a number"),
        (6, "\"x\" is there twice"),
        (7, "row 7 (line 7) is longer than 8.0 MiB"),
        (8, "row 8 (line 8)"),
        (9, "column \"x\" is missing"),
    ] {
        let error = results[row - 1]["error"].as_str().unwrap_or_default();
        assert!(error.contains(part), "row {row}: {error:?} should contain {part:?}");
    }

    // What opens a quote and never closes it swallows rows: that is no bad row, but a bad file.
    file.extend_from_slice(b"7,\"8\n9,10\n");
    let asked = json!({"model": "add", "on_error": "record"});
    let (batch, results) = score(&server, asked, CSV, file).await;
    assert_eq!(batch["state"], "failed");
    let detail = batch["error"]["detail"].as_str().expect("a reason");
    assert_eq!(detail, "row 9 (line 12) has a quote that is not closed");
    assert!(results.ends_with("8,15.0,26.0,\r\n"), "{results}");
}

#[tokio::test]
async fn a_batch_stops_at_the_first_bad_row_and_keeps_those_before() {
    let server = server_with_adding().await;
    let rows = (0..5_000).map(|row| format!("{row},{}\n", if row == 3_210 { "?" } else { "0" }));
    let file = format!("x.0,x.1\n{}", rows.collect::<String>());
    let (batch, results) = score(&server, json!({"model": "add"}), CSV, file).await;
    assert_eq!(batch["state"], "failed");
    assert_eq!(batch["rows"], json!({"done": 3210, "failed": 0}));
    let row = json!({"row": 3211, "line": 3212, "column": "x.1", "reason": "is \"?\", where FP32 takes a number"});
    assert_eq!(batch["error"]["row"], row, "{batch}");
    assert_eq!(results.lines().count(), 3_211);
    assert_eq!(results.lines().last(), Some("3210,3219.0,20.0,"));
}

#[tokio::test]
async fn functions_score_rows_and_their_ranges_are_enforced() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let set =
        std::fs::read_to_string(root().join("functions/digits-mlp/digits.csv")).expect("is there");
    let mut set = set.lines();
    let header = set.next().expect("a header");
    let held_out: Vec<&str> = set.filter(|line| line.ends_with(",test")).collect();
    let file = format!("{header}\n{}\n", held_out.join("\n"));
    let keep = json!(["label"]);
    let mut labels = Vec::new();
    for (model, rows_per_call) in [("digits", 1), ("digits", 50)] {
        // The function's own output has the name of the column that is kept, so it gets another.
        let renamed = file.replacen("label", "digit", 1);
        let asked = json!({
            "model": model, "columns": {"image": "pixel{}"}, "keep": ["digit"],
            "rows_per_call": rows_per_call, "output_format": "ndjson"
        });
        let (batch, results) = score(&server, asked, CSV, renamed).await;
        assert_eq!(batch["rows"], json!({"done": 360, "failed": 0}), "{batch}");
        let results = lines(&results);
        // What is kept of CSV is text.
        let is_right = |row: &&Value| {
            row["digit"].as_str().and_then(|digit| digit.parse().ok()) == row["label"].as_i64()
        };
        let right = results.iter().filter(is_right).count();
        assert!(right > 345, "{right} of 360");
        labels.push(results.iter().map(|row| row["label"].clone()).collect::<Vec<_>>());
    }
    assert_eq!(labels[0], labels[1], "rows in one call or in many");
    let asked = json!({"model": "digits", "columns": {"image": "pixel{}"}, "keep": keep});
    create(&server, &asked, CSV, file.clone()).await.assert_error(
        400,
        "invalid-request",
        "the results would have two columns \"label\"",
    );
    let mut bright = held_out[0].split(',').collect::<Vec<_>>();
    bright[7] = "17";
    let file = format!("{header}\n{}\n{}\n", held_out[0], bright.join(","));
    let asked = json!({"model": "digits", "columns": {"image": "pixel{}"}, "on_error": "record"});
    let (batch, results) = score(&server, asked, CSV, file).await;
    assert_eq!(batch["rows"], json!({"done": 2, "failed": 1}));
    assert!(
        results.contains("column \"\"pixel7\"\" is 17, outside the range [0, 16]"),
        "{results}"
    );
}

#[tokio::test]
async fn rows_that_can_not_be_computed_and_texts_have_their_place() {
    let server = Server::start();
    server.put("/v1/models/failing", failing()).await;
    let asked = json!({"model": "failing", "on_error": "record"});
    let (batch, results) = score(&server, asked, CSV, "x.0,x.1\n1,2\n3,4\n").await;
    assert_eq!(batch["rows"], json!({"done": 2, "failed": 2}), "{results}");
    assert!(results.contains("row 2 (line 3) could not be scored"), "{results}");
    let deployed = server.put("/v1/models/echo", echoing_texts()).await;
    if deployed.status.is_success() {
        let row = json!({"x": ["é\u{0}\"\n", ""]});
        let (_, results) = score(&server, json!({"model": "echo"}), NDJSON, row.to_string()).await;
        assert_eq!(lines(&results), [json!({"row": 1, "y": row["x"]})]);
        let (_, results) =
            score(&server, json!({"model": "echo"}), CSV, "x.0,x.1\n\"a,\n\"\"b\",\n").await;
        assert_eq!(results, "row,y.0,y.1,error\r\n1,\"a,\n\"\"b\",,\r\n");
    }
}

#[tokio::test]
async fn what_is_asked_for_is_checked_before_anything_is_kept() {
    let server = server_with_adding().await;
    let good = "x.0,x.1\n1,2\n";
    for (asked, kind, file, status, code, part) in [
        (json!({}), CSV, good, 400, "invalid-json", "missing field `model`"),
        (
            json!({"model": "add", "mode": 1}),
            CSV,
            good,
            400,
            "invalid-json",
            "unknown field `mode`",
        ),
        (json!({"model": "nobody"}), CSV, good, 404, "not-found", "model \"nobody\""),
        (json!({"model": "add", "version": 9}), CSV, good, 404, "not-found", "no version 9"),
        (
            json!({"model": "add"}),
            "text/plain",
            good,
            400,
            "invalid-request",
            "the format of the file",
        ),
        (json!({"model": "add"}), CSV, "", 400, "invalid-request", "the file is empty"),
        (json!({"model": "add"}), CSV, "a,b\n", 400, "invalid-request", "column \"x\" is missing"),
        (
            json!({"model": "add"}),
            CSV,
            "x.0,y\n",
            400,
            "invalid-request",
            "column \"x.1\" is missing",
        ),
        (
            json!({"model": "add"}),
            CSV,
            "x.0,x.1,x.0\n",
            400,
            "invalid-request",
            "\"x.0\" is there twice",
        ),
        (
            json!({"model": "add", "keep": ["id"]}),
            CSV,
            good,
            400,
            "invalid-request",
            "column \"id\" is missing",
        ),
        (
            json!({"model": "add", "columns": {"z": "a"}}),
            CSV,
            good,
            400,
            "invalid-request",
            "columns has \"z\", which is no input of \"add\": it has \"x\"",
        ),
        (
            json!({"model": "add", "columns": {"x": ["a"]}}),
            CSV,
            good,
            400,
            "invalid-request",
            "columns has 1 names for input \"x\", which has 2 elements a row",
        ),
    ] {
        create(&server, &asked, kind, file).await.assert_error(status, code, part);
    }
    let wide = "c,".repeat(5 << 20);
    create(&server, &json!({"model": "add"}), CSV, wide).await.assert_error(
        400,
        "invalid-request",
        "is longer than 8.0 MiB",
    );
    for (form, part) in [
        (multipart::Form::new().text("input", good), "part \"request\" is missing"),
        (
            multipart::Form::new().text("request", "{\"model\": \"add\"}"),
            "part \"input\" is missing",
        ),
        (multipart::Form::new().text("manifest", ""), "the parts \"request\" and \"input\""),
    ] {
        let refused = answer(server.request(Method::POST, "/v1/batches").multipart(form)).await;
        refused.assert_error(400, "invalid-multipart", part);
    }
    server.post("/v1/batches", good).await.assert_error(400, "invalid-multipart", "not multipart");
    assert_eq!(server.get("/v1/batches").await.json(), json!({"batches": []}));
    let data = server.stop();
    let left: Vec<_> =
        std::fs::read_dir(data.path().join("data/batches")).expect("is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A file of so many rows, and what becomes of one of them.
fn counted(rows: u32) -> String {
    let rows = (0..rows).map(|row| format!("{row},{}\n", row % 7));
    format!("x.0,x.1\n{}", rows.collect::<String>())
}
