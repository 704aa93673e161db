//! Schedules on a real server: what is refused, who is told, and that each time is called once.
//! When times come is tested where they are computed; here, minutes are not waited for.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{result, until_it_is};
use crate::{
    MISBEHAVE, cli,
    support::{Server, answer, root, until},
};

fn hourly() -> Value {
    json!({"cron": "0 * * * *", "path": "/f/misbehave/echo?x=1", "body": "flour"})
}

async fn put(server: &Server, name: &str, spec: &Value) -> crate::support::Answer {
    server.put(&format!("/v1/schedules/{name}"), spec.to_string()).await
}

#[tokio::test]
async fn a_schedule_is_put_shown_changed_and_deleted() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let made = put(&server, "nightly", &hourly()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!((&made["time_zone"], &made["method"]), (&json!("UTC"), &json!("POST")));
    assert_eq!((&made["missed"], &made["overlap"]), (&json!("once"), &json!("allow")));
    assert_eq!(made["next"].as_array().map(Vec::len), Some(5), "{made}");
    assert_eq!((&made["last"], &made["last_invocation"]), (&Value::Null, &Value::Null));
    let same = put(&server, "nightly", &hourly()).await;
    assert_eq!((same.status.as_u16(), &same.json()["created"]), (200, &made["created"]));
    let mut other = hourly();
    other["time_zone"] = json!("Asia/Kathmandu");
    let changed = put(&server, "nightly", &other).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(server.get("/v1/schedules/nightly").await.json(), changed.json());
    let listed = server.get("/v1/schedules").await.json();
    assert_eq!(listed["schedules"][0]["next"], changed.json()["next"][0]);
    let audit = server.get("/v1/audit").await.json();
    let actions: Vec<_> = audit["records"].as_array().expect("records").iter().take(2).collect();
    assert!(actions.iter().all(|record| record["action"] == "schedule.put"), "{audit}");
    assert_eq!(actions[0]["detail"]["time_zone"], "Asia/Kathmandu");
    assert_eq!(actions[0]["detail"].get("body"), None, "it may be a secret");
    assert_eq!(server.delete("/v1/schedules/nightly").await.status, 204);
    let gone = server.delete("/v1/schedules/nightly").await;
    gone.assert_error(404, "not-found", "schedule \"nightly\" is not known");
    assert_eq!(server.get("/v1/schedules").await.json(), json!({"schedules": []}));
}

#[tokio::test]
async fn what_is_no_schedule_is_refused_by_field() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    for (field, value, status, code, part) in [
        ("cron", json!("61 * * * *"), 400, "invalid-request", "field `cron`"),
        ("cron", json!("@hourly"), 400, "invalid-request", "field `cron`"),
        ("cron", json!("0 0 30 2 *"), 400, "invalid-request", "field `cron`"),
        ("time_zone", json!("Mars/Phobos"), 400, "invalid-request", "field `time_zone`"),
        ("path", json!("/v1/functions"), 400, "invalid-request", "field `path`"),
        ("path", json!("/f/a b"), 400, "invalid-request", "field `path`"),
        ("path", json!("/f/nothing/"), 404, "not-found", "nothing"),
        ("method", json!("NO METHOD"), 400, "invalid-request", "field `method`"),
        ("headers", json!({"a b": "c"}), 400, "invalid-request", "field `headers`"),
        ("body", json!("x".repeat(65_537)), 400, "invalid-request", "field `body`"),
        ("max_attempts", json!(101), 400, "invalid-request", "field `max_attempts`"),
        ("max_age", json!("8days"), 400, "invalid-request", "field `max_age`"),
        ("missed", json!("twice"), 400, "invalid-json", "missed"),
        ("zone", json!("UTC"), 400, "invalid-json", "zone"),
    ] {
        let mut spec = hourly();
        spec[field] = value;
        put(&server, "nightly", &spec).await.assert_error(status, code, part);
    }
    put(&server, "nightly", &json!({"path": "/f/misbehave/"})).await.assert_error(
        400,
        "invalid-json",
        "cron",
    );
    let malformed = answer(server.request(Method::PUT, "/v1/schedules/A").body("{}")).await;
    assert_eq!(malformed.code(), "invalid-name");
    assert_eq!(server.get("/v1/schedules").await.json(), json!({"schedules": []}));
}

/// Makes a schedule one that was put three hours ago, while no server has the folder.
fn backdate(data: &TempDir) {
    let path = data.path().join("data/catalog.sqlite");
    let catalog = Connection::open(path).expect("opens");
    let changed = catalog
        .execute("UPDATE schedules SET created_us = created_us - 3 * 3600 * 1000000", [])
        .expect("changes");
    assert_eq!(changed, 1);
}

#[tokio::test]
async fn a_missed_time_is_called_once_whatever_restarts() {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let server = Server::start_on(data.clone(), &[]);
    server.deploy(&MISBEHAVE).await;
    // Half an hour away from now, so that no time is due while this runs.
    let minutes = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 60;
    let mut spec = hourly();
    spec["cron"] = json!(format!("{} * * * *", (minutes + 30) % 60));
    assert_eq!(put(&server, "hourly", &spec).await.status, 201);
    server.stop();
    backdate(&data);
    let server = Server::start_on(data.clone(), &[]);
    let calls = async |server: &Server| -> Vec<Value> {
        let listed = server.get("/v1/invocations").await.json();
        listed["invocations"].as_array().expect("a list").clone()
    };
    until("the last of the missed times is called", async || !calls(&server).await.is_empty())
        .await;
    let called = calls(&server).await;
    let [call] = &called[..] else { panic!("one call, not {called:?}") };
    let id = call["id"].as_str().expect("an id").to_owned();
    until_it_is(&server, &id, "succeeded").await;
    assert_eq!(result(&server, &id).await.text(), "flour");
    let shown = server.get("/v1/schedules/hourly").await.json();
    assert_eq!(shown["last_invocation"], *id, "{shown}");
    let last = shown["last"].as_str().expect("a time").to_owned();
    let data = server.kill();
    let server = Server::start_on(data, &[]);
    let shown = server.get("/v1/schedules/hourly").await.json();
    assert_eq!(shown["last"], last, "{shown}");
    assert_eq!(calls(&server).await.len(), 1, "no time comes twice");
}

#[tokio::test]
async fn the_command_line_looks_after_schedules() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let run = |arguments: &[&str]| cli::text(server.url(), root(), arguments);
    let made = run(&[
        "schedule",
        "create",
        "nightly",
        "0 4 * * *",
        "/f/misbehave/echo",
        "--time-zone",
        "Europe/Berlin",
        "--data",
        "flour",
        "--missed",
        "all",
        "--skip-overlap",
        "-H",
        "x-a: 1",
    ]);
    assert!(made.starts_with("schedule nightly calls next at 20"), "{made}");
    assert_eq!(run(&["schedule", "next", "nightly"]).lines().count(), 5);
    let listed = run(&["schedule", "list"]);
    assert!(
        listed.contains("Europe/Berlin") && listed.contains("POST /f/misbehave/echo"),
        "{listed}"
    );
    let shown = cli::answer(server.url(), root(), &["schedule", "next", "nightly"]);
    assert_eq!((&shown["missed"], &shown["overlap"]), (&json!("all"), &json!("skip")));
    assert_eq!(shown["headers"], json!({"x-a": "1"}));
    run(&["schedule", "delete", "nightly"]);
    let unknown = ["schedule", "next", "nightly"];
    cli::failure(server.url(), &unknown, 1, &["schedule \"nightly\" is not known"]);
}
