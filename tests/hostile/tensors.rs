//! Inference functions that grow tables, return what is no tensor, or too much of it; and requests
//! for inference that are none.

use serde_json::json;

use crate::{
    components::{ECHO, inference},
    neighbour::Neighbour,
    row::{check_error, inference_manifest},
    siege,
    support::{Answer, Server},
};

/// A hostile inference function: its name, what it does, its fields and body, and the error.
struct Row {
    name: &'static str,
    does: &'static str,
    fields: &'static str,
    body: &'static str,
    status: u16,
    code: &'static str,
    limit: Option<&'static str>,
}

const ROWS: [Row; 9] = [
    Row {
        name: "table-in-steps",
        does: "grows a table element by element",
        fields: "(table $t 1 funcref)",
        body: "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1))
            (i32.const -1)))) unreachable",
        status: 507,
        code: "too-many-table-elements",
        limit: Some("tables"),
    },
    Row {
        name: "table-at-once",
        does: "grows a table to four billion elements in one step",
        fields: "(table $t 1 funcref)",
        body: "(if (i32.eq (table.grow $t (ref.null func) (i32.const 0x7fffffff)) (i32.const -1))
            (then unreachable)) (i32.const 0)",
        status: 507,
        code: "too-many-table-elements",
        limit: Some("tables"),
    },
    Row {
        name: "endless-loop",
        does: "computes forever",
        fields: "",
        body: "(loop $l (br $l)) unreachable",
        status: 504,
        code: "cpu-time-exceeded",
        limit: Some("cpu"),
    },
    Row {
        name: "not-a-number",
        does: "answers with a NaN",
        fields: "",
        body: "(f32.store (i32.load (i32.add (local.get $inputs) (i32.const 20)))
            (f32.const nan))",
        status: 502,
        code: "invalid-output",
        limit: None,
    },
    Row {
        name: "infinite",
        does: "answers with an infinity",
        fields: "",
        body: "(f32.store (i32.load (i32.add (local.get $inputs) (i32.const 20)))
            (f32.const -inf))",
        status: 502,
        code: "invalid-output",
        limit: None,
    },
    Row {
        name: "huge-shape",
        does: "claims a dimension of 2^63",
        fields: "",
        body: "(i64.store (i32.load (i32.add (local.get $inputs) (i32.const 12)))
            (i64.const 0x8000000000000000))",
        status: 502,
        code: "invalid-output",
        limit: None,
    },
    Row {
        name: "lying-list",
        does: "claims more tensors than its memory could hold",
        fields: "",
        body: "(local.set $count (i32.const 0x7fffffff))",
        status: 500,
        code: "trap",
        limit: None,
    },
    Row {
        name: "dangling",
        does: "points beyond its memory",
        fields: "",
        body: "(i32.store (i32.add (local.get $inputs) (i32.const 20)) (i32.const -4))",
        status: 500,
        code: "trap",
        limit: None,
    },
    Row {
        name: "huge-tensor",
        does: "answers with more bytes than one host call may pass",
        fields: "",
        body: "(drop (memory.grow (i32.const 100)))
            (i64.store (i32.load (i32.add (local.get $inputs) (i32.const 12)))
                (i64.const 0x100000))
            (i32.store (i32.add (local.get $inputs) (i32.const 20)) (i32.const 2048))
            (i32.store (i32.add (local.get $inputs) (i32.const 24)) (i32.const 0x400000))",
        status: 507,
        code: "host-call-too-large",
        limit: Some("host_call"),
    },
];

async fn infer(server: &Server, name: &str) -> Answer {
    let input = json!([{ "name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0] }]);
    server.infer(name, input).await
}

#[tokio::test]
async fn whatever_an_inference_function_returns_the_server_is_well() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    let well = inference("", ECHO);
    let deployed = server.upload("well", inference_manifest("well"), well).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let behave = async || {
        let answer = infer(&server, "well").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for Row { name, does, fields, body, status, code, limit } in ROWS {
        let diverges = body.ends_with("unreachable") || body.ends_with("(i32.const 0)");
        let body = if diverges { body.to_owned() } else { format!("{body}\n{ECHO}") };
        let component = inference(fields, &body);
        let deployed = server.upload(name, inference_manifest(name), component).await;
        assert_eq!(deployed.status, 201, "{name}: {}", deployed.text());
        let strike = async || {
            let answer = infer(&server, name).await;
            let checked = check_error(&answer, status, code, limit);
            checked.unwrap_or_else(|problem| panic!("{name}: {does}: {problem}"));
        };
        siege::hold(&server, name, strike, behave).await;
    }
    neighbour.end().await;
    server.stop();
}

#[tokio::test]
async fn whatever_a_client_sends_for_tensors_is_refused_by_name() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    server.upload("well", inference_manifest("well"), inference("", ECHO)).await;
    let input = |shape: &str, data: &str| {
        format!(
            "{{\"inputs\": [{{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": {shape}, \
             \"data\": {data}}}]}}"
        )
    };
    let deep = 200_000;
    let many = "{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [0], \"data\": []},";
    let cases = [
        ("a NaN", input("[1]", "[NaN]"), "invalid-json"),
        ("an infinity", input("[1]", "[-Infinity]"), "invalid-json"),
        ("more than FP32 can hold", input("[1]", "[1e39]"), "invalid-json"),
        ("more than any number can", input("[1]", "[1e999]"), "invalid-json"),
        ("a huge dimension", input("[18446744073709551615]", "[1]"), "invalid-json"),
        ("huge dimensions", input("[4294967296, 4294967296]", "[]"), "invalid-json"),
        ("a dimension below zero", input("[-1]", "[]"), "invalid-json"),
        ("deeply nested data", input("[1]", &"[".repeat(deep)), "invalid-json"),
        ("a deeply nested rest", format!("{{\"x\": {}", "[".repeat(deep)), "invalid-json"),
        ("a long shape", input(&format!("[{}1]", "1,".repeat(9999)), "[1]"), "invalid-json"),
        ("too many inputs", format!("{{\"inputs\": [{}", many.repeat(20_000)), "invalid-json"),
    ];
    for (what, body, code) in cases {
        let answer = server.post("/v2/models/well/infer", body).await;
        let found = (answer.status.as_u16(), answer.code());
        assert_eq!(found, (400, code), "{what}: {:.500}", answer.text());
    }
    let request = server
        .request(reqwest::Method::POST, "/v2/models/well/infer")
        .header("content-encoding", "gzip")
        .body(vec![0x1f, 0x8b, 8, 0]);
    let packed = crate::support::answer(request).await;
    packed.assert_error(400, "invalid-request", "body is not gzip");
    assert_eq!(infer(&server, "well").await.status, 200);
    neighbour.end().await;
    server.stop();
}

#[tokio::test]
async fn a_function_is_ended_when_its_caller_no_longer_waits() {
    let server = Server::start();
    let endless = inference("", "(loop $l (br $l)) unreachable");
    let deployed = server.upload("endless", inference_manifest("endless"), endless).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let input = json!({ "name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0] });
    let request = json!({ "inputs": [input], "parameters": { "timeout": 1000 } });
    let ended = server.post("/v2/models/endless/infer", request.to_string()).await;
    ended.assert_error(504, "deadline-exceeded", "within 1ms");
}
