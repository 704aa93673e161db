//! Ends of calls that are told to webhooks: signed, whatever is killed, and nowhere that the operator
//! does not allow.

use std::{path::Path, process::Command, sync::Arc};

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{accepted, asynchronous, receiver::Receiver, show, until_it_is};
use crate::{
    MISBEHAVE,
    access::Guarded,
    cli,
    support::{Server, answer, root, until},
};

/// Loopback, where tests receive, is not public.
const ALLOWED: &str = "[outbound]\nprivate_networks = ['127.0.0.1/32']\n";
const HASTY: &str = "[webhooks]\nfirst_pause = '20ms'\nlongest_pause = '50ms'\n";

/// A server with a key for secrets and these options, on a folder that may have been used before.
fn start_on(data: Arc<TempDir>, options: &str) -> Server {
    let file = data.path().join("config.toml");
    std::fs::write(&file, options).expect("written");
    let key = data.path().join("key");
    if !key.exists() {
        new_key(&key);
    }
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (file, key) = (text(&file), text(&key));
    Server::start_on(data, &["--config", &file, "--secrets-key-file", &key])
}

fn new_key(path: &Path) {
    let mut quern = Command::new(env!("CARGO_BIN_EXE_quern"));
    let made = quern.args(["secrets", "new-key", "--out"]).arg(path).output().expect("starts");
    assert!(made.status.success(), "{made:?}");
}

fn start(options: &str) -> Server {
    start_on(Arc::new(TempDir::new().expect("a folder")), options)
}

