//! A clock on the wall that is set forward and back while a server runs: what is to happen after so
//! long, or once, does; what is to happen at a time follows the clock.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{begin_batch, simulator::Simulator};
use crate::{
    HELLO, MISBEHAVE,
    support::{Answer, Server, answer, until},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// Eleven o'clock of some day.
const ELEVEN: u64 = (20_800 * 24 + 11) * HOUR;

/// A server that believes that it is half past ten.
async fn at_half_past_ten(simulator: &Simulator, options: &str) -> Server {
    simulator.set_clock(ELEVEN - 30 * MINUTE);
    let server = restarted(simulator, options);
    server.deploy(&HELLO).await;
    server.deploy(&MISBEHAVE).await;
    server
}

fn restarted(simulator: &Simulator, options: &str) -> Server {
    let file = simulator.data().path().join("quern.toml");
    std::fs::write(&file, options).expect("written");
    simulator.start(&["--config", file.to_str().expect("text")])
}

/// The times that a schedule was called at, in seconds since eleven: those of the keys of its calls.
async fn times(server: &Server, schedule: &str) -> Vec<u64> {
    let listed = server.get("/v1/invocations?limit=1000").await.json();
    let calls = listed["invocations"].as_array().expect("a list").iter();
    let keys = calls.filter_map(|call| call["idempotency_key"].as_str());
    let of_schedule = keys.filter(|key| key.contains(&format!("·{schedule}·")));
    let seconds = |key: &str| -> u64 {
        let micros: u64 = key.rsplit('·').next().expect("a time").parse().expect("a number");
        micros / 1_000_000 - ELEVEN
    };
    let mut times: Vec<_> = of_schedule.map(seconds).collect();
    times.sort_unstable();
    times
}

async fn hours(server: &Server) -> Vec<u64> {
    times(server, "hourly").await.into_iter().map(|time| time / HOUR).collect()
}

async fn until_called_at(server: &Server, expected: &[u64]) {
    until("the schedule has called", async || hours(server).await.len() >= expected.len()).await;
    assert_eq!(hours(server).await, expected);
}

#[tokio::test]
async fn each_time_of_a_schedule_comes_once_though_the_clock_is_set_forward_and_back() {
    let simulator = Simulator::new();
    let server = at_half_past_ten(&simulator, "").await;
    let hourly = json!({"cron": "0 * * * *", "path": "/f/hello/"}).to_string();
    assert_eq!(server.put("/v1/schedules/hourly", hourly).await.status, 201);
    simulator.set_clock(ELEVEN + 5);
    until_called_at(&server, &[0]).await;
    simulator.set_clock(ELEVEN + 5 * HOUR + 30 * MINUTE);
    until_called_at(&server, &[0, 5]).await;
    simulator.set_clock(ELEVEN + 30 * MINUTE);
    drop(server);
    let server = restarted(&simulator, "");
    // Another one tells that schedules are looked after at this time.
    let witness = json!({"cron": "31 * * * *", "path": "/f/hello/", "missed": "skip"}).to_string();
    assert_eq!(server.put("/v1/schedules/witness", witness).await.status, 201);
    simulator.set_clock(ELEVEN + 31 * MINUTE + 5);
    until("it looks at the clock", async || !times(&server, "witness").await.is_empty()).await;
    simulator.set_clock(ELEVEN + HOUR + 5);
    until_called_at(&server, &[0, 1, 5]).await;
    simulator.set_clock(ELEVEN + 30 * MINUTE);
    simulator.set_clock(ELEVEN + 2 * HOUR + 5);
    until_called_at(&server, &[0, 1, 2, 5]).await;
    simulator.set_clock(ELEVEN + 6 * HOUR + 5);
    // The five hours that were left out once are one pause now, of which the last hour was called.
    until_called_at(&server, &[0, 1, 2, 5, 6]).await;
}

#[tokio::test]
async fn times_that_a_server_is_down_at_are_missed_though_the_clock_was_set_back_before() {
    let simulator = Simulator::new();
    let server = at_half_past_ten(&simulator, "").await;
    let hourly = json!({"cron": "0 * * * *", "path": "/f/hello/"}).to_string();
    assert_eq!(server.put("/v1/schedules/hourly", hourly).await.status, 201);
    simulator.set_clock(ELEVEN + 5 * HOUR + 30 * MINUTE);
    until_called_at(&server, &[5]).await;
    simulator.set_clock(ELEVEN + 30 * MINUTE);
    until("it is noted", async || {
        let shown = server.get("/v1/schedules/hourly").await.json();
        shown["last"].as_str().is_some_and(|last| last.ends_with("T11:00:00.000Z"))
    })
    .await;
    drop(server);
    simulator.set_clock(ELEVEN + 3 * HOUR + 30 * MINUTE);
    let server = restarted(&simulator, "");
    until_called_at(&server, &[3, 5]).await;
}

/// Has a call carried out later; its path.
async fn call_later(server: &Server, path: &str, options: &[(&'static str, &str)]) -> String {
    let request = server.request(Method::GET, path).header("prefer", "respond-async");
    let request =
        options.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let accepted = answer(request).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    format!("/v1/invocations/{}", accepted.json()["id"].as_str().expect("an id"))
}

async fn until_call(server: &Server, path: &str, is_so: impl Fn(&Value) -> bool) {
    until("the call has come so far", async || is_so(&server.get(path).await.json())).await;
}

#[tokio::test]
async fn no_call_waits_for_a_clock_that_was_set_back() {
    let simulator = Simulator::new();
    let options = "[async]\nfirst_pause = '2s'\nlongest_pause = '2s'\n";
    let server = at_half_past_ten(&simulator, options).await;
    let tried = [("quern-max-attempts", "100")];
    let failing = call_later(&server, "/f/misbehave/trap", &tried).await;
    until_call(&server, &failing, |call| call["attempts"] != 0).await;
    let attempts =
        async || server.get(&failing).await.json()["attempts"].as_u64().expect("a number");
    for (hours, what) in [(1, "forward"), (0, "back"), (7, "forward"), (3, "back")] {
        let before = attempts().await;
        println!("{what} to {hours} hours after eleven");
        simulator.set_clock(ELEVEN + hours * HOUR);
        until("it is tried again", async || attempts().await > before).await;
    }
    let after = call_later(&server, "/f/hello/", &[]).await;
    until_call(&server, &after, |call| call["state"] == "succeeded").await;
}

#[tokio::test]
async fn a_call_whose_time_a_clock_has_skipped_is_a_dead_letter_that_can_be_replayed() {
    let simulator = Simulator::new();
    let options = "[async]\nfirst_pause = '1s'\nlongest_pause = '1s'\n";
    let server = at_half_past_ten(&simulator, options).await;
    let kept = call_later(&server, "/f/hello/", &[]).await;
    until_call(&server, &kept, |call| call["state"] == "succeeded").await;
    let tried = [("quern-max-attempts", "100"), ("quern-max-age", "1h")];
    let call = call_later(&server, "/f/misbehave/trap", &tried).await;
    until_call(&server, &call, |call| call["attempts"] != 0).await;
    simulator.set_clock(ELEVEN + 20 * HOUR);
    // That may be a mistake, which is put right soon.
    let waits = |call: &Value| {
        let reason = call["reason"].as_str().unwrap_or_default();
        call["state"] == "queued" && reason.contains("unless the clock is ahead")
    };
    until_call(&server, &call, waits).await;
    // A server that starts takes a clock for right that something was noted by.
    call_later(&server, "/f/hello/", &[]).await;
    drop(server);
    let server = restarted(&simulator, options);
    until_call(&server, &call, |call| call["state"] == "dead").await;
    assert_eq!(server.get(&format!("{kept}/result")).await.status, 200, "it is kept for a day");
    simulator.set_clock(ELEVEN);
    let id = call.rsplit('/').next().expect("an id");
    let replayed = server.post(&format!("/v1/dead-letters/{id}/replay"), "").await;
    assert_eq!(replayed.status, 202, "{}", replayed.text());
    until_call(&server, &call, |call| call["attempts"] != 0).await;
}

#[tokio::test]
async fn what_is_kept_outlasts_a_start_with_a_clock_that_is_far_ahead() {
    let simulator = Simulator::new();
    let server = at_half_past_ten(&simulator, "").await;
    server.deploy_digits_model().await;
    let kept = call_later(&server, "/f/hello/", &[]).await;
    until_call(&server, &kept, |call| call["state"] == "succeeded").await;
    let batch = begin_batch(&server, 3).await.json();
    let batch = format!("/v1/batches/{}", batch["id"].as_str().expect("an id"));
    until_call(&server, &batch, |batch| batch["state"] == "completed").await;
    server.stop();

    simulator.set_clock(ELEVEN + 30 * 24 * HOUR);
    let server = restarted(&simulator, "");
    // The first look is when it starts.
    until("it has looked", async || server.metric("quern_async_calls").await > 0.0).await;
    for path in [format!("{kept}/result"), format!("{batch}/results")] {
        assert_eq!(server.get(&path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn tokens_expire_by_the_clock_on_the_wall() {
    let simulator = Simulator::new();
    simulator.set_clock(ELEVEN);
    let mut command = simulator.program();
    command
        .args(["token", "create", "--init", "--role", "admin", "--data"])
        .arg(simulator.folder());
    let made = command.output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let admin = String::from_utf8(made.stdout).expect("text");
    let server = simulator.start(&["--authenticate"]);
    let asked = async |token: &str, method: Method, path: &str, body: Value| -> Answer {
        let request = server.request(method, path).bearer_auth(token.trim());
        answer(request.body(body.to_string())).await
    };
    let create = async |body: Value| {
        let made = asked(&admin, Method::POST, "/v1/tokens", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["secret"].as_str().expect("a secret").to_owned()
    };
    let short = create(json!({"role": "invoker", "tenant": "acme", "expires_in": "1h"})).await;
    let ask =
        async |token: &str| asked(token, Method::GET, "/v1/functions", Value::Null).await.status;
    let known = ask(&short).await;
    assert_ne!(known, StatusCode::UNAUTHORIZED);
    simulator.set_clock(ELEVEN + 2 * HOUR);
    assert_eq!(ask(&short).await, StatusCode::UNAUTHORIZED);
    simulator.set_clock(ELEVEN);
    assert_eq!(ask(&short).await, known);
}

#[tokio::test]
async fn a_canary_waits_by_a_clock_that_nobody_sets() {
    let simulator = Simulator::new();
    let server = at_half_past_ten(&simulator, "").await;
    let manifest = "name = 'hello'\nkind = 'http'\n[limits]\nlog = '9KiB'\n".to_owned();
    let form = reqwest::multipart::Form::new()
        .text("manifest", manifest)
        .part("component", reqwest::multipart::Part::bytes(HELLO.component()));
    let second = server.request(Method::PUT, "/v1/functions/hello?live=false").multipart(form);
    assert_eq!(answer(second).await.status, 201);
    let canary = json!({"version": 2, "steps": "50% 1h, 100%", "limits": {"requests": 1}});
    let canary = server.post("/v1/functions/hello/canary", canary.to_string()).await;
    assert_eq!(canary.status, 201, "{}", canary.text());
    for clock in [ELEVEN + 5 * HOUR, ELEVEN - 5 * HOUR] {
        simulator.set_clock(clock);
        let counted = async || {
            let status = server.get("/v1/functions/hello/canary").await.json();
            assert_eq!(status["state"], "running", "{status}");
            let of = |which: &str| status["step"][which]["requests"].as_u64().unwrap_or(0);
            of("new") + of("old")
        };
        let before = counted().await;
        for _ in 0..10 {
            assert_eq!(server.get("/f/hello/").await.status, 200);
        }
        until("it was looked at", async || counted().await >= before + 10).await;
    }
}

#[tokio::test]
async fn versions_and_logs_keep_their_order_whatever_their_times_say() {
    let simulator = Simulator::new();
    let server = at_half_past_ten(&simulator, "").await;
    let mut times = Vec::new();
    for (number, clock) in [(2, ELEVEN + 5 * HOUR), (3, ELEVEN)] {
        simulator.set_clock(clock);
        let manifest = format!("name = 'hello'\nkind = 'http'\n[limits]\nlog = '{number}KiB'\n");
        let deployed = server.upload("hello", manifest, HELLO.component()).await;
        assert_eq!(deployed.json()["version"], number, "{}", deployed.text());
        let printed = server.get(&format!("/f/misbehave/print?lines={number}")).await;
        assert_eq!(printed.status, 200, "{}", printed.text());
        times.push(clock);
        // Standard output and standard error, a record each, written once the guest has ended.
        until("the logs are written", async || {
            let logs = server.get("/v1/functions/misbehave/logs").await.text();
            logs.lines().count() >= 2 * times.len()
        })
        .await;
    }
    let listed = server.get("/v1/functions/hello/versions").await.json();
    let versions = listed["versions"].as_array().expect("a list");
    let numbers: Vec<_> = versions.iter().map(|version| version["version"].clone()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert!(versions[0]["created"].as_str() < versions[1]["created"].as_str(), "{listed}");
    assert_eq!(server.get("/f/hello/").await.header("quern-version"), "3");
    let audit = server.get("/v1/audit?limit=1").await.json();
    assert_eq!(audit["records"][0]["detail"]["version"], 3, "the newest is first: {audit}");
    let logs = server.get("/v1/functions/misbehave/logs").await.text();
    let logs = logs.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let printed: Vec<_> =
        logs.map(|record| record["time"].as_str().expect("a time").to_owned()).collect();
    assert!(
        printed.first() > printed.last(),
        "the first were printed at a later time: {printed:?}"
    );
}
