//! A machine that fails a server: disks that are full, can't be written or lie, and clocks that jump.
//!
//! Most of it is simulated by a library between the server and the system, which works wherever the
//! tests do. What real file systems do is tried as well, on ones that the server alone sees; where the
//! system lets nobody mount them, those tests say so.

mod clock;
mod full_disk;
mod mounts;
mod read_only;
pub(crate) mod simulator;
mod sync;

use reqwest::{Method, multipart};
use serde_json::{Value, json};

use crate::{
    HELLO, IMPORTS, MISBEHAVE,
    support::{Answer, Server, answer, digits_model},
};

/// A model of its own, of some size: the note at its end is any text (field 6, `doc_string`).
fn model(number: u8, bytes: usize) -> Vec<u8> {
    let mut model = digits_model();
    model.push(6 << 3 | 2);
    let mut length = bytes;
    while length >= 0x80 {
        model.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    model.push(length as u8);
    model.extend(std::iter::repeat_n(b'a' + number % 26, bytes));
    model
}

/// What is there before anything fails.
async fn furnish(server: &Server) {
    for guest in [&HELLO, &MISBEHAVE, &IMPORTS] {
        server.deploy(guest).await;
    }
    server.deploy_digits_model().await;
    serves(server).await;
}

/// Everything that needs no room goes on.
async fn serves(server: &Server) {
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
    let printed = server.get("/f/misbehave/print?lines=3").await;
    assert_eq!(printed.status, 200, "{}", printed.text());
    let image = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": vec![1.0; 64] }]);
    let answered = server.infer("digits-mlp", image).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    for path in ["/v1/functions", "/v1/models/digits-mlp", "/v1/invocations", "/metrics"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.get("/readyz").await.status, 200);
}

/// What the server says is wrong with it: codes and details.
async fn concerns(server: &Server) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let health = server.get("/readyz").await.json();
    let reasons = health["reasons"].as_array().expect("a list");
    reasons.iter().map(|reason| (text(&reason["code"]), text(&reason["detail"]))).collect()
}

/// Whether something is wrong of this code whose detail has this part.
async fn is_told(server: &Server, code: &str, part: &str) -> bool {
    concerns(server).await.iter().any(|(of, detail)| of == code && detail.contains(part))
}

/// A call for later; its key is its number.
async fn enqueue(server: &Server, number: u32) -> Answer {
    let request = server
        .request(Method::POST, "/f/misbehave/echo")
        .header("prefer", "respond-async")
        .header("idempotency-key", format!("key-{number}"))
        .body(format!("body {number}"));
    answer(request).await
}

async fn begin_batch(server: &Server, rows: usize) -> Answer {
    let pixels = (0..64).map(|pixel| format!("image.{pixel}")).collect::<Vec<_>>().join(",");
    let row = vec!["1"; 64].join(",");
    let file = format!("{pixels}\n{}", format!("{row}\n").repeat(rows));
    let input = multipart::Part::bytes(file.into_bytes()).mime_str("text/csv").expect("a type");
    let asked = json!({"model": "digits-mlp"}).to_string();
    let form = multipart::Form::new().text("request", asked).part("input", input);
    answer(server.request(Method::POST, "/v1/batches").multipart(form)).await
}

/// Sets a value for a key by a function; what the function was told.
async fn keep_pair(server: &Server, value: &str) -> Value {
    let path = format!("/f/imports/keyvalue/set?bucket=notes&key=a&value={value}");
    let answered = server.get(&path).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()
}

async fn kept_pair(server: &Server) -> Value {
    server.get("/f/imports/keyvalue/get?bucket=notes&key=a").await.json()["ok"].clone()
}

/// Changes of what the catalog has, that work unless something is wrong.
async fn changes(server: &Server, number: u8) -> Vec<(&'static str, Answer)> {
    let schedule = json!({"cron": "0 0 1 1 *", "path": format!("/f/hello/{number}")}).to_string();
    let config = json!({"config": {"greeting": number.to_string()}}).to_string();
    let token = json!({"role": "invoker"}).to_string();
    let alias = json!({"version": 1}).to_string();
    let alias_path = format!("/v1/functions/hello/aliases/a{number}");
    vec![
        ("schedule", server.put("/v1/schedules/yearly", schedule).await),
        ("config", server.put("/v1/functions/imports/config", config).await),
        ("token", server.post("/v1/tokens", token).await),
        ("alias", server.put(&alias_path, alias).await),
    ]
}

/// Uploads, which make files.
async fn uploads(server: &Server, number: u8) -> Vec<(&'static str, Answer)> {
    let manifest = format!("name = 'hello'\nkind = 'http'\n[limits]\nlog = '{number}KiB'\n");
    let component = MISBEHAVE.component();
    vec![
        ("model", server.put("/v1/models/m", model(number, 1_000)).await),
        (
            "function",
            server.upload("hello-too", manifest.replace("hello", "hello-too"), component).await,
        ),
        ("batch", begin_batch(server, 3).await),
    ]
}