/// Makes the webhook; its secret.
async fn made(server: &Server, url: &str) -> String {
    let made = server.put("/v1/webhooks/shop", json!({ "url": url }).to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["secret"].as_str().expect("a secret").to_owned()
}

async fn called(server: &Server, path: &str) -> String {
    let request = asynchronous(server, Method::POST, path).header("quern-webhook", "shop");
    accepted(request.body("flour")).await
}

async fn deliveries(server: &Server, query: &str) -> Vec<Value> {
    let listed = server.get(&format!("/v1/deliveries{query}")).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    listed.json()["deliveries"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn the_end_of_a_call_is_told_with_a_signature() {
    let receiver = Receiver::start(204);
    let server = start(&format!("{ALLOWED}{HASTY}"));
    server.deploy(&MISBEHAVE).await;
    let secret = made(&server, &receiver.url()).await;
    let shown = server.get("/v1/webhooks/shop").await;
    assert!(!shown.text().contains(&secret[6..]) && !shown.text().contains("\"secret\""));
    assert_eq!(
        (&shown.json()["locked"], &shown.json()["url"]),
        (&json!(false), &json!(receiver.url()))
    );

    let id = called(&server, "/f/misbehave/echo").await;
    until("it is delivered", async || {
        deliveries(&server, "?webhook=shop&state=delivered").await.len() == 1
    })
    .await;
    let [message] = &receiver.messages()[..] else { panic!("one message") };
    let call = show(&server, &id).await;
    assert_eq!(call["webhook"], "shop");
    assert!(message.is_signed_with(&secret), "{message:?}");
    assert_eq!(message.header("content-type"), "application/json");
    let told = message.json();
    assert_eq!(
        (&told["type"], &told["timestamp"]),
        (&json!("invocation.succeeded"), &call["finished"])
    );
    for field in ["id", "state", "target", "kind", "status", "attempts", "created", "kept_until"] {
        assert_eq!(told["data"][field], call[field], "{field}");
    }
    let result = server.get(told["data"]["result"].as_str().expect("a path")).await;
    assert_eq!(result.text(), "flour");
    let delivery = &deliveries(&server, "").await[0];
    assert_eq!(delivery["id"], message.header("webhook-id"));
    assert_eq!((&delivery["invocation"], &delivery["status"]), (&json!(id), &json!(204)));

    // The function saw nothing of it.
    let seen = called(&server, "/f/misbehave/request").await;
    until_it_is(&server, &seen, "succeeded").await;
    let seen = server.get(&format!("/v1/invocations/{seen}/result")).await.text();
    assert!(!seen.contains("webhook"), "{seen}");
    assert!(server.metric("quern_webhook_attempts_total").await >= 1.0);
}

#[tokio::test]
async fn a_message_survives_a_kill_and_keeps_its_id() {
    let receiver = Receiver::start(503);
    let options = format!("{ALLOWED}{HASTY}");
    let server = start(&options);
    server.deploy(&MISBEHAVE).await;
    let secret = made(&server, &receiver.url()).await;
    let id = called(&server, "/f/misbehave/echo").await;
    until("it was sent", async || !receiver.messages().is_empty()).await;
    let data = server.kill();
    receiver.answers(200);
    let server = start_on(data, &options);
    let of_call = format!("\"id\":\"{id}\"");
    let is_of_call = |message: &super::receiver::Message| {
        String::from_utf8_lossy(&message.body).contains(&of_call)
    };
    until("it is delivered", async || {
        let delivered = deliveries(&server, "?state=delivered").await;
        delivered.iter().any(|delivery| delivery["invocation"] == *id)
    })
    .await;
    let messages: Vec<_> = receiver.messages().into_iter().filter(is_of_call).collect();
    let first = messages.first().expect("a message");
    for message in &messages {
        assert_eq!(message.header("webhook-id"), first.header("webhook-id"));
        assert_eq!(message.body, first.body);
        assert!(message.is_signed_with(&secret));
    }
}

#[tokio::test]
async fn what_waits_for_a_damaged_secret_goes_out_once_there_is_another() {
    let receiver = Receiver::start(200);
    let options = format!("{ALLOWED}{HASTY}");
    let data = Arc::new(TempDir::new().expect("a folder"));
    let server = start_on(data.clone(), &options);
    server.deploy(&MISBEHAVE).await;
    made(&server, &receiver.url()).await;
    server.stop();
    let catalog = Connection::open(data.path().join("data/catalog.sqlite")).expect("opens");
    catalog.execute("UPDATE webhooks SET sealed = x'00'", []).expect("damaged");
    drop(catalog);
    let server = start_on(data, &options);
    assert_eq!(server.get("/v1/webhooks/shop").await.json()["locked"], true);
    let id = called(&server, "/f/misbehave/echo").await;
    until("it is held back", async || {
        let waiting = deliveries(&server, "?state=waiting").await;
        waiting.iter().any(|waiting| {
            let reason = waiting["reason"].as_str().unwrap_or_default();
            waiting["invocation"] == *id && waiting["due"].is_null() && reason.contains("secret")
        })
    })
    .await;
    let rotated = server.post("/v1/webhooks/shop/rotate", "").await.json();
    assert_eq!(rotated["previous_until"], Value::Null, "nobody can sign with what was before");
    until("it is delivered", async || deliveries(&server, "?state=delivered").await.len() == 1)
        .await;
    let [message] = &receiver.messages()[..] else { panic!("one message") };
    assert!(message.is_signed_with(rotated["secret"].as_str().expect("a secret")), "{message:?}");
}

#[tokio::test]
async fn whoever_changes_the_key_is_told_of_a_secret_before_that_was_damaged() {
    let server = start("");
    made(&server, "https://example.com").await;
    assert_eq!(server.post("/v1/webhooks/shop/rotate", "").await.status, 200);
    let data = server.stop();
    let catalog = Connection::open(data.path().join("data/catalog.sqlite")).expect("opens");
    catalog.execute("UPDATE webhooks SET previous = x'00'", []).expect("damaged");
    drop(catalog);
    let (old, new) = (data.path().join("key"), data.path().join("new"));
    new_key(&new);
    let mut quern = Command::new(env!("CARGO_BIN_EXE_quern"));
    quern.args(["secrets", "rotate", "--data"]).arg(data.path().join("data"));
    quern.arg("--secrets-key-file").arg(&old).arg("--new-key-file").arg(&new);
    let rotated = quern.output().expect("starts");
    let said = String::from_utf8_lossy(&rotated.stderr);
    assert!(rotated.status.success() && said.contains("webhook shop of tenant default"), "{said}");
    std::fs::rename(new, old).expect("replaced");
    let shown = start_on(data, "").get("/v1/webhooks/shop").await.json();
    assert_eq!((&shown["locked"], &shown["previous_until"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn nothing_is_sent_to_where_the_operator_does_not_allow_it() {
    let receiver = Receiver::start(200);
    let server = start(HASTY);
    server.deploy(&MISBEHAVE).await;
    made(&server, &receiver.url()).await;
    for (url, kind) in [
        (receiver.url(), "loopback"),
        ("http://169.254.169.254/latest/meta-data".into(), "link-local"),
        ("http://10.0.0.1/".into(), "private"),
        ("http://[::ffff:127.0.0.1]/".into(), "loopback"),
        ("http://127.1/".into(), "four decimal numbers"),
    ] {
        let moved = server.put("/v1/webhooks/shop", json!({ "url": url }).to_string()).await;
        assert_eq!(moved.status, 200, "{}", moved.text());
        let id = called(&server, "/f/misbehave/echo").await;
        let mut reason = String::new();
        until("it was tried", async || {
            let newest = deliveries(&server, "?limit=1").await;
            let of_call = newest.into_iter().find(|delivery| delivery["invocation"] == *id);
            let tried = of_call.and_then(|delivery| Some(delivery["reason"].as_str()?.to_owned()));
            reason = tried.unwrap_or_default();
            !reason.is_empty()
        })
        .await;
        assert!(reason.contains(kind), "{url}: {reason}");
    }
    assert!(receiver.messages().is_empty(), "nobody was asked anything");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let receiver = Receiver::start(302);
    let server = start(&format!("{ALLOWED}{HASTY}"));
    server.deploy(&MISBEHAVE).await;
    made(&server, &receiver.url()).await;
    called(&server, "/f/misbehave/echo").await;
    until("it was sent twice", async || receiver.messages().len() > 1).await;
    receiver.answers(410);
    until("it is given up", async || deliveries(&server, "?state=failed").await.len() == 1).await;
    let failed = &deliveries(&server, "").await[0];
    assert!(failed["reason"].as_str().expect("a reason").contains("410"), "{failed}");
    assert!(receiver.messages().iter().all(|message| message.path == "/hooks"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_once() {
    let server = start("");
    server.deploy(&MISBEHAVE).await;
    for url in ["", "example.com", "ftp://example.com", "https://a:b@example.com", "https://a/#b"] {
        let refused = server.put("/v1/webhooks/shop", json!({ "url": url }).to_string()).await;
        refused.assert_error(400, "invalid-request", "field `url`");
    }
    let body = json!({"url": "https://example.com", "secret": "mine"}).to_string();
    server.put("/v1/webhooks/shop", body).await.assert_error(400, "invalid-json", "secret");
    let unknown = "webhook \"shop\" is not known";
    for (method, path) in [
        (Method::GET, "/v1/webhooks/shop"),
        (Method::DELETE, "/v1/webhooks/shop"),
        (Method::POST, "/v1/webhooks/shop/rotate"),
    ] {
        answer(server.request(method, path)).await.assert_error(404, "not-found", unknown);
    }
    let call = || asynchronous(&server, Method::POST, "/f/misbehave/echo");
    let refused = answer(call().header("quern-webhook", "shop")).await;
    refused.assert_error(404, "not-found", unknown);
    let refused = answer(call().header("quern-webhook", "https://example.com")).await;
    refused.assert_error(400, "invalid-request", "header quern-webhook");
    let schedule = json!({"cron": "0 * * * *", "path": "/f/misbehave/echo", "webhook": "shop"});
    let refused = server.put("/v1/schedules/hourly", schedule.to_string()).await;
    refused.assert_error(404, "not-found", unknown);
    made(&server, "https://example.com").await;
    let path = "/v1/webhooks/shop/rotate";
    let refused = server.post(path, r#"{"keep_previous": "31days"}"#).await;
    refused.assert_error(400, "invalid-request", "field `keep_previous`");
    let put = server.put("/v1/schedules/hourly", schedule.to_string()).await;
    assert_eq!((put.status.as_u16(), &put.json()["webhook"]), (201, &json!("shop")));
    let nobody = "01936a5e-0000-7000-8000-0123456789ab";
    let refused = server.post(&format!("/v1/deliveries/{nobody}/retry"), "").await;
    refused.assert_error(404, "not-found", "is not known");
}

#[tokio::test]
async fn without_a_key_for_secrets_there_are_no_webhooks() {
    let server = Server::start();
    let refused = server.put("/v1/webhooks/shop", r#"{"url": "https://example.com"}"#).await;
    refused.assert_error(503, "secrets-locked", "quern secrets new-key");
}

#[tokio::test]
async fn a_webhook_is_its_tenants_alone() {
    let folder = TempDir::new().expect("a folder");
    let key = folder.path().join("key");
    new_key(&key);
    let options = format!("[secrets]\nkey_file = '{}'\n", key.display());
    let guarded = Guarded::start().restarted_with(&options);
    let ours = guarded.token("ours", "deployer").await;
    let theirs = guarded.token("theirs", "deployer").await;
    let put = async |token: &str, url: &str| {
        let request = guarded.asked(token, Method::PUT, "/v1/webhooks/shop");
        answer(request.body(json!({ "url": url }).to_string())).await
    };
    assert_eq!(put(&ours, "https://ours.example.com").await.status, 201);
    let shown = guarded.get(&theirs, "/v1/webhooks/shop").await;
    shown.assert_error(404, "not-found", "webhook \"shop\" is not known");
    assert_eq!(put(&theirs, "https://theirs.example.com").await.status, 201, "one of its own");
    let shown = guarded.get(&ours, "/v1/webhooks/shop").await.json();
    assert_eq!(shown["url"], "https://ours.example.com/");
    let invoker = guarded.token("ours", "invoker").await;
    let refused = guarded.get(&invoker, "/v1/webhooks/shop").await;
    assert_eq!(refused.status, 403, "an address may have a secret in it");
}

#[tokio::test]
async fn the_command_line_looks_after_webhooks() {
    let receiver = Receiver::start(410);
    let server = start(&format!("{ALLOWED}{HASTY}"));
    server.deploy(&MISBEHAVE).await;
    let run = |arguments: &[&str]| cli::text(server.url(), root(), arguments);
    let old = run(&["webhook", "create", "shop", &receiver.url()]).trim().to_owned();
    assert!(old.starts_with("whsec_"), "{old}");
    let new = run(&["webhook", "rotate", "shop", "--keep-previous", "2h"]).trim().to_owned();
    assert_ne!(old, new);
    let listed = run(&["webhook", "list"]);
    assert!(
        listed.contains(&receiver.url()) && listed.contains("the one before until"),
        "{listed}"
    );
    let call = ["call", "misbehave", "/echo", "--data", "flour", "--async", "--webhook", "shop"];
    let id = run(&call).trim().to_owned();
    until("it is given up", async || deliveries(&server, "?state=failed").await.len() == 1).await;
    let listed = run(&["webhook", "deliveries", "shop", "--state", "failed"]);
    assert!(listed.contains(&id) && listed.contains("410"), "{listed}");
    receiver.answers(200);
    let delivery = deliveries(&server, "").await[0]["id"].as_str().expect("an id").to_owned();
    run(&["webhook", "retry", &delivery]);
    until("it is delivered", async || deliveries(&server, "?state=delivered").await.len() == 1)
        .await;
    let messages = receiver.messages();
    let last = messages.last().expect("a message");
    assert!(last.is_signed_with(&old) && last.is_signed_with(&new), "{last:?}");
    cli::failure(server.url(), &["webhook", "retry", &delivery], 1, &["only one that has failed"]);
    run(&["webhook", "delete", "shop"]);
    cli::failure(server.url(), &["webhook", "delete", "shop"], 1, &["\"shop\" is not known"]);
}
